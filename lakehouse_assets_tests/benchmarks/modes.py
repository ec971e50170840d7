"""Direct compared with staged, and with downloading and uploading one object at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from lakehouse_assets.lake.report import OPERATIONS, TRADITIONAL_OPERATIONS
from lakehouse_assets.sync.movers.base import TransferOptions
from lakehouse_assets.sync.movers.direct import DirectMover
from lakehouse_assets.sync.movers.staged import StagedMover
from lakehouse_assets_tests.benchmarks.support.bench import Bench, Shape, bench
from lakehouse_assets_tests.benchmarks.support.measure import (
    Row,
    Sample,
    disk_bytes,
    interleaved,
    saved,
    seconds,
    spread,
    timed,
)

SHAPES = {
    "300 x 50 kB": Shape(30, 10, 50_000),
    "20 x 5 MB": Shape(2, 10, 5_000_000),
    "4 x 60 MB": Shape(1, 4, 60_000_000),
}
WORKERS = (4, 16, 64, 256)
TRIALS = 2
"""Trials per setting of s5cmd, shape and mode; the setting with the fastest trial is measured."""
MOVERS = {"direct": DirectMover, "staged": StagedMover}
ONE_BY_ONE = "one by one (boto3)"


def run(repeat: int) -> list[Row]:
    rows: list[Row] = []
    for case, shape in SHAPES.items():
        with bench(shape) as archive:
            rows += _compare(case, archive, repeat)
    return rows


def _compare(case: str, archive: Bench, repeat: int) -> list[Row]:
    best = {mode: _best_workers(archive, mode) for mode in MOVERS}
    ways: dict[str, Callable[[int], Sample]] = {
        "direct": lambda _number: _move(archive, "direct", best["direct"]),
        "staged": lambda _number: _move(archive, "staged", best["staged"]),
        ONE_BY_ONE: lambda _number: _one_by_one(archive),
    }
    samples = interleaved(ways, repeat)
    direct = seconds(samples["direct"])
    rows = []
    for way, taken in samples.items():
        operations = OPERATIONS.get(way, TRADITIONAL_OPERATIONS)
        note = f"{operations} operations per object, {disk_bytes(taken) / 1e6:.1f} MB on local disk, {spread(taken)}"
        note += f", {best[way]} workers" if way in best else ""
        ratio = seconds(taken) / direct
        if way != "direct":
            note = f"direct takes {saved(1 / ratio)}; {note}"
        rows.append(Row(case, way, seconds(taken), ratio=ratio, note=note))
    return rows


def _best_workers(archive: Bench, mode: str) -> int:
    trials = interleaved(
        {str(workers): lambda _number, workers=workers: _move(archive, mode, workers) for workers in WORKERS}, TRIALS
    )
    return int(min(trials, key=lambda workers: min(sample.seconds for sample in trials[workers])))


def _move(archive: Bench, mode: str, workers: int) -> Sample:
    lake = archive.new_lake
    mover = MOVERS[mode](archive.world.source, lake.bucket, TransferOptions(workers=workers))
    copies = archive.copies(lake)
    faults: list[str] = []
    sample = timed(lambda: faults.extend(str(o.fault) for o in mover.move(copies, lambda _outcome: None) if o.fault))
    if faults:
        raise RuntimeError(f"{len(faults)} copies failed, such as {faults[0]}")
    return sample


def _one_by_one(archive: Bench) -> Sample:
    lake = archive.new_lake
    source, target = archive.world.source.boto3_client(), lake.bucket.boto3_client()

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for copy in archive.copies(lake):
                path = Path(folder) / "object"
                source.download_file(archive.world.source.name, copy.source_key, str(path))
                target.upload_file(str(path), lake.bucket.name, copy.lake_key)
                path.unlink()

    return timed(work)
