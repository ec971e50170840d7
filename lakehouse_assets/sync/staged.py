"""Staged mode: s5cmd downloads to scratch disk, then uploads. The traditional way, as a last resort.

Scratch files are numbered: a key never becomes a path. A batch never holds more bytes on disk
than allowed, except for a single object that is larger by itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.sync.s5cmd import CopyCommand, CopyFlags
from lakehouse_assets.sync.transfer import (
    Copy,
    OnOutcome,
    Outcome,
    TransferOptions,
    run_commands,
    s5cmd_of,
)


class StagedMover:
    """Download with the source's identity, upload with the lake's."""

    mode = SyncMode.STAGED

    def __init__(self, source: Bucket, lake: Bucket, options: TransferOptions) -> None:
        self._source = source
        self._lake = lake
        self._options = options

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for batch in _within_bytes(copies, self._options.scratch_bytes):
            with tempfile.TemporaryDirectory(prefix="lakehouse-staged-", dir=self._options.scratch) as folder:
                outcomes += self._move_batch(batch, Path(folder), on_outcome)
        return outcomes

    def _move_batch(self, batch: Sequence[Copy], folder: Path, on_outcome: OnOutcome) -> list[Outcome]:
        files = {copy: folder / str(number) for number, copy in enumerate(batch)}
        downloads = {
            CopyCommand(f"{self._source.url}/{copy.source_key}", str(path)): copy for copy, path in files.items()
        }
        fetched = run_commands(
            s5cmd_of(self._source, self._options), downloads, CopyFlags(), self.mode, _failures_only(on_outcome)
        )
        uploads = {
            CopyCommand(str(files[outcome.copy]), f"{self._lake.url}/{outcome.copy.lake_key}"): outcome.copy
            for outcome in fetched
            if outcome.fault is None
        }
        stored = run_commands(s5cmd_of(self._lake, self._options), uploads, CopyFlags(), self.mode, on_outcome)
        return [outcome for outcome in fetched if outcome.fault is not None] + stored


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
