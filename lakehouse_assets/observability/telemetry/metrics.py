"""Every metric of the project: name, unit, kind, attributes, meaning, in one table.

Instruments, the documentation and the dashboards derive from it. Attributes are bounded: an
exchange, a market, a data type, a mode, never a symbol or a key. A metric of a *process* is
recorded where things happen and is as short-lived as its process; one of the *records* is read
from the lake by the exporter, which lives long, so that its counters never start anew.
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
    """Who exports a metric: each process for itself, or the exporter from the lake's records."""

    PROCESS = "process"
    RECORDS = "records"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``unit`` is UCUM's; ``buckets`` are a histogram's upper bounds in that unit."""

    name: str
    unit: str
    kind: Kind
    origin: Origin
    attributes: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """As Prometheus has it by OpenTelemetry's naming rules: unit (if no word of the name
        is it already) and ``_total`` as suffixes.

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


# What happens, recorded by the process in which it happens
LISTING_REQUESTS = _counted("lakehouse.listing.requests", "{request}", ("exchange", "side"), "List requests sent.")
LISTING_KEYS = _counted("lakehouse.listing.keys", "{key}", ("exchange", "side"), "Keys that listings returned.")
LISTING_SECONDS = _timed("lakehouse.listing.duration", ("exchange", "side"), "Time of one listing of a range.")
STAGE_SECONDS = _timed(
    "lakehouse.sync.stage.duration",
    ("exchange", "stage"),
    "Time a sync spent listing, moving, looking again, committing.",
)
BATCH_SECONDS = _timed("lakehouse.transfer.batch.duration", ("exchange", "mode"), "Time of one batch of one mover.")
TRANSFERRED = _counted(
    "lakehouse.transfer.files",
    "{file}",
    ("exchange", "mode", "outcome"),
    "Files that a mover copied or failed to copy.",
)
RETRIES = _counted("lakehouse.transfer.retries", "{file}", ("exchange",), "Files tried again after a passing failure.")
FALLBACKS = _counted(
    "lakehouse.transfer.fallbacks",
    "{file}",
    ("exchange", "mode"),
    "Files handed to the mover named by mode, since the one before failed.",
)
THROTTLED = _counted(
    "lakehouse.transfer.throttled", "{file}", ("exchange",), "Files that a store answered with SlowDown."
)
RECORDS_LOST = _counted(
    "lakehouse.records.lost",
    "{record}",
    ("record",),
    "Auxiliary records, named by their place in the lake, that were not written or read; the work went on without.",
)
TICK_SECONDS = _timed("lakehouse.sensor.tick.duration", ("exchange",), "Time of one tick of a discovery sensor.")
TABLE_SECONDS = _timed(
    "lakehouse.table.write.duration", _TABLE, "Time of writing the periods of a table that are committed together."
)

# What was done, from the lake's record of syncs
PERIODS_SYNCED = _recorded(
    "lakehouse.periods.synced",
    "{period}",
    (*_DATASET, "state"),
    "Syncs of one period that copied something or failed to, by the state they left it in.",
)
OBJECTS_COPIED = _recorded(
    "lakehouse.objects.copied", "{object}", (*_DATASET, "mode"), "Files copied into the lake, sidecars included."
)
OBJECTS_FAILED = _recorded(
    "lakehouse.objects.failed", "{object}", _DATASET, "Archive objects that a sync could not copy."
)
BYTES_COPIED = _recorded("lakehouse.bytes.copied", "By", _DATASET, "Bytes copied into the lake.")
SYNC_SECONDS = _recorded("lakehouse.sync.time", "s", _DATASET, "Time that syncs took, summed over periods.")
OPERATIONS = _recorded("lakehouse.operations", "{operation}", _DATASET, "Store and disk operations that copies took.")
OPERATIONS_SAVED = _recorded(
    "lakehouse.operations.saved", "{operation}", _DATASET, "Operations fewer than by download and upload."
)
NETWORK_BYTES = _recorded("lakehouse.network.bytes", "By", _DATASET, "Bytes that passed through our network.")
NETWORK_BYTES_SAVED = _recorded(
    "lakehouse.network.bytes.saved", "By", _DATASET, "Bytes fewer than by download and upload."
)
LOCAL_BYTES = _recorded("lakehouse.local.bytes.written", "By", _DATASET, "Bytes written to a local disk by copies.")

