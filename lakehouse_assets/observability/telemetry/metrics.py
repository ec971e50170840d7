"""Every metric of the project in one table: name, unit, kind, attributes and description.

Instruments and documentation derive from it. Attributes have few values: an exchange, a market, a data type or a
mode, never a symbol or a key. A metric of a *process* is recorded by each process and ends with it. A metric of the
*records* is read from the lake by the long-running exporter, so that its counters never restart at zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from time import monotonic
from typing import Any

from opentelemetry import metrics

SCOPE = "lakehouse_assets"
"""Name of the instrumentation scope, for metrics, traces and logs."""


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Origin(StrEnum):
    """What exports a metric: each process, or the exporter, from the lake's records."""

    PROCESS = "process"
    RECORDS = "records"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``unit`` is in UCUM; ``buckets`` are a histogram's upper bounds in that unit."""

    name: str
    unit: str
    kind: Kind
    origin: Origin
    attributes: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """The name in Prometheus: with the unit, unless the name contains it, and ``_total`` for counters.

        Source: OpenTelemetry specification, "Prometheus and OpenMetrics compatibility".
        """
        words = re.split(r"[^a-zA-Z0-9]+", self.name)
        unit = _PROMETHEUS_UNITS.get(self.unit)
        if unit is not None and unit not in words:
            words.append(unit)
        if self.kind is Kind.COUNTER:
            words.append("total")
        return "_".join(words)


_PROMETHEUS_UNITS = {"s": "seconds", "By": "bytes", "1": "ratio", "d": "days"}

_DATASET = ("exchange", "market", "data_type", "cadence")
_TABLE = ("exchange", "market", "data_type")
_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


def _counter(name: str, unit: str, attributes: tuple[str, ...], meaning: str, origin: Origin) -> Metric:
    return Metric(name, unit, Kind.COUNTER, origin, attributes, meaning)


def _recorded(name: str, unit: str, attributes: tuple[str, ...], meaning: str) -> Metric:
    return _counter(name, unit, attributes, meaning, Origin.RECORDS)


def _counted(name: str, unit: str, attributes: tuple[str, ...], meaning: str) -> Metric:
    return _counter(name, unit, attributes, meaning, Origin.PROCESS)


def _state(name: str, unit: str, attributes: tuple[str, ...], meaning: str) -> Metric:
    return Metric(name, unit, Kind.GAUGE, Origin.RECORDS, attributes, meaning)


def _timed(name: str, attributes: tuple[str, ...], meaning: str) -> Metric:
    return Metric(name, "s", Kind.HISTOGRAM, Origin.PROCESS, attributes, meaning, _SECONDS)


# Events, recorded by the process in which they happen
LISTING_REQUESTS = _counted("lakehouse.listing.requests", "{request}", ("exchange", "side"), "List requests sent.")
LISTING_KEYS = _counted("lakehouse.listing.keys", "{key}", ("exchange", "side"), "Keys returned by listings.")
LISTING_SECONDS = _timed("lakehouse.listing.duration", ("exchange", "side"), "Duration of one listing of a key range.")
STAGE_SECONDS = _timed(
    "lakehouse.sync.stage.duration",
    ("exchange", "stage"),
    "Time that a sync spent in each stage: listing, copying, listing again, committing.",
)
BATCH_SECONDS = _timed("lakehouse.transfer.batch.duration", ("exchange", "mode"), "Duration of one batch of one mover.")
TRANSFERRED = _counted(
    "lakehouse.transfer.files",
    "{file}",
    ("exchange", "mode", "outcome"),
    "Files that a mover copied or failed to copy.",
)
RETRIES = _counted(
    "lakehouse.transfer.retries", "{file}", ("exchange",), "Files tried again after a transient failure."
)
FALLBACKS = _counted(
    "lakehouse.transfer.fallbacks",
    "{file}",
    ("exchange", "mode"),
    "Files handed to the mover in the attribute mode after the previous mover failed.",
)
THROTTLED = _counted(
    "lakehouse.transfer.throttled", "{file}", ("exchange",), "Files that a store throttled (SlowDown)."
)
RECORDS_LOST = _counted(
    "lakehouse.records.lost",
    "{record}",
    ("record",),
    "Auxiliary records, named by their path in the lake, that could not be written or read. The work went on without.",
)
TICK_SECONDS = _timed("lakehouse.sensor.tick.duration", ("exchange",), "Duration of one tick of a discovery sensor.")
TABLE_SECONDS = _timed(
    "lakehouse.table.write.duration", _TABLE, "Time to write the periods of a table that are committed together."
)

