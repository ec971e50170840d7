"""The coverage report: pages in the lake, and links to them."""

from __future__ import annotations

import dagster as dg

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.orchestration.reports.coverage import address_of, build_coverage_report, page_key
from lakehouse_assets_tests.orchestration.watcher import resources_of
from lakehouse_assets_tests.world import World, scope


def report(world: World) -> dict[str, object]:
    result = dg.materialize([build_coverage_report([world.entry()])], resources=resources_of(world))
    [event] = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_a_page_is_written_for_what_was_synced_and_the_report_links_to_it(world: World) -> None:
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


def test_an_empty_lake_has_no_pages(world: World) -> None:
    assert report(world)["pages"] == "Nothing was synced yet."
    assert world.lake_files() == {}


def test_a_link_leads_to_the_console_or_the_store() -> None:
    assert (
        address_of(Bucket(name="b"), "p/a b.html")
        == "https://s3.console.aws.amazon.com/s3/object/b?prefix=p/a%20b.html"
    )
    other = Bucket(name="b", endpoint_url="https://minio.example.com:9000/")
    assert address_of(other, "p/x.html") == "https://minio.example.com:9000/b/p/x.html"
