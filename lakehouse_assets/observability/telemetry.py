"""OpenTelemetry's SDK, set up once per process from the standard ``OTEL_*`` variables.

Without an endpoint in the environment nothing is set up and the API's calls do nothing. With
one, traces, metrics and logs go there by OTLP over HTTP; the exporters read endpoint, headers,
timeout, interval and temporality from the environment by themselves. A receiver that is down
costs a warning and the time limit of a flush, never a run.
"""

from __future__ import annotations

import atexit
import logging
import os
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from threading import Lock
from typing import Protocol

from opentelemetry import _logs, metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from lakehouse_assets.observability.logs import Redacting
from lakehouse_assets.observability.metrics import SCOPE
from lakehouse_assets.observability.redaction import redact

FLUSH_MILLIS = 5_000
"""A flush waits no longer for each signal."""

_log = logging.getLogger(__name__)
_tracer = trace.get_tracer(SCOPE)
_lock = Lock()


class _Provider(Protocol):
    def force_flush(self, timeout_millis: int = ...) -> object: ...
    def shutdown(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Set:
    """The providers of one process; empty where no endpoint is configured."""

    providers: tuple[_Provider, ...]


_set: _Set | None = None


def start_telemetry(service: str = "lakehouse") -> bool:
    """Set up the SDK in this process, once; returns whether anything is exported.

    ``service`` is the ``service.name`` where ``OTEL_SERVICE_NAME`` does not give one.
    """
    global _set  # noqa: PLW0603 - one SDK per process is OpenTelemetry's own rule
    with _lock:
        if _set is None:
            _set = _set_up(service)
            atexit.register(_shut_down)
        return bool(_set.providers)


def flush_telemetry() -> None:
    """Send what is waiting; returns when it was sent or after the time limit. Never raises."""
    for provider in _set.providers if _set else ():
        try:
            provider.force_flush(FLUSH_MILLIS)
        except Exception as error:  # noqa: BLE001 - telemetry must not end a run
            _log.warning("Telemetry could not be sent: %s", redact(str(error)))


@contextmanager
def span(name: str, **attributes: str | float | bool | None) -> Generator[trace.Span]:
    """A span around the body; an exception marks it as failed, without its secrets, and goes on.

    Attributes that are None are left out.
    """
    known = {key: value for key, value in attributes.items() if value is not None}
    with _tracer.start_as_current_span(
        name, attributes=known, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except BaseException as error:
            message = redact(str(error))
            current.add_event("exception", {"exception.type": type(error).__qualname__, "exception.message": message})
            current.set_status(trace.StatusCode.ERROR, message)
            raise


def trace_id() -> str | None:
    """Of the current span, as 32 hex digits; None outside a recorded one."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


def _set_up(service: str) -> _Set:
    providers: list[_Provider] = []
    environment = os.environ
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return _Set(())
    resource = Resource.create(
        {
            "service.name": environment.get("OTEL_SERVICE_NAME") or service,
            "service.version": version("lakehouse-assets"),
            "service.instance.id": str(uuid.uuid4()),
        }
    )
    if _exports("TRACES", environment):
        tracing = TracerProvider(resource=resource)
        tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(tracing)
        BotocoreInstrumentor().instrument()
        providers.append(tracing)
    if _exports("METRICS", environment):
        measuring = MeterProvider(
            resource=resource, metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())]
        )
        metrics.set_meter_provider(measuring)
        providers.append(measuring)
    if _exports("LOGS", environment):
        logs = LoggerProvider(resource=resource)
        logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
        _logs.set_logger_provider(logs)
        handler = LoggingHandler(logger_provider=logs)
        handler.addFilter(Redacting())
        logging.getLogger(SCOPE).addHandler(handler)
        providers.append(logs)
    return _Set(tuple(providers))


def _exports(signal: str, environment: Mapping[str, str]) -> bool:
    if environment.get(f"OTEL_{signal}_EXPORTER", "otlp") != "otlp":
        return False
    names = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    if not any(environment.get(name) for name in names):
        return False
    protocol = environment.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or environment.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    if protocol not in (None, "", "http/protobuf"):
        _log.warning(
            "OTEL_EXPORTER_OTLP_PROTOCOL is %r, but only http/protobuf is spoken here: no %s are exported.",
            protocol,
            signal.lower(),
        )
        return False
    return True


def _shut_down() -> None:
    for provider in _set.providers if _set else ():
        provider.shutdown()
