"""Reading archives: the bytes of one file become typed rows, and digests of the bytes come with them.

`read_archive` reads a file at once, `read_archive_batches` one of any size in frames of bounded size.
Both raise BadArchiveError for a file that is not what it should be; what was read of it before then
does not count.
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
from lakehouse_assets.tables.read.lines import whole_lines
from lakehouse_assets.tables.read.unpack import BadArchiveError, Limits, unpack
from lakehouse_assets.tables.schemas.model import TableSchema
from lakehouse_assets.units import GIB

__all__ = ["ArchiveBatches", "ArchiveRows", "BadArchiveError", "Limits", "read_archive", "read_archive_batches"]

BATCH_BYTES = 4 * 1024 * 1024
"""Text of a batch; its frame takes about as much memory again."""
AT_ONCE = Limits(text_bytes=2 * GIB)
"""For a file that is read at once."""
_READ = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ArchiveRows:
    """One file: its rows as the schema has them, in the file's order, and what is known of its bytes.

    ``first_time`` and ``last_time`` are the earliest and the latest time, in UTC; None without rows.
    ``note`` says why there are no rows, or how many were repeated. ``sha256`` and ``md5`` are of the
    archive, in lower-case hex.
    """

    frame: pl.DataFrame
    rows: int
    sha256: str
    md5: str
    first_time: datetime | None
    last_time: datetime | None
    note: str | None


class ArchiveBatches:
    """The rows of one file as frames; iterate once. The attributes, which are those of ArchiveRows,
    are true when the iteration has ended."""

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
        self._batch_bytes = limits.text_bytes if schema.repeats_rows or schema.of_file else batch_bytes
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
            blocks = whole_lines(texts, self._batch_bytes, self._limits)
            for block in _one_ahead(blocks, self._batch_bytes):
                frame = self._csv.read(block)
                if len(frame):
                    yield self._counted(frame)
        except BadArchiveError as error:
            raise BadArchiveError(f"{self._name}: {error.reason}") from error
        if not self._csv.rows:
            self.note = "the file is empty" if self._csv.has_header is None else "the file has a header and no rows"

    def _hashed(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._sha256.update(chunk)
            self._md5.update(chunk)
            yield chunk

    def _counted(self, frame: pl.DataFrame) -> pl.DataFrame:
        if self._schema.repeats_rows:
            kept = frame.unique(maintain_order=True)
            if len(kept) < len(frame):
                self.note = f"{len(frame) - len(kept):,} rows repeat another one and were left out"
            frame = kept
        if self._schema.of_file is not None:
            frame = self._schema.of_file(frame)
        self.rows += len(frame)
        first, last = time_span(frame, self._schema)
        self.first_time = min(filter(None, (first, self.first_time)), default=None)
        self.last_time = max(filter(None, (last, self.last_time)), default=None)
        return frame


def time_span(frame: pl.DataFrame, schema: TableSchema) -> tuple[datetime | None, datetime | None]:
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
    limits: Limits = AT_ONCE,
) -> ArchiveRows:
    """Read a zip (one member) or gzip file of CSV.

    ``name`` is the archive's key, for messages. ``symbol`` and ``interval`` are what the key says; rows that
    name another symbol make the file a bad archive. Raises BadArchiveError.
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

    Memory is bounded by twice ``batch_bytes`` of text and the frame of them, whatever the file's size: a thread
    reads, hashes and unpacks the next batch while one is parsed.
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


def _one_ahead(blocks: Iterator[bytes], batch_bytes: int) -> Iterator[bytes]:
    """The blocks of `whole_lines`; a thread reads, hashes and unpacks the next one while one is parsed."""
    block = next(blocks, None)
    if block is not None and len(block) < batch_bytes:  # there is hardly a next one
        yield block
        yield from blocks
        return
    with ThreadPoolExecutor(max_workers=1) as thread:
        while block is not None:
            coming = thread.submit(lambda: next(blocks, None))
            yield block
            block = coming.result()


def _chunks(source: BinaryIO | Iterable[bytes]) -> Iterable[bytes]:
    return iter(lambda: source.read(_READ), b"") if isinstance(source, BufferedIOBase | RawIOBase) else source
