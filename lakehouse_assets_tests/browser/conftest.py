"""`lakehouse up` on its own archive and lake, and Debian's Chromium to view it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Page, expect, sync_playwright

from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.embedded.samples.archive import sample_files, upload
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets_tests.cli.up.test_run import Up, start_up
from lakehouse_assets_tests.paths import ROOT
from lakehouse_assets_tests.world import World, lake_settings

# Read on import: no test sees variables of this project.
_REQUIRED = os.environ.get("LAKEHOUSE_TEST_REQUIRE_SERVERS") == "1"
SCREENSHOTS = Path(os.environ.get("LAKEHOUSE_TEST_SCREENSHOTS") or ROOT / ".artefacts/screenshots")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
DAYS = 6
TIMEOUT_MS = 45_000
"""Milliseconds that the page may take to show something: machines are shared."""


_TODAY = datetime.now(UTC).date()


def day(before: int) -> str:
    """The day that many days before the tests began (UTC): midnight may pass between two tests."""
    return str(_TODAY - timedelta(days=before))


FIRST, LAST = day(DAYS), day(1)


def chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        reason = "chromium is not installed; for this test: apt-get install chromium"
        if _REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@dataclass
class Shown:
    """A running `lakehouse up`, and a browser's page."""

    up: Up
    page: Page
    store: EmbeddedStore

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.up.url}/{path}")
        return self.page

    def keep(self, name: str) -> None:
        """Save a screenshot among the artefacts of the tests."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    program = chromium()
    folder = tmp_path_factory.mktemp("browser")
    matrix = folder / "matrix.yaml"
    datasets = [
        {"dataset": "binance/um/klines/daily", "intervals": ["1m", "1h"], "first_period": FIRST},
        {"dataset": "binance/um/metrics/daily", "first_period": FIRST},
        {"dataset": "binance/spot/klines/daily", "intervals": ["1h"], "first_period": FIRST, "follow_from": FIRST},
    ]
    matrix.write_text(yaml.safe_dump({"datasets": datasets}))
    with ExitStack() as stack:
        store = stack.enter_context(EmbeddedStore(source_buckets=[exchange.bucket for exchange in EXCHANGES.values()]))
        publish(store, "um", "klines", ["1m", "1h"])
        publish(store, "um", "metrics")
        settings = {
            "LAKEHOUSE_MATRIX": str(matrix),
            **lake_settings(store, ""),
            "LAKEHOUSE_DISCOVERY_TICK_SECONDS": "5",
            "LAKEHOUSE_DISCOVERY_SETTLE_SECONDS": "1",
        }
        up = start_up(folder / "up", settings=settings)
        stack.callback(up.process.communicate)
        stack.callback(up.process.send_signal, signal.SIGINT)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        stack.callback(browser.close)
        page = browser.new_page(viewport={"width": 1400, "height": 900}, timezone_id="UTC")
        page.set_default_timeout(TIMEOUT_MS)
        expect.set_options(timeout=TIMEOUT_MS)
        yield Shown(up, page, store)


def publish(store: EmbeddedStore, market: str, data_type: str, intervals: list[str] | None = None) -> None:
    files = sample_files(
        market,
        data_type,
        "daily",
        symbols=SYMBOLS,
        intervals=intervals or [],
        first=date.fromisoformat(FIRST),
        last=date.fromisoformat(LAST),
    )
    upload(store.admin_bucket("data.binance.vision"), files)


@pytest.fixture
def refused(shown: Shown) -> Iterator[None]:
    """The lake refuses writes of one day's candles of ETHUSDT."""
    world = World(shown.store)
    world.lake = Lake(shown.store.lake())
    with world.refused_writes(f"data/futures/um/daily/klines/ETHUSDT/1h/ETHUSDT-1h-{day(3)}.zip"):
        yield
