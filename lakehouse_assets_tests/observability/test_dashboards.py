"""Every panel and rule of the dashboards, evaluated by a real Prometheus after real, short-lived runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.embedded.samples.archive import sample_files, upload
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.lake.incident_store import LakeIncidentStore
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.observability.incidents.causes import Cause
from lakehouse_assets.observability.incidents.model import Signal
from lakehouse_assets.observability.incidents.notification import Notifier
from lakehouse_assets.observability.incidents.service import IncidentService
from lakehouse_assets_tests.faults.proxy import WRITES, Proxy, Refusal, Rule
from lakehouse_assets_tests.observability.servers import Backend, backend
from lakehouse_assets_tests.observability.sinks import Mailbox, Webhook, alertmanager, wait_for
from lakehouse_assets_tests.paths import DEPLOY
from lakehouse_assets_tests.world import lake_settings

GRAFANA = DEPLOY / "grafana"
KLINES, TABLE = "binance/um/klines/daily", "binance/um/klines/table"
SYMBOLS = ("BTCUSDT", "ETHUSDT")
FIRST, MIDDLE, LAST = "2024-01-01", "2024-01-02", "2024-01-03"
OBJECTS = 2 * 2 * 3
"""2 symbols, 2 intervals, 3 days."""
ROWS = 2 * 3 * (1440 + 24)

VARIABLES = {"exchange": ".*", "__range": "10m", "__rate_interval": "1m", "__interval": "15s"}


@dataclass(frozen=True)
class Shown:
    """Figures of the workload, and the servers that received its telemetry."""

    prometheus: Backend
    bytes: int
    bytes_copied: int
    webhook: Webhook
    mailbox: Mailbox


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The workload: a sync, a throttled sync that falls back, a table, a tick; the exporter before and after."""
    folder = tmp_path_factory.mktemp("dashboards")
    matrix = folder / "matrix.yaml"
    matrix.write_text(yaml.safe_dump({"datasets": [{"dataset": KLINES, "intervals": ["1m", "1h"]}]}))
    with (
        EmbeddedStore(source_buckets=[exchange.bucket for exchange in EXCHANGES.values()]) as store,
        Webhook().running() as webhook,
        Mailbox().running() as mailbox,
        alertmanager(folder, webhook, mailbox) as delivery,
        backend(folder, rules=[GRAFANA / "rules.yaml"], alertmanager=urlsplit(delivery).netloc) as prometheus,
    ):
        files = list(
            sample_files(
                "um", "klines", "daily",
                symbols=SYMBOLS, intervals=["1m", "1h"], first=date.fromisoformat(FIRST), last=date.fromisoformat(LAST),
            )
        )  # fmt: skip
        upload(store.admin_bucket("data.binance.vision"), files)
        prefix = "dashboards"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "DAGSTER_"))},
            **prometheus.environment,
            "DAGSTER_HOME": str(folder),
            "LAKEHOUSE_MATRIX": str(matrix),
            **lake_settings(store, prefix),
        }

        def process(*argv: str, **more: str) -> None:
            done = subprocess.run(
                [sys.executable, *argv],
                env=environment | more,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr

        def workload(*argv: str, **more: str) -> None:
            process("-m", "lakehouse_assets_tests.observability.workload", *argv, **more)

        exporter = (str(Path(sys.executable).with_name("lakehouse")), "exporter", "--once")
        process(*exporter)
        workload("run", KLINES, FIRST, MIDDLE)
        # Four objects remain; the store refuses to copy one of them and its sidecar.
        refused = Rule(Refusal(403, "AccessDenied"), ("CopyObject",), "ETHUSDT-1h-2024-01-03.zip")
        slow = Rule(Refusal(503, "SlowDown"), WRITES, "archive/", most=3)
        with Proxy(store.endpoint_url, refused, slow).running() as proxy:
            workload(
                "run", KLINES, FIRST, LAST,
                LAKEHOUSE_LAKE_ENDPOINT_URL=proxy.endpoint_url,
                LAKEHOUSE_SOURCE_ENDPOINT_URL=proxy.endpoint_url,
                LAKEHOUSE_SYNC_RETRIES="0",
            )  # fmt: skip
        workload("run", TABLE, FIRST, LAST)
        workload("tick", "binance_discovery")
        stalled = Signal(
            source="published",
            cause=Cause.EXCHANGE_STALLED,
            exchange="binance",
            subject=KLINES,
            at=datetime.now(UTC) - timedelta(hours=1),
            text="no file since Monday",
        )
        IncidentService(LakeIncidentStore(Lake(store.lake(), prefix), fallback=None), Notifier()).handle(
            [stalled], datetime.now(UTC)
        )
        process(*exporter)
        prometheus.until("lakehouse_table_rows", lambda rows: rows == ROWS)
        archives = [file for file in files if not file.key.endswith(".CHECKSUM")]
        yield Shown(
            prometheus,
            bytes=sum(len(file.body) for file in archives),
            bytes_copied=sum(len(file.body) for file in files),
            webhook=webhook,
            mailbox=mailbox,
        )


def panels() -> Iterator[tuple[str, str]]:
    """Title and expression of every panel, with Grafana's variables set to all exchanges."""
    for file in sorted((GRAFANA / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield f"{file.stem}: {panel['title']}", expanded(target["expr"])


def expanded(expression: str) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda match: VARIABLES[match[1]], expression)


def headline(dashboard: str, title: str) -> str:
    """The expression of the panel with this title; of several, the one that shows a single number."""
    candidates = json.loads((GRAFANA / f"dashboards/lakehouse-{dashboard}.json").read_text())["panels"]
    [panel] = [
        panel for panel in candidates if panel["title"] == title and panel["type"] in {"stat", "table", "bargauge"}
    ]
    [target] = panel["targets"]
    return expanded(target["expr"])


def test_every_panel_has_data(shown: Shown) -> None:
    """Prometheus answers a query for a misspelled metric with no rows, not with an error."""
    empty = [f"{title}: {expression}" for title, expression in panels() if not shown.prometheus.query(expression)]
    assert empty == []


def test_the_headline_panels_have_the_figures_of_the_workload(shown: Shown) -> None:
    def value(name: str) -> float | None:
        return shown.prometheus.value(headline(*name.split(": ")))

    assert value("engineering: Files copied") == 2 * OBJECTS
    assert value("engineering: Bytes copied") == shown.bytes_copied
    assert value("engineering: Failed copies") == 0
    assert value("management: Objects in the lake") == OBJECTS
    assert value("management: Bytes in the lake") == shown.bytes
    assert value("management: Completeness now") == 1
    assert value("management: Exchanges") == 1
    assert value("research: Rows") == ROWS
    assert value("research: Missing rows") == 0
    ask = shown.prometheus.value
    assert ask('sum(lakehouse_periods_synced_total{state="complete"})') == 3
    assert ask('lakehouse_table_quality{level="ok"}') == OBJECTS
    assert ask('lakehouse_incidents_open{severity="critical"}') == 1
    assert ask('lakehouse_unusual{quantity="objects"}') == 0
    # Metrics of processes that have ended.
    assert ask('sum(lakehouse_transfer_files_total{outcome="copied"})') == 2 * OBJECTS
    assert ask('sum(lakehouse_transfer_files_total{mode="relay",outcome="copied"})') == 2
    assert ask("sum(lakehouse_transfer_fallbacks_total)") == 2
    assert ask("sum(lakehouse_transfer_throttled_total)") == 3
    assert ask("lakehouse_sensor_tick_duration_seconds_count") == 1


def test_series_are_the_same_after_a_restart_and_an_upgrade(shown: Shown) -> None:
    """The exporter ran twice. Two series of one number would be summed, so no label has its version."""
    for metric in ("lakehouse_objects_present", "lakehouse_listing_keys_total{side='source'}"):
        [series] = shown.prometheus.query(metric)
        assert not [label for label in series["metric"] if "version" in label and label != "scope_version"]


def test_every_rule_is_evaluated_and_recorded_series_exist(shown: Shown) -> None:
    rules = shown.prometheus.rules()
    assert {rule["name"]: rule["health"] for rule in rules if rule["health"] != "ok"} == {}
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert len(recorded) > 1
    for name in recorded:
        wait_for(lambda name=name: shown.prometheus.query(name))
    assert shown.prometheus.value("exchange:lakehouse_completeness:ratio") == 1


def test_a_critical_incident_of_the_lake_reaches_people_through_prometheus_and_alertmanager(shown: Shown) -> None:
    wait_for(lambda: shown.webhook.received and shown.mailbox.mails)
    names = {alert["labels"]["alertname"] for _, sent in shown.webhook.received for alert in sent["alerts"]}
    assert names == {"LakehouseIncidentCritical"}
    assert "LakehouseIncidentCritical" in shown.mailbox.mails[0]["subject"]
    assert shown.mailbox.recipients[0] == ["oncall@example.org"]
