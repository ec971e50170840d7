"""The rescan: every materialized or tracked period is listed again every few days.

A rescan works from the newest period back, one window of periods at a time, and through a window folder by folder:
each folder is listed once per window. The cursor holds its position after every batch of folders, so a tick stops at
the end of its budget and the next one continues, also after a restart. Periods that differ from the manifest become
pending: the next poll lists them in full and requests runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from typing import TypeAlias

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges.layout import Folder
from lakehouse_assets.archive.listing import Lister, folders_of
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.manifest_cache import ManifestSummary
from lakehouse_assets.orchestration.discovery.cursor import (
    MAX_PENDING,
    MAX_PENDING_OF_DATASET,
    MAX_RESCANS,
    DatasetState,
    DiscoveryCursor,
    PendingPeriod,
    RescanPosition,
)
from lakehouse_assets.orchestration.discovery.time_budget import TickBudget
from lakehouse_assets.orchestration.run_requests import Runs
from lakehouse_assets.sync.changes import (
    WINDOW_PERIODS,
    FolderBatch,
    PeriodContent,
    TrackedPeriods,
    compare,
    folder_batches,
    listed_symbols,
    rescanned_periods,
)

CompareBatch: TypeAlias = Callable[[FolderBatch], dict[str, PeriodContent]]


class Rescan:
    """The rescans of one exchange's datasets within one tick."""

    def __init__(
        self, cursor: DiscoveryCursor, source: Lister, budget: TickBudget, runs: Runs, *, every_seconds: float, now: int
    ) -> None:
        self._cursor = cursor
        self._source = source
        self._budget = budget
        self._runs = runs
        self._every = every_seconds
        self._now = now

    def due(self, entries: Sequence[DatasetEntry], since: dict[str, date]) -> list[DatasetEntry]:
        """Datasets whose rescan is due: those in progress first, then by the time of the last one."""
        states = {entry.dataset.name: self._cursor.of(entry.dataset.name) for entry in entries}
        in_progress = sum(state.rescan_position is not None for state in states.values())
        for entry in entries:
            state, digest = states[entry.dataset.name], scope_digest(entry, since[entry.dataset.name])
            if state.scope_digest != digest:
                # The matrix selects something else than last time: start over.
                state.rescan_position, state.rescanned, state.scope_digest = None, 0, digest
        due = [entry for entry in entries if self._is_due(entry.dataset.name, states[entry.dataset.name])]
        due.sort(key=lambda entry: _urgency(states[entry.dataset.name]))
        return due[: max(in_progress, MAX_RESCANS)]

    def go_on(self, entry: DatasetEntry, summary: ManifestSummary, tracked: TrackedPeriods, manifest: Manifest) -> None:
        """Rescan as much of a dataset as the tick's time and the limits on pending periods allow."""
        state = self._cursor.of(entry.dataset.name)
        periods = rescanned_periods(entry, summary, tracked)
        if state.rescan_position is not None:
            reached = entry.dataset.period(state.rescan_position.period)
            periods = [period for period in periods if period <= reached]
        symbols = self._budget.run(listed_symbols, entry, self._source, periods) if periods else ()
        while periods:
            last = periods[-1]
            first = max(entry.first_period, last.shifted(1 - WINDOW_PERIODS))
            if state.rescan_position is None or state.rescan_position.period != str(last):
                state.rescan_position = RescanPosition(str(last))
            folders = folders_of(entry.dataset, symbols=symbols, intervals=entry.intervals, first=first, last=last)
            window = [period for period in periods if period >= first]
            compare_batch = partial(compare, entry, self._source, manifest, since=tracked.since, periods=window)
            if not self._rescan_window(entry.dataset, state, state.rescan_position, folders, compare_batch):
                return
            periods = [period for period in periods if period < first]
        state.rescan_position, state.rescanned = None, self._now

    def _rescan_window(
        self,
        dataset: Dataset,
        state: DatasetState,
        start: RescanPosition,
        folders: Sequence[Folder],
        compare_batch: CompareBatch,
    ) -> bool:
        """Compare the folders of one window; False when a later tick has to continue."""
        root = dataset.source_prefix
        for batch in folder_batches(folders, after=root + start.key if start.key else ""):
            if self._budget.is_over() or self._is_full(state):
                return False
            for period, result in self._budget.run(compare_batch, batch).items():
                if result.differs and period not in self._runs.in_progress_of(dataset.name):
                    state.pending.setdefault(period, PendingPeriod())
            if batch.end is not None:
                state.rescan_position = RescanPosition(start.period, batch.end.removeprefix(root))
        return True

    def _is_full(self, state: DatasetState) -> bool:
        return len(state.pending) >= MAX_PENDING_OF_DATASET or self._cursor.pending_periods >= MAX_PENDING

    def _is_due(self, name: str, state: DatasetState) -> bool:
        if state.rescan_position is not None:
            return True
        # An interval of its own per dataset, so that rescans that started together drift apart.
        share = 0.75 + 0.25 * int.from_bytes(hashlib.sha256(name.encode()).digest()[:2]) / 2**16
        return self._now - state.rescanned >= self._every * share


def _urgency(state: DatasetState) -> tuple[bool, float]:
    return state.rescan_position is None, state.rescanned


def scope_digest(entry: DatasetEntry, since: date) -> str:
    """Digest that changes when the matrix selects other objects or other periods."""
    return hashlib.sha256(f"{entry.code_version} {entry.catch_up} {since}".encode()).hexdigest()[:8]
