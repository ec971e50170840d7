"""The incomplete periods of a dataset, read from the manifest at a cost that hardly depends on its history.

Delta's log has the smallest and the largest state of every data file. Files whose states all count as complete, which
are nearly all files, are not read.
"""

from __future__ import annotations

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.lake.commit import with_missing_columns
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA, Manifest
from lakehouse_assets.lake.manifest_stats import MANIFEST_STATS_SCHEMA, is_complete
from lakehouse_assets.lake.states import FAILED, ObjectState

INCOMPLETE_SCHEMA = pl.Schema(
    {name: MANIFEST_STATS_SCHEMA[name] for name in ("period", "expected", "present", "doubted")}
)
"""One row per incomplete period; the columns are those of MANIFEST_STATS_SCHEMA."""

_INCOMPLETE_STATES = (ObjectState.MISSING.value, ObjectState.CHANGED.value, FAILED)


def incomplete_periods(manifest: Manifest) -> pl.DataFrame:
    """All incomplete periods that the manifest records, INCOMPLETE_SCHEMA, those with most missing objects first.

    Raises StoreError.
    """
    table = manifest.table()
    months = [] if table is None else _months_to_read(table)
    if table is None or not months:
        return INCOMPLETE_SCHEMA.to_frame()
    state = pl.col("state")
    rows = with_missing_columns(pl.scan_delta(table).filter(pl.col("month").is_in(months)), MANIFEST_SCHEMA)
    counts = rows.group_by("period").agg(
        (state != ObjectState.WITHDRAWN.value).sum().cast(pl.Int64).alias("expected"),
        (state == ObjectState.PRESENT.value).sum().cast(pl.Int64).alias("present"),
        pl.col("missed_at").count().cast(pl.Int64).alias("doubted"),
    )
    missing = pl.col("expected") - pl.col("present") + pl.col("doubted")
    return manifest.collect(counts.filter(~is_complete()).sort(missing, "period", descending=True)).match_to_schema(
        INCOMPLETE_SCHEMA
    )


def _months_to_read(table: DeltaTable) -> list[str]:
    """The months with a file that may have a row of an incomplete period."""
    actions = pl.DataFrame(table.get_add_actions(flatten=True))
    names = ("min.state", "max.state", "null_count.missed_at")
    files = actions.with_columns(pl.lit(None).alias(name) for name in names if name not in actions.columns)
    smallest, largest = pl.col("min.state").cast(pl.String), pl.col("max.state").cast(pl.String)
    may_have = pl.any_horizontal((smallest <= state) & (largest >= state) for state in _INCOMPLETE_STATES)
    # A file without statistics may have anything.
    is_missed = pl.col("null_count.missed_at").cast(pl.Int64) < pl.col("num_records")
    suspect = may_have.fill_null(value=True) | is_missed.fill_null(value=True)
    return files.filter(suspect)["partition.month"].unique().sort().to_list()
