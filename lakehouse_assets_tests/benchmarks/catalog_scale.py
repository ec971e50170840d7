"""Catalogs at scale: keys, memory and processor time of a walk, and many sources at once.

The archive is a listing server that makes keys of rules, in another process on the same machine; its
pages take PAGE_SECONDS. What was measured is a walk of the keys stated; `full` walks FULL of them.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.catalog.catalog import Catalog
from lakehouse_assets.archive.catalog.walk import discover
from lakehouse_assets.archive.listing import PAGE
from lakehouse_assets_tests.benchmarks.memory import peak_megabytes
from lakehouse_assets_tests.benchmarks.support.listing_server import Rule, listing_server
from lakehouse_assets_tests.benchmarks.support.measure import Row

PAGE_SECONDS = 1.0
CONCURRENCY = 32
INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")
DAYS = 596
SOURCES, SOURCE_CONCURRENCY, SOURCE_SYMBOLS = 20, 4, 4
SMALL, FULL = 70, 700
"""Numbers of symbols with 14,304 keys each, so 1.0 and 10.0 million keys."""

KEYS_PER_SYMBOL = len(INTERVALS) * DAYS * 2


@dataclass(frozen=True, slots=True)
class Walked:
    """One walk in a separate process: wall and processor seconds, peak memory before and after in MB."""

    keys: int
    requests: int
    seconds: float
    processor: float
    imported: float
    peak: float


def run(*, quick: bool = False, full: bool = False) -> list[Row]:
    symbols = FULL if full else SMALL // 7 if quick else SMALL
    walked = _walked(symbols)
    case = f"catalog of {walked.keys:,} keys, {PAGE_SECONDS:g} s a page, {CONCURRENCY} requests at a time"
    note = f"{walked.requests:,} pages; one run, no median"
    rows = [
        Row(case, "exact walk", walked.seconds, budget="900 s of 10,000,000 keys", note=note),
        Row(case, "processor time per key", walked.processor / walked.keys * 1e6, unit="us"),
        Row(
            case,
            "peak memory",
            walked.peak,
            unit="MB",
            budget="500 MB",
            note=f"{walked.imported:.0f} MB of it before the first request",
        ),
    ]
    if not full:
        rows.append(
            Row(
                f"catalog of {FULL * KEYS_PER_SYMBOL:,} keys",
                "extrapolated",
                walked.seconds * FULL / symbols,
                budget="900 s",
                note="by keys, from the above; --full measures it",
            )
        )
    return [*rows, *_many_sources()]


def rules_of(symbols: int) -> list[Rule]:
    """Keys of daily candles in Binance's layout."""
    first = date(2024, 1, 1)
    return [
        Rule(
            "data/futures/um/daily/klines/{symbol}/{interval}/{symbol}-{interval}-{day}.zip",
            {
                "symbol": [f"S{number:04}USDT" for number in range(symbols)],
                "interval": INTERVALS,
                "day": [str(first + timedelta(days=number)) for number in range(DAYS)],
            },
        )
    ]


def _walked(symbols: int) -> Walked:
    with listing_server(rules_of(symbols), delay=PAGE_SECONDS) as server:
        answer = subprocess.run(
            [sys.executable, "-m", __name__, server.endpoint_url], capture_output=True, text=True, check=True
        )
    walked = Walked(**json.loads(answer.stdout))
    if walked.keys != symbols * KEYS_PER_SYMBOL:
        raise RuntimeError(f"{walked.keys} keys of {symbols * KEYS_PER_SYMBOL} were counted")
    return walked


def _walk(endpoint_url: str, concurrency: int) -> Catalog:
    bucket = Bucket(name="any", endpoint_url=endpoint_url, anonymous=True)
    return discover("binance", bucket, concurrency=concurrency)


def _probe(endpoint_url: str) -> None:
    """The main function of the measured process."""
    imported, used = peak_megabytes(), time.process_time()
    catalog = _walk(endpoint_url, CONCURRENCY)
    walked = {
        "keys": int(catalog.spans["objects"].sum() + catalog.spans["sidecars"].sum()),
        "requests": catalog.requests,
        "seconds": catalog.seconds,
        "processor": time.process_time() - used,
        "imported": imported,
        "peak": peak_megabytes(),
    }
    print(json.dumps(walked))


def _many_sources() -> list[Row]:
    """One source alone, then twenty in one process, each with its own limit of requests."""
    with listing_server(rules_of(SOURCE_SYMBOLS), delay=PAGE_SECONDS) as server:
        _walk(server.endpoint_url, SOURCE_CONCURRENCY)
        alone = _walk(server.endpoint_url, SOURCE_CONCURRENCY).seconds
        used, started = time.process_time(), time.monotonic()
        with ThreadPoolExecutor(SOURCES) as pool:
            catalogs = list(pool.map(lambda _: _walk(server.endpoint_url, SOURCE_CONCURRENCY), range(SOURCES)))
        wall, used = time.monotonic() - started, time.process_time() - used
    keys = SOURCES * SOURCE_SYMBOLS * KEYS_PER_SYMBOL
    slowest = max(catalog.seconds for catalog in catalogs)
    case = f"{SOURCES} sources of {keys // SOURCES:,} keys, {SOURCE_CONCURRENCY} requests at a time each"
    return [
        Row(case, "one alone", alone, ratio=1.0),
        Row(
            case, "the slowest of all at once", slowest, ratio=slowest / alone, note=f"all in {wall:.1f} s, one process"
        ),
        Row(case, "processor time per key, all at once", used / keys * 1e6, unit="us"),
    ]


# Extrapolation to more keys


@dataclass(frozen=True, slots=True)
class Measured:
    """Measured figures from which a cost is computed."""

    page_seconds: float
    processor_per_key: float
    """Seconds."""
    dollars_per_1000_lists: float = 0.005


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a walk of ``keys`` in ``units`` (symbols' folders), ``concurrency`` requests at a time."""

    keys: int
    units: int
    concurrency: int
    pages: int
    minutes: float
    processor_minutes: float
    dollars: float


def cost(keys: int, units: int, concurrency: int, measured: Measured) -> Cost:
    """Pages are full, plus half a page at the end of each unit. Minutes are the time of waiting for pages, or of the
    one core that reads keys if that is longer."""
    pages = math.ceil(keys / PAGE + units / 2)
    processor = keys * measured.processor_per_key
    seconds = max(pages * measured.page_seconds / concurrency, processor)
    return Cost(
        keys, units, concurrency, pages, seconds / 60, processor / 60, pages / 1000 * measured.dollars_per_1000_lists
    )


def cost_table(costs: Sequence[Cost]) -> str:
    """The table of deploy/docs/scale.md."""
    lines = [
        "| keys | folders of symbols | requests at a time | pages | minutes | of processor | dollars |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {each.keys:,} | {each.units:,} | {each.concurrency} | {each.pages:,} | {each.minutes:.1f} "
        f"| {each.processor_minutes:.1f} | {each.dollars:.2f} |"
        for each in costs
    ]
    return "\n".join(lines)


MEASURED = Measured(page_seconds=PAGE_SECONDS, processor_per_key=8e-6)
"""Inputs of deploy/docs/scale.md; processor time is that of a full run, rounded up."""

COSTS = tuple(
    cost(keys, units, concurrency, MEASURED)
    for keys, units, concurrency in (
        (10_000_000, 700, 32),
        (100_000_000, 43_000, 8),
        (100_000_000, 43_000, 32),
        (100_000_000, 43_000, 64),
    )
)


if __name__ == "__main__":
    _probe(sys.argv[1])
