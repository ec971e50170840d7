"""Writing a table's Parquet files: frames in, one file after the other out, in bounded memory.

Polars writes them, as it is two to three times as fast as delta-rs' writer and holds a few row groups
where that one holds the file. What the Delta log says of a file beyond its name (rows, and the least and
greatest period, symbol and time) is noted as the frames pass.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import IO, Any, cast

import obstore
import polars as pl
from deltalake.transaction import AddAction
from obstore.store import S3Store
from polars.io.plugins import register_io_source

from lakehouse_assets.archive.errors import CLIENT_ERRORS
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.table import MONTH, PERIOD, Table

ROWS_PER_FILE = 4 * 1024**2
"""At 10 to 40 bytes a row a file of 40 to 160 MB."""
ROW_GROUP = 16 * 1024
LARGE_ROW_GROUP = 128 * 1024
"""Rows that are read or skipped together. A symbol's day of candles has 24 to 1,440 rows, one of trades millions."""
_MORSEL = 64 * 1024
_PART_BYTES = 8 * 1024**2


class FileWriter:
    """Writes files of one table; they are no part of it until they are committed."""

    def __init__(self, lake: Lake, table: Table) -> None:
        self._lake = lake
        self._table = table
        self._store: S3Store = lake.bucket.object_store()

    def write(
        self, frames: Iterable[pl.DataFrame], *, interval: str | None, month: str, data_change: bool = True
    ) -> list[AddAction]:
        """Write frames, which come in the table's order with the column period, as files of ROWS_PER_FILE rows.

        Raises StoreError, and whatever ``frames`` raises; then no file is there but earlier ones, which
        nothing refers to and vacuum removes.
        """
        rest = _Rest(morsels(frames))
        actions = []
        while rest.has_more():
            actions.append(self._write_one(rest, interval=interval, month=month, data_change=data_change))
        return actions

    def _write_one(self, rest: _Rest, *, interval: str | None, month: str, data_change: bool) -> AddAction:
        table = self._table
        values = {MONTH: month} if interval is None else {"interval": interval, MONTH: month}
        folder = "/".join(f"{name}={values[name]}" for name in table.partition_by)
        path = f"{folder}/{uuid.uuid4().hex}.parquet"
        key = self._lake.key(f"{table.place}/{path}")
        stats = _Stats(table.schema.time_column)
        stored = [name for name in (*table.schema.polars.names(), PERIOD) if name not in table.partition_by]
        schema = {**table.schema.polars, PERIOD: pl.String()}

        def source(*_asked: object) -> Iterator[pl.DataFrame]:
            for frame in rest.take(ROWS_PER_FILE):
                stats.observe(frame)
                yield frame.select(stored)

        lazy = register_io_source(source, schema={name: schema[name] for name in stored}, is_pure=False)
        small = table.schema.has_interval or table.schema.size_class == "small"
        try:
            with obstore.open_writer(self._store, key, buffer_size=_PART_BYTES) as file:
                lazy.sink_parquet(
                    cast("IO[bytes]", file),
                    compression="zstd",
                    row_group_size=ROW_GROUP if small else LARGE_ROW_GROUP,
                    maintain_order=True,
                    engine="streaming",
                )
            size = self._store.head(key)["size"]
        except CLIENT_ERRORS as error:
            raise self._lake.error("Writing", f"{table.place}/{path}", error) from error
        return AddAction(path, size, values, int(time.time() * 1000), data_change, stats.text())


class _Rest:
    """What is left of a stream of frames."""

    def __init__(self, frames: Iterator[pl.DataFrame]) -> None:
        self._frames = frames
        self._next: pl.DataFrame | None = next(frames, None)

    def has_more(self) -> bool:
        return self._next is not None

    def take(self, rows: int) -> Iterator[pl.DataFrame]:
        """Frames of ``rows`` rows together, or what is left."""
        while rows > 0 and self._next is not None:
            frame = self._next
            if frame.height > rows:
                self._next = frame[rows:]
                frame = frame[:rows]
            else:
                self._next = next(self._frames, None)
            rows -= frame.height
            yield frame


def morsels(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Small frames put together to _MORSEL rows; empty ones left out."""
    held: list[pl.DataFrame] = []
    rows = 0
    for frame in frames:
        if frame.is_empty():
            continue
        held.append(frame)
        rows += frame.height
        if rows >= _MORSEL:
            yield pl.concat(held)
            held, rows = [], 0
    if held:
        yield pl.concat(held)


@dataclass(slots=True)
class _Stats:
    """Statistics of a file, as the Delta protocol writes them (its section Per-file Statistics)."""

    time_column: str
    rows: int = 0
    least: dict[str, Any] = field(default_factory=dict)
    greatest: dict[str, Any] = field(default_factory=dict)

    def observe(self, frame: pl.DataFrame) -> None:
        self.rows += frame.height
        for name in (PERIOD, "symbol", self.time_column):
            least: Any = frame[name].min()
            greatest: Any = frame[name].max()
            if least is not None:
                self.least[name] = min(self.least.get(name, least), least)
                self.greatest[name] = max(self.greatest.get(name, greatest), greatest)

    def text(self) -> str:
        columns = list(self.least)
        return json.dumps(
            {
                "numRecords": self.rows,
                "minValues": {name: _written(self.least[name]) for name in columns},
                # Milliseconds are all that a reader may rely on, so the greatest time is rounded up.
                "maxValues": {name: _written(self.greatest[name], timedelta(microseconds=999)) for name in columns},
                "nullCount": dict.fromkeys(columns, 0),
            },
            ensure_ascii=False,
        )


def _written(value: Any, more: timedelta = timedelta(0)) -> str:
    if isinstance(value, datetime):
        return (value + more).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return str(value)
