"""The SDK's providers, each made from the standard variables; imported only where something is exported."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from importlib.metadata import version
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
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from lakehouse_assets.observability.telemetry.logs import Redacting
from lakehouse_assets.observability.telemetry.metrics import SCOPE


class Provider(Protocol):
    """What every signal's provider can do."""

    def force_flush(self, timeout_millis: int = ...) -> object: ...
    def shutdown(self) -> None: ...


def set_up(service: str, instance: str | None, signals: Sequence[str]) -> tuple[Provider, ...]:
    """Make the signals' providers and tell the API of them. ``service`` is the ``service.name``, ``instance``
    its ``service.instance.id``, one of its own for each process where none is given."""
    identity = {"service.name": service, "service.instance.id": instance or str(uuid.uuid4())}
    resource = Resource.create(identity | {"service.version": version("lakehouse-assets")})
    providers: list[Provider] = []
    if "TRACES" in signals:
        tracing = TracerProvider(resource=resource)
        tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(tracing)
        BotocoreInstrumentor().instrument()
        providers.append(tracing)
    if "METRICS" in signals:
        # Versions become labels: with them an upgrade would begin every series anew, beside the old one.
        named = Resource(identity).merge(OTELResourceDetector().detect())
        measuring = MeterProvider(resource=named, metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())])
        metrics.set_meter_provider(measuring)
        providers.append(measuring)
    if "LOGS" in signals:
        logs = LoggerProvider(resource=resource)
        logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
        _logs.set_logger_provider(logs)
        handler = LoggingHandler(logger_provider=logs)
        handler.addFilter(Redacting())
        logging.getLogger(SCOPE).addHandler(handler)
        providers.append(logs)
    return tuple(providers)
