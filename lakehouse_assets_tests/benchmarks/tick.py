"""A sensor's tick over many datasets of an archive with slow listings.

The archive is an exchange of this module's own (:mod:`listing_server` answers for it); its datasets'
manifests, in which every published day is whole, lie in a real store. The tick runs in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from lakehouse_assets.archive.bucket import Bucket, Credentials
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.exchanges.binance import BINANCE
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA, Manifest
from lakehouse_assets.lake.manifest_cache import ManifestCache
from lakehouse_assets.orchestration.discovery.cursor import DatasetState, DiscoveryCursor
from lakehouse_assets.orchestration.discovery.rescan import scope_digest
from lakehouse_assets.orchestration.discovery.tick import DiscoveryTick
from lakehouse_assets.settings import DiscoverySettings
from lakehouse_assets.sync.cost import CostLimit
from lakehouse_assets_tests.benchmarks.support.listing_server import MODIFIED, Rule, Server, listing_server
from lakehouse_assets_tests.benchmarks.support.measure import Row

FIRST, DAYS = date(2024, 1, 1), 31
PAGE_SECONDS = 0.2
SETTINGS = DiscoverySettings()
_MODEL = ("um", "metrics", Cadence.DAILY)
"""The model of all publications of the benchmark."""


@dataclass(frozen=True, slots=True)
class Size:
    datasets: int
    symbols: int

    @property
    def types(self) -> list[str]:
        return [f"t{number:03}" for number in range(self.datasets)]

    @property
    def names(self) -> list[str]:
        return ["BTCUSDT", "ETHUSDT", "BNBUSDT", *(f"S{number:04}USDT" for number in range(self.symbols - 3))]


def run(*, quick: bool) -> list[Row]:
    size = Size(10, 100) if quick else Size(100, 700)
    key = _dataset("TYPE").layout.key_of(symbol="SYMBOL", interval=None, period=_dataset("TYPE").period(str(FIRST)))
    rule = Rule(
        key.replace("TYPE", "{type}").replace("SYMBOL", "{symbol}").replace(str(FIRST), "{day}"),
        {"type": size.types, "symbol": size.names, "day": [str(FIRST + timedelta(days=day)) for day in range(DAYS)]},
    )
    with EmbeddedStore() as store, listing_server([rule], delay=PAGE_SECONDS) as server:
        lake = Lake(store.lake(), "tick")
        for name in size.types:
            _write_manifest(Manifest(lake, _dataset(name)), size)
        answer = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps({"endpoint_url": server.endpoint_url, "reach": _reach(lake), "size": asdict(size)}),
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    measured = json.loads(answer.stdout.splitlines()[-1])
    case = f"{size.datasets} datasets x {size.symbols} symbols, {PAGE_SECONDS:g} s a page"
    return [
        Row(
            case,
            way,
            ticks["seconds"],
            budget="20 s",
            note=f"{ticks['processor']:.2f} s of processor, {ticks['pages']:.0f} pages; "
            f"peak memory so far {ticks['megabytes']:.0f} MB",
        )
        for way, ticks in measured.items()
    ]


def _dataset(data_type: str) -> Dataset:
    """A dataset of the benchmark's exchange: Binance with publications of any name."""
    known = EXCHANGES.get("bench", replace(BINANCE, name="bench", publications=(), layouts={}))
    if ("um", data_type, Cadence.DAILY) not in known.layouts:
        publication = replace(BINANCE.publication(*_MODEL), data_type=data_type)
        EXCHANGES["bench"] = replace(
            known,
            publications=(*known.publications, publication),
            layouts={**known.layouts, publication.id: _layout(data_type)},
        )
    return Dataset("bench", "um", data_type, Cadence.DAILY)


def _layout(data_type: str) -> Any:
    """The model's layout with another data type throughout."""
    layout = BINANCE.layout(*_MODEL)
    said = {each.name: getattr(layout, each.name) for each in fields(layout)}
    renamed = {name: text.replace("metrics", data_type) for name, text in said.items() if isinstance(text, str)}
    return replace(layout, **renamed)


