"""Manifest statistics: per dataset and period, how much is in the lake and how much of it is verified.

They are computed from manifests alone, incrementally: a month is counted again only when the files of its partition
have changed, so that polling 10^8 rows every minute reads only what is new.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.states import FAILED, Integrity, ObjectState

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


def is_complete() -> pl.Expr:
    """Whether a period of MANIFEST_STATS_SCHEMA is complete: the one definition of reports and metrics.

    Every object that the source lists is in the lake, and none is missing from an implausible listing (``doubted``). A
    period whose objects the exchange withdrew altogether is complete, too: the lake keeps all that was ever published.
    """
    return (pl.col("present") == pl.col("expected")) & (pl.col("doubted") == 0)


def is_settled_row() -> pl.Expr:
    """Whether an object's row does not keep its period from being complete, as :func:`is_complete` counts it."""
    settled = [ObjectState.PRESENT.value, ObjectState.WITHDRAWN.value]
    return pl.col("state").is_in(settled) & pl.col("missed_at").is_null()


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
            (state != ObjectState.WITHDRAWN.value).sum().alias("expected"),
            *((state == name).sum().alias(name) for name in (*COUNTED_STATES, FAILED)),
            *(((pl.col("integrity") == name.value) & present).sum().alias(name.value) for name in Integrity),
            pl.col("size").filter(present).sum().alias("bytes"),
            pl.col("missed_at").count().alias("doubted"),
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
