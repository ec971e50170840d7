"""Binance spot and futures: the columns of every data type of data.binance.vision.

Source: github.com/binance/binance-public-data (README and issues) and the files themselves. Futures files have a
header since about 2022-08, spot files have none. Times are in milliseconds, in spot files from 2025-01-01 on in
microseconds. In ``cm`` (coin-margined) a size counts contracts, and the column that the header calls quote volume
is the volume in the base asset (binance-public-data issues 267 and 283).
"""

from __future__ import annotations

from functools import partial

import polars as pl

from lakehouse_assets.tables.schemas.binance_books import book_depth, book_ticker, liquidations
from lakehouse_assets.tables.schemas.binance_metrics import STEP, UM_CHANGED, ends_of_steps
from lakehouse_assets.tables.schemas.binance_relations import (
    CONTRACT_CANDLES,
    CONTRACT_SIZE,
    CONTRACT_TRADES,
    FUNDING,
    LINEAR_TRADES,
)
from lakehouse_assets.tables.schemas.columns import (
    A_ROW_PER_TRADE,
    BASE,
    BY_INTERVAL,
    BY_SYMBOL,
    CONTRACTS,
    OPENING_TIME,
    QUOTE,
    integer,
    number,
    ohlc,
    price,
    side,
    time,
)
from lakehouse_assets.tables.schemas.model import Column, SizeClass, TableSchema
from lakehouse_assets.tables.schemas.relations import POSITIVE_PRICES, PRODUCT_OF_SIZE, not_negative

_table = partial(TableSchema, exchange="binance")

_KLINE_FILE = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
)
_KLINE_KEY = ("symbol", "interval", "time")
_OPEN_TIME = time("open_time", OPENING_TIME)
_CLOSE_TIME = time(
    "close_time",
    "Last instant of the candle, with the precision of the file; earlier than the interval's end if trading stopped.",
    name="close_time",
)
_BEST_MATCH = Column("best_match", pl.Boolean(), "Whether the trade was the best price match.", source="is_best_match")
_CONSECUTIVE = "users report gaps as faults, and they are filled later (binance-public-data #28 #106 #153 #190)"
_NOT_CONSECUTIVE = (
    "gaps are normal, because some trades are left out (binance-public-data #363 #378; 15,899 gaps in 3,622,828 "
    "trades of BTCUSDT on 2026-09-01)"
)
_CM_CONSECUTIVE = "a complete day of BTCUSD_PERP (2026-05-08, 105,280 rows) has no gap"
_CM_UNKNOWN = "no file of coin-margined trades was inspected, and um files have gaps every day"


def _klines(market: str) -> TableSchema:
    trade_count = integer("trade_count", "count", "Number of trades.")
    if market == "cm":
        volumes = (
            number("volume", "volume", f"Volume; {CONTRACT_SIZE}.", CONTRACTS),
            _CLOSE_TIME,
            number("base_volume", "quote_volume", "Volume in the base asset, despite the exchange's name.", BASE),
            trade_count,
            number("taker_buy_volume", "taker_buy_volume", "Part of volume that takers bought.", CONTRACTS),
            number("taker_buy_base_volume", "taker_buy_quote_volume", "Part of base_volume that takers bought.", BASE),
        )
    else:
        volumes = (
            number("volume", "volume", "Volume.", BASE),
            _CLOSE_TIME,
            number("quote_volume", "quote_volume", "Volume in the quote asset.", QUOTE),
            trade_count,
            number("taker_buy_volume", "taker_buy_volume", "Part of volume that takers bought.", BASE),
            number(
                "taker_buy_quote_volume", "taker_buy_quote_volume", "Part of quote_volume that takers bought.", QUOTE
            ),
        )
    return _table(
        market=market,
        data_type="klines",
        description="Candles of trades.",
        columns=(*BY_INTERVAL, _OPEN_TIME, *ohlc(), *volumes),
        file_columns=_KLINE_FILE,
        key=_KLINE_KEY,
        size_class=SizeClass.LARGE,
        own_relations=CONTRACT_CANDLES if market == "cm" else (),
    )


