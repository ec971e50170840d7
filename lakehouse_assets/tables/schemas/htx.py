"""HTX: trades and candles of huobi-service-data. The days of files are in UTC+8.

Files of the new tree (``spot``, ``futures``) have headers. Files of the old tree (``old_...``) have no header until
about March 2026, and then the same columns under other names. Sources: for the old tree the exchange's description as
of 2021-05-18 (github.com/hbdmapi/huobi_public_data; earlier versions had another order) and a real row of a candle; for
its headers, a third party's notes on files of 2026-08-03; for the new tree public code that reads its headers.
Uncertain: ``volCcy`` of spot candles, which one public source describes as the volume in the quote asset.
"""

from __future__ import annotations

from functools import partial

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
from lakehouse_assets.tables.schemas.model import SizeClass, TableSchema
from lakehouse_assets.tables.schemas.readers import TEXT_SIDE

_table = partial(TableSchema, exchange="htx", size_class=SizeClass.LARGE)

OLD_DERIVATIVES = ("old_future", "old_swap", "old_linear_swap", "old_option")
_WITH_TURNOVER = ("old_linear_swap", "old_option")

_old_table = partial(_table, more_columns=False, revision=2)
"""Revision 2: the columns are in the order of the files."""

_KLINE_NAMES = {"timestamp": "id"}
_TRADE_NAMES = {
    "Trade ID": "id",
    "Trade Time": "ts",
    "Trade Price": "price",
    "Volume (Base Currency)": "amount",
    "Volume (in Contracts)": "amount",
    "Volume (in Base Currency)": "quantity",
    "Turnover": "trade_turnover",
    "Side (buy/sell)": "direction",
}
"""Names of the old tree's columns since about March 2026."""


def _trades(market: str) -> TableSchema:
    spot, turnover = market == "old_spot", market in _WITH_TURNOVER
    sizes = (
        (number("size", "amount", "Size.", BASE),)
        if spot
        else (
            number("size", "amount", "Size; the value of a contract depends on the symbol.", CONTRACTS),
            number("base_size", "quantity", "Size in the base asset.", BASE),
            *((number("quote_size", "trade_turnover", "Size in the quote asset.", QUOTE),) if turnover else ()),
        )
    )
    return _old_table(
        market=market,
        data_type="trades",
        description="Single trades.",
        columns=(
            *BY_SYMBOL,
            time("ts", "Time of the trade."),
            integer("trade_id", "id", "The exchange's id of the trade."),
            price(),
            sizes[0],
            side("direction", TEXT_SIDE),
            *sizes[1:],
        ),
        file_columns=(
            *("id", "ts", "price", "amount"),
            *(() if spot else ("quantity",)),
            *(("trade_turnover",) if turnover else ()),
            "direction",
        ),
        header_names=_TRADE_NAMES,
        key=("symbol", "trade_id"),
        irregular=A_ROW_PER_TRADE,
    )


def _klines(market: str) -> TableSchema:
    volumes = (
        (
            number("volume", "amount", "Volume.", BASE),
            number("quote_volume", "vol", "Volume in the quote asset.", QUOTE),
        )
        if market == "old_spot"
        else (
            number("volume", "vol", "Volume; the value of a contract depends on the symbol.", CONTRACTS),
            number("base_volume", "amount", "Volume in the base asset.", BASE),
        )
    )
    return _old_table(
        market=market,
        data_type="klines",
        description="Candles of trades.",
        columns=(*BY_INTERVAL, time("id", OPENING_TIME), *ohlc(), *volumes),
        file_columns=("id", "open", "close", "high", "low", "vol", "amount"),
        header_names=_KLINE_NAMES,
        key=("symbol", "interval", "time"),
    )


def _new_trades(market: str) -> TableSchema:
    unit = BASE if market == "spot" else CONTRACTS
    return _table(
        market=market,
        data_type="trades",
        description="Single trades.",
        columns=(
            *BY_SYMBOL,
            time("ts", "Time of the trade."),
            integer("trade_id", "tradeId", "The exchange's id of the trade."),
            price("px"),
            number(
                "size",
                "size",
                "Size." if market == "spot" else "Size; the value of a contract depends on the symbol.",
                unit,
            ),
            side("side", TEXT_SIDE),
        ),
        file_columns=("instId", "tradeId", "px", "side", "size", "ts"),
        symbol_column="instId",
        key=("symbol", "trade_id"),
        irregular=A_ROW_PER_TRADE,
    )


def _new_klines(market: str) -> TableSchema:
    return _table(
        market=market,
        data_type="klines",
        description="Candles of trades. The units of the volumes are uncertain.",
        columns=(
            *BY_INTERVAL,
            time("ts", OPENING_TIME),
            *ohlc(),
            number("volume", "vol", "Volume.", BASE if market == "spot" else CONTRACTS),
            number("base_volume", "volCcy", "Volume in the base asset.", BASE),
            number("quote_volume", "volCcyQuote", "Volume in the quote asset.", QUOTE),
        ),
        file_columns=("instId", "open", "high", "low", "close", "vol", "volCcy", "volCcyQuote", "ts"),
        symbol_column="instId",
        key=("symbol", "interval", "time"),
    )


TABLES = (
    *(schema for market in ("spot", "futures") for schema in (_new_trades(market), _new_klines(market))),
    *(schema for market in ("old_spot", *OLD_DERIVATIVES) for schema in (_trades(market), _klines(market))),
)
