"""Staged mode: s5cmd downloads to scratch disk, then uploads. The traditional way, as a last resort.

Scratch files are numbered: a key never becomes a path. A batch never holds more bytes on disk
than allowed, except for a single object that is larger by itself. What is to be tagged is uploaded
by boto3, since s5cmd knows no tags.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from boto3.s3.transfer import TransferConfig

from lakehouse_assets.archive.bucket import POOL_CONNECTIONS
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.archive.store_errors import StoreFault
from lakehouse_assets.sync.by_request import in_threads
from lakehouse_assets.sync.s5cmd import CopyCommand, CopyFlags
from lakehouse_assets.sync.transfer import (
    SIDECAR_HEAD,
    Copy,
    OnOutcome,
    Outcome,
    Patience,
    S5cmdMover,
    Seen,
    run_commands,
    s5cmd_of,
)


class StagedMover(S5cmdMover):
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
            s5cmd_of(self._source, self._options, self._throttle),
            downloads,
            CopyFlags(),
            self.mode,
            _failures_only(on_outcome),
        )
        failed = [
            replace(outcome, fault=_of_download(outcome.fault, folder))
            for outcome in fetched
            if outcome.fault is not None
        ]
        whole: dict[Copy, Seen] = {}
        for outcome in fetched:
            if outcome.fault is None:
                seen = _seen(outcome.copy, files[outcome.copy])
                if isinstance(seen, StoreFault):
                    failed.append(Outcome(outcome.copy, self.mode, seen))
                    on_outcome(failed[-1])
                else:
                    whole[outcome.copy] = seen
        upload = self._upload_tagged if self._options.headers.tags else self._upload
        stored = upload({copy: files[copy] for copy in whole}, on_outcome)
        return failed + [replace(o, seen=whole[o.copy], fault=o.fault and _of_upload(o.fault)) for o in stored]

    def _upload(self, files: Mapping[Copy, Path], on_outcome: OnOutcome) -> list[Outcome]:
        uploads = {CopyCommand(str(path), f"{self._lake.url}/{copy.lake_key}"): copy for copy, path in files.items()}
        flags = CopyFlags(extra=self._options.headers.flags())
        return run_commands(s5cmd_of(self._lake, self._options, self._throttle), uploads, flags, self.mode, on_outcome)

    def _upload_tagged(self, files: Mapping[Copy, Path], on_outcome: OnOutcome) -> list[Outcome]:
        client = self._lake.boto3_client()
        headers = self._options.headers
        config = TransferConfig(multipart_chunksize=self._options.part_bytes)

        def upload(copy: Copy) -> None:
            with files[copy].open("rb") as body:
                client.upload_fileobj(
                    body,
                    self._lake.name,
                    copy.lake_key,
                    ExtraArgs=headers.extra_args() | {"Tagging": headers.tagging()},
                    Config=config,
                )

        workers = min(self._throttle.workers, POOL_CONNECTIONS)
        return in_threads(
            list(files), upload, on_outcome, mode=self.mode, workers=workers, patience=Patience(self._options)
        )


def _seen(copy: Copy, path: Path) -> Seen | StoreFault:
    """Digests of a downloaded file, or the fault of one that is not what was planned."""
    try:
        size = path.stat().st_size
        if size != copy.size:
            return StoreFault("ShortRead", f"{size} bytes came instead of {copy.size}")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        seen = Seen(sha256, md5, _head(path) if copy.is_sidecar else None)
        return seen.corruption(copy) or seen
    except OSError as error:
        return StoreFault("Scratch", f"the downloaded file cannot be read: {error.strerror}")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SIDECAR_HEAD)


def _of_download(fault: StoreFault, folder: Path) -> StoreFault:
    """What s5cmd says of a file of its own, a full disk above all, is no word of a store."""
    if str(folder) not in fault.message:
        return fault
    return StoreFault("Scratch", f"the download could not be written: {fault.message}")


def _of_upload(fault: StoreFault) -> StoreFault:
    """An upload's failure is the lake's; s5cmd's own (missing, killed, stalled) may be anyone's."""
    return replace(fault, of_lake=fault.code not in {"NotReported", "Stalled", "Deadline"})


def _failures_only(on_outcome: OnOutcome) -> OnOutcome:
    """A download that succeeded is no outcome yet."""

    def report(outcome: Outcome) -> None:
        if outcome.fault is not None:
            on_outcome(outcome)

    return report


def _within_bytes(copies: Sequence[Copy], limit: int) -> Iterator[list[Copy]]:
    batch: list[Copy] = []
    held = 0
    for copy in copies:
        if batch and held + copy.size > limit:
            yield batch
            batch, held = [], 0
        batch.append(copy)
        held += copy.size
    if batch:
        yield batch