def _price_klines(market: str, data_type: str, price_name: str) -> TableSchema:
    """Candles of a computed price; the file's volume columns are zero and ignored."""
    return _table(
        market=market,
        data_type=data_type,
        description=f"Candles of the {price_name}.",
        columns=(
            *BY_INTERVAL,
            _OPEN_TIME,
            *ohlc(),
            _CLOSE_TIME,
            integer("count", "count", "As published; the exchange does not document what it counts."),
        ),
        file_columns=_KLINE_FILE,
        key=_KLINE_KEY,
        size_class=SizeClass.LARGE,
        unrelated=(POSITIVE_PRICES,) if data_type == "premiumIndexKlines" else (),
    )


def _trades(market: str) -> TableSchema:
    unit = CONTRACTS if market == "cm" else BASE
    value = (
        number("base_size", "base_qty", "Size in the base asset.", BASE)
        if market == "cm"
        else number("quote_size", "quote_qty", "Price times size, as published.", QUOTE)
    )
    spot = market == "spot"
    return _table(
        market=market,
        data_type="trades",
        description="Single trades.",
        columns=(
            *BY_SYMBOL,
            time("time", "Time of the trade."),
            integer(
                "trade_id",
                "id",
                f"The exchange's id of the trade, rising {'by one ' if spot else ''}within a symbol.",
            ),
            price(),
            number("size", "qty", f"Size; {CONTRACT_SIZE}." if market == "cm" else "Size.", unit),
            side("is_buyer_maker"),
            value,
            *((_BEST_MATCH,) if spot else ()),
        ),
        file_columns=(
            "id",
            "price",
            "qty",
            "base_qty" if market == "cm" else "quote_qty",
            "time",
            "is_buyer_maker",
            *(("is_best_match",) if spot else ()),
        ),
        key=("symbol", "trade_id"),
        size_class=SizeClass.LARGE,
        id_column="trade_id",
        ids_are_consecutive=spot,
        ids_source={"spot": _CONSECUTIVE, "um": _NOT_CONSECUTIVE}.get(market, _CM_UNKNOWN),
        irregular=A_ROW_PER_TRADE,
        own_relations={"cm": CONTRACT_TRADES, "um": LINEAR_TRADES}.get(market, ()),
        unrelated=(PRODUCT_OF_SIZE,) if market == "um" else (),
    )


def _agg_trades(market: str) -> TableSchema:
    spot = market == "spot"
    names = (
        ("agg_id", "price", "qty", "first_id", "last_id", "timestamp", "is_buyer_maker", "is_best_match")
        if spot
        else (
            "agg_trade_id",
            "price",
            "quantity",
            "first_trade_id",
            "last_trade_id",
            "transact_time",
            "is_buyer_maker",
        )
    )
    agg_id, trade_price, quantity, first, last, moment, maker = names[:7]
    return _table(
        market=market,
        data_type="aggTrades",
        description="Aggregated trades: the trades of one taker order at one price.",
        columns=(
            *BY_SYMBOL,
            time(moment, "Time of the trades."),
            integer(
                "agg_trade_id",
                agg_id,
                f"The exchange's id of the row, rising {'' if market == 'um' else 'by one '}within a symbol.",
            ),
            price(trade_price),
            number(
                "size",
                quantity,
                f"Total size of the trades; {CONTRACT_SIZE}." if market == "cm" else "Total size of the trades.",
                CONTRACTS if market == "cm" else BASE,
            ),
            side(maker),
            integer("first_trade_id", first, "The trade_id (data type trades) of the first trade."),
            integer("last_trade_id", last, "The trade_id of the last trade."),
            *((_BEST_MATCH,) if spot else ()),
        ),
        file_columns=names,
        key=("symbol", "agg_trade_id"),
        size_class=SizeClass.LARGE,
        id_column="agg_trade_id",
        ids_are_consecutive=market != "um",
        ids_source={"spot": _CONSECUTIVE, "um": _NOT_CONSECUTIVE}.get(market, _CM_CONSECUTIVE),
        irregular=A_ROW_PER_TRADE,
    )


