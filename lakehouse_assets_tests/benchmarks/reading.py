"""Archives to Parquet: reading them as tables do, compared with the floor, and with pandas and pyarrow.

The floor unpacks with isal, parses with Polars into the file's own columns and writes Parquet: no digest,
no check, no time, no column that the file does not have.
"""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

import polars as pl
from isal import isal_zlib

from lakehouse_assets.embedded.samples.archive import sample_files
from lakehouse_assets.tables.read.archives import ArchiveRows, read_archive_batches
from lakehouse_assets.tables.read.bulk import ArchiveFile, read_archives
from lakehouse_assets.tables.schema import schema_of
from lakehouse_assets.tables.schemas.model import TableSchema
from lakehouse_assets_tests.benchmarks.memory import peak_megabytes
from lakehouse_assets_tests.benchmarks.support.measure import Row, Sample, interleaved, seconds, spread, timed

FLOOR = "floor: isal, Polars parse, Parquet"
TABLE = "table: read, Parquet"
PANDAS = "pandas, pyarrow"
BUDGET = "1.25x"
_MARKET = "um"
_DAY = date(2024, 1, 10)
_DISTINCT = 70
"""Number of generated candle files; each is read ten times."""


def run(repeat: int, *, quick: bool = False) -> list[Row]:
    megabytes, files = (10, _DISTINCT) if quick else (100, 10 * _DISTINCT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _publish_trades(folder / "trades", megabytes * 1_000_000)
        _publish_klines(folder / "klines", files)
        return [
            *_compare(f"{megabytes} MB of trades, one file", folder / "trades", repeat),
            *_compare(f"{files} files of 1,440 candles", folder / "klines", repeat),
        ]


def _compare(case: str, folder: Path, repeat: int) -> list[Row]:
    ways = {way: partial(_do, way, folder) for way in WAYS}
    for work in ways.values():
        work()  # imports and caches are nobody's
    samples = interleaved({way: _timer(work) for way, work in ways.items()}, repeat)
    floor = seconds(samples[FLOOR])
    return [
        Row(
            case,
            way,
            seconds(taken),
            ratio=seconds(taken) / floor,
            budget=BUDGET if way == TABLE else "",
            note=f"{spread(taken)}, peak {_peak(way, folder):.0f} MB",
        )
        for way, taken in samples.items()
    ]


def _do(way: str, folder: Path) -> None:
    """Write the archives of a folder, which is named after their data type, to one Parquet file."""
    schema = schema_of("binance", _MARKET, folder.name)
    WAYS[way](sorted(folder.glob("*.zip")), schema, folder / "out.parquet")


def _timer(work: Callable[[], None]) -> Callable[[int], Sample]:
    return lambda _number: timed(work)


def _floor(paths: list[Path], schema: TableSchema, out: Path) -> None:
    types = {column.sources[0]: column.dtype for column in schema.columns if column.source is not None}
    types |= {name: pl.Int64() for name, dtype in types.items() if dtype == pl.Datetime("us", "UTC")}
    types |= {name: pl.Boolean() for name in ("is_buyer_maker",) if name in types}
    frames = []
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            member = archive.infolist()[0]
        start = 30 + len(member.filename)
        text = isal_zlib.decompress(path.read_bytes()[start : start + member.compress_size], -15)
        header = text[:1].isalpha()
        fields = {name: types.get(name, pl.String()) for name in schema.file_columns}
        frames.append(pl.read_csv(text, has_header=header, schema=fields))
    pl.concat(frames).write_parquet(out)


def _table(paths: list[Path], schema: TableSchema, out: Path) -> None:
    pl.concat(_frames(paths, schema)).write_parquet(out)


def _frames(paths: list[Path], schema: TableSchema) -> Iterator[pl.DataFrame]:
    if len(paths) == 1:
        with paths[0].open("rb") as file:
            yield from read_archive_batches(file, schema=schema, name=paths[0].name, symbol="BTCUSDT")
        return
    files = (ArchiveFile(path.name, path.read_bytes(), path.stem.partition("-")[0], "1m") for path in paths)
    for file, rows in read_archives(files, schema=schema):
        if not isinstance(rows, ArchiveRows):
            raise TypeError(f"{file.name} is a bad archive: {rows}")
        yield rows.frame


def _pandas(paths: list[Path], schema: TableSchema, out: Path) -> None:
    import pandas as pd  # noqa: PLC0415 - of the dependency group `benchmarks`, and for its memory not before

    frames = []
    for path in paths:
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as member:
            header = 0 if member.peek(1)[:1].isalpha() else None
            frames.append(pd.read_csv(member, header=header, names=list(schema.file_columns)))
    pd.concat(frames).to_parquet(out, engine="pyarrow", compression="zstd")


WAYS = {FLOOR: _floor, TABLE: _table, PANDAS: _pandas}


def _publish_trades(folder: Path, size: int) -> None:
    folder.mkdir()
    name = f"BTCUSDT-trades-{_DAY}"
    with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.csv", _trades_text(size))


def _publish_klines(folder: Path, count: int) -> None:
    folder.mkdir()
    symbols = [f"S{number:03}USDT" for number in range(_DISTINCT)]
    made = sample_files(
        _MARKET, "klines", "daily", symbols=symbols, intervals=["1m"], first=_DAY, last=_DAY, sidecars=False
    )
    bodies = [file.body for file in made]
    for number in range(count):
        (folder / f"S{number:03}USDT-1m-{_DAY}.zip").write_bytes(bodies[number % _DISTINCT])


def _trades_text(size: int) -> bytes:
    """A file of futures trades with a header, from a seed."""
    rng = random.Random(1)
    out = io.StringIO()
    out.write("id,price,qty,quote_qty,time,is_buyer_maker\n")
    moment, cents, number = 1_704_844_800_000, 4_200_000, 4_300_000_000
    while out.tell() < size:
        moment += rng.randrange(40)
        cents += rng.randrange(-30, 31)
        lots = rng.randrange(1, 5_000)
        flag = "true" if rng.random() < 0.5 else "false"
        out.write(f"{number},{cents / 100:.2f},{lots / 1000:.3f},{cents * lots / 100_000:.5f},{moment},{flag}\n")
        number += 1
    return out.getvalue().encode()


def _peak(way: str, folder: Path) -> float:
    """Peak memory in MB of a process that does it once."""
    command = [sys.executable, "-m", "lakehouse_assets_tests.benchmarks.reading", way, str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


if __name__ == "__main__":
    _do(sys.argv[1], Path(sys.argv[2]))
    print(peak_megabytes())
