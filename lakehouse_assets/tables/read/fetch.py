"""Getting archive objects out of the lake as frames, and verifying in the same pass what nobody has read yet.

Each object is read under the lake ETag that the manifest knows, so rows never come from content that
the manifest does not tell of. Small ones are read ahead by some threads; a large one is streamed in
ranges, and then its digest is known only after its rows: whoever takes them must be able to give them back.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import obstore
import polars as pl
from obstore.exceptions import PreconditionError

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.errors import CLIENT_ERRORS, fault_of
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lake.digests import Digests
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.sync.integrity.verify import Finding, Verifier
from lakehouse_assets.tables.read.archives import ArchiveBatches, BadArchiveError, read_archive_batches
from lakehouse_assets.tables.read.bulk import ArchiveFile, read_archives
from lakehouse_assets.tables.schema import TableSchema

AT_ONCE_BYTES = 16 * 1024**2
"""Archives up to this size are held whole; candles' and trades' text is about five times as long."""
RANGE_BYTES = 16 * 1024**2
READERS = 4
AHEAD_BYTES = 64 * 1024**2
"""Packed bytes that are read ahead of their turn, one object at least."""
AHEAD_OBJECTS = 64


class UnreadError(LakehouseError):
    """An object could not be fetched: not its fault, so whatever needs it is not written."""


@dataclass(frozen=True, slots=True)
class Item:
    """One archive object to read: a row of inputs.OBJECTS as a dict."""

    row: Mapping[str, Any]

    @property
    def key(self) -> str:
        return str(self.row["key"])

    @property
    def size(self) -> int:
        return int(self.row["size"])


@dataclass(slots=True)
class Fetched:
    """The rows of one object; iterate ``frames`` once. The rest is true when the iteration has ended.

    ``error`` is a BadArchiveError for an object to be quarantined, an UnreadError for one that could not be
    fetched; iterating a large one raises them. ``finding`` is about an object that nobody had verified.
    """

    item: Item
    frames: Iterable[pl.DataFrame] = ()
    error: LakehouseError | None = None
    rows: int = 0
    sha256: str | None = None
    first_time: datetime | None = None
    last_time: datetime | None = None
    finding: Finding | None = None


@dataclass(frozen=True, slots=True)
class _Packed:
    """The bytes of a small object, and what is found of its integrity."""

    item: Item
    data: bytes
    finding: Finding | None


class Fetcher:
    """Reads archive objects of one table's exchange."""

    def __init__(self, lake: Lake, schema: TableSchema, verifier: Verifier) -> None:
        self._lake = lake
        self._store = lake.bucket.object_store()
        self._schema = schema
        self._verifier = verifier

    def in_order(self, items: Iterable[tuple[Dataset, Item]]) -> Iterator[Fetched]:
        """What came of each item, in the order given. Neighbouring small ones are parsed together."""
        for is_packed, run in groupby(self._ahead(items), key=lambda got: isinstance(got, _Packed)):
            if is_packed:
                yield from self._unpacked(packed for packed in run if isinstance(packed, _Packed))
            else:
                yield from (fetched for fetched in run if isinstance(fetched, Fetched))

    def _ahead(self, items: Iterable[tuple[Dataset, Item]]) -> Iterator[_Packed | Fetched]:
        """Items as some threads get them, a few before their turn."""
        waiting: deque[tuple[Item, Future[_Packed | Fetched]]] = deque()
        ahead = 0
        with ThreadPoolExecutor(READERS, thread_name_prefix="archive-reader") as pool:
            try:
                for dataset, item in items:
                    waiting.append((item, pool.submit(self._get_one, dataset, item)))
                    ahead += item.size
                    while waiting and (ahead > AHEAD_BYTES or len(waiting) > AHEAD_OBJECTS):
                        done, future = waiting.popleft()
                        ahead -= done.size
                        yield future.result()
                while waiting:
                    yield waiting.popleft()[1].result()
            finally:
                for _, future in waiting:
                    future.cancel()

    def _get_one(self, dataset: Dataset, item: Item) -> _Packed | Fetched:
        """A small object whole and verified; a large one only begins."""
        if item.size > AT_ONCE_BYTES:
            return self._streamed(dataset, item)
        try:
            data = self._get(dataset, item)
            finding = None
            if item.row["unread"]:
                seen = Digests(hashlib.sha256(data).hexdigest(), hashlib.md5(data, usedforsecurity=False).hexdigest())
                finding = self._judged(dataset, item, seen)
        except MismatchError as error:
            return Fetched(item, error=error, finding=error.finding)
        except UnreadError as error:
            return Fetched(item, error=error)
        return _Packed(item, data, finding)

    def _unpacked(self, run: Iterator[_Packed]) -> Iterator[Fetched]:
        """Small objects, parsed; as many at a time as `read_archives` takes."""
        open_: deque[_Packed] = deque()

        def files() -> Iterator[ArchiveFile]:
            for packed in run:
                open_.append(packed)
                row = packed.item.row
                yield ArchiveFile(_name(packed.item), packed.data, row["symbol"], row["interval"])

        for _file, rows in read_archives(files(), schema=self._schema):
            packed = open_.popleft()
            if isinstance(rows, BadArchiveError):
                yield Fetched(packed.item, error=rows, finding=packed.finding)
            else:
                yield Fetched(
                    packed.item,
                    [self.sorted(rows.frame)] if rows.rows else [],
                    rows=rows.rows,
                    sha256=rows.sha256,
                    first_time=rows.first_time,
                    last_time=rows.last_time,
                    finding=packed.finding,
                )

    def _streamed(self, dataset: Dataset, item: Item) -> Fetched:
        batches = read_archive_batches(
            self._ranges(dataset, item),
            schema=self._schema,
            name=_name(item),
            symbol=item.row["symbol"],
            interval=item.row["interval"],
        )
        fetched = Fetched(item)
        fetched.frames = self._batches(dataset, fetched, batches)
        return fetched

    def _batches(self, dataset: Dataset, fetched: Fetched, batches: ArchiveBatches) -> Iterator[pl.DataFrame]:
        """Frames of bounded size. Raises BadArchiveError, also at the very end, and UnreadError."""
        for frame in batches:
            yield self.sorted(frame)
        fetched.rows, fetched.sha256 = batches.rows, batches.sha256
        fetched.first_time, fetched.last_time = batches.first_time, batches.last_time
        if fetched.item.row["unread"]:
            fetched.finding = self._judged(dataset, fetched.item, Digests(batches.sha256, batches.md5))

    def sorted(self, frame: pl.DataFrame) -> pl.DataFrame:
        """By time, and by symbol where the rows name it; rows of one time stay as the file has them."""
        by = [*(["symbol"] if self._schema.symbol_in_file else []), self._schema.time_column]
        if len(by) == 1 and frame[by[0]].is_sorted():
            return frame
        return frame.sort(by, maintain_order=True)

    def _judged(self, dataset: Dataset, item: Item, seen: Digests) -> Finding:
        """The finding about an object that was read. Raises MismatchError for a bad one."""
        try:
            finding = self._verifier.finding(dataset, item.row, seen)
        except FileNotFoundError as error:
            raise UnreadError(f"{item.key}: its sidecar is no longer in the lake; sync its period again") from error
        except CLIENT_ERRORS as error:
            raise UnreadError(f"{item.key}: {fault_of(error)}") from error
        if finding.integrity == Integrity.MISMATCH:
            raise MismatchError(str(finding.integrity_note), finding)
        return finding

    def _get(self, dataset: Dataset, item: Item, span: tuple[int, int] | None = None) -> bytes:
        options: obstore.GetOptions = {"if_match": f'"{item.row["lake_etag"]}"'}
        if span is not None:
            options["range"] = span
        try:
            return bytes(obstore.get(self._store, self._lake.key(dataset.lake_key(item.key)), options=options).bytes())
        except PreconditionError as error:
            raise UnreadError(f"{item.key}: it was replaced while it was read; materialize again") from error
        except FileNotFoundError as error:
            raise UnreadError(f"{item.key}: it is no longer in the lake; sync its period again") from error
        except CLIENT_ERRORS as error:
            raise UnreadError(f"{item.key}: {fault_of(error)}") from error

    def _ranges(self, dataset: Dataset, item: Item) -> Iterator[bytes]:
        for start in range(0, item.size, RANGE_BYTES):
            yield self._get(dataset, item, (start, min(start + RANGE_BYTES, item.size)))


class MismatchError(BadArchiveError):
    """An object is not what its sidecar or the source's ETag says; ``finding`` is for the manifest."""

    def __init__(self, reason: str, finding: Finding) -> None:
        super().__init__(reason)
        self.finding = finding


def _name(item: Item) -> str:
    return item.key.rsplit("/", 1)[-1]
