"""Relay mode: bytes stream from source to lake through bounded memory, and are hashed in passing.

Objects of at most one part are read and written at once, by obstore. Larger ones are read in parts ahead of the writer
and written as a multipart upload, which is aborted after any failure: an incomplete object never appears in the lake.
boto3 writes these, since obstore does not support conditions for multipart uploads.

Every read is conditional on the planned ETag, so an object that is rewritten meanwhile is never mixed from two
contents. Every write is conditional on the lake's listed object, so it does not overwrite another run's.

A fault records the side on which it happened: a write that the lake refuses, no other mode can make.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

import obstore
from botocore.exceptions import ClientError
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.errors import CLIENT_ERRORS, StoreFault, fault_of
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.lake.digests import SIDECAR_HEAD, Digests
from lakehouse_assets.sync.movers.base import Copy, ObjectHeaders, OnOutcome, Outcome, TransferOptions, corrupt_sidecar
from lakehouse_assets.sync.movers.copy_object import write_fault
from lakehouse_assets.sync.movers.flow_control import AdaptiveConcurrency, CircuitBreaker, InFlight
from lakehouse_assets.sync.movers.multipart import Upload, part_bytes, part_ranges

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

try:
    from uvloop import new_event_loop  # a third less processor time per object than asyncio's own loop
except ImportError:  # there is none for Windows
    from asyncio import new_event_loop

_MOST_PART_SECONDS = 120.0

_HASHED_INLINE = 256 * 1024
"""Up to so many bytes, hashing is faster than a thread switch and does not delay other copies."""


class _SourceFailed(Exception):  # noqa: N818 - it carries a fault through obstore, which raises it again as it is
    """Reading failed; raised to abort an upload in progress."""

    def __init__(self, fault: StoreFault) -> None:
        super().__init__(fault.code)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class _Hashes:
    """Digests of a stream, updated off the event loop: hashing releases the GIL."""

    sha256: hashlib._Hash
    md5: hashlib._Hash

    @classmethod
    def new(cls) -> _Hashes:
        return cls(hashlib.sha256(), hashlib.md5(usedforsecurity=False))

    def update(self, body: obstore.Bytes) -> None:
        self.sha256.update(body)
        self.md5.update(body)

    def seen(self, body: bytes | None = None) -> Digests:
        return Digests(self.sha256.hexdigest(), self.md5.hexdigest(), body)


class RelayMover:
    """Streams objects with the source's identity on one side and the lake's on the other.

    At most ``relay_bytes`` of bodies are in memory at any time, whatever the objects' sizes.
    """

    mode = SyncMode.RELAY
    _source: S3Store
    _lake: S3Store
    _client: S3Client

    def __init__(
        self, source: Bucket, lake: Bucket, options: TransferOptions, concurrency: AdaptiveConcurrency | None = None
    ) -> None:
        self._source_bucket = source
        self._lake_bucket = lake
        self._options = options
        self._part = options.part_bytes
        self._budget = max(options.relay_bytes, 2 * options.part_bytes)
        self._workers = options.relay_workers
        self._concurrency = concurrency or AdaptiveConcurrency(options.workers)
        self._written_with = _written_with(options.headers)

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        # Clients live as long as a batch, so that the next one uses renewed credentials.
        timeout = timedelta(seconds=min(self._options.stall_seconds, _MOST_PART_SECONDS))
        self._source = self._source_bucket.object_store(timeout=timeout)
        self._lake = self._lake_bucket.object_store(timeout=timeout)
        if any(copy.size > self._part for copy in copies):
            self._client = self._lake_bucket.boto3_client()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._run(copies, on_outcome)
        # In a notebook, an event loop runs in this thread already.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._run, copies, on_outcome).result()

    def _run(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                return runner.run(self._move(copies, on_outcome))
        except BaseExceptionGroup as group:
            # An error of on_outcome is raised as it is, as by the other movers.
            raise group.exceptions[0] from None

    async def _move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        in_flight = InFlight(self._budget)
        # Every part that is being written or hashed occupies a thread.
        threads = ThreadPoolExecutor(self._budget // self._part + 2, thread_name_prefix="relay")
        asyncio.get_running_loop().set_default_executor(threads)
        large = sum(copy.size > self._part for copy in copies)
        parts_ahead = _parts_ahead(self._budget, self._part, objects=large)
        breaker = CircuitBreaker(self._options)
        waiting = deque(copies)
        outcomes: list[Outcome] = []

        async def work() -> None:
            while waiting:
                copy = waiting.popleft()
                fault = breaker.tripped()
                outcome = Outcome(copy, self.mode, fault) if fault else await self._one(copy, in_flight, parts_ahead)
                breaker.observe(outcome.fault)
                outcomes.append(outcome)
                on_outcome(outcome)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(self._workers, self._concurrency.workers, len(copies))):
                tasks.create_task(work())
        return outcomes

    async def _one(self, copy: Copy, in_flight: InFlight, parts_ahead: int) -> Outcome:
        hashes = _Hashes.new()
        try:
            if copy.size <= self._part:
                async with in_flight.hold(copy.size):
                    return await self._small(copy, hashes, in_flight)
            # The writer holds as many parts as the reader.
            async with in_flight.hold(2 * parts_ahead * self._part):
                return await self._large(copy, hashes, parts_ahead, in_flight)
        except _SourceFailed as failed:
            return Outcome(copy, self.mode, failed.fault)
        except (*CLIENT_ERRORS, OSError) as error:
            return Outcome(copy, self.mode, replace(fault_of(error), of_lake=True))
        except ValueError as error:
            # obstore rejects keys with a control character or an empty path segment.
            return Outcome(copy, self.mode, StoreFault("UnsupportedKey", str(error).splitlines()[0]))

    async def _small(self, copy: Copy, hashes: _Hashes, in_flight: InFlight) -> Outcome:
        body = await _read(self._source, copy, None)
        if copy.size <= _HASHED_INLINE:
            hashes.update(body)
        else:
            await asyncio.to_thread(hashes.update, body)
        seen = hashes.seen(_head(body) if copy.is_sidecar else None)
        if corruption := corrupt_sidecar(copy, seen):
            raise _SourceFailed(corruption)
        try:
            put = await self._put(copy, body)
        except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
            # AWS returns "not found" if the object to be replaced is gone.
            if fault_of(error).code == "NoSuchBucket":
                raise
            return Outcome(copy, self.mode, StoreFault.overtaking(), seen)
        in_flight.moved(copy.size)
        return Outcome(copy, self.mode, seen=seen, written_etag=(put["e_tag"] or "").strip('"') or None)

    async def _put(self, copy: Copy, body: obstore.Bytes) -> obstore.PutResult:
        put = partial(obstore.put_async, self._lake, copy.lake_key, body, use_multipart=False, **self._written_with)
        try:
            return await put(mode=self._put_mode(copy))
        except CLIENT_ERRORS as error:
            # A store that supports If-None-Match may not support If-Match; see conditional_writes.with_condition.
            if copy.replaces is None or not fault_of(error).is_of_request:
                raise
        return await put(mode="overwrite")

    def _put_mode(self, copy: Copy) -> obstore.PutMode:
        if not self._options.conditional:
            return "overwrite"
        return "create" if copy.replaces is None else {"e_tag": f'"{copy.replaces}"'}

    async def _large(self, copy: Copy, hashes: _Hashes, parts_ahead: int, in_flight: InFlight) -> Outcome:
        upload = await asyncio.to_thread(self._begin, copy)
        writing: deque[asyncio.Task[dict[str, Any]]] = deque()
        written: list[dict[str, Any]] = []
        head: bytes | None = None
        try:
            async with aclosing(self._parts(copy, parts_ahead)) as parts:
                async for number, body in parts:
                    head = head or _head(body)
                    await asyncio.to_thread(hashes.update, body)
                    if len(writing) == parts_ahead:
                        written.append(await writing.popleft())
                    writing.append(asyncio.create_task(self._put_part(upload, number, bytes(body), in_flight)))
            while writing:
                written.append(await writing.popleft())
            seen = hashes.seen(head if copy.is_sidecar else None)
            condition = copy.condition if self._options.conditional else {}
            etag = await asyncio.to_thread(upload.complete, written, condition)
        except BaseException as error:
            # Threads cannot be cancelled: a part that they write after the abort would stay.
            await asyncio.gather(*writing, return_exceptions=True)
            await asyncio.to_thread(upload.abort)
            if isinstance(error, ClientError) and (fault := write_fault(error)).is_overtaking:
                return Outcome(copy, self.mode, fault)
            raise
        return Outcome(copy, self.mode, seen=seen, written_etag=etag)

    def _begin(self, copy: Copy) -> Upload:
        headers = self._options.headers.upload_args()
        return Upload(self._client, self._lake_bucket.name, copy.lake_key, headers)

    async def _put_part(self, upload: Upload, number: int, body: bytes, in_flight: InFlight) -> dict[str, Any]:
        part = await asyncio.to_thread(upload.put, number, body)
        in_flight.moved(len(body))
        return part

    async def _parts(self, copy: Copy, parts_ahead: int) -> AsyncGenerator[tuple[int, obstore.Bytes]]:
        """The object's parts in order, numbered from 1; ``parts_ahead`` of them are read ahead."""
        ahead: deque[asyncio.Task[obstore.Bytes]] = deque()
        to_read = iter(part_ranges(copy.size, part_bytes(copy.size, self._part)))

        def read_next() -> None:
            if (part_range := next(to_read, None)) is not None:
                ahead.append(asyncio.create_task(_read(self._source, copy, part_range)))

        try:
            for _ in range(parts_ahead):
                read_next()
            number = 0
            while ahead:
                body = await ahead.popleft()
                read_next()
                number += 1
                yield number, body
        finally:
            for task in ahead:
                task.cancel()


