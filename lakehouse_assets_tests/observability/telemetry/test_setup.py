"""The SDK's set-up in separate processes, as in runs, against a real OTLP receiver."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from lakehouse_assets_tests.observability.telemetry.otlp import attributes, receiving


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


WORK = """
    import logging
    from lakehouse_assets.observability.telemetry import metrics, setup, tracing
    from lakehouse_assets.observability.telemetry.redaction import register_secret
    on = setup.start_telemetry()
    assert setup.start_telemetry() is on
    register_secret("planted-secret-value")
    try:
        with tracing.span("run", exchange="binance", symbol=None), tracing.span("list"):
            print(tracing.trace_id())
            metrics.count(metrics.LISTING_KEYS, 7, exchange="binance", side="source")
            metrics.count(metrics.LISTING_KEYS, 5, exchange="binance", side="source")
            metrics.observe(metrics.TICK_SECONDS, 0.3, exchange="binance")
            logging.getLogger("lakehouse_assets.sync.engine").warning("token %s", "planted-secret-value")
            raise OSError("refused planted-secret-value at https://user:pass-of-user@host/x?X-Amz-Signature=abcdef")
    except OSError:
        logging.getLogger("lakehouse_assets.sync.engine").exception("it failed")
    print("on" if on else "off")
"""


def test_a_process_exports_traces_metrics_and_logs_before_it_ends() -> None:
    with receiving() as receiver:
        done = run(WORK, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, OTEL_SERVICE_NAME="of-the-test")
    assert done.returncode == 0, done.stderr
    trace_id, on = done.stdout.split()
    assert on == "on"
    outer, inner = sorted(receiver.spans, key=lambda span: len(span.parent_span_id))
    assert (outer.name, inner.name) == ("run", "list")
    assert inner.parent_span_id == outer.span_id
    assert outer.trace_id.hex() == trace_id
    assert attributes(outer) == {"exchange": "binance"}
    assert outer.status.code == 2
    assert receiver.services == {"of-the-test"}
    [keys] = receiver.points("lakehouse.listing.keys")
    assert keys.as_int == 12
    assert attributes(keys) == {"exchange": "binance", "side": "source"}
    [tick] = receiver.points("lakehouse.sensor.tick.duration")
    assert tick.count == 1
    assert [record.body.string_value for record in receiver.logs] == ["token ***", "it failed"]
    assert receiver.logs[0].trace_id.hex() == trace_id


def test_no_planted_secret_is_exported_or_printed() -> None:
    with receiving() as receiver:
        done = run(WORK, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
    assert receiver.received["/v1/traces"]
    assert receiver.received["/v1/logs"]
    for body in (*receiver.raw, done.stdout.encode()):
        for secret in (b"planted-secret-value", b"pass-of-user", b"abcdef"):
            assert secret not in body


def test_without_an_endpoint_nothing_is_set_up() -> None:
    done = run(
        WORK
        + """
    import threading
    from opentelemetry import trace
    assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider", trace.get_tracer_provider()
    assert threading.active_count() == 1
    import sys
    assert not any(name.startswith("opentelemetry.sdk") for name in sys.modules), "the SDK was imported"
    """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["None", "off"]


def test_a_receiver_that_is_down_does_not_fail_the_process() -> None:
    done = run(WORK, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "on"
    assert "planted-secret-value" not in done.stderr


def test_nothing_is_exported_if_disabled_or_with_an_unsupported_protocol() -> None:
    with receiving() as receiver:
        disabled = run(WORK, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, OTEL_SDK_DISABLED="true")
        unsupported = run(WORK, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
        none = run(
            WORK,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_TRACES_EXPORTER="none",
            OTEL_METRICS_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
        )
    assert receiver.raw == []
    assert [done.stdout.split()[-1] for done in (disabled, unsupported, none)] == ["off", "off", "off"]
    assert "only http/protobuf is supported" in unsupported.stderr
