"""Staged mode: s5cmd downloads to scratch disk, boto3 uploads. The traditional way, as a last resort.

Scratch files are numbered: a key never becomes a path. A batch stays within the limit of bytes on disk, except for a
single object that is larger by itself. s5cmd is not used to upload: it supports neither tags nor the condition that
protects what another run has written meanwhile.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lakehouse_assets.archive.bucket import POOL_CONNECTIONS
from lakehouse_assets.archive.errors import StoreFault
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.lake.digests import SIDECAR_HEAD, Digests
from lakehouse_assets.lake.store.conditional_writes import with_condition
from lakehouse_assets.sync.movers.base import (
    BucketMover,
    Copy,
    OnOutcome,
    Outcome,
    corrupt_sidecar,
    run_commands,
    s5cmd_of,
)
from lakehouse_assets.sync.movers.copy_object import in_threads
from lakehouse_assets.sync.movers.flow_control import CircuitBreaker
from lakehouse_assets.sync.movers.multipart import Upload, etag_of, part_bytes, part_ranges
from lakehouse_assets.sync.movers.s5cmd_protocol import CopyCommand, CopyFlags


class StagedMover(BucketMover):
    """Download with the source's identity, upload with the lake's."""

    mode = SyncMode.STAGED

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for batch in _within_bytes(copies, self._options.scratch_bytes):
            try:
                scratch = tempfile.TemporaryDirectory(
                    prefix="lakehouse-staged-", dir=self._options.scratch, ignore_cleanup_errors=True
                )
            except OSError as error:
                fault = StoreFault("Scratch", f"the scratch folder cannot be used: {error.strerror}")
                outcomes += [Outcome(copy, self.mode, fault) for copy in batch]
                continue
            with scratch as folder:
                outcomes += self._move_batch(batch, Path(folder), on_outcome)
        return outcomes

    def _move_batch(self, batch: Sequence[Copy], folder: Path, on_outcome: OnOutcome) -> list[Outcome]:
        files = {copy: folder / str(number) for number, copy in enumerate(batch)}
        downloads = {
            CopyCommand(f"{self._source.url}/{copy.source_key}", str(path)): copy for copy, path in files.items()
        }
        fetched = run_commands(
            s5cmd_of(self._source, self._options, self._concurrency),
            downloads,
            CopyFlags(),
            self.mode,
            _failures_only(on_outcome),
        )
        failed = [
            replace(outcome, fault=_download_fault(outcome.fault, folder))
            for outcome in fetched
            if outcome.fault is not None
        ]
        complete: dict[Copy, Digests] = {}
        for outcome in fetched:
            if outcome.fault is None:
                seen = _seen(outcome.copy, files[outcome.copy])
                if isinstance(seen, StoreFault):
                    failed.append(Outcome(outcome.copy, self.mode, seen))
                    on_outcome(failed[-1])
                else:
                    complete[outcome.copy] = seen
        stored = self._upload({copy: files[copy] for copy in complete}, on_outcome)
        return failed + [replace(outcome, seen=complete[outcome.copy]) for outcome in stored]

    def _upload(self, files: Mapping[Copy, Path], on_outcome: OnOutcome) -> list[Outcome]:
        client = self._lake.boto3_client()
        headers = self._options.headers.upload_args()
        part = self._options.part_bytes

        def upload(copy: Copy) -> str | None:
            condition = copy.condition if self._options.conditional else {}
            request: dict[str, Any] = {"Bucket": self._lake.name, "Key": copy.lake_key} | headers
            with files[copy].open("rb") as body:

                def put(given: Mapping[str, Any]) -> Mapping[str, Any]:
                    body.seek(0)
                    return client.put_object(**request, Body=body, **given)

                if copy.size <= part:
                    return etag_of(with_condition(condition, put))
                multipart = Upload(client, self._lake.name, copy.lake_key, headers)
                try:
                    ranges = enumerate(part_ranges(copy.size, part_bytes(copy.size, part)), start=1)
                    parts = [multipart.put(number, body.read(end - start)) for number, (start, end) in ranges]
                    return multipart.complete(parts, condition)
                except BaseException:
                    multipart.abort()
                    raise

        workers = min(self._concurrency.workers, POOL_CONNECTIONS)
        return in_threads(
            list(files), upload, on_outcome, mode=self.mode, workers=workers, breaker=CircuitBreaker(self._options)
        )


def _seen(copy: Copy, path: Path) -> Digests | StoreFault:
    """Digests of a downloaded file, or the fault of one that differs from the plan."""
    try:
        size = path.stat().st_size
        if size != copy.size:
            return StoreFault("ShortRead", f"{size} bytes came instead of {copy.size}")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        seen = Digests(sha256, md5, _head(path) if copy.is_sidecar else None)
        return corrupt_sidecar(copy, seen) or seen
    except OSError as error:
        return StoreFault("Scratch", f"the downloaded file cannot be read: {error.strerror}")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SIDECAR_HEAD)


def _download_fault(fault: StoreFault, folder: Path) -> StoreFault:
    """The fault of a download. s5cmd's errors about a local file, such as a full disk, are not a store's."""
    if str(folder) not in fault.message:
        return fault
    return StoreFault("Scratch", f"the download could not be written: {fault.message}")


def _failures_only(on_outcome: OnOutcome) -> OnOutcome:
    """Report failures only: a download that succeeded is not an outcome yet."""

    def report(outcome: Outcome) -> None:
        if outcome.fault is not None:
            on_outcome(outcome)

    return report


def _within_bytes(copies: Sequence[Copy], limit: int) -> Iterator[list[Copy]]:
    """Batches of at most ``limit`` bytes, or of one larger copy."""
    batch: list[Copy] = []
    batch_bytes = 0
    for copy in copies:
        if batch and batch_bytes + copy.size > limit:
            yield batch
            batch, batch_bytes = [], 0
        batch.append(copy)
        batch_bytes += copy.size
    if batch:
        yield batch
