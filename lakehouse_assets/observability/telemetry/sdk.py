"""The SDK's providers, configured by the standard variables. Imported only if something is exported."""

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
    """Methods that the providers of all signals have."""

    def force_flush(self, timeout_millis: int = ...) -> object: ...
    def shutdown(self) -> None: ...


def set_up(service: str, instance: str | None, signals: Sequence[str]) -> tuple[Provider, ...]:
    """Create the signals' providers and register them with the API.

    ``service`` is the ``service.name`` and ``instance`` the ``service.instance.id``, by default a new one per process.
    """
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
        # Without the version, which would become a label: then each upgrade would start new series beside the old ones.
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
