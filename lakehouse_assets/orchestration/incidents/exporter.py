"""The exporter: one long-lived process that turns the lake's records into metrics.

Runs are short processes, and Prometheus sees no increase in a counter that starts at zero in each of them. Here
counters are sums over the sync log and gauges are read from manifests, so they are right after a restart, and
whichever process did the work.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from threading import Event

import polars as pl
from opentelemetry import metrics as otel
from opentelemetry.metrics import CallbackOptions, Observation

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lake.incident_store import LakeIncidentStore
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest_stats import ManifestStats, is_complete
from lakehouse_assets.lake.report import OPERATIONS as MODES
from lakehouse_assets.lake.report import PeriodState
from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.lake.sync_log import SyncTotals
from lakehouse_assets.observability.incidents.causes import Severity
from lakehouse_assets.observability.telemetry import metrics
from lakehouse_assets.observability.telemetry.metrics import METRICS, Metric, Origin, observable
from lakehouse_assets.observability.telemetry.setup import flush_telemetry
from lakehouse_assets.orchestration.archives.expected_check import evaluate
from lakehouse_assets.tables.stats import TableStats
from lakehouse_assets.tables.table import Table, tables_of

_log = logging.getLogger(__name__)

_SUMS = {
    metrics.OBJECTS_FAILED: "objects_failed",
    metrics.BYTES_COPIED: "bytes_copied",
    metrics.SYNC_SECONDS: "seconds",
    metrics.OPERATIONS: "operations",
    metrics.OPERATIONS_SAVED: "operations_saved",
    metrics.NETWORK_BYTES: "network_bytes",
    metrics.NETWORK_BYTES_SAVED: "network_bytes_saved",
    metrics.LOCAL_BYTES: "local_bytes_written",
}
"""Counters and their columns in the sync log."""

_STATES = {
    metrics.OBJECTS_PRESENT: "present",
    metrics.OBJECTS_EXPECTED: "expected",
    metrics.BYTES_PRESENT: "bytes",
    metrics.QUARANTINED: Integrity.MISMATCH.value,
}
"""Gauges and their columns in the manifest statistics."""

_Value = tuple[Metric, float, dict[str, str]]
"""A metric, its current value, and its attributes."""


class Exporter:
    """Reads the records of the matrix's datasets and exposes them as metrics.

    Every counter starts at 0 for every dataset and mode; otherwise Prometheus would miss its first increase.
    """

    def __init__(self, lake: Lake, entries: Sequence[DatasetEntry]) -> None:
        self._lake = lake
        self._datasets = [entry.dataset for entry in entries]
        self._tables = [entry.table for entry in tables_of(entries)]
        self._manifest_stats = ManifestStats(lake)
        self._sync_totals = SyncTotals(lake)
        self._table_stats = TableStats(lake)
        self._incidents = LakeIncidentStore(lake, fallback=None)
        self._unusual: dict[Dataset, tuple[pl.Series, Counter[str]]] = {}
        self._read: dict[object, list[_Value]] = {}
        self._shown: dict[Metric, list[Observation]] = {}

    def register(self, meter: otel.Meter) -> None:
        """Create the instruments; they show the values of the last :meth:`refresh`."""
        for metric in METRICS:
            if metric.origin is Origin.RECORDS:
                observable(meter, metric, self._reader(metric))

    def refresh(self, now: datetime | None = None) -> None:
        """Read all records; one that cannot be read keeps its last values, and the first such error is raised last."""
        now = now or datetime.now(UTC)
        records: dict[object, Callable[[], Iterator[_Value]]] = {
            "sync log": self._of_sync_log,
            "incidents": lambda: self._of_incidents(now),
            **{dataset: partial(self._of_dataset, dataset, now) for dataset in self._datasets},
            **{table: partial(self._of_table, table) for table in self._tables},
        }
        unread: list[LakehouseError] = []
        for record, read in records.items():
            try:
                self._read[record] = list(read())
            except LakehouseError as error:
                unread.append(error)
        shown: dict[Metric, list[Observation]] = {}
        for values in self._read.values():
            for metric, value, attributes in values:
                shown.setdefault(metric, []).append(Observation(value, attributes))
        self._shown = shown
        if unread:
            raise unread[0]

    def _of_sync_log(self) -> Iterator[_Value]:
        totals = self._sync_totals.read()
        for dataset in self._datasets:
            for metric, value, further in _of_totals(totals.filter(pl.col("dataset") == dataset.name)):
                yield metric, value, attributes_of(dataset) | further

    def _of_dataset(self, dataset: Dataset, now: datetime) -> Iterator[_Value]:
        periods = self._manifest_stats.of(dataset)
        for metric, value, further in (*_of_manifest(dataset, periods, now), *self._of_thresholds(dataset, periods)):
            yield metric, value, attributes_of(dataset) | further

    def _of_thresholds(self, dataset: Dataset, periods: pl.DataFrame) -> Iterator[_Value]:
        """Evaluated only after something was synced."""
        synced = periods["synced_at"]
        if not synced.count():
            return
        known = self._unusual.get(dataset)
        # All times are compared: the latest one does not change after a clock that was ahead has written it.
        if known is None or not known[0].equals(synced):
            verdicts = evaluate(self._lake, dataset, periods["period"].to_list())
            counted = Counter(dict.fromkeys((verdict.quantity.name for verdict in verdicts), 0))
            counted.update(verdict.quantity.name for verdict in verdicts if verdict.is_unusual)
            known = self._unusual[dataset] = (synced, counted)
        for quantity, unusual in known[1].items():
            yield metrics.UNUSUAL, unusual, {"quantity": quantity}

    def _of_table(self, table: Table) -> Iterator[_Value]:
        stats = self._table_stats.of(table)
        if stats is None:
            return
        yield metrics.TABLE_ROWS, stats.rows, table.attributes
        yield metrics.TABLE_BYTES, stats.bytes, table.attributes
        yield metrics.TABLE_ROWS_MISSING, stats.missing, table.attributes
        for level, periods in stats.levels.items():
            yield metrics.TABLE_QUALITY, periods, table.attributes | {"level": level.value}

    def _of_incidents(self, now: datetime) -> Iterator[_Value]:
        live = Counter(incident.severity for incident in self._incidents.read(now).state.live())
        for severity in Severity:
            yield metrics.INCIDENTS_OPEN, live[severity], {"severity": severity.value}

    def run(self, interval_seconds: float, stop: Event) -> None:
        """Refresh and export until ``stop`` is set; a record that cannot be read is logged and read again next time."""
        while True:
            try:
                self.refresh()
            except LakehouseError as error:
                _log.warning("Some records could not be read; their metrics keep their last values: %s", error)
            flush_telemetry()
            if stop.wait(interval_seconds):
                return

    def _reader(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_options: CallbackOptions) -> Iterable[Observation]:
            return self._shown.get(metric, [])

        return read


def attributes_of(dataset: Dataset) -> dict[str, str]:
    """The attributes of a dataset's metrics."""
    names = ("exchange", "market", "data_type", "cadence")
    return dict(zip(names, dataset.asset_key, strict=True))