def _write_manifest(manifest: Manifest, size: Size) -> None:
    """Record everything that the server lists as present."""
    dataset = _dataset(manifest.url.split("/")[-2])
    days = [dataset.period(str(FIRST + timedelta(days=day))) for day in range(DAYS)]
    modified = datetime.fromisoformat(MODIFIED)
    keys = [
        (str(day), symbol, dataset.layout.key_of(symbol=symbol, interval=None, period=day))
        for day in days
        for symbol in size.names
    ]
    rows = pl.DataFrame(
        [
            (day[:7], day, symbol, key, "present", 1000, _etag(key), modified, _etag(f"{key}.CHECKSUM"))
            for day, symbol, key in keys
        ],
        schema=[
            "month",
            "period",
            "symbol",
            "key",
            "state",
            "size",
            "source_etag",
            "source_last_modified",
            "sidecar_source_etag",
        ],
        orient="row",
    )
    absent = [pl.lit(None).alias(name) for name in MANIFEST_SCHEMA.names() if name not in rows.columns]
    manifest.replace([str(day) for day in days], lambda _current: rows.with_columns(absent), run_id=None)


def _etag(key: str) -> str:
    return hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()


def _reach(lake: Lake) -> dict[str, str]:
    credentials = lake.bucket.credentials
    if credentials is None or lake.bucket.endpoint_url is None:
        raise RuntimeError("the benchmark's lake has no credentials")
    return {
        "name": lake.bucket.name,
        "endpoint_url": lake.bucket.endpoint_url,
        "access": credentials.access_key_id,
        "secret": credentials.secret_access_key,
        "prefix": lake.prefix,
    }


def _probe(endpoint_url: str, reach: dict[str, str], size: Size) -> None:
    """The main function of the measured process: ticks of a sensor that saw everything a minute ago."""
    source = Bucket(name="any", endpoint_url=endpoint_url, anonymous=True)
    credentials = Credentials(reach["access"], reach["secret"])
    bucket = Bucket(name=reach["name"], endpoint_url=reach["endpoint_url"], credentials=credentials)
    lake = Lake(bucket, reach["prefix"])
    for name in size.types:
        _dataset(name)
    entries = [
        DatasetEntry.model_validate(
            {"dataset": f"bench/um/{name}/daily", "first_period": str(FIRST), "follow_from": str(FIRST)}
        )
        for name in size.types
    ]
    memory = ManifestCache()
    now = datetime.combine(FIRST + timedelta(days=DAYS + 1), datetime.min.time(), UTC).timestamp() + 6 * 3600
    seen = int(now)
    cursor = DiscoveryCursor(
        ticked=seen,
        datasets={
            entry.dataset.name: DatasetState(listed=seen, rescanned=seen, scope_digest=scope_digest(entry, FIRST))
            for entry in entries
        },
    )
    measured: dict[str, dict[str, float]] = {}
    with dg.DagsterInstance.ephemeral() as instance:

        def tick(way: str, later: float) -> None:
            nonlocal cursor, now
            now += later
            pages, started, used = _pages(endpoint_url), time.monotonic(), time.process_time()
            this = DiscoveryTick(
                instance,
                cursor,
                entries,
                source=source,
                lake=lake,
                manifests=memory,
                settings=SETTINGS,
                cost_limit=CostLimit(None, None, ""),
                now=now,
                log=_Log(),
            )
            outcome = this.run()
            text = this.cursor.write()
            measured[way] = {
                "seconds": time.monotonic() - started,
                "processor": time.process_time() - used,
                "pages": _pages(endpoint_url) - pages,
                "megabytes": _peak_megabytes(),
            }
            if outcome.requests:
                raise RuntimeError(f"something moved: {outcome.requests}")
            cursor = DiscoveryCursor.read(text)

        tick("nothing moved, first tick of a process", 60)
        tick("nothing moved", 60)
        tick("nothing moved for an hour: all symbols again", 3600)
    print(json.dumps(measured))


def _pages(endpoint_url: str) -> int:
    return Server(endpoint_url).pages


def _peak_megabytes() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


class _Log:
    def warning(self, msg: str, *args: object) -> None:
        raise RuntimeError(msg % args)

    exception = warning


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    _probe(asked["endpoint_url"], asked["reach"], Size(**asked["size"]))
