"""The exporter: metrics of what the lake's records say, by one process that lives long.

Runs are short, and a counter that starts anew in each tells Prometheus of no increase. Here
counters are sums over the history of syncs, and gauges come from the manifests, so that they are
right after any restart and whoever did the work.
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
from lakehouse_assets.lake.manifest_stats import ManifestStats
from lakehouse_assets.lake.report import OPERATIONS as MODES
from lakehouse_assets.lake.report import PeriodState
from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.lake.sync_log import SyncTotals
from lakehouse_assets.observability.incidents.causes import Severity
from lakehouse_assets.observability.telemetry import metrics
from lakehouse_assets.observability.telemetry.metrics import METRICS, Metric, Origin, observable
from lakehouse_assets.observability.telemetry.setup import flush_telemetry
from lakehouse_assets.orchestration.archives.expected_check import judge
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
"""Counters and their columns in the history of syncs."""

_STATES = {
    metrics.OBJECTS_PRESENT: "present",
    metrics.OBJECTS_EXPECTED: "expected",
    metrics.BYTES_PRESENT: "bytes",
    metrics.QUARANTINED: Integrity.MISMATCH.value,
}
"""Gauges and their columns in the census."""

_Value = tuple[Metric, float, dict[str, str]]
"""A metric, its value now, and its attributes."""


class Exporter:
    """Reads the records of the matrix' datasets and shows them as metrics.

    A counter is there, with 0, for every dataset and mode before anything happens: the first
    increase would be lost otherwise.
    """

    def __init__(self, lake: Lake, entries: Sequence[DatasetEntry]) -> None:
        self._lake = lake
        self._datasets = [entry.dataset for entry in entries]
        self._tables = [entry.table for entry in tables_of(entries)]
        self._census = ManifestStats(lake)
        self._history = SyncTotals(lake)
        self._holdings = TableStats(lake)
        self._book = LakeIncidentStore(lake, fallback=None)
        self._judged: dict[Dataset, tuple[pl.Series, Counter[str]]] = {}
        self._read: dict[object, list[_Value]] = {}
        self._shown: dict[Metric, list[Observation]] = {}

    def register(self, meter: otel.Meter) -> None:
        """Make the instruments; what they show is what the last :meth:`refresh` read."""
        for metric in METRICS:
            if metric.origin is Origin.RECORDS:
                observable(meter, metric, self._reader(metric))

    def refresh(self, now: datetime | None = None) -> None:
        """Read the records again. What does not answer keeps what it showed; then raises the first StoreError."""
        now = now or datetime.now(UTC)
        records: dict[object, Callable[[], Iterator[_Value]]] = {
            "history": self._of_history,
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

    def _of_history(self) -> Iterator[_Value]:
        totals = self._history.read()
        for dataset in self._datasets:
            for metric, value, further in _of_totals(totals.filter(pl.col("dataset") == dataset.name)):
                yield metric, value, attributes_of(dataset) | further

    def _of_dataset(self, dataset: Dataset, now: datetime) -> Iterator[_Value]:
        census = self._census.of(dataset)
        for metric, value, further in (*_of_census(dataset, census, now), *self._of_thresholds(dataset, census)):
            yield metric, value, attributes_of(dataset) | further

    def _of_thresholds(self, dataset: Dataset, census: pl.DataFrame) -> Iterator[_Value]:
        """Judged again only when something was synced."""
        synced = census["synced_at"]
        if not synced.count():
            return
        known = self._judged.get(dataset)
        # All of them: the latest stays the same after one that a clock ahead wrote.
        if known is None or not known[0].equals(synced):
            verdicts = judge(self._lake, dataset, census["period"].to_list())
            counted = Counter(dict.fromkeys((verdict.quantity.name for verdict in verdicts), 0))
            counted.update(verdict.quantity.name for verdict in verdicts if verdict.is_unusual)
            known = self._judged[dataset] = (synced, counted)
        for quantity, unusual in known[1].items():
            yield metrics.UNUSUAL, unusual, {"quantity": quantity}

    def _of_table(self, table: Table) -> Iterator[_Value]:
        held = self._holdings.of(table)
        if held is None:
            return
        yield metrics.TABLE_ROWS, held.rows, table.attributes
        yield metrics.TABLE_BYTES, held.bytes, table.attributes
        yield metrics.TABLE_ROWS_MISSING, held.missing, table.attributes
        for level, periods in held.levels.items():
            yield metrics.TABLE_QUALITY, periods, table.attributes | {"level": level.value}

    def _of_incidents(self, now: datetime) -> Iterator[_Value]:
        book = self._book.read(now).book
        for severity in Severity:
            found = [incident for incident in book.live() if incident.severity is severity]
            yield metrics.INCIDENTS_OPEN, len(found), {"severity": severity.value}

    def run(self, interval_seconds: float, stop: Event) -> None:
        """Refresh and send until ``stop`` is set; what cannot be read is logged and tried again."""
        while True:
            try:
                self.refresh()
            except LakehouseError as error:
                _log.warning("Records could not be read, their last values stay shown: %s", error)
            flush_telemetry()
            if stop.wait(interval_seconds):
                return

    def _reader(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_options: CallbackOptions) -> Iterable[Observation]:
            return self._shown.get(metric, [])

        return read


def attributes_of(dataset: Dataset) -> dict[str, str]:
    """A dataset's four words, as attributes of its metrics."""
    words = ("exchange", "market", "data_type", "cadence")
    return dict(zip(words, dataset.asset_key, strict=True))


def _of_totals(totals: pl.DataFrame) -> Iterator[_Value]:
    for metric, column in _SUMS.items():
        yield metric, _sum(totals, column), {}
    for state in (PeriodState.COMPLETE, PeriodState.INCOMPLETE):
        periods = _sum(totals.filter(pl.col("state") == state.value), "periods")
        yield metrics.PERIODS_SYNCED, periods, {"state": state.value}
    for mode in MODES:
        yield metrics.OBJECTS_COPIED, _sum(totals, f"files_{mode}"), {"mode": mode}


def _of_census(dataset: Dataset, census: pl.DataFrame, now: datetime) -> Iterator[_Value]:
    for metric, column in _STATES.items():
        yield metric, _sum(census, column), {}
    expected, present = _sum(census, "expected"), _sum(census, "present")
    yield metrics.COMPLETENESS, present / expected if expected else 1.0, {}
    complete = census.filter((pl.col("present") == pl.col("expected")) & (pl.col("doubted") == 0))
    yield metrics.PERIODS, complete.height, {"state": PeriodState.COMPLETE.value}
    yield metrics.PERIODS, census.height - complete.height, {"state": PeriodState.INCOMPLETE.value}
    for state in Integrity:
        yield metrics.INTEGRITY, _sum(census, state.value), {"state": state.value}
    newest = complete.filter(pl.col("expected") > 0)["period"].max()
    if isinstance(newest, str):
        yield metrics.DISCOVERY_LAG, (now - dataset.end_of(dataset.period(newest))).total_seconds(), {}


def _sum(frame: pl.DataFrame, column: str) -> float:
    return float(frame[column].sum())
