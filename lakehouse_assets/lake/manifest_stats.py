"""The census: per dataset and period, how much is in the lake and how far it is trusted.

It is read from manifests alone, and incrementally: a month is counted again only when the files
of its partition have changed, so that looking every minute at 10^8 rows reads only what is new.
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

CENSUS_SCHEMA = pl.Schema(
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
"""One row per period of a manifest, sorted. Numbers of archive objects by state; ``expected`` are
those that the source listed, ``bytes`` those of the present ones, ``doubted`` those that a listing lacked which was
not believed, ``synced_at`` the last (UTC)."""


@dataclass(frozen=True, slots=True)
class _Month:
    files: frozenset[str]
    counted: pl.DataFrame


class ManifestStats:
    """Counts of one lake, remembered between calls."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._months: dict[Dataset, dict[str, _Month]] = {}

    def of(self, dataset: Dataset) -> pl.DataFrame:
        """CENSUS_SCHEMA; empty where nothing was synced. Raises StoreError."""
        manifest = Manifest(self._lake, dataset)
        known = self._months.get(dataset, {})
        files, rows = manifest.months()
        changed = [month for month, names in files.items() if month not in known or known[month].files != names]
        counted = _by_month(manifest.collect(_counted(rows(changed)))) if changed else {}
        current = {
            month: _Month(names, counted.get(month, CENSUS_SCHEMA.to_frame())) if month in changed else known[month]
            for month, names in files.items()
        }
        self._months[dataset] = current
        return pl.concat([CENSUS_SCHEMA.to_frame(), *(month.counted for _, month in sorted(current.items()))])


def _counted(rows: pl.LazyFrame) -> pl.LazyFrame:
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
    """CENSUS_SCHEMA by month."""
    return {
        str(month): part.select(CENSUS_SCHEMA.names()).cast(CENSUS_SCHEMA)
        for (month,), part in frame.group_by("month", maintain_order=True)
    }
