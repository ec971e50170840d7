"""``lakehouse exporter``: exports metrics of the lake's records until it is stopped."""

from __future__ import annotations

from threading import Event

from opentelemetry import metrics as otel

from lakehouse_assets.archive.matrix import load_matrix
from lakehouse_assets.errors import InputError
from lakehouse_assets.observability.telemetry.logs import configure_logs
from lakehouse_assets.observability.telemetry.metrics import SCOPE
from lakehouse_assets.observability.telemetry.setup import flush_telemetry, start_telemetry
from lakehouse_assets.orchestration.incidents.exporter import Exporter
from lakehouse_assets.settings import load_settings


def run_exporter(interval_seconds: float, *, once: bool) -> int:
    """Export every ``interval_seconds``, or only ``once``. Returns 0."""
    settings = load_settings()
    # One instance id per lake: with a new id after a restart, sums would count the same records twice.
    if not start_telemetry("lakehouse-exporter", instance=settings.lake.url):
        raise InputError(
            "No receiver is configured: set OTEL_EXPORTER_OTLP_ENDPOINT to an OTLP/HTTP receiver, such as "
            "http://127.0.0.1:4318."
        )
    configure_logs()
    exporter = Exporter(settings.lake.lake(), load_matrix(settings.matrix).entries)
    exporter.register(otel.get_meter(SCOPE))
    if once:
        try:
            exporter.refresh()
        finally:
            flush_telemetry()
    else:
        exporter.run(interval_seconds, Event())
    return 0
