"""The rescan: every materialized or followed period is seen again every few days.

It goes from the newest period back, a stretch of periods at a time, and through a stretch folder by
folder: each is listed once for the whole stretch. Where it is lies in the cursor after every part,
so a tick ends when its time is over and the next one goes on, after a restart, too. What it finds to
differ from the manifest is pursued: the next look takes those periods' whole listing and asks for runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from typing import TypeAlias

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges.grammar import Folder
from lakehouse_assets.archive.listing import Lister, folders_of
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.manifest_cache import ManifestSummary
from lakehouse_assets.orchestration.discovery.cursor import (
    MAX_PURSUED,
    MAX_PURSUED_OF_DATASET,
    MAX_RESCANS,
    DatasetState,
    DiscoveryCursor,
    PendingPeriod,
    Place,
)
from lakehouse_assets.orchestration.discovery.time_budget import TickBudget
from lakehouse_assets.orchestration.run_requests import Runs
from lakehouse_assets.sync.changes import (
    STRETCH,
    FolderBatch,
    Found,
    TrackedPeriods,
    compare,
    listed_symbols,
    parts_of,
    rescanned_periods,
)

LookAt: TypeAlias = Callable[[FolderBatch], dict[str, Found]]


class Rescan:
    """The rescans of one exchange's datasets, as far as a tick gets with them."""

    def __init__(
        self, cursor: DiscoveryCursor, source: Lister, turn: TickBudget, runs: Runs, *, every_seconds: float, now: int
    ) -> None:
        self._cursor = cursor
        self._source = source
        self._turn = turn
        self._runs = runs
        self._every = every_seconds
        self._now = now

    def due(self, entries: Sequence[DatasetEntry], since: dict[str, date]) -> list[DatasetEntry]:
        """Those whose time has come: the ones begun first, then by how long ago the last one was."""
        watched = {entry.dataset.name: self._cursor.of(entry.dataset.name) for entry in entries}
        begun = sum(each.place is not None for each in watched.values())
        for entry in entries:
            name, each = entry.dataset.name, watched[entry.dataset.name]
            wanted = _wanted(entry, since[name])
            if each.wanted != wanted:
                # The matrix asks for something else than last time: from the newest period again.
                each.place, each.rescanned, each.wanted = None, 0, wanted
        due = [entry for entry in entries if self._is_due(entry.dataset.name, watched[entry.dataset.name])]
        due.sort(key=lambda entry: (watched[entry.dataset.name].place is None, watched[entry.dataset.name].rescanned))
        return due[: max(begun, MAX_RESCANS)]

    def go_on(self, entry: DatasetEntry, known: ManifestSummary, followed: TrackedPeriods, manifest: Manifest) -> None:
        """Look at as much of a dataset as there is time for, and room to remember what differs."""
        watched = self._cursor.of(entry.dataset.name)
        periods = rescanned_periods(entry, known, followed)
        if watched.place is not None:
            at = entry.dataset.period(watched.place.period)
            periods = [period for period in periods if period <= at]
        symbols = self._turn.ask(listed_symbols, entry, self._source, periods) if periods else ()
        while periods:
            last = periods[-1]
            first = max(entry.first_period, last.shifted(1 - STRETCH))
            if watched.place is None or watched.place.period != str(last):
                watched.place = Place(str(last))
            folders = folders_of(entry.dataset, symbols=symbols, intervals=entry.intervals, first=first, last=last)
            look = partial(compare, entry, self._source, manifest, since=followed.since)
            stretch = [period for period in periods if period >= first]
            if not self._through(entry.dataset, watched, watched.place, folders, partial(look, periods=stretch)):
                return
            periods = [period for period in periods if period < first]
        watched.place, watched.rescanned = None, self._now

    def _through(
        self, dataset: Dataset, watched: DatasetState, place: Place, folders: Sequence[Folder], look: LookAt
    ) -> bool:
        """The folders of one stretch; False when it has to be gone on with later."""
        root = dataset.source_prefix
        for part in parts_of(folders, after=root + place.key if place.key else ""):
            if self._turn.is_over() or self._is_full(watched):
                return False
            for period, found in self._turn.ask(look, part).items():
                if found.differs and (dataset.name, period) not in self._runs.going_on:
                    watched.pursued.setdefault(period, PendingPeriod())
            if part.end is not None:
                watched.place = Place(place.period, part.end.removeprefix(root))
        return True

    def _is_full(self, watched: DatasetState) -> bool:
        return len(watched.pursued) >= MAX_PURSUED_OF_DATASET or self._cursor.pursued >= MAX_PURSUED

    def _is_due(self, name: str, watched: DatasetState) -> bool:
        if watched.place is not None:
            return True
        # At different times, so that many datasets that began together drift apart.
        pace = 0.75 + 0.25 * int.from_bytes(hashlib.sha256(name.encode()).digest()[:2]) / 2**16
        return self._now - watched.rescanned >= self._every * pace


def _wanted(entry: DatasetEntry, since: date) -> str:
    """Changes when the matrix wants other objects or other periods."""
    return hashlib.sha256(f"{entry.code_version} {entry.catch_up} {since}".encode()).hexdigest()[:8]
