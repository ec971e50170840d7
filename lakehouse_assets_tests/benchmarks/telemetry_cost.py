"""The cost of telemetry for a sync: number of calls of its instruments, and time per call with and without an SDK.

Calls do not grow with objects: none is made per object, so the figure per 1,000 objects is an upper bound
that larger syncs divide.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from unittest import mock

from lakehouse_assets.observability.telemetry import metrics, tracing
from lakehouse_assets_tests.benchmarks.support.bench import Shape, bench
from lakehouse_assets_tests.benchmarks.support.measure import Row

OBJECTS = Shape(100, 10, 2_000)
CALLS = 20_000

_TIMES = f"""
import time
from opentelemetry import metrics as otel, trace
if {{sdk}}:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    otel.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    tracing = TracerProvider()
    tracing.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    trace.set_tracer_provider(tracing)
from lakehouse_assets.observability import metrics
from lakehouse_assets.observability.telemetry.tracing import span

def one_span():
    with span("list", dataset="binance/um/klines/daily", first_period="2024-01-01", last_period="2024-01-31"):
        pass

for work in (
    lambda: metrics.count(metrics.LISTING_KEYS, 1, exchange="binance", side="source"),
    lambda: metrics.observe(metrics.BATCH_SECONDS, 0.3, exchange="binance", mode="direct"),
    one_span,
):
    work()
    started = time.process_time()
    for _ in range({CALLS}):
        work()
    print((time.process_time() - started) / {CALLS} * 1e6)
"""


def run() -> list[Row]:
    """Microseconds of processor time per call."""
    calls, seconds = _calls()
    rows = []
    for way, sdk in (("no endpoint (API alone)", False), ("SDK, exported", True)):
        done = subprocess.run(
            [sys.executable, "-c", _TIMES.format(sdk=sdk)], capture_output=True, text=True, check=True, timeout=120
        )
        each = dict(zip(("count", "observe", "span"), map(float, done.stdout.split()), strict=True))
        total = sum(each[name] * number for name, number in calls.items())
        told = ", ".join(f"{number} x {name} of {each[name]:.1f} µs" for name, number in calls.items())
        rows.append(
            Row(
                f"{OBJECTS.objects:,} objects, one sync",
                way,
                total / 1e3 * 1_000 / OBJECTS.objects,
                unit="ms per 1,000",
                note=f"{told}; {total / 1e6 / seconds:.2%} of the sync's {seconds:.2f} s of processor time",
            )
        )
    return rows


def _calls() -> tuple[Counter[str], float]:
    """Number of instrument calls in a sync that copies everything, and processor time of its process."""
    calls: Counter[str] = Counter()
    instrument = metrics._instrument
    start = tracing._tracer.start_as_current_span

    class Counting:
        def add(self, *_: object, **__: object) -> None:
            calls["count"] += 1

        def record(self, *_: object, **__: object) -> None:
            calls["observe"] += 1

    @contextmanager
    def counted(*arguments: object, **named: object):
        calls["span"] += 1
        with start(*arguments, **named) as current:
            yield current

    counting = Counting()
    with bench(OBJECTS) as archive:
        archive.engine(archive.new_lake, 64).sync(archive.scope)
        started = time.process_time()
        archive.engine(archive.new_lake, 64).sync(archive.scope)
        seconds = time.process_time() - started
        with (
            mock.patch.object(metrics, "_instrument", return_value=counting),
            mock.patch.object(tracing._tracer, "start_as_current_span", counted),
        ):
            archive.engine(archive.new_lake, 64).sync(archive.scope)
    if instrument is not metrics._instrument:
        raise RuntimeError("the instruments are not themselves again")
    return calls, seconds
