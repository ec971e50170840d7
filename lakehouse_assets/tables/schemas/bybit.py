"""Bybit: trades of public.bybit.com. Files have a header; newer ones also have a last column RPI, which is ignored.

For inverse contracts (quoted in USD, settled in their coin), homeNotional is the size in USD and foreignNotional
the size in the coin: the reverse of BitMEX, where these column names come from. Source: a real row of BTCUSD
2022-11-17, and a third party's inspection of all 54,049 rows of BTCUSD 2026-09-01. The symbol tells whether a contract
is inverse; a row whose own numbers contradict it makes the file a bad archive.
"""

from __future__ import annotations

from functools import partial

import polars as pl

from lakehouse_assets.archive.catalog.symbols import symbol_facts
from lakehouse_assets.tables.schemas.columns import (
    A_ROW_PER_TRADE,
    BASE,
    BY_SYMBOL,
    CONTRACT_TRADES_FILE,
    QUOTE,
    integer,
    number,
    price,
    side,
    symbol_of_row,
    text,
    time,
)
from lakehouse_assets.tables.schemas.model import Column, SizeClass, TableSchema
from lakehouse_assets.tables.schemas.readers import TEXT_SIDE, Reader

_table = partial(TableSchema, exchange="bybit", data_type="trades", size_class=SizeClass.LARGE)

_SIZES = ("symbol", "size", "price", "homeNotional", "foreignNotional")
_TOLERANCE = 1e-6
"""Relative, for recomputed sizes: files print 17 digits, old ones fewer."""


def _equal(left: pl.Series, right: pl.Series) -> pl.Series:
    return (left - right).abs() <= _TOLERANCE * right.abs()


def _sizes(
    symbol: pl.Series, size: pl.Series, price: pl.Series, home: pl.Series, foreign: pl.Series
) -> dict[str, pl.Series]:
    """Sizes in the base and in the quote asset; null where a row's numbers contradict its kind of contract."""
    quotes = {name: symbol_facts("bybit", "derivatives", name).quote for name in symbol.drop_nulls().unique()}
    inverse = symbol.is_in([name for name, quote in quotes.items() if quote == "USD"])
    in_coin = _equal(foreign * price, size)
    if not inverse.any() and not in_coin.any():
        return {"base": home, "quote": foreign}
    in_quote = _equal(foreign, size * price)
    reverse = inverse & _equal(home, size) & (in_coin | ~in_quote)
    as_named = (~inverse & (in_quote | ~in_coin)) | (inverse & _equal(foreign, size))
    null = pl.Series([None], dtype=pl.Float64)
    return {
        "base": foreign.zip_with(reverse, home.zip_with(as_named, null)),
        "quote": home.zip_with(reverse, foreign.zip_with(as_named, null)),
    }


def _size_in(asset: str) -> Reader:
    raw = (pl.String(), *(pl.Float64(),) * (len(_SIZES) - 1))
    return Reader(raw, lambda *fields: _sizes(*fields)[asset])


_DERIVATIVES = _table(
    market="derivatives",
    description="Single trades of perpetual and dated contracts. Some files are sorted from the newest trade.",
    columns=(
        *symbol_of_row("symbol"),
        time("timestamp", "Time of the trade (published in seconds with up to four decimals)."),
        text("trade_id", "trdMatchID", "The exchange's id of the trade, a UUID."),
        price(),
        number(
            "size",
            "size",
            "Size: in the base asset for USDT and USDC contracts, in USD for inverse contracts.",
            "base asset or USD",
        ),
        side("side", TEXT_SIDE),
        text("tick_direction", "tickDirection", "PlusTick, ZeroPlusTick, MinusTick or ZeroMinusTick."),
        number("gross_value", "grossValue", "Value of the trade.", "1e-8 of the settlement asset"),
        Column("base_size", pl.Float64(), "Size in the base asset.", BASE, _SIZES, _size_in("base")),
        Column("quote_size", pl.Float64(), "Size in the quote asset.", QUOTE, _SIZES, _size_in("quote")),
    ),
    file_columns=CONTRACT_TRADES_FILE,
    symbol_column="symbol",
    # 2: base_size and quote_size of inverse contracts, which were swapped.
    revision=2,
    key=("symbol", "trade_id"),
    irregular=A_ROW_PER_TRADE,
)

_SPOT = _table(
    market="spot",
    description="Single trades.",
    columns=(
        *BY_SYMBOL,
        time("timestamp", "Time of the trade."),
        integer("trade_id", "id", "Number of the trade within its file."),
        price(),
        number("size", "volume", "Size.", BASE),
        side("side", TEXT_SIDE),
    ),
    file_columns=("id", "timestamp", "price", "volume", "side"),
    key=("symbol", "time", "trade_id"),
    irregular=A_ROW_PER_TRADE,
)

TABLES = (_DERIVATIVES, _SPOT)