def _head(body: obstore.Bytes) -> bytes:
    return bytes(memoryview(body)[:SIDECAR_HEAD])


def _parts_ahead(budget: int, part: int, *, objects: int) -> int:
    """How many parts of an object are read at a time, and as many written: more for a single object."""
    return max(2, min(8, budget // part // (4 if objects == 1 else 8)))


class _WrittenWith(TypedDict):
    attributes: obstore.Attributes
    tags: dict[str, str] | None


def _written_with(headers: ObjectHeaders) -> _WrittenWith:
    """Headers and tags as arguments of obstore's put."""
    attributes: obstore.Attributes = {"Storage-Class": headers.storage_class} if headers.storage_class else {}
    return {"attributes": attributes, "tags": dict(headers.tags) or None}


async def _read(store: S3Store, copy: Copy, byte_range: tuple[int, int] | None) -> obstore.Bytes:
    """A range of the object's bytes, or all of them; raises _SourceFailed."""
    options: obstore.GetOptions = {}
    if copy.etag is not None:
        options["if_match"] = f'"{copy.etag}"'
    if byte_range is not None:
        options["range"] = byte_range
    try:
        result = await obstore.get_async(store, copy.source_key, options=options)
        body = await result.bytes_async()
    except PreconditionError as error:
        fault = StoreFault("Rewritten", "the source's object changed while it was read")
        raise _SourceFailed(fault) from error
    except (BaseError, OSError) as error:
        raise _SourceFailed(fault_of(error)) from error
    expected = copy.size if byte_range is None else byte_range[1] - byte_range[0]
    if len(body) != expected:
        raise _SourceFailed(StoreFault("ShortRead", f"{len(body)} bytes came instead of {expected}"))
    return body
