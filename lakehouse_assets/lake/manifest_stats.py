"""Manifest statistics: per dataset and period, how much is in the lake and how much of it is verified.

They are computed from manifests alone, incrementally: a month is counted again only when the files of its partition
have changed, so that polling 10^8 rows every minute reads only what is new.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.lake.commit import with_missing_columns
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA, Manifest
from lakehouse_assets.lake.states import COPIED_STATES, FAILED, Integrity, ObjectState

COUNTED_STATES = tuple(state.value for state in ObjectState)

MANIFEST_STATS_SCHEMA = pl.Schema(
    {
        "period": pl.String,
        "expected": pl.Int64,
        **dict.fromkeys((*COUNTED_STATES, FAILED), pl.Int64()),
        **dict.fromkeys((state.value for state in Integrity), pl.Int64()),
        "bytes": pl.Int64,
        "doubted": pl.Int64,
        "synced_at": pl.Datetime("us", "UTC"),
    }
)
"""One row per period of a manifest, sorted. Columns count archive objects by state. ``expected``: objects that the
source listed; ``bytes``: size of the present objects; ``doubted``: objects missing from a listing that was rejected as
implausible; ``synced_at``: the latest sync (UTC)."""


INCOMPLETE_SCHEMA = pl.Schema(
    {name: MANIFEST_STATS_SCHEMA[name] for name in ("period", "expected", "present", "doubted")}
)
"""One row per incomplete period, with columns of MANIFEST_STATS_SCHEMA."""

_INCOMPLETE_STATES = (*COPIED_STATES, FAILED)
"""States of rows whose periods are incomplete."""

_COMPLETENESS = (
    (pl.col("state") != ObjectState.WITHDRAWN.value).sum().alias("expected"),
    (pl.col("state") == ObjectState.PRESENT.value).sum().alias("present"),
    pl.col("missed_at").count().alias("doubted"),
)
"""The columns that :func:`is_complete` needs, of a period's rows."""


def is_complete() -> pl.Expr:
    """Whether a period of MANIFEST_STATS_SCHEMA is complete: the one definition of reports and metrics.

    Every object that the source lists is in the lake, and none is missing from an implausible listing (``doubted``). A
    period whose objects the exchange withdrew altogether is complete, too: the lake keeps all that was ever published.
    """
    return (pl.col("present") == pl.col("expected")) & (pl.col("doubted") == 0)


def complete_periods(rows: pl.DataFrame) -> set[str]:
    """The complete periods of manifest rows (``period``, ``state``, ``missed_at``), by :func:`is_complete`."""
    return set(rows.group_by("period").agg(*_COMPLETENESS).filter(is_complete())["period"])


def incomplete_periods(manifest: Manifest) -> pl.DataFrame:
    """All incomplete periods that a manifest records, INCOMPLETE_SCHEMA, those with most missing objects first.

    Delta's log has the smallest and the largest state of every data file. Files whose states all count as complete,
    which are nearly all, are not read: the cost hardly depends on the length of the history. Raises StoreError.
    """
    table = manifest.table()
    months = [] if table is None else _months_to_read(table)
    if table is None or not months:
        return INCOMPLETE_SCHEMA.to_frame()
    rows = with_missing_columns(pl.scan_delta(table).filter(pl.col("month").is_in(months)), MANIFEST_SCHEMA)
    counts = rows.group_by("period").agg(column.cast(pl.Int64) for column in _COMPLETENESS)
    missing = pl.col("expected") - pl.col("present") + pl.col("doubted")
    worst = manifest.collect(counts.filter(~is_complete()).sort(missing, "period", descending=True))
    return worst.match_to_schema(INCOMPLETE_SCHEMA)


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


@dataclass(frozen=True, slots=True)
class _Month:
    files: frozenset[str]
    stats: pl.DataFrame


class ManifestStats:
    """Statistics of one lake's manifests, cached between calls."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._months: dict[Dataset, dict[str, _Month]] = {}

    def of(self, dataset: Dataset) -> pl.DataFrame:
        """The statistics of a dataset, MANIFEST_STATS_SCHEMA; empty if nothing was synced. Raises StoreError."""
        manifest = Manifest(self._lake, dataset)
        cached = self._months.get(dataset, {})
        files, rows = manifest.months()
        changed = [month for month, names in files.items() if month not in cached or cached[month].files != names]
        stats = _by_month(manifest.collect(_aggregated(rows(changed)))) if changed else {}
        empty = MANIFEST_STATS_SCHEMA.to_frame()
        current = {
            month: _Month(names, stats.get(month, empty)) if month in changed else cached[month]
            for month, names in files.items()
        }
        self._months[dataset] = current
        return pl.concat([empty, *(month.stats for _, month in sorted(current.items()))])


def _aggregated(rows: pl.LazyFrame) -> pl.LazyFrame:
    state, present = pl.col("state"), pl.col("state") == ObjectState.PRESENT.value
    return (
        rows.group_by("month", "period")
        .agg(
            *_COMPLETENESS,
            *((state == name).sum().alias(name) for name in (*COUNTED_STATES, FAILED) if name != ObjectState.PRESENT),
            *(((pl.col("integrity") == name.value) & present).sum().alias(name.value) for name in Integrity),
            pl.col("size").filter(present).sum().alias("bytes"),
            pl.col("synced_at").max(),
        )
        .sort("period")
    )


def _by_month(frame: pl.DataFrame) -> Mapping[str, pl.DataFrame]:
    """MANIFEST_STATS_SCHEMA by month."""
    return {
        str(month): part.select(MANIFEST_STATS_SCHEMA.names()).cast(MANIFEST_STATS_SCHEMA)
        for (month,), part in frame.group_by("month", maintain_order=True)
    }
