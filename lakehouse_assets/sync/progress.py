"""The progress of a sync, as it is reported to its caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from lakehouse_assets.archive.matrix import SyncMode


class Stage(StrEnum):
    """The stages of a sync."""

    LISTING = "listing"
    LISTED = "listed"
    MOVING = "moving"
    MOVED = "moved"
    COMMITTING = "committing"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class Progress:
    """Files (objects and sidecars) and bytes done, out of those to move in the windows planned so far.

    ``mode`` is the first mode of the route; None before the first file was moved.
    """

    stage: Stage
    mode: SyncMode | None = None
    files_done: int = 0
    files_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0


OnProgress = Callable[[Progress], None]


class ProgressCounter:
    """Counts files and bytes over all windows of a sync, and reports them."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._mode: SyncMode | None = None
        self._files_done = self._files_total = self._bytes_done = self._bytes_total = 0

    def enter(self, stage: Stage) -> None:
        self._on_progress(
            Progress(stage, self._mode, self._files_done, self._files_total, self._bytes_done, self._bytes_total)
        )

    def expect(self, copies: pl.DataFrame) -> None:
        """Add the files that a window has to move (COPY_SCHEMA) to the totals."""
        self._files_total += copies.height
        self._bytes_total += int(copies["size"].sum())

    def settled(self, size: int, mode: SyncMode | None) -> None:
        """Count a file whose copy succeeded or finally failed."""
        self._mode = mode
        self._files_done += 1
        self._bytes_done += size
        self.enter(Stage.MOVING)
