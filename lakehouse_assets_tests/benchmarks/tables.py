"""Tables: bytes that a query reads from a year of candles, cost of a commit, a day of trades in bounded memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.settings import load_settings
from lakehouse_assets.tables.delta import commit, files_of, open_or_create
from lakehouse_assets.tables.query import read_table
from lakehouse_assets.tables.table import Table, tables_of
from lakehouse_assets.tables.write.build import TableBuilder
from lakehouse_assets.tables.write.files import FileWriter
from lakehouse_assets_tests.benchmarks.memory import peak_megabytes
from lakehouse_assets_tests.benchmarks.support.measure import Row, Sample, interleaved, seconds, spread, timed
from lakehouse_assets_tests.faults.proxy import Proxy
from lakehouse_assets_tests.tables.tabled import Tabled, fill, made_up_candles, zipped
from lakehouse_assets_tests.world import World, scope

NAME = "binance/um/klines"
TABLE = Table.parse(NAME)
DAY = "2024-03-01"
TRADES = "binance/um/trades/daily"
COMMITS = 10


def run(repeat: int, *, quick: bool) -> list[Row]:
    with EmbeddedStore() as store:
        rows = _query(store, repeat, symbols=70 if quick else 700, months=2 if quick else 12)
        rows += _commits(store, repeat)
        rows += _unchanged(store, repeat, symbols=20 if quick else 100)
        return rows + _trades(store, files=10 if quick else 100, large=500_000 if quick else 5_000_000)


# A query


def _query(store: EmbeddedStore, repeat: int, *, symbols: int, months: int) -> list[Row]:
    lake = World(store).lake
    names = [f"S{number:03}USDT" for number in range(symbols)]
    firsts = [date(2024, month, 1) for month in range(1, months + 1)]
    fill(lake, TABLE, (made_up_candles(names, _days(first)) for first in firsts))
    ways: dict[str, Callable[[Lake], object]] = {
        "one symbol": lambda at: read_table(NAME, names[symbols // 2], "1h", lake=at).collect(),
        "one symbol, two columns": lambda at: read_table(
            NAME, names[symbols // 2], "1h", columns=["time", "close"], lake=at
        ).collect(),
        "everything": lambda at: read_table(NAME, lake=at).collect(),
    }
    samples = interleaved(
        {way: lambda _number, work=work: timed(lambda: work(lake)) for way, work in ways.items()}, repeat
    )
    whole = seconds(samples["everything"])
    case = f"{symbols} symbols x {sum(len(_days(first)) for first in firsts)} days of 1h"
    rows = []
    for way, work in ways.items():
        requests, size = _read_through_proxy(store, lake, work)
        note = f"{size / 1e6:.1f} MB of Parquet in {requests} requests, {spread(samples[way])}"
        rows.append(Row(case, way, seconds(samples[way]), ratio=seconds(samples[way]) / whole, note=note))
    return rows


def _days(first: date) -> list[date]:
    following = (first + timedelta(days=32)).replace(day=1)
    return [first + timedelta(days=number) for number in range((following - first).days)]


def _read_through_proxy(store: EmbeddedStore, lake: Lake, work: Callable[[Lake], object]) -> tuple[int, int]:
    """Number of requests for Parquet files, and bytes that they request."""
    with Proxy(store.endpoint_url).running() as proxy:
        work(replace(lake, bucket=replace(lake.bucket, endpoint_url=proxy.endpoint_url)))
        ranges = [
            request.header("range") or ""
            for request in proxy.requests
            if request.operation == "GetObject" and request.key.endswith(".parquet") and "_delta_log" not in request.key
        ]
    spans = [span.removeprefix("bytes=").split("-") for span in ranges]
    return len(spans), sum(int(last) - int(first) + 1 for first, last in spans)


# Commits


def _commits(store: EmbeddedStore, repeat: int) -> list[Row]:
    """One small file per commit, as when following day by day; later commits read a longer log."""
    samples: dict[str, list[Sample]] = {"first 10": [], "after 100": []}
    for _ in range(repeat):
        lake = World(store).lake
        writer = FileWriter(lake, TABLE)
        frame = made_up_candles(["BTCUSDT"], [date(2024, 1, 1)])

        def one(lake: Lake = lake, writer: FileWriter = writer, frame: object = frame) -> None:
            found = open_or_create(lake, TABLE)
            add = writer.write([frame], interval="1h", month="2024-01")  # ty: ignore[invalid-argument-type]
            commit(found, TABLE, month="2024-01", add=add, remove=files_of(found).clear(), metadata={})

        one()
        samples["first 10"].append(timed(lambda one=one: [one() for _ in range(COMMITS)]))
        for _ in range(9 * COMMITS):
            one()
        samples["after 100"].append(timed(lambda one=one: [one() for _ in range(COMMITS)]))
    return [
        Row("a commit of one file", way, 1000 * seconds(taken) / COMMITS, "ms", note="open, write, commit")
        for way, taken in samples.items()
    ]


def _unchanged(store: EmbeddedStore, repeat: int, *, symbols: int) -> list[Row]:
    tabled = Tabled(World(store))
    names = [f"S{number:03}USDT" for number in range(symbols)]
    days = [str(day) for day in _days(date(2024, 3, 1))]
    tabled.publish(names, days)
    tabled.sync(days[0], days[-1])
    case = f"{symbols} symbols x {len(days)} days of 1h from zips"
    first = timed(lambda: tabled.build(*days))
    again = interleaved({"again": lambda _number: timed(lambda: tabled.build(*days))}, repeat)["again"]
    each = first.seconds / (symbols * len(days)) * 1000
    return [
        Row(case, "build", first.seconds, note=f"once; {each:.2f} ms an archive"),
        Row(case, "build, nothing changed", seconds(again), note=spread(again)),
    ]


# A day of trades


def _trades(store: EmbeddedStore, *, files: int, large: int) -> list[Row]:
    """Many symbols of 200,000 trades and one of many more, built in a separate process."""
    world = World(store)
    small, big = _trade_zip(200_000), _trade_zip(large)
    for number in range(files):
        world.put(world.key(f"S{number:03}USDT", DAY, dataset=TRADES), small)
    world.put(world.key("BTCUSDT", DAY, dataset=TRADES), big)
    world.engine().sync(scope(world.entry(TRADES), DAY))
    credentials = store.sync
    answer = subprocess.run(
        [sys.executable, "-m", "lakehouse_assets_tests.benchmarks.tables", world.tag],
        env=os.environ
        | {
            "LAKEHOUSE_LAKE_BUCKET": world.lake.bucket.name,
            "LAKEHOUSE_LAKE_PREFIX": world.lake.prefix.strip("/"),
            "LAKEHOUSE_LAKE_ENDPOINT_URL": store.endpoint_url,
            "LAKEHOUSE_LAKE_ACCESS_KEY_ID": credentials.access_key_id,
            "LAKEHOUSE_LAKE_SECRET_ACCESS_KEY": credentials.secret_access_key,
            "LAKEHOUSE_SOURCE_ENDPOINT_URL": store.endpoint_url,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    done = json.loads(answer.stdout)
    case = f"a day of trades, {files} x 200,000 rows and one of {large:,}"
    note = (
        f"once; {done['rows'] / done['seconds'] / 1e6:.2f} million rows a second, {done['bytes'] / 1e6:.0f} MB of zips"
    )
    return [
        Row(case, "build", done["seconds"], note=note),
        Row(case, "peak memory", done["peak"], "MB", budget="4096 MB"),
    ]


def _trade_zip(rows: int) -> bytes:
    chance = random.Random(rows)
    price, lines = 60_000.0, ["id,price,qty,quote_qty,time,is_buyer_maker"]
    start = 1_709_251_200_000
    for number in range(rows):
        price += chance.choice((-0.1, 0.0, 0.1))
        size = chance.randrange(1, 5000) / 1000
        maker = "true" if chance.random() > 0.5 else "false"
        moment = start + number * 86_400_000 // rows
        lines.append(f"{number},{price:.1f},{size},{price * size:.4f},{moment},{maker}")
    return zipped("trades", "\n".join(lines) + "\n")


def _probe(tag: str) -> None:
    """The main function of the measured process."""
    settings = load_settings()
    entry = DatasetEntry.model_validate({"dataset": TRADES, "symbols": {"include": [f"{tag}*"]}})
    [table] = tables_of([entry])
    builder = TableBuilder(settings.source.bucket(entry.dataset.source), settings.lake.lake(), table)
    started = time.monotonic()
    report = builder.build([DAY])
    taken = time.monotonic() - started
    print(
        json.dumps({"seconds": taken, "rows": report.table_rows, "bytes": report.bytes_read, "peak": peak_megabytes()})
    )


if __name__ == "__main__":
    _probe(sys.argv[1])
