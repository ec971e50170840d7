"""Reads many small archives together, at about the cost of parsing their text once.

A candle file of a day has 100 kB of text, and starting the parser costs as much as parsing it. Files of the same
layout are therefore joined and parsed together. When that fails, each file is read by itself, so that every result
equals that of `read_archive`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate

from lakehouse_assets.tables.read.archives import BATCH_BYTES, IN_MEMORY_LIMITS, ArchiveRows, read_archive, time_window
from lakehouse_assets.tables.read.csv_rows import CsvRows
from lakehouse_assets.tables.read.lines import line_blocks
from lakehouse_assets.tables.read.unpack import BadArchiveError, Limits, unpack
from lakehouse_assets.tables.schemas.model import TableSchema


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """An archive's name and bytes, and the symbol and interval from its key."""

    name: str
    data: bytes
    symbol: str | None = None
    interval: str | None = None


@dataclass(frozen=True, slots=True)
class _UnpackedFile:
    """A file's rows as text, without the header and without the last line end."""

    file: ArchiveFile
    csv: CsvRows
    lines: bytes

    @property
    def rows(self) -> int:
        return self.lines.count(b"\n") + 1


def read_archives(
    files: Iterable[ArchiveFile], *, schema: TableSchema, limits: Limits = IN_MEMORY_LIMITS
) -> Iterator[tuple[ArchiveFile, ArchiveRows | BadArchiveError]]:
    """Read files in order. Each comes with its rows or its error. About BATCH_BYTES of text are in memory."""
    batch: list[_UnpackedFile] = []
    size = 0
    for file in files:
        unpacked = _unpack(file, schema, limits)
        length = 0 if unpacked is None else len(unpacked.lines)
        if batch and (unpacked is None or unpacked.csv.layout != batch[0].csv.layout or size + length > BATCH_BYTES):
            yield from _read_together(batch, schema, limits)
            batch, size = [], 0
        if unpacked is None:
            yield file, _read_alone(file, schema, limits)
        else:
            batch.append(unpacked)
            size += length
    if batch:
        yield from _read_together(batch, schema, limits)


def _unpack(file: ArchiveFile, schema: TableSchema, limits: Limits) -> _UnpackedFile | None:
    """None for a file that has to be read by itself: large, without rows, or bad."""
    if schema.repeats_rows or len(file.data) > BATCH_BYTES:
        return None
    csv = CsvRows(schema, file.symbol, file.interval, limits)
    try:
        pieces = unpack([file.data], replace(limits, text_bytes=min(limits.text_bytes, BATCH_BYTES)))
        lines = csv.without_header(b"".join(line_blocks(pieces, BATCH_BYTES, limits)).rstrip(b"\n"))
    except BadArchiveError:
        return None
    return _UnpackedFile(file, csv, lines) if lines else None


def _read_together(
    batch: list[_UnpackedFile], schema: TableSchema, limits: Limits
) -> Iterator[tuple[ArchiveFile, ArchiveRows | BadArchiveError]]:
    try:
        columns = batch[0].csv.columns(b"\n".join(unpacked.lines for unpacked in batch))
    except BadArchiveError:
        columns = []
    rows = [unpacked.rows for unpacked in batch]
    if not columns or len(columns[0]) != sum(rows):
        for unpacked in batch:
            yield unpacked.file, _read_alone(unpacked.file, schema, limits)
        return
    starts = accumulate(rows, initial=0)
    for unpacked, start, length in zip(batch, starts, rows, strict=False):
        file = unpacked.file
        try:
            frame = unpacked.csv.to_frame([column.slice(start, length) for column in columns])
        except BadArchiveError:
            yield file, _read_alone(file, schema, limits)
            continue
        if schema.transform_file is not None:
            frame = schema.transform_file(frame)
        first, last = time_window(frame, schema)
        yield (
            file,
            ArchiveRows(
                frame=frame,
                rows=len(frame),
                sha256=hashlib.sha256(file.data).hexdigest(),
                md5=hashlib.md5(file.data, usedforsecurity=False).hexdigest(),
                first_time=first,
                last_time=last,
                note=None,
            ),
        )


def _read_alone(file: ArchiveFile, schema: TableSchema, limits: Limits) -> ArchiveRows | BadArchiveError:
    try:
        return read_archive(
            file.data, schema=schema, name=file.name, symbol=file.symbol, interval=file.interval, limits=limits
        )
    except BadArchiveError as error:
        return error
