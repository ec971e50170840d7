from __future__ import annotations

import pytest

from lakehouse_assets.observability.telemetry import metrics
from lakehouse_assets.observability.telemetry.metrics import METRICS, Kind, Metric, Origin


def test_names_are_unique_and_follow_the_conventions() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names) >= 30
    assert len({metric.prometheus_name for metric in METRICS}) == len(names)
    for metric in METRICS:
        assert metric.name.startswith("lakehouse.")
        assert metric.meaning.endswith(".")


def test_attributes_are_bounded() -> None:
    allowed = {
        "exchange", "market", "data_type", "cadence",
        "mode", "outcome", "side", "stage", "state", "severity", "level", "quantity", "record",
    }  # fmt: skip
    assert {attribute for metric in METRICS for attribute in metric.attributes} == allowed


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (metrics.LISTING_REQUESTS, "lakehouse_listing_requests_total"),
        (metrics.BYTES_COPIED, "lakehouse_bytes_copied_total"),
        (metrics.TICK_SECONDS, "lakehouse_sensor_tick_duration_seconds"),
        (metrics.COMPLETENESS, "lakehouse_completeness_ratio"),
        (metrics.INTEGRITY, "lakehouse_integrity"),
    ],
)
def test_names_in_prometheus(metric: Metric, expected: str) -> None:
    assert metric.prometheus_name == expected


def test_an_attribute_that_the_metric_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="has the attributes exchange, side, not exchange, symbol"):
        metrics.count(metrics.LISTING_KEYS, 1, exchange="binance", symbol="BTCUSDT")
    with pytest.raises(TypeError, match="has the attributes"):
        metrics.observe(metrics.TICK_SECONDS, 1.0)


def test_a_metric_of_the_records_is_not_recorded_by_a_process() -> None:
    assert metrics.BYTES_COPIED.origin is Origin.RECORDS
    with pytest.raises(TypeError, match="not a counter of a process"):
        metrics.count(metrics.BYTES_COPIED, 1, exchange="binance", market="um", data_type="klines", cadence="daily")
    with pytest.raises(TypeError, match="not a histogram of a process"):
        metrics.observe(metrics.LISTING_KEYS, 1, exchange="binance", side="source")


def test_gauges_come_from_records_only() -> None:
    assert {metric.origin for metric in METRICS if metric.kind is Kind.GAUGE} == {Origin.RECORDS}
