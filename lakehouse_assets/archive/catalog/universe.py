"""The symbols reference, and universes from it: which symbols were published on a day, dead ones included.

The reference unites catalogs over time, so that a symbol is never forgotten, even when its objects
are withdrawn. A *span* is an unbroken time; where a code passed from one asset to another the explicit
table (``symbol_tables.REUSED_TICKERS``) cuts it, and each part has its own ``instrument``. A gap alone also makes two
spans, but says nothing of the asset: the instrument stays, and ``span`` tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import polars as pl

from lakehouse_assets.archive.catalog.catalog import Catalog, Depth
from lakehouse_assets.archive.catalog.spans import DATASET, merged_spans
from lakehouse_assets.archive.catalog.symbol_tables import REUSED_TICKERS, TickerAssignment
from lakehouse_assets.archive.catalog.symbols import symbol_facts
from lakehouse_assets.archive.exchanges.grammar import ALL_SYMBOLS
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.errors import InputError

SYMBOL_SCHEMA = pl.Schema(
    {
        "exchange": pl.String,
        "market": pl.String,
        "data_type": pl.String,
        "cadence": pl.String,
        "symbol": pl.String,
        "span": pl.Int32,
        "first": pl.Date,
        "last": pl.Date,
        "base": pl.String,
        "quote": pl.String,
        "asset": pl.String,
        "instrument": pl.String,
        "contract": pl.String,
        "delivery": pl.Date,
        "settled": pl.Boolean,
        "leveraged": pl.Boolean,
        "stable_pair": pl.Boolean,
        "published": pl.Boolean,
    }
)
"""One row per dataset, symbol and span. ``first`` and ``last`` are days, as in a catalog's spans (all intervals
together); null where only a shallow catalog has seen the symbol.

``base`` and ``quote`` are the exchange's words, ``asset`` and ``instrument`` those that all exchanges share
(archive/catalog/symbols.py); all four are null where the symbol does not read. ``contract`` is spot, perpetual,
delivery (on ``delivery``), option or index. ``published``: the newest catalog that looked has it still, dead or alive.
"""

_KEYS = (*DATASET, "symbol")


def reference(catalog: Catalog, before: pl.DataFrame | None = None) -> pl.DataFrame:
    """The symbols reference (SYMBOL_SCHEMA) that a catalog makes of the one ``before``.

    Files that hold all symbols tell of none.
    """
    known = SYMBOL_SCHEMA.to_frame() if before is None else before
    found = catalog.spans.filter(pl.col("symbol") != ALL_SYMBOLS).select(*_KEYS, "first", "last")
    dated = pl.concat([found, known.select(found.columns)]).filter(pl.col("first").is_not_null())
    names_only = (
        found.select(_KEYS)
        .unique()
        .join(dated, on=_KEYS, how="anti")
        .with_columns(pl.lit(None, pl.Date).alias("first"), pl.lit(None, pl.Date).alias("last"))
    )
    spans = merged_spans(pl.concat([dated, names_only]), _KEYS).drop("span")
    rows = [
        row | facts
        for row in spans.to_dicts()
        for facts in _facts_by_asset(catalog.exchange, row["market"], row["symbol"], row["first"], row["last"])
    ]
    return (
        pl.DataFrame(rows, schema={name: kind for name, kind in SYMBOL_SCHEMA.items() if name not in _LATER})
        .with_columns(
            pl.lit(catalog.exchange).alias("exchange"),
            pl.col("market").cum_count().over(_KEYS).cast(pl.Int32).alias("span"),
        )
        .join(_published(catalog, known), on=_KEYS, how="left")
        .select(SYMBOL_SCHEMA.names())
    )


_LATER = ("exchange", "span", "published")


def _published(catalog: Catalog, known: pl.DataFrame) -> pl.DataFrame:
    """Whether each dataset's symbol is still there, as far as the catalog can say."""
    found = (
        catalog.spans.filter(pl.col("symbol") != ALL_SYMBOLS)
        .select(_KEYS)
        .unique()
        .with_columns(pl.lit(value=True).alias("published"))
    )
    others = known.select(*_KEYS, "published").unique(_KEYS).join(found, on=_KEYS, how="anti")
    looked = pl.lit(catalog.depth is Depth.EXACT) & pl.struct("market", "data_type").map_elements(
        lambda place: catalog.covers(place["market"], place["data_type"]), return_dtype=pl.Boolean
    )
    return pl.concat([found, others.with_columns(pl.col("published") & ~looked)])


def _facts_by_asset(
    exchange: str, market: str, symbol: str, first: date | None, last: date | None
) -> Iterator[dict[str, object]]:
    """What a symbol was between two days: once, or once per asset that had its code."""
    facts = symbol_facts(exchange, market, symbol)
    known = {
        "base": facts.base,
        "quote": facts.quote,
        "contract": facts.contract.value,
        "delivery": facts.delivery,
        "settled": facts.settled,
        "leveraged": facts.leveraged,
        "stable_pair": facts.stable_pair,
    }
    reused = REUSED_TICKERS.get((exchange, market, facts.base or ""))
    if not reused or first is None or last is None:
        yield known | {"first": first, "last": last, "asset": facts.asset, "instrument": facts.instrument}
        return
    for tenure in reused:
        start, end = _within(tenure, first, last)
        if start <= end:
            instrument = facts.instrument_of(tenure.asset)
            yield known | {"first": start, "last": end, "asset": tenure.asset, "instrument": instrument}


def _within(tenure: TickerAssignment, first: date, last: date) -> tuple[date, date]:
    return max(first, tenure.since or first), min(last, tenure.until or last)


def universe(
    symbols: pl.DataFrame, day: date, *, market: str | None = None, data_type: str | None = None
) -> pl.DataFrame:
    """Symbols that were published for ``day``, whatever became of them: one row per exchange, market, symbol.

    ``symbols`` is a reference (SYMBOL_SCHEMA) of one or more exchanges. Columns are its own, without those of
    a dataset and ``published``; ``first`` and ``last`` are of the span that holds the day. From a symbol's first
    daily file on, daily datasets decide: a month's file does not say on which of its days trading ended.

    What was published is not always what traded: archives repeat the last price of some settled contracts
    (``settled`` names those that the exchange marks). Raises InputError for a day after the newest that
    the reference knows, since every symbol would seem to have ended.
    """
    rows = symbols.filter(
        pl.lit(value=True) if market is None else pl.col("market") == market,
        pl.lit(value=True) if data_type is None else pl.col("data_type") == data_type,
        pl.col("first").is_not_null(),
    )
    newest = rows["last"].max()
    if not isinstance(newest, date):
        raise InputError("No symbol is known there; take a catalog first: lakehouse discover EXCHANGE")
    if day > newest:
        raise InputError(f"Symbols are known up to {newest}; {day} is after that. Take a newer catalog first.")
    is_daily = pl.col("cadence") == Cadence.DAILY
    of_symbol = ("exchange", "market", "symbol")
    first_daily = pl.col("first").filter(is_daily).min().over(of_symbol)
    return (
        rows.filter(is_daily | (day < first_daily).fill_null(value=True))
        .filter(pl.col("first") <= day, pl.col("last") >= day)
        .group_by(of_symbol)
        .agg(
            pl.col("first").min(),
            pl.col("last").max(),
            *(pl.col(name).first() for name in SYMBOL_SCHEMA.names() if name not in {*_KEYS, *_LATER, "first", "last"}),
        )
        .sort(of_symbol)
    )
