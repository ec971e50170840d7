"""Reads archive objects from the lake as frames, and verifies the content that was not verified before.

Each object is read with the lake ETag of the manifest as a condition, so rows never come from content that is not in
the manifest. Some threads read small objects ahead. Large objects are streamed in ranges: their digest is known only
after their rows, so the caller must be able to discard rows that it has taken.
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
from lakehouse_assets.tables.read.archives import ArchiveBatches, read_archive_batches
from lakehouse_assets.tables.read.bulk import ArchiveFile, read_archives
from lakehouse_assets.tables.read.unpack import BadArchiveError
from lakehouse_assets.tables.schemas.model import TableSchema

IN_MEMORY_BYTES = 16 * 1024**2
"""Archive objects up to this size are read into memory; the text of candles and trades is about five times as long."""
RANGE_BYTES = 16 * 1024**2
READERS = 4
AHEAD_BYTES = 64 * 1024**2
"""Packed bytes that are read ahead, but at least one object."""
AHEAD_OBJECTS = 64


class UnreadError(LakehouseError):
    """An object could not be fetched. It is not bad, so the periods that need it are not written."""


@dataclass(frozen=True, slots=True)
class InputObject:
    """An archive object to read: a row of inputs.OBJECTS as a dict."""

    row: Mapping[str, Any]

    @property
    def key(self) -> str:
        return str(self.row["key"])

    @property
    def size(self) -> int:
        return int(self.row["size"])


@dataclass(slots=True)
class FetchResult:
    """The rows of one object. Iterate ``frames`` once; the other attributes are valid after the last frame.

    ``error`` is a BadArchiveError if the object has to be quarantined, an UnreadError if it could not be fetched; for
    large objects, iterating ``frames`` raises them instead. ``finding`` is the result of verifying an object that was
    not verified before.
    """

    archive_object: InputObject
    frames: Iterable[pl.DataFrame] = ()
    error: LakehouseError | None = None
    rows: int = 0
    sha256: str | None = None
    first_time: datetime | None = None
    last_time: datetime | None = None
    finding: Finding | None = None


@dataclass(frozen=True, slots=True)
class _Download:
    """The bytes of a small object, and the result of verifying them."""

    archive_object: InputObject
    data: bytes
    finding: Finding | None


class Fetcher:
    """Reads archive objects of one table's exchange."""

    def __init__(self, lake: Lake, schema: TableSchema, verifier: Verifier) -> None:
        self._lake = lake
        self._store = lake.bucket.object_store()
        self._schema = schema
        self._verifier = verifier

    def in_order(self, objects: Iterable[tuple[Dataset, InputObject]]) -> Iterator[FetchResult]:
        """The result for each object, in the given order. Consecutive small objects are parsed together."""
        for is_download, run in groupby(self._read_ahead(objects), key=lambda result: isinstance(result, _Download)):
            if is_download:
                yield from self._parse(download for download in run if isinstance(download, _Download))
            else:
                yield from (fetched for fetched in run if isinstance(fetched, FetchResult))

    def _read_ahead(self, objects: Iterable[tuple[Dataset, InputObject]]) -> Iterator[_Download | FetchResult]:
        """Fetch objects in some threads, ahead of their use."""
        waiting: deque[tuple[InputObject, Future[_Download | FetchResult]]] = deque()
        bytes_ahead = 0
        with ThreadPoolExecutor(READERS, thread_name_prefix="archive-reader") as pool:
            try:
                for dataset, archive_object in objects:
                    waiting.append((archive_object, pool.submit(self._fetch_one, dataset, archive_object)))
                    bytes_ahead += archive_object.size
                    while waiting and (bytes_ahead > AHEAD_BYTES or len(waiting) > AHEAD_OBJECTS):
                        done, future = waiting.popleft()
                        bytes_ahead -= done.size
                        yield future.result()
                while waiting:
                    yield waiting.popleft()[1].result()
            finally:
                for _, future in waiting:
                    future.cancel()

    def _fetch_one(self, dataset: Dataset, archive_object: InputObject) -> _Download | FetchResult:
        """Download and verify a small object; prepare the stream of a large one."""
        if archive_object.size > IN_MEMORY_BYTES:
            return self._stream(dataset, archive_object)
        try:
            data = self._get(dataset, archive_object)
            finding = None
            if archive_object.row["unread"]:
                md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
                finding = self._verify(dataset, archive_object, Digests(hashlib.sha256(data).hexdigest(), md5))
        except MismatchError as error:
            return FetchResult(archive_object, error=error, finding=error.finding)
        except UnreadError as error:
            return FetchResult(archive_object, error=error)
        return _Download(archive_object, data, finding)

    def _parse(self, downloads: Iterator[_Download]) -> Iterator[FetchResult]:
        """Parse small objects, as many at a time as `read_archives` takes."""
        in_parser: deque[_Download] = deque()

        def files() -> Iterator[ArchiveFile]:
            for download in downloads:
                in_parser.append(download)
                row = download.archive_object.row
                yield ArchiveFile(_name(download.archive_object), download.data, row["symbol"], row["interval"])

        for _file, rows in read_archives(files(), schema=self._schema):
            download = in_parser.popleft()
            if isinstance(rows, BadArchiveError):
                yield FetchResult(download.archive_object, error=rows, finding=download.finding)
            else:
                yield FetchResult(
                    download.archive_object,
                    [self.sorted(rows.frame)] if rows.rows else [],
                    rows=rows.rows,
                    sha256=rows.sha256,
                    first_time=rows.first_time,
                    last_time=rows.last_time,
                    finding=download.finding,
                )

    def _stream(self, dataset: Dataset, archive_object: InputObject) -> FetchResult:
        batches = read_archive_batches(
            self._ranges(dataset, archive_object),
            schema=self._schema,
            name=_name(archive_object),
            symbol=archive_object.row["symbol"],
            interval=archive_object.row["interval"],
        )
        fetched = FetchResult(archive_object)
        fetched.frames = self._frames(dataset, fetched, batches)
        return fetched

    def _frames(self, dataset: Dataset, fetched: FetchResult, batches: ArchiveBatches) -> Iterator[pl.DataFrame]:
        """Frames of bounded size. Raises UnreadError, and BadArchiveError, even after the last frame."""
        for frame in batches:
            yield self.sorted(frame)
        fetched.rows, fetched.sha256 = batches.rows, batches.sha256
        fetched.first_time, fetched.last_time = batches.first_time, batches.last_time
        if fetched.archive_object.row["unread"]:
            digests = Digests(batches.sha256, batches.md5)
            fetched.finding = self._verify(dataset, fetched.archive_object, digests)

    def sorted(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Sorted by time, before that by symbol if the rows name it. Rows of the same time keep the file's order."""
        by = [*(["symbol"] if self._schema.symbol_in_file else []), self._schema.time_column]
        if len(by) == 1 and frame[by[0]].is_sorted():
            return frame
        return frame.sort(by, maintain_order=True)

    def _verify(self, dataset: Dataset, archive_object: InputObject, digests: Digests) -> Finding:
        """Verify the digests of an object, and return the finding. Raises MismatchError and UnreadError."""
        key = archive_object.key
        try:
            finding = self._verifier.finding(dataset, archive_object.row, digests)
        except FileNotFoundError as error:
            raise UnreadError(f"{key}: its sidecar is no longer in the lake; sync its period again") from error
        except CLIENT_ERRORS as error:
            raise UnreadError(f"{key}: {fault_of(error)}") from error
        if finding.integrity == Integrity.MISMATCH:
            raise MismatchError(str(finding.integrity_note), finding)
        return finding

    def _get(self, dataset: Dataset, archive_object: InputObject, byte_range: tuple[int, int] | None = None) -> bytes:
        key = archive_object.key
        options: obstore.GetOptions = {"if_match": f'"{archive_object.row["lake_etag"]}"'}
        if byte_range is not None:
            options["range"] = byte_range
        try:
            return bytes(obstore.get(self._store, self._lake.key(dataset.lake_key(key)), options=options).bytes())
        except PreconditionError as error:
            raise UnreadError(f"{key}: it was replaced while it was read; materialize again") from error
        except FileNotFoundError as error:
            raise UnreadError(f"{key}: it is no longer in the lake; sync its period again") from error
        except CLIENT_ERRORS as error:
            raise UnreadError(f"{key}: {fault_of(error)}") from error

    def _ranges(self, dataset: Dataset, archive_object: InputObject) -> Iterator[bytes]:
        size = archive_object.size
        for start in range(0, size, RANGE_BYTES):
            yield self._get(dataset, archive_object, (start, min(start + RANGE_BYTES, size)))


class MismatchError(BadArchiveError):
    """An object differs from its sidecar or from the source's ETag. ``finding`` is the record for the manifest."""

    def __init__(self, reason: str, finding: Finding) -> None:
        super().__init__(reason)
        self.finding = finding


def _name(archive_object: InputObject) -> str:
    return archive_object.key.rsplit("/", 1)[-1]
