"""Coverage: how much of a dataset is in the lake, by symbol and period, from its manifest alone."""

from __future__ import annotations

from enum import StrEnum

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.manifest_stats import is_complete
from lakehouse_assets.lake.states import Integrity, ObjectState


class CoverageStatus(StrEnum):
    """Coverage of one symbol in one period. ``quarantined``: the content of an object contradicts its checksum.
    ``not_published``: it was synced, and the exchange lists no object of it."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    MISSING = "missing"
    QUARANTINED = "quarantined"
    NOT_PUBLISHED = "not_published"


COVERAGE_SCHEMA = pl.Schema(
    {
        "symbol": pl.String,
        "period": pl.String,
        "cover": pl.String,
        "expected": pl.Int64,
        "present": pl.Int64,
        "quarantined": pl.Int64,
        "note": pl.String,
    }
)
"""One row per symbol and period of the manifest, sorted. ``expected``, ``present`` and ``quarantined`` count archive
objects (one per interval or part). ``note`` is the first error or checksum mismatch, else null."""


def coverage(lake: Lake, dataset: Dataset, *, symbol: str | None = None) -> pl.DataFrame:
    """COVERAGE_SCHEMA of a dataset, or of one symbol. Raises StoreError, and InputError for a symbol that was never
    synced."""
    manifest = Manifest(lake, dataset)
    files, scan = manifest.months()
    rows = scan(list(files))
    if symbol is not None:
        rows = rows.filter(pl.col("symbol") == symbol)
    state = pl.col("state")
    is_listed, is_present = state != ObjectState.WITHDRAWN.value, state == ObjectState.PRESENT.value
    is_quarantined = (pl.col("integrity") == Integrity.MISMATCH.value).fill_null(value=False)
    expected, present, quarantined = pl.col("expected"), pl.col("present"), pl.col("quarantined")
    covered = manifest.collect(
        rows.group_by("symbol", "period")
        .agg(
            is_listed.sum().alias("expected"),
            (is_listed & is_present).sum().alias("present"),
            is_quarantined.sum().alias("quarantined"),
            pl.col("missed_at").count().alias("doubted"),
            pl.coalesce("error", pl.when(is_quarantined).then("integrity_note")).drop_nulls().first().alias("note"),
        )
        .with_columns(
            pl.when(quarantined > 0)
            .then(pl.lit(CoverageStatus.QUARANTINED.value))
            .when(expected == 0)
            .then(pl.lit(CoverageStatus.NOT_PUBLISHED.value))
            .when(is_complete())
            .then(pl.lit(CoverageStatus.COMPLETE.value))
            .when(present == 0)
            .then(pl.lit(CoverageStatus.MISSING.value))
            .otherwise(pl.lit(CoverageStatus.PARTIAL.value))
            .alias("cover")
        )
        .sort("symbol", "period")
        .select(COVERAGE_SCHEMA.names())
    ).cast(COVERAGE_SCHEMA)
    if symbol is not None and covered.is_empty():
        raise InputError(
            f"{symbol!r} was never synced in {dataset}; `lakehouse coverage {dataset}` lists the symbols that were."
        )
    return covered
