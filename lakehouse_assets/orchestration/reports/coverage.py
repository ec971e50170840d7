"""The coverage report: what the lake has and lacks, as one page per dataset in the lake, linked in the UI."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import quote

import dagster as dg
import polars as pl

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.errors import CLIENT_ERRORS
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import month_expr, months_of
from lakehouse_assets.lake.coverage import coverage
from lakehouse_assets.lake.coverage_page import coverage_page
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest_stats import ManifestStats, is_complete
from lakehouse_assets.orchestration.markdown import table
from lakehouse_assets.orchestration.reports.asset import report_asset
from lakehouse_assets.orchestration.reports.timetable import Timetable
from lakehouse_assets.orchestration.resources import LakeResource

COVERAGE = dg.AssetKey(["reports", "coverage"])
TIMETABLE = Timetable("40 12 * * *", every=timedelta(days=1))
PAGES_FOLDER = "_reports/coverage"
MONTHS_SHOWN = 24


def build_coverage_report(entries: Sequence[DatasetEntry]) -> dg.AssetsDefinition:
    """An unpartitioned asset that writes the pages of all datasets that were ever synced."""
    datasets = [entry.dataset for entry in entries]

    @report_asset(
        COVERAGE,
        "What the lake has and lacks, by symbol and period, from manifests alone: a self-contained page "
        "per dataset below `_reports/coverage/` in the lake. The links open in a browser that may read the bucket; "
        "`lakehouse coverage DATASET --html FILE` writes the same page to a file.",
        TIMETABLE,
    )
    def coverage_report(lake: LakeResource) -> dg.MaterializeResult[None]:
        target = lake.lake()
        stats = ManifestStats(target)
        counts = {dataset: stats.of(dataset) for dataset in datasets}
        synced = [dataset for dataset, periods in counts.items() if not periods.is_empty()]
        for dataset in synced:
            write_page(target, dataset)
        return dg.MaterializeResult(
            metadata={
                "pages": dg.MetadataValue.md(_links(target, synced)),
                "months": dg.MetadataValue.md(months_table(counts)),
                "periods_complete": dg.MetadataValue.int(
                    sum(periods.filter(is_complete()).height for periods in counts.values())
                ),
                "periods_synced": dg.MetadataValue.int(sum(periods.height for periods in counts.values())),
            }
        )

    return coverage_report


def build_coverage_schedule() -> dg.ScheduleDefinition:
    """Daily, after the exchanges' usual hours of publication."""
    return TIMETABLE.schedule("report_coverage_daily", job="report_coverage", asset=COVERAGE)


def write_page(lake: Lake, dataset: Dataset) -> str:
    """Write a dataset's page into the lake; returns its key in the lake. Raises StoreError."""
    key = page_key(dataset)
    page = coverage_page(dataset, coverage(lake, dataset))
    try:
        lake.bucket.boto3_client().put_object(
            Bucket=lake.bucket.name, Key=lake.key(key), Body=page.encode(), ContentType="text/html; charset=utf-8"
        )
    except CLIENT_ERRORS as error:
        raise lake.error("Writing", key, error) from error
    return key


def page_key(dataset: Dataset) -> str:
    """Relative to the lake's prefix."""
    return f"{PAGES_FOLDER}/{dataset.name.replace('/', '_')}.html"


def address_of(bucket: Bucket, key: str) -> str:
    """The URL at which a person with read access opens an object: in the AWS console, or at the store itself."""
    if bucket.is_on_aws:
        return f"https://s3.console.aws.amazon.com/s3/object/{bucket.name}?prefix={quote(key)}"
    return f"{(bucket.endpoint_url or '').rstrip('/')}/{bucket.name}/{quote(key)}"


def months_table(counts: dict[Dataset, pl.DataFrame]) -> str:
    """Number of complete and of synced periods, by dataset and month, the newest month last."""
    months = months_of(period for periods in counts.values() for period in periods["period"])[-MONTHS_SHOWN:]
    if not months:
        return "Nothing was synced yet."
    rows = []
    for dataset, periods in counts.items():
        by_month = periods.group_by(month_expr(pl.col("period"))).agg(is_complete().sum().alias("complete"), pl.len())
        cells = {month: f"{complete}/{synced}" for month, complete, synced in by_month.iter_rows()}
        rows.append((dataset, *(cells.get(month, "") for month in months)))
    return table(("dataset", *months), rows)


def _links(lake: Lake, datasets: Sequence[Dataset]) -> str:
    if not datasets:
        return "Nothing was synced yet."
    return "\n".join(f"- [{dataset}]({address_of(lake.bucket, lake.key(page_key(dataset)))})" for dataset in datasets)
