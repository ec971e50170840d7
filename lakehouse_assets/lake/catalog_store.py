"""Catalogs in the lake: every catalog is kept, and the symbols reference grows with them.

Three Delta tables below ``_catalog/<exchange>/``: ``spans`` and ``strays`` (the unrecognized keys) get the rows of each
catalog, ``symbols`` is the reference as of the newest catalog. The spans are written last: a catalog without them does
not exist for readers.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl

from lakehouse_assets.archive.catalog.catalog import UNRECOGNIZED_SCHEMA, Catalog, CatalogDepth
from lakehouse_assets.archive.catalog.spans import DATASET, SPAN_SCHEMA
from lakehouse_assets.archive.catalog.universe import SYMBOL_SCHEMA, reference
from lakehouse_assets.archive.catalog.universe import universe as universe_of
from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.errors import ErrorKind, Side, StoreError
from lakehouse_assets.lake.commit import read_rows, write_rows
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.report import NAMES_SHOWN
from lakehouse_assets.lake.withdrawal import WithdrawalLimits

CATALOG_FOLDER = "_catalog"

_TAKEN = {"month": pl.String, "taken_at": pl.Datetime("us", "UTC"), "depth": pl.String}
_SPANS = pl.Schema(_TAKEN | SPAN_SCHEMA)
_UNRECOGNIZED = pl.Schema(_TAKEN | UNRECOGNIZED_SCHEMA)
"""``month`` (of ``taken_at``, UTC) is the tables' partition."""


def write_catalog(
    lake: Lake, catalog: Catalog, *, limits: WithdrawalLimits | None = None, accept_withdrawals: bool = False
) -> pl.DataFrame:
    """Store a catalog of a complete archive; returns the updated symbols reference.

    Raises StoreError for an empty catalog, and (unless ``accept_withdrawals``) for one that lacks many of the symbols
    that were published: an archive does not disappear, but a failing listing looks as if it did.
    """
    if catalog.spans.is_empty():
        raise StoreError(
            "Listing",
            f"no known dataset of {catalog.exchange} was found, so this catalog is not written; check the listing",
            side=Side.SOURCE,
            bucket=exchange_named(catalog.exchange).bucket,
            kind=ErrorKind.IMPLAUSIBLE,
        )
    taken = [
        pl.lit(f"{catalog.taken_at:%Y-%m}").alias("month"),
        pl.lit(catalog.taken_at).cast(_TAKEN["taken_at"]).alias("taken_at"),
        pl.lit(catalog.depth.value).alias("depth"),
    ]
    before = read_symbols(lake, catalog.exchange)
    if not accept_withdrawals:
        _require_plausible(catalog, before, limits or WithdrawalLimits())
    symbols = reference(catalog, before)
    if not catalog.unrecognized.is_empty():
        write_rows(
            lake,
            _table(catalog.exchange, "strays"),
            catalog.unrecognized.select(*taken, pl.all()),
            partition_by=["month"],
        )
    write_rows(lake, _table(catalog.exchange, "symbols"), symbols, mode="overwrite")
    write_rows(lake, _table(catalog.exchange, "spans"), catalog.spans.select(*taken, pl.all()), partition_by=["month"])
    return symbols


def _require_plausible(catalog: Catalog, before: pl.DataFrame, limits: WithdrawalLimits) -> None:
    """Raises StoreError for a catalog that lacks too many of the symbols that are known to be published."""
    known = before.filter("published").select(*DATASET, "symbol").unique()
    compared = [
        row
        for row in known.select(DATASET).unique().iter_rows()
        if catalog.covers(row[0], row[1]) and catalog.names_all_symbols("/".join(row))
    ]
    known = known.join(pl.DataFrame(compared, schema=known.select(DATASET).schema, orient="row"), on=DATASET)
    lacking = known.join(catalog.spans, on=[*DATASET, "symbol"], how="anti").sort(*DATASET, "symbol")
    if not limits.is_too_much(lacking.height, known.height):
        return
    named = ", ".join(repr(name) for name in lacking["symbol"].unique(maintain_order=True).head(NAMES_SHOWN))
    raise StoreError(
        "Listing",
        f"it lacks {lacking.height} of {known.height} symbols that were published, such as {named}. This counts as an "
        "outage, so the catalog is not written; if the exchange withdrew them, materialize the catalog with "
        "accept_withdrawals",
        side=Side.SOURCE,
        bucket=exchange_named(catalog.exchange).bucket,
        kind=ErrorKind.IMPLAUSIBLE,
    )


def read_catalog(lake: Lake, exchange: str) -> Catalog | None:
    """The newest catalog of an exchange; None before the first.

    A catalog dated in the future, by a clock that was ahead, is read only if there is no other.
    """
    exchange_named(exchange)
    spans = _newest_spans(lake, exchange, datetime.now(UTC))
    if spans.is_empty():
        return None
    taken_at: datetime = spans["taken_at"][0]
    unrecognized = read_rows(lake, _table(exchange, "strays"), _UNRECOGNIZED, pl.col("month") == f"{taken_at:%Y-%m}")
    return Catalog(
        exchange=exchange,
        taken_at=taken_at,
        depth=CatalogDepth(spans["depth"][0]),
        spans=spans.select(SPAN_SCHEMA.names()),
        unrecognized=unrecognized.filter(pl.col("taken_at") == taken_at).select(UNRECOGNIZED_SCHEMA.names()),
    )


def read_symbols(lake: Lake, exchange: str) -> pl.DataFrame:
    """The symbols reference of an exchange, SYMBOL_SCHEMA; empty before the first catalog."""
    exchange_named(exchange)
    return read_rows(lake, _table(exchange, "symbols"), SYMBOL_SCHEMA)


def universe(
    lake: Lake, exchange: str, day: date, *, market: str | None = None, data_type: str | None = None
) -> pl.DataFrame:
    """The symbols that an exchange published for a day, delisted ones included; see archive/catalog/universe.py."""
    return universe_of(read_symbols(lake, exchange), day, market=market, data_type=data_type)


def _table(exchange: str, name: str) -> str:
    return f"{CATALOG_FOLDER}/{exchange}/{name}"


def _newest_spans(lake: Lake, exchange: str, now: datetime) -> pl.DataFrame:
    """Reads only the month of the newest catalog."""
    month, taken_at = pl.col("month"), pl.col("taken_at")
    this_month = f"{now:%Y-%m}"
    past, always = taken_at <= now, pl.lit(value=True)
    spans = _SPANS.to_frame()
    for months, times in ((month <= this_month, past), (month < this_month, past), (always, always)):
        newest_month = month == month.filter(months).max()
        spans = read_rows(lake, _table(exchange, "spans"), _SPANS, newest_month).filter(times)
        if not spans.is_empty():
            break
    return spans.filter(taken_at == taken_at.max())
