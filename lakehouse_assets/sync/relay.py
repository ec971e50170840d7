"""Relay mode: bytes stream from source to lake through bounded memory, hashed in passing.

Objects up to a part are read and written whole. Larger ones are read in parts ahead of the
writer and uploaded as a multipart upload, which is aborted when anything goes wrong: no part of
an object ever appears in the lake. Every read asks for the ETag that was planned, so an object
that is rewritten meanwhile is not mixed from two contents.

A fault says on which side it happened: what the lake refuses, no other mode can write.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypedDict

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import S3Store

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.archive.store_errors import StoreFault, fault_of
from lakehouse_assets.sync.transfer import (
    SIDECAR_HEAD,
    Copy,
    ObjectHeaders,
    OnOutcome,
    Outcome,
    Patience,
    Seen,
    Throttle,
    TransferOptions,
)

_MOST_PART_SECONDS = 120.0


class _SourceFailed(Exception):  # noqa: N818 - it carries a fault through obstore, which raises it again as it is
    """Reading failed; an upload that was under way is aborted by it."""

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

    def update(self, body: bytes) -> None:
        self.sha256.update(body)
        self.md5.update(body)

    def seen(self, body: bytes | None = None) -> Seen:
        return Seen(self.sha256.hexdigest(), self.md5.hexdigest(), body)


class RelayMover:
    """Streams objects with the source's identity on one side and the lake's on the other.

    At most ``relay_bytes`` of bodies are in memory at any time, whatever the objects' sizes.
    """

    mode = SyncMode.RELAY

    def __init__(
        self, source: Bucket, lake: Bucket, options: TransferOptions, throttle: Throttle | None = None
    ) -> None:
        self._source_bucket = source
        self._lake_bucket = lake
        self._limits = options
        self._part = options.part_bytes
        self._budget = max(options.relay_bytes, 2 * options.part_bytes)
        self._workers = options.relay_workers
        self._throttle = throttle or Throttle(options.workers)
        self._written_with = _written_with(options.headers)

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        # Clients live as long as a batch, so that the next one sees credentials renewed meanwhile.
        timeout = timedelta(seconds=min(self._limits.stall_seconds, _MOST_PART_SECONDS))
        self._source = self._source_bucket.object_store(timeout=timeout)
        self._lake = self._lake_bucket.object_store(timeout=timeout)
        return asyncio.run(self._move(copies, on_outcome))

    async def _move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        memory = _Budget(self._budget)
        patience = Patience(self._limits)
        waiting = deque(copies)
        outcomes: list[Outcome] = []

        async def work() -> None:
            while waiting:
                copy = waiting.popleft()
                given_up = patience.verdict()
                outcome = Outcome(copy, self.mode, given_up) if given_up else await self._one(copy, memory)
                patience.observe(outcome.fault)
                outcomes.append(outcome)
                on_outcome(outcome)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(self._workers, self._throttle.workers, len(copies))):
                tasks.create_task(work())
        return outcomes

    async def _one(self, copy: Copy, memory: _Budget) -> Outcome:
        try:
            if copy.size <= self._part:
                async with memory.hold(copy.size):
                    seen = await self._small(copy)
            else:
                window = max(2, min(8, self._budget // self._part // 4))
                # The writer holds as many parts as the reader.
                async with memory.hold(min(self._budget, 2 * window * self._part)):
                    seen = await self._large(copy, window)
        except _SourceFailed as failed:
            return Outcome(copy, self.mode, failed.fault)
        except (BaseError, OSError) as error:
            return Outcome(copy, self.mode, replace(fault_of(error), of_lake=True))
        except ValueError as error:
            # obstore takes no key with a control character or an empty part.
            return Outcome(copy, self.mode, StoreFault("UnsupportedKey", str(error).splitlines()[0]))
        return Outcome(copy, self.mode, seen=seen)

    async def _small(self, copy: Copy) -> Seen:
        body = await _read(self._source, copy, None)
        hashes = _Hashes.new()
        hashes.update(body)
        seen = hashes.seen(body[:SIDECAR_HEAD] if copy.is_sidecar else None)
        if corruption := seen.corruption(copy):
            raise _SourceFailed(corruption)
        await obstore.put_async(self._lake, copy.lake_key, body, use_multipart=False, **self._written_with)
        return seen

    async def _large(self, copy: Copy, window: int) -> Seen:
        hashes = _Hashes.new()
        head = bytearray()
        await obstore.put_async(
            self._lake,
            copy.lake_key,
            self._parts(copy, hashes, window, head),
            use_multipart=True,
            chunk_size=self._part,
            max_concurrency=window,
            **self._written_with,
        )
        return hashes.seen(bytes(head) if copy.is_sidecar else None)

    async def _parts(self, copy: Copy, hashes: _Hashes, window: int, head: bytearray) -> AsyncIterator[bytes]:
        """The object's parts in order, ``window`` of them read ahead; ``head`` gets the first bytes."""
        starts = iter(range(0, copy.size, self._part))
        ahead: deque[asyncio.Task[bytes]] = deque()

        def read_next() -> None:
            if (start := next(starts, None)) is not None:
                end = min(start + self._part, copy.size)
                ahead.append(asyncio.create_task(_read(self._source, copy, (start, end))))

        try:
            for _ in range(window):
                read_next()
            while ahead:
                body = await ahead.popleft()
                read_next()
                head += body[: SIDECAR_HEAD - len(head)]
                await asyncio.to_thread(hashes.update, body)
                yield body
        finally:
            for task in ahead:
                task.cancel()


class _Budget:
    """Bytes that may be in memory at once."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._changed = asyncio.Condition()

    def hold(self, size: int) -> _Held:
        return _Held(self, min(size, self._total))

    async def take(self, size: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._free >= size)
            self._free -= size

    async def give(self, size: int) -> None:
        async with self._changed:
            self._free += size
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class _Held:
    budget: _Budget
    size: int

    async def __aenter__(self) -> None:
        await self.budget.take(self.size)

    async def __aexit__(self, *_: object) -> None:
        await self.budget.give(self.size)


class _WrittenWith(TypedDict):
    attributes: obstore.Attributes
    tags: dict[str, str] | None


def _written_with(headers: ObjectHeaders) -> _WrittenWith:
    """As obstore's put takes it."""
    attributes: obstore.Attributes = {"Storage-Class": headers.storage_class} if headers.storage_class else {}
    return {"attributes": attributes, "tags": dict(headers.tags) or None}


async def _read(store: S3Store, copy: Copy, span: tuple[int, int] | None) -> bytes:
    """A span of the object, or all of it; raises _SourceFailed."""
    options: obstore.GetOptions = {}
    if copy.etag is not None:
        options["if_match"] = f'"{copy.etag}"'
    if span is not None:
        options["range"] = span
    try:
        result = await obstore.get_async(store, copy.source_key, options=options)
        body = bytes(await result.bytes_async())
    except PreconditionError as error:
        fault = StoreFault("Rewritten", "the source's object changed while it was read")
        raise _SourceFailed(fault) from error
    except (BaseError, OSError) as error:
        raise _SourceFailed(fault_of(error)) from error
    wanted = copy.size if span is None else span[1] - span[0]
    if len(body) != wanted:
        raise _SourceFailed(StoreFault("ShortRead", f"{len(body)} bytes came instead of {wanted}"))
    return body
