"""The symbols reference, and universes from it: the symbols that were published on a day, delisted ones included.

The reference merges catalogs over time, so that a symbol stays in it even if its objects are withdrawn. A *span* is an
uninterrupted window of publication. If a ticker passed from one asset to another, the explicit table
``symbol_tables.REUSED_TICKERS`` splits the span, and each part has its own ``instrument``. A gap also starts a new
span, but does not mean another asset: the instrument is the same, and ``span`` differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import polars as pl

from lakehouse_assets.archive.catalog.catalog import Catalog, CatalogDepth
from lakehouse_assets.archive.catalog.spans import DATASET, merged_spans
from lakehouse_assets.archive.catalog.symbol_tables import REUSED_TICKERS, TickerAssignment
from lakehouse_assets.archive.catalog.symbols import symbol_facts
from lakehouse_assets.archive.exchanges.layout import ALL_SYMBOLS
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
"""One row per dataset, symbol and span. ``first`` and ``last`` are days, as in a catalog's spans, over all intervals;
null if only shallow catalogs contain the symbol.

``base`` and ``quote`` are the exchange's names, ``asset`` and ``instrument`` those that all exchanges share
(archive/catalog/symbols.py); all four are null if the symbol cannot be parsed. ``contract`` is spot, perpetual,
delivery (on ``delivery``), option or index. ``published``: the newest catalog that covers the dataset contains the
symbol, whether or not it still trades.
"""

_KEYS = (*DATASET, "symbol")


def reference(catalog: Catalog, before: pl.DataFrame | None = None) -> pl.DataFrame:
    """The symbols reference (SYMBOL_SCHEMA) after adding a catalog to the reference ``before``.

    Files that contain all symbols add none.
    """
    known = SYMBOL_SCHEMA.to_frame() if before is None else before
    listed = catalog.spans.filter(pl.col("symbol") != ALL_SYMBOLS).select(*_KEYS, "first", "last")
    dated = pl.concat([listed, known.select(listed.columns)]).filter(pl.col("first").is_not_null())
    names_only = (
        listed.select(_KEYS)
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
        pl.DataFrame(rows, schema={name: kind for name, kind in SYMBOL_SCHEMA.items() if name not in _ADDED_COLUMNS})
        .with_columns(
            pl.lit(catalog.exchange).alias("exchange"),
            pl.col("market").cum_count().over(_KEYS).cast(pl.Int32).alias("span"),
        )
        .join(_published(catalog, known), on=_KEYS, how="left")
        .select(SYMBOL_SCHEMA.names())
    )


_ADDED_COLUMNS = ("exchange", "span", "published")


def _published(catalog: Catalog, known: pl.DataFrame) -> pl.DataFrame:
    """Whether each symbol is still published, as far as the catalog shows."""
    listed = (
        catalog.spans.filter(pl.col("symbol") != ALL_SYMBOLS)
        .select(_KEYS)
        .unique()
        .with_columns(pl.lit(value=True).alias("published"))
    )
    others = known.select(*_KEYS, "published").unique(_KEYS).join(listed, on=_KEYS, how="anti")
    is_covered = pl.lit(catalog.depth is CatalogDepth.EXACT) & pl.struct("market", "data_type").map_elements(
        lambda dataset: catalog.covers(dataset["market"], dataset["data_type"]), return_dtype=pl.Boolean
    )
    return pl.concat([listed, others.with_columns(pl.col("published") & ~is_covered)])


def _facts_by_asset(
    exchange: str, market: str, symbol: str, first: date | None, last: date | None
) -> Iterator[dict[str, object]]:
    """The facts of a symbol between two days: one row, or one per asset that had its ticker."""
    facts = symbol_facts(exchange, market, symbol)
    common = {
        "base": facts.base,
        "quote": facts.quote,
        "contract": facts.contract.value,
        "delivery": facts.delivery,
        "settled": facts.settled,
        "leveraged": facts.leveraged,
        "stable_pair": facts.stable_pair,
    }
    assignments = REUSED_TICKERS.get((exchange, market, facts.base or ""))
    if not assignments or first is None or last is None:
        yield common | {"first": first, "last": last, "asset": facts.asset, "instrument": facts.instrument}
        return
    for assignment in assignments:
        start, end = _overlap(assignment, first, last)
        if start <= end:
            instrument = facts.instrument_of(assignment.asset)
            yield common | {"first": start, "last": end, "asset": assignment.asset, "instrument": instrument}


def _overlap(assignment: TickerAssignment, first: date, last: date) -> tuple[date, date]:
    return max(first, assignment.since or first), min(last, assignment.until or last)


def universe(
    symbols: pl.DataFrame, day: date, *, market: str | None = None, data_type: str | None = None
) -> pl.DataFrame:
    """The symbols that were published for ``day``, delisted ones included: one row per exchange, market, symbol.

    ``symbols`` is a reference (SYMBOL_SCHEMA) of one or more exchanges. The result has its columns without those of a
    dataset and ``published``; ``first`` and ``last`` are those of the span that contains the day. From a symbol's first
    daily file on, only daily datasets count, since a monthly file does not show on which day trading ended.

    A published symbol did not necessarily trade: archives repeat the last price of some settled contracts
    (``settled`` marks those that the exchange names so). Raises InputError for a day after the newest day of the
    reference, since every symbol would seem to have ended.
    """
    rows = symbols.filter(
        pl.lit(value=True) if market is None else pl.col("market") == market,
        pl.lit(value=True) if data_type is None else pl.col("data_type") == data_type,
        pl.col("first").is_not_null(),
    )
    newest = rows["last"].max()
    if not isinstance(newest, date):
        raise InputError("The lake has no symbols of this selection; take a catalog first: lakehouse discover EXCHANGE")
    if day > newest:
        raise InputError(f"The newest catalog ends on {newest}, before {day}; take a newer catalog first.")
    is_daily = pl.col("cadence") == Cadence.DAILY
    identity = ("exchange", "market", "symbol")
    first_daily = pl.col("first").filter(is_daily).min().over(identity)
    facts = [name for name in SYMBOL_SCHEMA.names() if name not in {*_KEYS, *_ADDED_COLUMNS, "first", "last"}]
    return (
        rows.filter(is_daily | (day < first_daily).fill_null(value=True))
        .filter(pl.col("first") <= day, pl.col("last") >= day)
        .group_by(identity)
        .agg(
            pl.col("first").min(),
            pl.col("last").max(),
            *(pl.col(name).first() for name in facts),
        )
        .sort(identity)
    )
