"""Many small archives at about the cost of parsing their text once.

A candle file of a day has 100 kB of text, and starting to parse costs as much as parsing it. Files of the
same layout are therefore joined and parsed together; where that fails, each is read by itself, so that every
result is that of `read_archive`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate

from lakehouse_assets.tables.read.archives import AT_ONCE, BATCH_BYTES, ArchiveRows, read_archive, time_span
from lakehouse_assets.tables.read.csv_rows import CsvRows
from lakehouse_assets.tables.read.lines import whole_lines
from lakehouse_assets.tables.read.unpack import BadArchiveError, Limits, unpack
from lakehouse_assets.tables.schemas.model import TableSchema


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """An archive's key and bytes, and what the key says."""

    name: str
    data: bytes
    symbol: str | None = None
    interval: str | None = None


@dataclass(frozen=True, slots=True)
class _Text:
    """A file's rows as text: without a header, without an end of the last line."""

    file: ArchiveFile
    csv: CsvRows
    lines: bytes

    @property
    def rows(self) -> int:
        return self.lines.count(b"\n") + 1


def read_archives(
    files: Iterable[ArchiveFile], *, schema: TableSchema, limits: Limits = AT_ONCE
) -> Iterator[tuple[ArchiveFile, ArchiveRows | BadArchiveError]]:
    """Read files in order, each with its rows or with why it has none. About BATCH_BYTES of text are held."""
    held: list[_Text] = []
    size = 0
    for file in files:
        text = _text(file, schema, limits)
        length = 0 if text is None else len(text.lines)
        if held and (text is None or text.csv.layout != held[0].csv.layout or size + length > BATCH_BYTES):
            yield from _read(held, schema, limits)
            held, size = [], 0
        if text is None:
            yield file, _alone(file, schema, limits)
        else:
            held.append(text)
            size += length
    if held:
        yield from _read(held, schema, limits)


def _text(file: ArchiveFile, schema: TableSchema, limits: Limits) -> _Text | None:
    """None for a file that is to be read by itself: large, without rows, or bad."""
    if schema.repeats_rows or len(file.data) > BATCH_BYTES:
        return None
    csv = CsvRows(schema, file.symbol, file.interval, limits)
    try:
        pieces = unpack([file.data], replace(limits, text_bytes=min(limits.text_bytes, BATCH_BYTES)))
        lines = csv.open(b"".join(whole_lines(pieces, BATCH_BYTES, limits)).rstrip(b"\n"))
    except BadArchiveError:
        return None
    return _Text(file, csv, lines) if lines else None


def _read(
    texts: list[_Text], schema: TableSchema, limits: Limits
) -> Iterator[tuple[ArchiveFile, ArchiveRows | BadArchiveError]]:
    try:
        columns = texts[0].csv.columns(b"\n".join(text.lines for text in texts))
    except BadArchiveError:
        columns = []
    rows = [text.rows for text in texts]
    if not columns or len(columns[0]) != sum(rows):
        for text in texts:
            yield text.file, _alone(text.file, schema, limits)
        return
    starts = accumulate(rows, initial=0)
    for text, start, length in zip(texts, starts, rows, strict=False):
        own = [column.slice(start, length) for column in columns]
        try:
            frame = text.csv.complete(own)
        except BadArchiveError:
            yield text.file, _alone(text.file, schema, limits)
            continue
        if schema.of_file is not None:
            frame = schema.of_file(frame)
        first, last = time_span(frame, schema)
        yield (
            text.file,
            ArchiveRows(
                frame=frame,
                rows=len(frame),
                sha256=hashlib.sha256(text.file.data).hexdigest(),
                md5=hashlib.md5(text.file.data, usedforsecurity=False).hexdigest(),
                first_time=first,
                last_time=last,
                note=None,
            ),
        )


def _alone(file: ArchiveFile, schema: TableSchema, limits: Limits) -> ArchiveRows | BadArchiveError:
    try:
        return read_archive(
            file.data, schema=schema, name=file.name, symbol=file.symbol, interval=file.interval, limits=limits
        )
    except BadArchiveError as error:
        return error
