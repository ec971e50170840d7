"""Binance spot and futures: the columns of every data type of data.binance.vision.

Source: github.com/binance/binance-public-data (README and issues) and the files themselves. Futures
files have a header since 2022-08 or so, spot files have none. Times count milliseconds, on spot from
2025-01-01 on microseconds. In ``cm`` (coin-margined) a size counts contracts, and what the header calls
quote volume is the volume in the base asset (binance-public-data issues 267 and 283).
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import polars as pl

from lakehouse_assets.tables.schemas.columns import (
    BASE,
    BY_INTERVAL,
    BY_SYMBOL,
    CONTRACTS,
    QUOTE,
    number,
    ohlc,
    price,
    side,
    text,
    time,
    whole,
)
from lakehouse_assets.tables.schemas.model import Column, SizeClass, TableSchema
from lakehouse_assets.tables.schemas.readers import TEXT_SIDE

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
_OPEN_TIME = time("open_time", "When the candle opens.")
_CLOSE_TIME = time(
    "close_time",
    "Last instant of the candle, in the file's unit; earlier than the interval's end where trading stopped.",
    name="close_time",
)
_BEST_MATCH = Column("best_match", pl.Boolean(), "Whether the trade was the best price match.", source="is_best_match")
_CONTRACT_SIZE = "one contract is worth 100 USD for BTC and 10 USD for other coins"


def _klines(market: str) -> TableSchema:
    trade_count = whole("trade_count", "count", "Number of trades.")
    if market == "cm":
        volumes = (
            number("volume", "volume", f"Volume; {_CONTRACT_SIZE}.", CONTRACTS),
            _CLOSE_TIME,
            number("base_volume", "quote_volume", "Volume in the base asset, as coin-margined files have it.", BASE),
            trade_count,
            number("taker_buy_volume", "taker_buy_volume", "Of the volume, what takers bought.", CONTRACTS),
            number("taker_buy_base_volume", "taker_buy_quote_volume", "Of base_volume, what takers bought.", BASE),
        )
    else:
        volumes = (
            number("volume", "volume", "Volume.", BASE),
            _CLOSE_TIME,
            number("quote_volume", "quote_volume", "Volume in the quote asset.", QUOTE),
            trade_count,
            number("taker_buy_volume", "taker_buy_volume", "Of the volume, what takers bought.", BASE),
            number("taker_buy_quote_volume", "taker_buy_quote_volume", "Of quote_volume, what takers bought.", QUOTE),
        )
    return _table(
        market=market,
        data_type="klines",
        description="Candles of trades.",
        columns=(*BY_INTERVAL, _OPEN_TIME, *ohlc(), *volumes),
        file_columns=_KLINE_FILE,
        key=_KLINE_KEY,
        size_class=SizeClass.LARGE,
    )


def _price_klines(market: str, data_type: str, of: str) -> TableSchema:
    """Candles of a computed price; the file's volume columns are zero, and left out."""
    return _table(
        market=market,
        data_type=data_type,
        description=f"Candles of the {of}.",
        columns=(
            *BY_INTERVAL,
            _OPEN_TIME,
            *ohlc(),
            _CLOSE_TIME,
            whole("count", "count", "As published; the exchange does not say what it counts."),
        ),
        file_columns=_KLINE_FILE,
        key=_KLINE_KEY,
        size_class=SizeClass.LARGE,
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
            time("time", "When the trade was made."),
            whole("trade_id", "id", "The exchange's number of the trade, rising by one within a symbol."),
            price(),
            number("size", "qty", f"Size; {_CONTRACT_SIZE}." if market == "cm" else "Size.", unit),
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
        ids_are_consecutive=True,
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
        description="Trades of one taker order at one price, summed up.",
        columns=(
            *BY_SYMBOL,
            time(moment, "When the trades were made."),
            whole("agg_trade_id", agg_id, "The exchange's number of the row, rising by one within a symbol."),
            price(trade_price),
            number(
                "size",
                quantity,
                f"Size of all trades; {_CONTRACT_SIZE}." if market == "cm" else "Size of all trades.",
                CONTRACTS if market == "cm" else BASE,
            ),
            side(maker),
            whole("first_trade_id", first, "First trade's trade_id (data type trades)."),
            whole("last_trade_id", last, "Last trade's trade_id."),
            *((_BEST_MATCH,) if spot else ()),
        ),
        file_columns=names,
        key=("symbol", "agg_trade_id"),
        size_class=SizeClass.LARGE,
        id_column="agg_trade_id",
        ids_are_consecutive=True,
    )


def _funding_rate(market: str) -> TableSchema:
    return _table(
        market=market,
        data_type="fundingRate",
        description="Funding rates that were charged.",
        columns=(
            *BY_SYMBOL,
            time("calc_time", "When it was calculated; up to some milliseconds after the full hour."),
            whole("funding_interval_hours", "funding_interval_hours", "Time since the funding before.", "hours"),
            number("funding_rate", "last_funding_rate", "Rate of the interval; above zero, longs pay shorts.", "1"),
        ),
        file_columns=("calc_time", "funding_interval_hours", "last_funding_rate"),
        key=("symbol", "time"),
        size_class=SizeClass.SMALL,
    )


