"""Peak memory of the process that runs the engine, by number of objects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.settings import load_settings
from lakehouse_assets.sync.engine import Engine, EngineOptions
from lakehouse_assets.sync.movers.base import TransferOptions
from lakehouse_assets_tests.benchmarks.support.bench import FIRST, Bench, Shape, bench
from lakehouse_assets_tests.benchmarks.support.measure import Row
from lakehouse_assets_tests.world import KLINES, scope

WORKERS = 64


def run(objects: tuple[int, ...]) -> list[Row]:
    rows: list[Row] = []
    for count in objects:
        with bench(Shape(count // 100, 100, 100)) as archive:
            peak = _peak(archive)
        note = f"one process, no median; {peak['imported']:.0f} MB of it before the first request"
        if rows:
            note += f"; {peak['synced'] - rows[0].value:+.0f} MB against {rows[0].case}"
        budget = f"+100 MB to {objects[0]:,}" if rows else ""
        rows.append(
            Row(
                f"{archive.shape.objects:,} objects", "engine's process", peak["synced"], "MB", budget=budget, note=note
            )
        )
    return rows


def _peak(archive: Bench) -> dict[str, float]:
    lake = archive.new_lake
    credentials = lake.bucket.credentials
    if credentials is None:
        raise RuntimeError("the benchmark's lake has no credentials")
    answer = subprocess.run(
        [sys.executable, "-m", "lakehouse_assets_tests.benchmarks.memory", archive.world.tag, str(archive.shape.last)],
        env=os.environ
        | {
            "LAKEHOUSE_LAKE_BUCKET": lake.bucket.name,
            "LAKEHOUSE_LAKE_PREFIX": lake.prefix.strip("/"),
            "LAKEHOUSE_LAKE_ENDPOINT_URL": str(lake.bucket.endpoint_url),
            "LAKEHOUSE_LAKE_ACCESS_KEY_ID": credentials.access_key_id,
            "LAKEHOUSE_LAKE_SECRET_ACCESS_KEY": credentials.secret_access_key,
            "LAKEHOUSE_SOURCE_ENDPOINT_URL": str(archive.world.source.endpoint_url),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(answer.stdout)


def peak_megabytes() -> float:
    """Peak memory of this program only: rusage would include the process that forked it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _probe(tag: str, last: str) -> None:
    """The main function of the measured process: a sync, and a second one with nothing to do."""
    settings = load_settings()
    entry = DatasetEntry.model_validate({"dataset": KLINES, "symbols": {"include": [f"{tag}*"]}, "intervals": ["1m"]})
    source: Bucket = settings.source.bucket(entry.dataset.source)
    engine = Engine(source, settings.lake.lake(), EngineOptions(transfer=TransferOptions(workers=WORKERS)))
    imported = peak_megabytes()
    for _ in range(2):
        engine.sync(scope(entry, str(FIRST), last))
    print(json.dumps({"imported": imported, "synced": peak_megabytes()}))


if __name__ == "__main__":
    _probe(*sys.argv[1:])
