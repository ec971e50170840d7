"""The exporter: metrics of a table that cannot be read keep their last values; all others are updated."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from lakehouse_assets.errors import DamagedError
from lakehouse_assets.lake.sync_log import SYNC_LOG_TABLE
from lakehouse_assets.observability.telemetry.metrics import SCOPE
from lakehouse_assets.orchestration.incidents.exporter import Exporter
from lakehouse_assets_tests.world import World, days, scope

METRICS = "binance/um/metrics/daily"


def values(reader: InMemoryMetricReader, name: str) -> dict[str, float]:
    """A metric's newest values by data type, summed over its other attributes."""
    data = reader.get_metrics_data()
    assert data is not None
    by_data_type: dict[str, float] = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points if metric.name == name else ():
            data_type = str((point.attributes or {})["data_type"])
            by_data_type[data_type] = by_data_type.get(data_type, 0) + point.value
    return by_data_type


@pytest.mark.parametrize("damaged", [SYNC_LOG_TABLE, "_manifest/binance/um/klines/daily"])
def test_metrics_of_a_damaged_table_keep_their_values_and_the_others_are_updated(world: World, damaged: str) -> None:
    march = days("2024-03-01", "2024-03-02")
    entries = [world.entry(), world.entry(METRICS)]
    for entry in entries:
        world.publish(["BTCUSDT"], march, dataset=entry.dataset.name)
        world.engine().sync(scope(entry, march[0]))
    reader = InMemoryMetricReader()
    exporter = Exporter(world.lake, entries)
    exporter.register(MeterProvider([reader]).get_meter(SCOPE))
    exporter.refresh()
    assert values(reader, "lakehouse.objects.present") == {"klines": 1, "metrics": 1}
    assert values(reader, "lakehouse.objects.copied") == {"klines": 2, "metrics": 2}
    world.engine().sync(scope(entries[1], march[1]))
    for key in world.lake_files(f"{damaged}/_delta_log/"):
        world.overwrite_in_lake(key, b"no commit")
    with pytest.raises(DamagedError, match="rebuild-manifests"):
        exporter.refresh()
    assert values(reader, "lakehouse.objects.present") == {"klines": 1, "metrics": 2}
    copied = values(reader, "lakehouse.objects.copied")
    assert copied == {"klines": 2, "metrics": 2 if damaged == SYNC_LOG_TABLE else 4}
