"""Columns that many tables share, with one name and one description in all of them."""

from __future__ import annotations

import polars as pl

from lakehouse_assets.tables.schemas import relations
from lakehouse_assets.tables.schemas.model import Column
from lakehouse_assets.tables.schemas.readers import (
    MAKER_SIDE,
    TIME,
    TIME_NS,
    UTC_MICROSECONDS,
    Reader,
)

EXCHANGE = Column("exchange", pl.String(), "Exchange, as in the asset key.")
MARKET = Column("market", pl.String(), "Market of the exchange.")
SYMBOL = Column("symbol", pl.String(), "Symbol, as in the archive's key.")
INTERVAL = Column("interval", pl.String(), "Length of the candle, as the exchange names it.")

BY_SYMBOL = (EXCHANGE, MARKET, SYMBOL)
BY_INTERVAL = (*BY_SYMBOL, INTERVAL)

BASE, QUOTE = relations.BASE, relations.QUOTE
CONTRACTS = "contracts"

OPENING_TIME = "Opening time of the candle."
A_ROW_PER_TRADE = "a row per trade"
A_ROW_PER_CHANGE = "a row per change of the book"

CONTRACT_TRADES_FILE = (
    "timestamp",
    "symbol",
    "side",
    "size",
    "price",
    "tickDirection",
    "trdMatchID",
    "grossValue",
    "homeNotional",
    "foreignNotional",
)
"""Columns of BitMEX's trade files, and of Bybit's for derivatives."""


def symbol_of_row(source: str) -> tuple[Column, ...]:
    """The common columns for files whose rows name their symbol."""
    return (EXCHANGE, MARKET, Column("symbol", pl.String(), "Symbol, as the exchange writes it.", source=source))


def time(source: str | tuple[str, ...], description: str, *, name: str = "time", read: Reader = TIME) -> Column:
    return Column(name, UTC_MICROSECONDS, description, "UTC", source, read)


def time_ns(source: str) -> Column:
    return Column(
        "ts_ns", pl.Int64(), "The same instant with the exchange's full precision.", "ns since 1970", source, TIME_NS
    )


def number(
    name: str,
    source: str,
    description: str,
    unit: str | None = None,
    *,
    nullable: bool = False,
    read: Reader | None = None,
) -> Column:
    return Column(name, pl.Float64(), description, unit, source, read, nullable)


def integer(name: str, source: str, description: str, unit: str | None = None, *, nullable: bool = False) -> Column:
    return Column(name, pl.Int64(), description, unit, source, None, nullable)


def text(name: str, source: str, description: str, *, nullable: bool = False) -> Column:
    return Column(name, pl.String(), description, None, source, None, nullable)


def price(source: str = "price") -> Column:
    return number("price", source, "Price of the trade.", QUOTE)


def side(
    source: str,
    read: Reader = MAKER_SIDE,
    description: str = "The taker's side: buy or sell.",
    *,
    nullable: bool = False,
) -> Column:
    return Column("side", pl.String(), description, None, source, read, nullable)


def ohlc() -> tuple[Column, ...]:
    """``open high low close``, for exchanges that use these names."""
    return (
        number("open", "open", "First price of the interval.", QUOTE),
        number("high", "high", "Highest price.", QUOTE),
        number("low", "low", "Lowest price.", QUOTE),
        number("close", "close", "Last price.", QUOTE),
    )
