"""What a person sees and clicks in the Dagster UI, step by step in one browser: the steps build on each other."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.orchestration.reports.coverage import page_key
from lakehouse_assets_tests.browser.conftest import FIRST, Shown, day, publish

KLINES, METRICS, SPOT = "binance/um/klines/daily", "binance/um/metrics/daily", "binance/spot/klines/daily"
SENSOR = "locations/lakehouse/sensors/binance_discovery"


def dialog_of_materialize(page: Page) -> Locator:
    page.get_by_role("button", name="Materialize").first.click()
    return page.get_by_role("dialog")


def materialize(page: Page, partitions: str, button: str) -> None:
    """Materialize partitions as a person does: click the button, type the partitions, launch."""
    dialog = dialog_of_materialize(page)
    partitions_field = dialog.get_by_role("textbox").first
    partitions_field.fill(partitions)
    partitions_field.press("Enter")
    dialog.get_by_role("button", name=button).click()
    expect(dialog).to_be_hidden()


def wait_for_text(page: Page, text: str) -> None:
    """Wait for a text, reloading the page: the partitions page does not update itself."""
    for _ in range(12):
        try:
            expect(page.get_by_text(text).first).to_be_visible(timeout=6_000)
        except AssertionError:
            page.reload()
        else:
            return
    expect(page.get_by_text(text).first).to_be_visible()


def test_the_asset_graph_shows_exchanges_catalog_and_reports(shown: Shown) -> None:
    page = shown.open("asset-groups")
    for group in ("binance", "catalog", "maintenance", "reports"):
        expect(page.get_by_text(group, exact=True).first).to_be_visible()


def test_an_asset_shows_its_description_and_documentation(shown: Shown) -> None:
    page = shown.open(f"assets/{KLINES}")
    expect(page.get_by_text("mirrored verbatim. Intervals: 1m, 1h.")).to_be_visible()
    expect(page.get_by_role("link", name="documentation").first).to_be_visible()
    expect(page.get_by_text("market-data").first).to_be_visible()
    expect(page.get_by_text("s5cmd").first).to_be_visible()


def test_one_partition_is_materialized_by_the_button(shown: Shown) -> None:
    page = shown.open(f"assets/{METRICS}")
    materialize(page, day(4), "Launch 1 run")
    page.goto(f"{shown.up.url}/assets/{METRICS}?view=partitions&partition={day(4)}")
    wait_for_text(page, "objects_present")
    expect(page.get_by_text("completeness").first).to_be_visible()


def test_a_range_is_backfilled_and_its_partitions_checks_and_metadata_are_shown(shown: Shown) -> None:
    page = shown.open(f"assets/{KLINES}")
    materialize(page, f"[{FIRST}...{day(4)}]", "Launch backfill")
    page.goto(f"{shown.up.url}/assets/{KLINES}?view=partitions&partition={day(5)}")
    wait_for_text(page, "bytes_copied")
    for label in ("objects_expected", "copies_by_mode", "operations_saved", "lake_uri"):
        expect(page.get_by_text(label, exact=True).first).to_be_visible()
    shown.keep("partition")
    page.goto(f"{shown.up.url}/assets/{KLINES}?view=checks&checkDetail=complete")
    expect(
        page.get_by_text("Every object that the exchange lists").or_(page.get_by_text("complete")).first
    ).to_be_visible()
    for check in ("complete", "expected", "published"):
        expect(page.get_by_text(check, exact=True).first).to_be_visible()
    shown.keep("checks")


def test_a_partition_that_fails_names_the_object_and_what_to_do(shown: Shown, refused: None) -> None:
    page = shown.open(f"assets/{KLINES}")
    materialize(page, day(3), "Launch 1 run")
    page.goto(f"{shown.up.url}/assets/{KLINES}?view=partitions&partition={day(3)}")
    wait_for_text(page, "Failed (1)")
    [run] = shown.up.query("{ runsOrError(filter: {statuses: [FAILURE]}) { ... on Runs { results { runId } } } }")[
        "runsOrError"
    ]["results"]
    page.goto(f"{shown.up.url}/runs/{run['runId']}")
    expect(page.get_by_text(f"ETHUSDT-1h-{day(3)}.zip").first).to_be_visible()
    shown.keep("failed")


def test_the_sensor_is_on_and_new_periods_are_copied(shown: Shown) -> None:
    page = shown.open(SENSOR)
    expect(page.get_by_role("checkbox").first).to_be_checked()
    publish(shown.store, "spot", "klines", ["1h"])
    page.goto(f"{shown.up.url}/assets/{SPOT}?view=partitions&partition={day(1)}")
    wait_for_text(page, "objects_present")
    shown.open(SENSOR)
    expect(page.get_by_text("1 run requested").or_(page.get_by_text("requested")).first).to_be_visible()
    shown.keep("sensor")


def test_the_coverage_page_is_linked_and_shows_the_coverage(shown: Shown, tmp_path: Path) -> None:
    page = shown.open("assets/reports/coverage")
    page.get_by_role("button", name="Materialize").first.click()
    wait_for_text(page, "pages")
    body = (
        shown.store.lake()
        .boto3_client()
        .get_object(Bucket=shown.store.lake_bucket, Key=page_key(Dataset.parse(KLINES)))["Body"]
        .read()
    )
    file = tmp_path / "coverage.html"
    file.write_bytes(body)
    page.goto(f"file://{file}")
    expect(page.get_by_role("heading").first).to_contain_text(f"Coverage of {KLINES}")
    expect(page.get_by_text("BTCUSDT").or_(page.locator("canvas")).first).to_be_visible()
    shown.keep("coverage")


def test_the_lineage_of_an_asset_shows_its_downstream_assets(shown: Shown) -> None:
    page = shown.open(f"assets/{KLINES}?view=lineage&lineageScope=neighbors")
    for name in ("verified", "table"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    expect(page.get_by_text("% filled").first).to_be_visible()
    expect(page.get_by_text("Loading...")).to_have_count(0)
    shown.keep("lineage")
