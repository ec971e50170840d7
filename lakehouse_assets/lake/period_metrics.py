"""Metrics of each period of a dataset, from its manifest and the sync log. Thresholds are learned from them."""

from __future__ import annotations

from datetime import date

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.period import month_of
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.states import ObjectState
from lakehouse_assets.lake.sync_log import read_sync_log_or_empty

MAX_DISCOVERY_LAG_DAYS = 14
"""A period that was copied later than this after its publication was backfilled: its discovery lag is left out."""

PERIOD_METRICS_SCHEMA = pl.Schema(
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


def period_metrics(lake: Lake, dataset: Dataset, *, since: str) -> pl.DataFrame:
    """PERIOD_METRICS_SCHEMA of the periods from ``since`` on, sorted. Reads the manifest and the sync log once each.

    If a period was synced several times, seconds and throughput are those of the sync that copied most bytes,
    retries are summed, and failures are those of the last sync.
    """
    return (
        _manifest_metrics(lake, dataset, since)
        .join(_sync_metrics(lake, dataset, since), on="period", how="left")
        .sort("period")
        .select(PERIOD_METRICS_SCHEMA.names())
        .cast(PERIOD_METRICS_SCHEMA)
    )


def _manifest_metrics(lake: Lake, dataset: Dataset, since: str) -> pl.DataFrame:
    lag = (pl.col("synced_at").max() - pl.col("source_last_modified").max()).dt.total_seconds()
    manifest = Manifest(lake, dataset)
    files, scan = manifest.months()
    months = [month for month in files if month >= month_of(since)]
    if not months:
        return pl.DataFrame(schema={name: PERIOD_METRICS_SCHEMA[name] for name in list(PERIOD_METRICS_SCHEMA)[:5]})
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
            pl.when(pl.col("discovery_lag").is_between(0, MAX_DISCOVERY_LAG_DAYS * 86_400)).then(
                pl.col("discovery_lag")
            )
        ),
    )


def _sync_metrics(lake: Lake, dataset: Dataset, since: str) -> pl.DataFrame:
    # A period is synced after it begins, so earlier months of the log have no row of it.
    rows = read_sync_log_or_empty(lake, since=date.fromisoformat(f"{month_of(since)}-01"), dataset=dataset.name)
    largest_sync = pl.col("bytes_copied").arg_max()
    return (
        rows.filter(pl.col("period") >= since)
        .group_by("period")
        .agg(
            pl.col("seconds").get(largest_sync),
            (pl.col("bytes_copied") / pl.col("seconds")).get(largest_sync).alias("throughput"),
            pl.col("retries").sum(),
            pl.col("objects_failed").last().alias("failures"),
        )
        .with_columns(pl.when(pl.col("throughput").is_finite()).then(pl.col("throughput")))
    )
