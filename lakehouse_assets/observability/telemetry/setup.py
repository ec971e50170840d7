"""Set-up of OpenTelemetry's SDK, once per process, from the standard ``OTEL_*`` variables.

Without an endpoint in the environment nothing is set up, and calls of the API do nothing. With an endpoint, traces,
metrics and logs are exported by OTLP over HTTP; the exporters read endpoint, headers, timeout, interval and
temporality from the environment themselves. A receiver that is down causes a warning and the delay of a flush, but
fails no run.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING

from lakehouse_assets.observability.telemetry.redaction import redact

if TYPE_CHECKING:
    from lakehouse_assets.observability.telemetry.sdk import Provider

FLUSH_MILLIS = 5_000
"""Time limit of a flush per signal."""

SIGNALS = ("TRACES", "METRICS", "LOGS")

_log = logging.getLogger(__name__)
_lock = Lock()
_providers: tuple[Provider, ...] | None = None
"""None before the set-up; empty if nothing is exported."""


def start_telemetry(service: str = "lakehouse", instance: str | None = None) -> bool:
    """Set up the SDK in this process, once. Returns whether anything is exported.

    ``service`` is the ``service.name`` unless ``OTEL_SERVICE_NAME`` is set. ``instance`` is the
    ``service.instance.id`` of a service that runs as a single process, so that its series continue after a restart;
    without it each process gets its own id.
    """
    global _providers  # noqa: PLW0603 - one SDK per process is OpenTelemetry's own rule
    with _lock:
        if _providers is None:
            signals = [signal for signal in SIGNALS if _is_exported(signal, os.environ)]
            _providers = _set_up(os.environ.get("OTEL_SERVICE_NAME") or service, instance, signals) if signals else ()
            atexit.register(_shut_down)
        return bool(_providers)


def flush_telemetry() -> None:
    """Send pending data, within the time limit. Never raises."""
    for provider in _providers or ():
        try:
            provider.force_flush(FLUSH_MILLIS)
        except Exception as error:  # noqa: BLE001 - telemetry must not end a run
            _log.warning("Telemetry could not be sent: %s", redact(str(error)))


def _set_up(service: str, instance: str | None, signals: list[str]) -> tuple[Provider, ...]:
    # A local import, since importing SDK and exporters takes longer than many commands.
    from lakehouse_assets.observability.telemetry.sdk import set_up  # noqa: PLC0415

    return set_up(service, instance, signals)


def _is_exported(signal: str, environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
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
            "OTEL_EXPORTER_OTLP_PROTOCOL is %r, but only http/protobuf is supported: no %s are exported.",
            protocol,
            signal.lower(),
        )
        return False
    return True


def _shut_down() -> None:
    for provider in _providers or ():
        provider.shutdown()