def _funding_rate(market: str) -> TableSchema:
    return _table(
        market=market,
        data_type="fundingRate",
        description="Charged funding rates.",
        columns=(
            *BY_SYMBOL,
            time("calc_time", "Time of the calculation, usually a few milliseconds after the full hour."),
            integer("funding_interval_hours", "funding_interval_hours", "Time since the previous funding.", "hours"),
            number("funding_rate", "last_funding_rate", "Rate of the interval; if positive, longs pay shorts.", "1"),
        ),
        file_columns=("calc_time", "funding_interval_hours", "last_funding_rate"),
        key=("symbol", "time"),
        size_class=SizeClass.SMALL,
        own_relations=FUNDING,
    )


def _metrics(market: str) -> TableSchema:
    ratios = (
        ("top_long_short_account_ratio", "count_toptrader_long_short_ratio", "Long/short accounts of top traders"),
        ("top_long_short_position_ratio", "sum_toptrader_long_short_ratio", "Long/short positions of top traders"),
        ("global_long_short_account_ratio", "count_long_short_ratio", "Long/short accounts of all traders"),
        ("taker_long_short_volume_ratio", "sum_taker_long_short_vol_ratio", "Takers' buy/sell volume"),
    )
    cm = market == "cm"
    return _table(
        market=market,
        data_type="metrics",
        description="Open interest and long/short ratios, every five minutes (before 2023 in part once a day).",
        columns=(
            *BY_SYMBOL,
            time(
                "create_time",
                "End of the five minutes, when the row became known; a day's last row is at the next midnight.",
            ),
            number(
                "open_interest",
                "sum_open_interest",
                f"Open interest; {CONTRACT_SIZE}." if cm else "Open interest.",
                CONTRACTS if cm else BASE,
                nullable=True,
            ),
            number(
                "open_interest_value",
                "sum_open_interest_value",
                "Value of the open interest.",
                BASE if cm else QUOTE,
                nullable=True,
            ),
            *(
                number(name, source, f"{meaning}; empty if not computed.", "1", nullable=True)
                for name, source, meaning in ratios
            ),
            time(
                "create_time",
                "As published: the beginning of the five minutes."
                if cm
                else "As published: the end of the five minutes until 2026-06-24, then their beginning "
                "(binance-public-data #491).",
                name="create_time",
            ),
        ),
        file_columns=(
            "create_time",
            "symbol",
            "sum_open_interest",
            "sum_open_interest_value",
            *(source for _, source, _ in ratios),
        ),
        symbol_column="symbol",
        # 2: time is always the end of the five minutes.
        revision=2,
        key=("symbol", "time"),
        size_class=SizeClass.SMALL,
        step=STEP,
        labels_end=True,
        transform_file=partial(ends_of_steps, changed=None if cm else UM_CHANGED),
        own_relations=(not_negative(*(name for name, *_ in ratios), reason="Accounts and volumes are counts."),),
    )


_FUTURES = tuple(
    schema
    for market in ("um", "cm")
    for schema in (
        _klines(market),
        _price_klines(market, "markPriceKlines", "mark price"),
        _price_klines(market, "indexPriceKlines", "index price (the symbol is the pair)"),
        _price_klines(market, "premiumIndexKlines", "premium index (a ratio, not a price)"),
        _trades(market),
        _agg_trades(market),
        _funding_rate(market),
        _metrics(market),
        book_depth(market),
        book_ticker(market),
    )
)

TABLES = (
    _klines("spot"),
    _trades("spot"),
    _agg_trades("spot"),
    *_FUTURES,
    liquidations(),
)