def _of_totals(totals: pl.DataFrame) -> Iterator[_Value]:
    for metric, column in _SUMS.items():
        yield metric, _sum(totals, column), {}
    for state in (PeriodState.COMPLETE, PeriodState.INCOMPLETE):
        periods = _sum(totals.filter(pl.col("state") == state.value), "periods")
        yield metrics.PERIODS_SYNCED, periods, {"state": state.value}
    for mode in MODES:
        yield metrics.OBJECTS_COPIED, _sum(totals, f"files_{mode}"), {"mode": mode}


def _of_manifest(dataset: Dataset, periods: pl.DataFrame, now: datetime) -> Iterator[_Value]:
    for metric, column in _STATES.items():
        yield metric, _sum(periods, column), {}
    expected, present = _sum(periods, "expected"), _sum(periods, "present")
    yield metrics.COMPLETENESS, present / expected if expected else 1.0, {}
    complete = periods.filter(is_complete())
    yield metrics.PERIODS, complete.height, {"state": PeriodState.COMPLETE.value}
    yield metrics.PERIODS, periods.height - complete.height, {"state": PeriodState.INCOMPLETE.value}
    for state in Integrity:
        yield metrics.INTEGRITY, _sum(periods, state.value), {"state": state.value}
    newest = complete.filter(pl.col("expected") > 0)["period"].max()
    if isinstance(newest, str):
        yield metrics.DISCOVERY_LAG, (now - dataset.end_of(dataset.period(newest))).total_seconds(), {}


def _sum(frame: pl.DataFrame, column: str) -> float:
    return float(frame[column].sum())
