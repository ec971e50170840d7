"""Reads archive files: their bytes become typed rows, and are hashed in the same pass.

`read_archive` reads a file into memory, `read_archive_batches` reads a file of any size as frames of bounded size.
Both raise BadArchiveError for an invalid file; rows that were read before the error are not valid either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from io import BufferedIOBase, RawIOBase
from typing import BinaryIO

import polars as pl

from lakehouse_assets.tables.read.csv_rows import CsvRows
from lakehouse_assets.tables.read.lines import line_blocks
from lakehouse_assets.tables.read.unpack import BadArchiveError, Limits, unpack
from lakehouse_assets.tables.schemas.model import TableSchema
from lakehouse_assets.units import GIB

BATCH_BYTES = 4 * 1024 * 1024
"""Text per batch; its frame takes about the same amount of memory."""
IN_MEMORY_LIMITS = Limits(text_bytes=2 * GIB)
"""Limits of a file that is read into memory."""
_READ = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ArchiveRows:
    """The rows of one file in the schema's columns and the file's order, and the digests of the file.

    ``first_time`` and ``last_time`` are the earliest and the latest time in UTC, None without rows. ``note`` says why
    the file has no rows, or how many rows were repeated. ``sha256`` and ``md5`` are in lower-case hex.
    """

    frame: pl.DataFrame
    rows: int
    sha256: str
    md5: str
    first_time: datetime | None
    last_time: datetime | None
    note: str | None


class ArchiveBatches:
    """The rows of one file as frames. Iterate once; the attributes, as of ArchiveRows, are valid after the last frame.

    Iterating raises BadArchiveError.
    """

    def __init__(
        self,
        chunks: Iterable[bytes],
        *,
        schema: TableSchema,
        name: str,
        symbol: str | None,
        interval: str | None,
        limits: Limits,
        batch_bytes: int,
    ) -> None:
        self._chunks = chunks
        self._schema = schema
        self._name = name
        self._csv = CsvRows(schema, symbol, interval, limits)
        self._limits = limits
        self._batch_bytes = limits.text_bytes if schema.repeats_rows or schema.transform_file else batch_bytes
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self.rows = 0
        self.first_time: datetime | None = None
        self.last_time: datetime | None = None
        self.note: str | None = None

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()

    def __iter__(self) -> Iterator[pl.DataFrame]:
        try:
            texts = unpack(self._hashed(), self._limits)
            blocks = line_blocks(texts, self._batch_bytes, self._limits)
            for block in _read_ahead(blocks, self._batch_bytes):
                frame = self._csv.read(block)
                if len(frame):
                    yield self._finished(frame)
        except BadArchiveError as error:
            raise BadArchiveError(f"{self._name}: {error.reason}") from error
        if not self._csv.rows:
            self.note = "the file is empty" if self._csv.has_header is None else "the file has a header and no rows"

    def _hashed(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._sha256.update(chunk)
            self._md5.update(chunk)
            yield chunk

    def _finished(self, frame: pl.DataFrame) -> pl.DataFrame:
        if self._schema.repeats_rows:
            distinct = frame.unique(maintain_order=True)
            if len(distinct) < len(frame):
                self.note = f"{len(frame) - len(distinct):,} repeated rows were dropped"
            frame = distinct
        if self._schema.transform_file is not None:
            frame = self._schema.transform_file(frame)
        self.rows += len(frame)
        first, last = time_window(frame, self._schema)
        self.first_time = min(filter(None, (first, self.first_time)), default=None)
        self.last_time = max(filter(None, (last, self.last_time)), default=None)
        return frame


def time_window(frame: pl.DataFrame, schema: TableSchema) -> tuple[datetime | None, datetime | None]:
    """The earliest and the latest time of the rows."""
    times = frame[schema.time_column]
    first, last = times.min(), times.max()
    return first if isinstance(first, datetime) else None, last if isinstance(last, datetime) else None


def read_archive(
    data: bytes,
    *,
    schema: TableSchema,
    name: str,
    symbol: str | None = None,
    interval: str | None = None,
    limits: Limits = IN_MEMORY_LIMITS,
) -> ArchiveRows:
    """Read a CSV file that is packed as zip (with one member) or gzip.

    ``name`` is used in messages. ``symbol`` and ``interval`` come from the archive's key; a row that names another
    symbol makes the file a bad archive. Raises BadArchiveError.
    """
    batches = read_archive_batches([data], schema=schema, name=name, symbol=symbol, interval=interval, limits=limits)
    frames = list(batches)
    return ArchiveRows(
        frame=pl.concat(frames) if frames else schema.polars.to_frame(),
        rows=batches.rows,
        sha256=batches.sha256,
        md5=batches.md5,
        first_time=batches.first_time,
        last_time=batches.last_time,
        note=batches.note,
    )


def read_archive_batches(
    source: BinaryIO | Iterable[bytes],
    *,
    schema: TableSchema,
    name: str,
    symbol: str | None = None,
    interval: str | None = None,
    limits: Limits | None = None,
    batch_bytes: int = BATCH_BYTES,
) -> ArchiveBatches:
    """Read a file of any size, from a binary file or from its chunks in order.

    Memory is bounded by twice ``batch_bytes`` of text and its frame, independent of the file's size: a thread reads,
    hashes and unpacks the next batch while the current one is parsed.
    """
    return ArchiveBatches(
        _chunks(source),
        schema=schema,
        name=name,
        symbol=symbol,
        interval=interval,
        limits=limits or Limits(),
        batch_bytes=batch_bytes,
    )


def _read_ahead(blocks: Iterator[bytes], batch_bytes: int) -> Iterator[bytes]:
    """The blocks of `line_blocks`; a thread prepares the next block while the current one is parsed."""
    block = next(blocks, None)
    if block is not None and len(block) < batch_bytes:  # Most likely the only block: save the thread.
        yield block
        yield from blocks
        return
    with ThreadPoolExecutor(max_workers=1) as thread:
        while block is not None:
            upcoming = thread.submit(lambda: next(blocks, None))
            yield block
            block = upcoming.result()


def _chunks(source: BinaryIO | Iterable[bytes]) -> Iterable[bytes]:
    return iter(lambda: source.read(_READ), b"") if isinstance(source, BufferedIOBase | RawIOBase) else source
