"""The engine, from the first listing to the manifest's commit, compared with s5cmd on the same list.

The mode is given, as beside peers: ``auto`` would probe every fresh lake.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile

from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.sync.movers.s5cmd import S5cmd, executable
from lakehouse_assets_tests.benchmarks.support.bench import Bench, Shape, bench
from lakehouse_assets_tests.benchmarks.support.measure import Row, Sample, interleaved, seconds, spread, timed

SHAPES = {
    "10,000 x 20 kB (100 symbols x 100 days)": Shape(100, 100, 20_000),
    "10,013 x 20 kB (323 symbols x 31 days)": Shape(323, 31, 20_000),
}
QUICK = {"1,000 x 20 kB (100 symbols x 10 days)": Shape(100, 10, 20_000)}
WORKERS = 64
BARE = "bare s5cmd run"
ENGINE = "engine"


def run(repeat: int, *, quick: bool = False, workers: int = WORKERS) -> list[Row]:
    rows: list[Row] = []
    for case, shape in (QUICK if quick else SHAPES).items():
        with bench(shape) as archive:
            rows += _compare(case, archive, repeat, workers)
    return rows


def _compare(case: str, archive: Bench, repeat: int, workers: int) -> list[Row]:
    _sync(archive, archive.new_lake, workers)  # the store's first copies, which nobody should be charged for
    copying = interleaved(
        {
            BARE: lambda _number: _bare(archive, archive.new_lake, workers),
            ENGINE: lambda _number: _sync(archive, archive.new_lake, workers),
        },
        repeat,
    )
    bare = seconds(copying[BARE])
    return [
        Row(case, BARE, bare, ratio=1.0, note=spread(copying[BARE])),
        Row(case, ENGINE, seconds(copying[ENGINE]), ratio=seconds(copying[ENGINE]) / bare, budget="1.15x",
            note=f"{spread(copying[ENGINE])}, {workers} workers"),
    ]  # fmt: skip


def _sync(archive: Bench, lake: Lake, workers: int) -> Sample:
    engine = archive.engine(lake, workers)
    scope = archive.scope
    copied: list[int] = []
    sample = timed(lambda: copied.append(engine.sync(scope, mode=SyncMode.DIRECT).total("copied")))
    if copied != [archive.shape.objects]:
        raise RuntimeError(f"{copied[0]} objects were copied instead of {archive.shape.objects}")
    return sample


def _bare(archive: Bench, lake: Lake, workers: int) -> Sample:
    """Run s5cmd. The list is written before the clock starts, and the output is discarded."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as batch:
        for copy in archive.copies(lake):
            urls = (f"{archive.world.source.url}/{copy.source_key}", f"{lake.bucket.url}/{copy.lake_key}")
            batch.write(f"cp --raw {shlex.join(urls)}\n")
        batch.flush()
        return timed(lambda: _s5cmd(lake, workers, "run", batch.name))


def _s5cmd(lake: Lake, workers: int, *arguments: str) -> None:
    identity = lake.bucket
    subprocess.run(
        [executable(), "--numworkers", str(workers), "--endpoint-url", str(identity.endpoint_url), *arguments],
        env=S5cmd(identity=identity).environment(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
