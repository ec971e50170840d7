"""Lineage: which archive object each part of a table was made of, and what could not be used.

One row per period, symbol and interval, written after the table's own commit, which it names: a run that is
killed between the two writes the period again. ``content`` is the digest of everything that the period was
made of, the schema included: a period whose digest is the same is not written again.
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
"""``key`` is the source's, as in the manifest of ``cadence``; ``etag`` the lake's, of the bytes that were read, and
``sha256`` theirs. ``rows``, ``first_time`` and ``last_time`` (UTC) are of this period. ``note``: why not written.
``table_id`` and ``version`` are of the table whose commit holds the rows, ``committed_at`` is the time that this commit
gave to its files (whole milliseconds); null in rows from before they were recorded. See tables/held.py."""

READING = 2
"""Counts up when files that were refused may be read now: periods that lack some are tried once more.

2: fields are read each by their own form, line ends may be CR.
"""


class ObjectUsage(StrEnum):
    """What became of an archive object.

    ``written``: its rows are in the table. ``quarantined``: it is in the lake, but not as published or
    not readable. ``missing``: the exchange lists it, the lake does not have it.
    """

    WRITTEN = "written"
    QUARANTINED = "quarantined"
    MISSING = "missing"


def lineage_of(lake: Lake, table: Table) -> PeriodRecords:
    """The table's lineage in a lake."""
    return PeriodRecords(lake, table.lineage_place, LINEAGE_SCHEMA)


def digest_of(table: Table, objects: pl.DataFrame) -> str:
    """Digest of the objects (key, size, lake_etag, usable) that a period is made of, and of how they are read:
    where either changes, the period is made again."""
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
    return content + _reading_of(table)


def outdated_periods(lineage: PeriodRecords, table: Table) -> tuple[str, ...]:
    """Periods that a version before made, which read the same files otherwise: their rows are not like the others'."""
    if table.schema.revision == 1:
        return ()
    made = lineage.read(columns=("period", "content"))
    return tuple(made.filter(~pl.col("content").str.ends_with(_reading_of(table)))["period"].unique().sort())


def _reading_of(table: Table) -> str:
    """Digest of the table's columns and of how files become them."""
    columns = "\n".join(f"{name} {dtype}" for name, dtype in stored_schema(table).items())
    if table.schema.revision > 1:
        columns += f"\nrevision {table.schema.revision}"
    return hashlib.sha256(columns.encode()).hexdigest()[:8]
