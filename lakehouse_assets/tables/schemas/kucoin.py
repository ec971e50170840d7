"""KuCoin: trades, candles and funding rates of historical-data.kucoin.com. Files have a header.

Spot candles have the order open, close, high, low. Intervals without trades have no candle, as the exchange documents
for its API. Daily futures candles are published with one value less than the header has names, and are bad archives.
The columns of futures trades are uncertain: no file was inspected, and the names of spot files are assumed.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from lakehouse_assets.tables.schemas.columns import (
    A_ROW_PER_TRADE,
    BASE,
    BY_INTERVAL,
    BY_SYMBOL,
    CONTRACTS,
    OPENING_TIME,
    QUOTE,
    number,
    ohlc,
    price,
    side,
    symbol_of_row,
    text,
    time,
)
from lakehouse_assets.tables.schemas.model import SizeClass, TableSchema
from lakehouse_assets.tables.schemas.readers import TEXT_SIDE

_table = partial(TableSchema, exchange="kucoin")


def _trades(market: str) -> TableSchema:
    uncertain = "" if market == "spot" else " The names of the columns are uncertain."
    return _table(
        market=market,
        data_type="trades",
        description=f"Single trades.{uncertain}",
        columns=(
            *BY_SYMBOL,
            time("trade_time", "Time of the trade."),
            text("trade_id", "trade_id", "The exchange's id of the trade."),
            price(),
            number("size", "size", "Size.", BASE if market == "spot" else CONTRACTS),
            side("side", TEXT_SIDE),
        ),
        file_columns=("trade_id", "trade_time", "price", "size", "side"),
        key=("symbol", "trade_id"),
        size_class=SizeClass.LARGE,
        irregular=A_ROW_PER_TRADE,
    )


def _klines(market: str) -> TableSchema:
    spot = market == "spot"
    return _table(
        market=market,
        data_type="klines",
        description="Candles of trades.",
        columns=(
            *BY_INTERVAL,
            time("time", OPENING_TIME),
            *ohlc(),
            number("volume", "volume", "Volume.", BASE if spot else CONTRACTS),
            *((number("quote_volume", "turnover", "Volume in the quote asset.", QUOTE),) if spot else ()),
        ),
        file_columns=("time", "open", "close", "high", "low", "volume", "turnover")
        if spot
        else ("time", "open", "high", "low", "close", "volume"),
        key=("symbol", "interval", "time"),
        size_class=SizeClass.LARGE,
        gaps_are_faults=False,
    )


_FUNDING = _table(
    market="futures",
    data_type="fundingRates",
    description="Funding rates.",
    columns=(
        *symbol_of_row("symbol"),
        time("time", "Time of the charge."),
        number("funding_rate", "fundingRate", "Rate of the interval; if positive, longs pay shorts.", "1"),
    ),
    file_columns=("symbol", "time", "fundingRate"),
    symbol_column="symbol",
    key=("symbol", "time"),
    size_class=SizeClass.SMALL,
    at_least_every=timedelta(hours=8),
    gaps_are_faults=False,
)

TABLES = (*(schema for market in ("spot", "futures") for schema in (_trades(market), _klines(market))), _FUNDING)
