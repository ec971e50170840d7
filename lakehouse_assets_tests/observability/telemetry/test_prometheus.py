"""Counters of short processes and of the lake's records arrive in a real Prometheus unchanged."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lakehouse_assets_tests.observability.servers import Backend, backend
from lakehouse_assets_tests.world import World, scope

COUNT = """
import sys
from lakehouse_assets.observability.telemetry import metrics, setup
assert setup.start_telemetry()
metrics.count(metrics.LISTING_KEYS, int(sys.argv[1]), exchange="binance", side="source")
metrics.observe(metrics.TICK_SECONDS, 0.3, exchange="binance")
"""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with backend(tmp_path_factory.mktemp("prometheus")) as running:
        yield running


def run(command: list[str], **environment: str) -> None:
    subprocess.run(command, env=os.environ | environment, check=True, timeout=120)


def test_counters_of_short_processes_add_up_exactly(prometheus: Backend) -> None:
    for amount in (7, 5, 100):
        run([sys.executable, "-c", COUNT, str(amount)], **prometheus.environment)
    total = prometheus.until("lakehouse_listing_keys_total", lambda value: value == 112)
    assert total == 112
    seconds = prometheus.until("lakehouse_sensor_tick_duration_seconds_sum", lambda value: value and value > 0.85)
    assert seconds == pytest.approx(0.9)
    assert prometheus.value("lakehouse_sensor_tick_duration_seconds_count") == 3


def test_the_exporter_exports_the_figures_of_the_records(prometheus: Backend, world: World, tmp_path: Path) -> None:
    world.publish(["BTCUSDT", "ETHUSDT"], ["2024-03-01", "2024-03-02"], size=700)
    with world.refused_writes(world.key("ETHUSDT", "2024-03-02")):
        world.engine(attempts=1).sync(scope(world.entry(), "2024-03-01", "2024-03-02"), mode="direct")
    matrix = tmp_path / "matrix.yaml"
    wanted = {"dataset": "binance/um/klines/daily", "intervals": ["1m"], "symbols": {"include": [f"{world.tag}*"]}}
    matrix.write_text(yaml.safe_dump({"datasets": [wanted]}))
    lake = world.lake.bucket
    run(
        [str(Path(sys.executable).with_name("lakehouse")), "exporter", "--once"],
        **prometheus.environment,
        LAKEHOUSE_MATRIX=str(matrix),
        LAKEHOUSE_LAKE_BUCKET=lake.name,
        LAKEHOUSE_LAKE_PREFIX=world.lake.prefix,
        LAKEHOUSE_LAKE_ENDPOINT_URL=lake.endpoint_url,
        LAKEHOUSE_LAKE_ACCESS_KEY_ID=lake.credentials.access_key_id,
        LAKEHOUSE_LAKE_SECRET_ACCESS_KEY=lake.credentials.secret_access_key,
    )
    assert prometheus.until("lakehouse_objects_present", lambda value: value is not None) == 3
    assert prometheus.value("lakehouse_objects_expected") == 4
    assert prometheus.value("lakehouse_bytes_present") == 2100
    assert prometheus.value("lakehouse_completeness_ratio") == 0.75
    assert prometheus.value('lakehouse_periods{state="complete"}') == 1
    assert prometheus.value('lakehouse_periods{state="incomplete"}') == 1
    sidecars = sum(len(world.lake_body(key)) for key in world.lake_files("archive/") if key.endswith(".CHECKSUM"))
    assert prometheus.value('lakehouse_objects_copied_total{mode="direct"}') == 6
    assert prometheus.value('lakehouse_objects_copied_total{mode="staged"}') == 0
    assert prometheus.value("lakehouse_bytes_copied_total") == 2100 + sidecars
    assert prometheus.value("lakehouse_objects_failed_total") == 1
    assert prometheus.value('lakehouse_periods_synced_total{state="incomplete"}') == 1
    [lag] = prometheus.query("lakehouse_discovery_lag_seconds")
    assert lag["metric"]["exchange"] == "binance"