def _metrics(market: str) -> TableSchema:
    ratios = (
        ("top_long_short_account_ratio", "count_toptrader_long_short_ratio", "Long to short accounts of top traders"),
        ("top_long_short_position_ratio", "sum_toptrader_long_short_ratio", "Long to short positions of top traders"),
        ("global_long_short_account_ratio", "count_long_short_ratio", "Long to short accounts of all traders"),
        ("taker_long_short_volume_ratio", "sum_taker_long_short_vol_ratio", "Takers' buy volume to sell volume"),
    )
    cm = market == "cm"
    return _table(
        market=market,
        data_type="metrics",
        description="Open interest and long/short ratios, every five minutes (before 2023 partly once a day).",
        columns=(
            *BY_SYMBOL,
            time("create_time", "End of the five minutes; the last row of a day may be of midnight."),
            number(
                "open_interest",
                "sum_open_interest",
                f"Open interest; {_CONTRACT_SIZE}." if cm else "Open interest.",
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
                number(name, source, f"{meaning}; empty where not computed.", "1", nullable=True)
                for name, source, meaning in ratios
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
        key=("symbol", "time"),
        size_class=SizeClass.SMALL,
        step=timedelta(minutes=5),
    )


def _book_depth(market: str) -> TableSchema:
    cm = market == "cm"
    return _table(
        market=market,
        data_type="bookDepth",
        description="What lies in the book within some per cent of the price, every 30 seconds. Not an order book.",
        columns=(
            *BY_SYMBOL,
            time("timestamp", "When the book was looked at."),
            number("percentage", "percentage", "Distance from the price; below zero: bids.", "%"),
            number("depth", "depth", "Size up to that distance.", CONTRACTS if cm else BASE),
            number("notional", "notional", "Value up to that distance.", BASE if cm else QUOTE),
        ),
        file_columns=("timestamp", "percentage", "depth", "notional"),
        key=("symbol", "time", "percentage"),
        size_class=SizeClass.LARGE,
    )


def _book_ticker(market: str) -> TableSchema:
    unit = CONTRACTS if market == "cm" else BASE
    return _table(
        market=market,
        data_type="bookTicker",
        description="Best bid and ask, a row per change; rows may be out of order.",
        columns=(
            *BY_SYMBOL,
            time("transaction_time", "When the book changed."),
            whole("update_id", "update_id", "The exchange's number of the book's state."),
            number("bid_price", "best_bid_price", "Best bid.", QUOTE),
            number("bid_size", "best_bid_qty", "Size at the best bid.", unit),
            number("ask_price", "best_ask_price", "Best ask.", QUOTE),
            number("ask_size", "best_ask_qty", "Size at the best ask.", unit),
            time("event_time", "When the exchange sent it.", name="event_time"),
        ),
        file_columns=(
            "update_id",
            "best_bid_price",
            "best_bid_qty",
            "best_ask_price",
            "best_ask_qty",
            "transaction_time",
            "event_time",
        ),
        key=("symbol", "update_id"),
        size_class=SizeClass.LARGE,
        id_column="update_id",
    )


def _liquidations() -> TableSchema:
    columns = (
        *BY_SYMBOL,
        time("time", "When the liquidation order was executed."),
        side("side", TEXT_SIDE, "Side of the liquidation order, which is the taker's: buy or sell."),
        text("order_type", "order_type", "Order type, LIMIT."),
        text("time_in_force", "time_in_force", "Time in force, IOC."),
        number("original_size", "original_quantity", f"Size of the order; {_CONTRACT_SIZE}.", CONTRACTS),
        number("price", "price", "Limit price of the order.", QUOTE),
        number("average_price", "average_price", "Average price of its trades.", QUOTE),
        text("order_status", "order_status", "State of the order, such as FILLED."),
        number("last_fill_size", "last_fill_quantity", "Size of the last trade.", CONTRACTS),
        number("filled_size", "accumulated_fill_quantity", "Size of all trades.", CONTRACTS),
    )
    return _table(
        market="cm",
        data_type="liquidationSnapshot",
        description="Liquidation orders. The files repeat every row; equal rows are kept once.",
        columns=columns,
        file_columns=tuple(column.sources[0] for column in columns if column.source is not None),
        key=("symbol", *(column.name for column in columns if column.source is not None)),
        size_class=SizeClass.SMALL,
        repeats_rows=True,
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
        _book_depth(market),
        _book_ticker(market),
    )
)

TABLES = (
    _klines("spot"),
    _trades("spot"),
    _agg_trades("spot"),
    *_FUTURES,
    _liquidations(),
)
