"""``lakehouse exporter``: sends metrics of the lake's records until it is ended."""

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
    """Send every ``interval_seconds``; with ``once`` a single time. 0."""
    settings = load_settings()
    # One per lake: a second series of the same records, from before a restart, would be summed with the first.
    if not start_telemetry("lakehouse-exporter", instance=settings.lake.url):
        raise InputError(
            "Nothing to send to: set OTEL_EXPORTER_OTLP_ENDPOINT to an OTLP/HTTP receiver, such as http://127.0.0.1:4318."
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