# Totals, from the lake's history of syncs
PERIODS_SYNCED = _recorded(
    "lakehouse.periods.synced",
    "{period}",
    (*_DATASET, "state"),
    "Syncs of a period that copied something or failed, by the resulting state of the period.",
)
OBJECTS_COPIED = _recorded(
    "lakehouse.objects.copied", "{object}", (*_DATASET, "mode"), "Files copied into the lake, including sidecars."
)
OBJECTS_FAILED = _recorded(
    "lakehouse.objects.failed", "{object}", _DATASET, "Archive objects that a sync could not copy."
)
BYTES_COPIED = _recorded("lakehouse.bytes.copied", "By", _DATASET, "Bytes copied into the lake.")
SYNC_SECONDS = _recorded("lakehouse.sync.time", "s", _DATASET, "Duration of syncs, summed over periods.")
OPERATIONS = _recorded("lakehouse.operations", "{operation}", _DATASET, "Store and disk operations used for copies.")
OPERATIONS_SAVED = _recorded(
    "lakehouse.operations.saved", "{operation}", _DATASET, "Operations saved compared with download and upload."
)
NETWORK_BYTES = _recorded(
    "lakehouse.network.bytes", "By", _DATASET, "Bytes that passed through this deployment's network."
)
NETWORK_BYTES_SAVED = _recorded(
    "lakehouse.network.bytes.saved", "By", _DATASET, "Network bytes saved compared with download and upload."
)
LOCAL_BYTES = _recorded("lakehouse.local.bytes.written", "By", _DATASET, "Bytes that copies wrote to a local disk.")

# Current state, from manifests, tables and incidents
OBJECTS_PRESENT = _state("lakehouse.objects.present", "{object}", _DATASET, "Archive objects in the lake.")
OBJECTS_EXPECTED = _state(
    "lakehouse.objects.expected",
    "{object}",
    _DATASET,
    "Archive objects that the exchange published in the synced periods.",
)
BYTES_PRESENT = _state("lakehouse.bytes.present", "By", _DATASET, "Bytes of the archive objects in the lake.")
COMPLETENESS = _state(
    "lakehouse.completeness",
    "1",
    _DATASET,
    "Share of expected archive objects that are present; 1 if none is expected.",
)
PERIODS = _state("lakehouse.periods", "{period}", (*_DATASET, "state"), "Synced periods, by state.")
INTEGRITY = _state("lakehouse.integrity", "{object}", (*_DATASET, "state"), "Archive objects by integrity state.")
QUARANTINED = _state(
    "lakehouse.quarantined", "{object}", _DATASET, "Archive objects whose content does not match their checksum."
)
DISCOVERY_LAG = _state("lakehouse.discovery.lag", "s", _DATASET, "Time since the end of the newest complete period.")
UNUSUAL = _state(
    "lakehouse.unusual",
    "{period}",
    (*_DATASET, "quantity"),
    "Periods among the newest seven synced ones whose quantity is unusual compared with the dataset's history.",
)
TABLE_ROWS = _state("lakehouse.table.rows", "{row}", _TABLE, "Rows of a table.")
TABLE_BYTES = _state("lakehouse.table.bytes", "By", _TABLE, "Bytes of a table's current files.")
TABLE_ROWS_MISSING = _state(
    "lakehouse.table.rows.missing",
    "{row}",
    _TABLE,
    "Expected rows that are missing from all archives and not explained by a known outage.",
)
TABLE_QUALITY = _state(
    "lakehouse.table.quality",
    "{period}",
    (*_TABLE, "level"),
    "Periods of a symbol and interval, by the result of their quality checks.",
)
INCIDENTS_OPEN = _state("lakehouse.incidents.open", "{incident}", ("severity",), "Unresolved incidents.")

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


def count(metric: Metric, amount: float, **attributes: str) -> None:
    """Add to a counter of this process. Raises TypeError for attributes other than the metric's."""
    _checked(metric, Kind.COUNTER, attributes)
    if amount:
        _instrument(metric).add(amount, attributes)


def observe(metric: Metric, value: float, **attributes: str) -> None:
    """Record a value in a histogram of this process. Raises TypeError, see :func:`count`."""
    _checked(metric, Kind.HISTOGRAM, attributes)
    _instrument(metric).record(value, attributes)


@contextmanager
def timed(metric: Metric, **attributes: str) -> Generator[None]:
    """Record the duration of the body, even if it raises."""
    started = monotonic()
    try:
        yield
    finally:
        observe(metric, monotonic() - started, **attributes)


def observable(meter: metrics.Meter, metric: Metric, read: Callable[[metrics.CallbackOptions], Any]) -> None:
    """Register a metric of the records, whose Observations ``read`` yields."""
    if metric.origin is not Origin.RECORDS:
        raise TypeError(f"{metric.name} is a metric of processes, not of the records.")
    create = meter.create_observable_counter if metric.kind is Kind.COUNTER else meter.create_observable_gauge
    create(metric.name, callbacks=[read], unit=metric.unit, description=metric.meaning)


def _checked(metric: Metric, kind: Kind, attributes: dict[str, str]) -> None:
    if metric.kind is not kind or metric.origin is not Origin.PROCESS:
        raise TypeError(f"{metric.name} is a {metric.kind} of {metric.origin}, not a {kind} of a process.")
    if tuple(sorted(attributes)) != tuple(sorted(metric.attributes)):
        raise TypeError(
            f"{metric.name} has the attributes {', '.join(metric.attributes)}, not {', '.join(attributes)}."
        )


@cache
def _instrument(metric: Metric) -> Any:
    # The API binds an instrument that is created before the SDK is set up to the SDK later.
    meter = metrics.get_meter(SCOPE)
    if metric.kind is Kind.COUNTER:
        return meter.create_counter(metric.name, unit=metric.unit, description=metric.meaning)
    return meter.create_histogram(
        metric.name, unit=metric.unit, description=metric.meaning, explicit_bucket_boundaries_advisory=metric.buckets
    )
