"""Lineage: which archive object the rows of a period, symbol and interval come from, and which could not be used.

It is written after the table's own commit, and names that commit: when a run is killed between the two, the
period is written again. ``content`` is the digest of all objects of the period and of the schema: a period is
written again only when its digest changed.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import polars as pl

from lakehouse_assets.archive.listing import content_digest
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.delta import stored_schema
from lakehouse_assets.tables.records import PeriodRecords
from lakehouse_assets.tables.table import Table

_UTC = pl.Datetime("us", "UTC")

LINEAGE_SCHEMA = pl.Schema(
    {
        "month": pl.String,
        "period": pl.String,
        "symbol": pl.String,
        "interval": pl.String,
        "state": pl.String,
        "cadence": pl.String,
        "key": pl.String,
        "etag": pl.String,
        "sha256": pl.String,
        "integrity": pl.String,
        "rows": pl.Int64,
        "first_time": _UTC,
        "last_time": _UTC,
        "note": pl.String,
        "content": pl.String,
        "run_id": pl.String,
        "written_at": _UTC,
        "table_id": pl.String,
        "version": pl.Int64,
        "committed_at": pl.Datetime("us", "UTC"),
    }
)
"""One row per period, symbol, interval and archive object.

``key`` is the object's key at the source, as in the manifest of ``cadence``; ``etag`` is its ETag in the lake and
``sha256`` the digest of the bytes that were read. ``rows``, ``first_time`` and ``last_time`` (UTC) cover this period
only. ``note`` says why an object was not written. ``table_id`` and ``version`` name the table version that added the
rows, ``committed_at`` is the modification time of its files (whole milliseconds); all three are null in records older
than these columns. See tables/lineage_check.py."""

READING = 2
"""Increased when the reader accepts files that it refused before: periods that lack such files are built once more.

2: each field is parsed by its own format, and lines may end with CR.
"""


_SCHEMA_DIGITS = 8
"""Length of the schema's part at the end of a period's digest."""


class ObjectUsage(StrEnum):
    """How a table uses an archive object.

    ``written``: its rows are in the table. ``quarantined``: it is in the lake, but differs from the published content
    or cannot be read. ``missing``: the exchange lists it, and the lake does not have it.
    """

    WRITTEN = "written"
    QUARANTINED = "quarantined"
    MISSING = "missing"


def lineage_of(lake: Lake, table: Table) -> PeriodRecords:
    """The table's lineage in a lake."""
    return PeriodRecords(lake, table.lineage_place, LINEAGE_SCHEMA)


def digest_of(table: Table, objects: pl.DataFrame) -> str:
    """The digest of a period's objects (key, size, lake_etag, usable) and of how they are read.

    When it changes, the period is written again.
    """
    content = content_digest(
        objects.select(
            "key",
            "size",
            pl.col("lake_etag").alias("etag"),
            pl.when("usable")
            .then(pl.lit(""))
            .otherwise(pl.lit(f"{ObjectUsage.QUARANTINED} {READING}"))
            .alias("sidecar_etag"),
        )
    )
    return content + schema_digest(table)


def archives_digest(content: str) -> str:
    """The part of a period's digest that depends on its archive objects alone."""
    return content[:-_SCHEMA_DIGITS]


def outdated_periods(lineage: PeriodRecords, table: Table) -> tuple[str, ...]:
    """Periods written by an earlier revision of the schema, which read the same files differently."""
    if table.schema.revision == 1:
        return ()
    contents = lineage.read(columns=("period", "content"))
    is_current = pl.col("content").str.ends_with(schema_digest(table))
    return tuple(contents.filter(~is_current)["period"].unique().sort())


def schema_digest(table: Table) -> str:
    """Eight hex digits of the table's columns and of the schema's revision: the table's code version."""
    columns = "\n".join(f"{name} {dtype}" for name, dtype in stored_schema(table).items())
    if table.schema.revision > 1:
        columns += f"\nrevision {table.schema.revision}"
    return hashlib.sha256(columns.encode()).hexdigest()[:_SCHEMA_DIGITS]
