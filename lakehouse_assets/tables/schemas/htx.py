"""HTX: trades and candles of huobi-service-data. Files have no header until about March 2026; a file's day is UTC+8.

Source: the exchange's description (github.com/hbdmapi/huobi_public_data), whose order of columns is
taken for the files'. Uncertain: no file was inspected, and what newer headers call the columns is unknown.
"""

from __future__ import annotations

from functools import partial

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
    time,
    whole,
)
from lakehouse_assets.tables.schemas.model import SizeClass, TableSchema
from lakehouse_assets.tables.schemas.readers import TEXT_SIDE

_table = partial(TableSchema, exchange="htx", size_class=SizeClass.LARGE)

FUTURES = ("futures", "swap", "linear-swap")


def _trades(market: str) -> TableSchema:
    spot = market == "spot"
    sizes = (
        (number("size", "amount", "Size.", BASE),)
        if spot
        else (
            number("size", "amount", "Size; a contract's worth differs by symbol.", CONTRACTS),
            number("base_size", "quantity", "Size in the base asset.", BASE),
        )
    )
    return _table(
        market=market,
        data_type="trades",
        description="Single trades. Order of the columns uncertain.",
        columns=(
            *BY_SYMBOL,
            time("ts", "When the trade was made."),
            whole("trade_id", "id", "The exchange's number of the trade."),
            price(),
            sizes[0],
            side("direction", TEXT_SIDE),
            *sizes[1:],
        ),
        file_columns=("id", "price", "amount", "ts", "direction")
        if spot
        else ("id", "price", "amount", "quantity", "direction", "ts"),
        key=("symbol", "trade_id"),
    )


def _klines(market: str) -> TableSchema:
    volumes = (
        (
            number("volume", "amount", "Volume.", BASE),
            number("quote_volume", "vol", "Volume in the quote asset.", QUOTE),
        )
        if market == "spot"
        else (
            number("volume", "vol", "Volume; a contract's worth differs by symbol.", CONTRACTS),
            number("base_volume", "amount", "Volume in the base asset.", BASE),
        )
    )
    return _table(
        market=market,
        data_type="klines",
        description="Candles of trades. Order of the columns uncertain.",
        columns=(*BY_INTERVAL, time("id", "When the candle opens."), *ohlc(), *volumes),
        file_columns=("id", "open", "high", "low", "close", "vol", "amount"),
        key=("symbol", "interval", "time"),
    )


TABLES = tuple(schema for market in ("spot", *FUTURES) for schema in (_trades(market), _klines(market)))