# How it is, from manifests, tables and incidents
OBJECTS_PRESENT = _state("lakehouse.objects.present", "{object}", _DATASET, "Archive objects in the lake.")
OBJECTS_EXPECTED = _state(
    "lakehouse.objects.expected",
    "{object}",
    _DATASET,
    "Archive objects that the exchange published, of the synced periods.",
)
BYTES_PRESENT = _state("lakehouse.bytes.present", "By", _DATASET, "Bytes of the archive objects in the lake.")
COMPLETENESS = _state(
    "lakehouse.completeness", "1", _DATASET, "Archive objects present per expected one; 1 where nothing is expected."
)
PERIODS = _state("lakehouse.periods", "{period}", (*_DATASET, "state"), "Synced periods, complete or not.")
INTEGRITY = _state("lakehouse.integrity", "{object}", (*_DATASET, "state"), "Archive objects by integrity state.")
QUARANTINED = _state(
    "lakehouse.quarantined", "{object}", _DATASET, "Archive objects whose content contradicts their checksum."
)
DISCOVERY_LAG = _state("lakehouse.discovery.lag", "s", _DATASET, "Time since the end of the newest complete period.")
UNUSUAL = _state(
    "lakehouse.unusual",
    "{period}",
    (*_DATASET, "quantity"),
    "Of the newest seven synced periods, those whose quantity is unusual for the dataset's own past.",
)
TABLE_ROWS = _state("lakehouse.table.rows", "{row}", _TABLE, "Rows of a table.")
TABLE_BYTES = _state("lakehouse.table.bytes", "By", _TABLE, "Bytes of a table's current files.")
TABLE_ROWS_MISSING = _state(
    "lakehouse.table.rows.missing",
    "{row}",
    _TABLE,
    "Rows that were due and are in no archive, and that no known outage explains.",
)
TABLE_QUALITY = _state(
    "lakehouse.table.quality",
    "{period}",
    (*_TABLE, "level"),
    "Periods of a symbol and interval, by what the quality checks found of them.",
)
INCIDENTS_OPEN = _state("lakehouse.incidents.open", "{incident}", ("severity",), "Incidents that are not resolved.")

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


def count(metric: Metric, amount: float, **attributes: str) -> None:
    """Add to a counter of this process. Raises TypeError for attributes that the table does not have."""
    _checked(metric, Kind.COUNTER, attributes)
    if amount:
        _instrument(metric).add(amount, attributes)


def observe(metric: Metric, value: float, **attributes: str) -> None:
    """Record a value of a histogram of this process. Raises TypeError as :func:`count` does."""
    _checked(metric, Kind.HISTOGRAM, attributes)
    _instrument(metric).record(value, attributes)


@contextmanager
def timed(metric: Metric, **attributes: str) -> Generator[None]:
    """Record how long the body took, also when it raised."""
    started = monotonic()
    try:
        yield
    finally:
        observe(metric, monotonic() - started, **attributes)


def observable(meter: metrics.Meter, metric: Metric, read: Callable[[metrics.CallbackOptions], Any]) -> None:
    """Register a metric of the records; ``read`` yields its Observations."""
    if metric.origin is not Origin.RECORDS:
        raise TypeError(f"{metric.name} is recorded by processes.")
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
    # An instrument made before the SDK is set up is bound to it later, by the API's own proxy.
    meter = metrics.get_meter(SCOPE)
    if metric.kind is Kind.COUNTER:
        return meter.create_counter(metric.name, unit=metric.unit, description=metric.meaning)
    return meter.create_histogram(
        metric.name, unit=metric.unit, description=metric.meaning, explicit_bucket_boundaries_advisory=metric.buckets
    )
