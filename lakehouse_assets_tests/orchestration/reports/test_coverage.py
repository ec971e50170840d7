"""The coverage report: pages in the lake, and links to them."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import polars as pl

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.cli.coverage import _by_month
from lakehouse_assets.lake.coverage import coverage
from lakehouse_assets.lake.manifest_stats import MANIFEST_STATS_SCHEMA, ManifestStats, is_complete
from lakehouse_assets.observability.telemetry import metrics
from lakehouse_assets.orchestration.incidents.exporter import _of_manifest
from lakehouse_assets.orchestration.reports.coverage import address_of, build_coverage_report, months_table, page_key
from lakehouse_assets_tests.orchestration.watcher import resources_of
from lakehouse_assets_tests.world import World, scope


def report(world: World) -> dict[str, object]:
    result = dg.materialize([build_coverage_report([world.entry()])], resources=resources_of(world))
    [event] = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_a_page_is_written_for_a_synced_dataset_and_the_report_links_to_it(world: World) -> None:
    dataset = world.entry().dataset
    world.publish(["BTCUSDT", "ETHUSDT"], ["2024-02-29", "2024-03-01"])
    with world.refused_writes(world.key("ETHUSDT", "2024-03-01")):
        world.engine(attempts=1).sync(scope(world.entry(), "2024-02-29", "2024-03-02"))
    shown = report(world)
    page = world.lake_body(page_key(dataset)).decode()
    assert "<title>" in page
    assert world.symbol("ETHUSDT") in page
    address = address_of(world.lake.bucket, world.lake.key(page_key(dataset)))
    assert shown["pages"] == f"- [{dataset}]({address})"
    assert shown["months"].splitlines() == [
        "| dataset | 2024-02 | 2024-03 |",
        "|---|---|---|",
        f"| {dataset} | 1/1 | 0/1 |",
    ]
    assert (shown["periods_complete"], shown["periods_synced"]) == (1, 2)
    head = world.lake.bucket.boto3_client().head_object(
        Bucket=world.lake.bucket.name, Key=world.lake.key(page_key(dataset))
    )
    assert head["ContentType"] == "text/html; charset=utf-8"


def test_every_report_counts_the_same_periods_as_complete(world: World) -> None:
    dataset = world.entry().dataset
    periods = pl.from_dicts(
        [
            {"period": "2024-03-01", "expected": 2, "present": 2, "doubted": 0},
            {"period": "2024-03-02", "expected": 2, "present": 1, "doubted": 0},
            {"period": "2024-03-03", "expected": 2, "present": 2, "doubted": 1},
            {"period": "2024-03-04", "expected": 0, "present": 0, "doubted": 0},  # all withdrawn
        ]
    )
    stats = MANIFEST_STATS_SCHEMA.to_frame().clear()
    stats = pl.concat([stats, periods.with_columns(synced_at=datetime(2024, 3, 5, tzinfo=UTC))], how="diagonal_relaxed")
    stats = stats.with_columns(pl.col(pl.Int64).fill_null(0))
    assert stats.filter(is_complete())["period"].to_list() == ["2024-03-01", "2024-03-04"]
    assert months_table({dataset: stats}).splitlines()[-1] == f"| {dataset} | 2/4 |"
    [row] = _by_month(stats).to_dicts()
    assert (row["periods_complete"], row["periods_synced"]) == (2, 4)
    exported = {
        further["state"]: value
        for metric, value, further in _of_manifest(dataset, stats, datetime(2024, 3, 5, tzinfo=UTC))
        if metric is metrics.PERIODS
    }
    assert exported == {"complete": 2, "incomplete": 2}


def test_no_report_counts_a_doubted_period_as_complete(world: World) -> None:
    entry = world.entry()
    keys = world.publish(["BTCUSDT", "ETHUSDT"], ["2024-03-01"])
    world.engine().sync(scope(entry, "2024-03-01"))
    assert report(world)["periods_complete"] == 1
    for key in keys:
        world.withdraw(key)
    world.engine().sync(scope(entry, "2024-03-01"))
    [counted] = ManifestStats(world.lake).of(entry.dataset).to_dicts()
    assert counted["doubted"] == 2
    shown = report(world)
    assert shown["periods_complete"] == 0
    assert shown["months"].endswith("| 0/1 |")
    assert coverage(world.lake, entry.dataset)["cover"].to_list() == ["partial", "partial"]


def test_an_empty_lake_has_no_pages(world: World) -> None:
    assert report(world)["pages"] == "Nothing was synced yet."
    assert world.lake_files() == {}


def test_a_link_points_to_the_console_or_the_store() -> None:
    assert (
        address_of(Bucket(name="b"), "p/a b.html")
        == "https://s3.console.aws.amazon.com/s3/object/b?prefix=p/a%20b.html"
    )
    other = Bucket(name="b", endpoint_url="https://minio.example.com:9000/")
    assert address_of(other, "p/x.html") == "https://minio.example.com:9000/b/p/x.html"
