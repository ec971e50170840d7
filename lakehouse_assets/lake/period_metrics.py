"""What each period of a dataset amounts to, from manifest and history of syncs: the past that thresholds learn from."""

from __future__ import annotations

from datetime import date

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.states import ObjectState
from lakehouse_assets.lake.sync_log import read_history_if_any

FOLLOWED_DAYS = 14
"""A period that was copied longer after its publication than this was backfilled: its lag says nothing."""

VOLUME_SCHEMA = pl.Schema(
    {
        "period": pl.String,
        "objects": pl.Float64,
        "symbols": pl.Float64,
        "bytes": pl.Float64,
        "discovery_lag": pl.Float64,
        "seconds": pl.Float64,
        "throughput": pl.Float64,
        "retries": pl.Float64,
        "failures": pl.Float64,
    }
)
"""One row per period, named and measured as in observability/expectations/quantities.py; null where unknown."""


def volumes(lake: Lake, dataset: Dataset, *, since: str) -> pl.DataFrame:
    """VOLUME_SCHEMA of the periods from ``since`` on, sorted. One read of the manifest and one of the syncs.

    Of several syncs of a period, the one that copied most tells its seconds and throughput, all together
    its retries, and the last one its failures.
    """
    held = _held(lake, dataset, since)
    return (
        held.join(_syncs(lake, dataset, since), on="period", how="left")
        .sort("period")
        .select(VOLUME_SCHEMA.names())
        .cast(VOLUME_SCHEMA)
    )


def _held(lake: Lake, dataset: Dataset, since: str) -> pl.DataFrame:
    lag = (pl.col("synced_at").max() - pl.col("source_last_modified").max()).dt.total_seconds()
    manifest = Manifest(lake, dataset)
    files, scan = manifest.months()
    months = [month for month in files if month >= since[:7]]
    if not months:
        return pl.DataFrame(schema={name: VOLUME_SCHEMA[name] for name in list(VOLUME_SCHEMA)[:5]})
    return manifest.collect(
        scan(months)
        .filter(
            pl.col("period") >= since, pl.col("state").is_in([ObjectState.PRESENT.value, ObjectState.WITHDRAWN.value])
        )
        .group_by("period")
        .agg(
            pl.len().alias("objects"),
            pl.col("symbol").n_unique().alias("symbols"),
            pl.col("size").sum().alias("bytes"),
            lag.alias("discovery_lag"),
        )
        .with_columns(
            pl.when(pl.col("discovery_lag").is_between(0, FOLLOWED_DAYS * 86_400)).then(pl.col("discovery_lag"))
        ),
    )


def _syncs(lake: Lake, dataset: Dataset, since: str) -> pl.DataFrame:
    # A period is synced after it began, so no earlier month holds one.
    rows = read_history_if_any(lake, since=date.fromisoformat(f"{since[:7]}-01"), dataset=dataset.name)
    of_most = pl.col("bytes_copied").arg_max()
    return (
        rows.filter(pl.col("period") >= since)
        .group_by("period")
        .agg(
            pl.col("seconds").get(of_most),
            (pl.col("bytes_copied") / pl.col("seconds")).get(of_most).alias("throughput"),
            pl.col("retries").sum(),
            pl.col("objects_failed").last().alias("failures"),
        )
        .with_columns(pl.when(pl.col("throughput").is_finite()).then(pl.col("throughput")))
    )
