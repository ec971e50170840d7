"""One tick of a follow sensor: which tables, or verifications, are not made from the archives that the lake has.

Nothing depends on events: a period is requested while the records of its archives (the manifests) differ from the
record of what was made from them (a table's lineage, a verification's findings). So a failed run, a lost cursor and a
lake that was away cost time, and no period.

A month is compared again when the files of its records changed, and all months once in SWEEP_SECONDS, from the newest
one back. Assets are compared one after the other; where one tick's time ends, the next one continues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import dagster as dg

from lakehouse_assets.archive.period import month_of
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.orchestration.discovery.cursor import (
    MAX_PENDING,
    MAX_PENDING_OF_DATASET,
    DiscoveryCursor,
    PendingStatus,
    RescanPosition,
)
from lakehouse_assets.orchestration.discovery.give_up import Log
from lakehouse_assets.orchestration.discovery.outcome import Outcome, given_up, note_problem, rotated
from lakehouse_assets.orchestration.discovery.pending import LONGEST_RETRY_SECONDS, Pauses
from lakehouse_assets.orchestration.discovery.time_budget import TickBudget
from lakehouse_assets.orchestration.following.asset import FollowedAsset, Follower, Memory
from lakehouse_assets.orchestration.run_requests import Priority, Runs, build_request, grouped

SWEEP_SECONDS = 7 * 86_400.0
"""All months of an asset are compared this often, whether or not their files changed."""

REQUESTS_PER_TICK = 25
RUNS_AT_A_TIME = 20
HISTORY_RUNS_AT_A_TIME = 10
"""Fewer than RUNS_AT_A_TIME, so that a new day does not wait for runs of history."""

RESERVED_PENDING = 100
"""Pending periods that only the newest month of an asset may use, so that history does not crowd out new days."""


class FollowTick:
    """One evaluation of a follow sensor. :meth:`run` updates ``cursor``, which the caller has to save.

    ``location`` is the label of the code location.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        cursor: DiscoveryCursor,
        followers: Sequence[Follower],
        *,
        lake: Lake,
        location: str | None,
        memory: Memory,
        budget_seconds: float,
        first_retry_seconds: float,
        now: float,
        log: Log,
    ) -> None:
        self.cursor = cursor
        self._followers = followers
        self._lake = lake
        self._memory = memory
        self._now = int(now)
        self._log = log
        self._budget = TickBudget(budget_seconds)
        names = [follower.target.name for follower in followers]
        self._runs = Runs(instance, names, lake=lake.label, location=location)
        # An incomplete archive period is followed once it did not change for a time: it may never be complete.
        self._pauses = Pauses(LONGEST_RETRY_SECONDS, first_retry_seconds)
        self._assets: dict[str, FollowedAsset] = {}
        self._requests: list[dg.RunRequest] = []
        self._problems: list[str] = []
        cursor.keep({follower.target.name for follower in followers})

    def run(self) -> Outcome:
        for state in self.cursor.datasets.values():
            state.problem = ""
        self.cursor.ticked = self._now
        followers = rotated(self._followers, lambda follower: follower.target.name, self.cursor.next_dataset)
        self.cursor.next_dataset = None
        try:
            if self._for_each(followers, self._follow):
                self._for_each(followers, self._sweep)
        finally:
            self._budget.end()
        for text in self._problems:
            self._log.warning(text)
        events = [event for asset in self._assets.values() for event in asset.pending.events]
        return Outcome(self._requests, events, self._reason())

    def _for_each(self, followers: Sequence[Follower], step: Callable[[Follower], bool]) -> bool:
        """Do a step for all assets; False when the time is over, and the next tick begins with the asset reached."""
        for follower in followers:
            name = follower.target.name
            try:
                is_done = step(follower)
            except Exception as error:  # noqa: BLE001 - one asset's error must not stop the others
                self._problems.append(note_problem(self.cursor, name, error, work="Comparing", log=self._log))
                continue
            finally:
                self._request(name)
            if not is_done:
                self.cursor.next_dataset = name
                return False
        return True

    def _follow(self, follower: Follower) -> bool:
        """Compare the months that changed or have due periods; False when there was no time to finish."""
        # The first asset has no limit, so that every tick makes progress.
        if self._assets and self._budget.is_over():
            return False
        asset = self._opened(follower)
        months = asset.changed_months() | asset.due_months(history=self._room(Priority.HISTORY) > 0)
        for position, month in enumerate(sorted(months, reverse=True)):
            if position and self._budget.is_over():
                return False
            self._compare(asset, month)
        # After the comparison: a period that still differs when its run is over was not written by it.
        asset.pending.note_runs(())
        if not asset.changed_months():
            asset.state.listed = self._now
        return True

    def _sweep(self, follower: Follower) -> bool:
        """Compare all months, from the newest back, when that is due; False when there was no time to finish."""
        asset = self._assets.get(follower.target.name)
        if asset is None or asset.state.problem:
            return True
        state = asset.state
        if state.rescan_position is None:
            if self._now - state.rescanned < SWEEP_SECONDS:
                return True
            state.rescan_position = RescanPosition(asset.newest_month)
        reached = state.rescan_position.period
        for month in sorted((month for month in asset.months if month <= reached), reverse=True):
            state.rescan_position = RescanPosition(month)
            if self._budget.is_over():
                return False
            if not self._compare(asset, month):
                # As many periods are pending as may be: the sweep goes on when some are done.
                return True
        state.rescan_position, state.rescanned = None, self._now
        return True

    def _opened(self, follower: Follower) -> FollowedAsset:
        name = follower.target.name
        comparison = follower.compare(self._lake, self._memory.files)
        asset = FollowedAsset(
            follower,
            self.cursor.of(name),
            comparison,
            self._budget.run(comparison.months),
            memory=self._memory,
            runs=self._runs,
            pauses=self._pauses,
            now=self._now,
            log=self._log,
        )
        self._assets[name] = asset
        return asset

    def _compare(self, asset: FollowedAsset, month: str) -> bool:
        """Compare a month; False when there is no room for more pending periods. New periods need no room."""
        room = MAX_PENDING - self.cursor.pending_periods
        if month != asset.newest_month:
            room = min(room - RESERVED_PENDING, MAX_PENDING_OF_DATASET - len(asset.state.pending))
        has_pending = any(month_of(text) == month for text in asset.state.pending)
        if room <= 0 and not has_pending and not asset.has_new_periods(month):
            return False
        self._budget.run(partial(asset.compare, month, room=max(room, 0)))
        return room > 0

    def _request(self, name: str) -> None:
        """Request runs for what was found of an asset; what has no room is due at the next tick."""
        asset = self._assets.get(name)
        if asset is None:
            return
        for group in grouped(asset.found, asset.target.periods_per_run):
            if self._room(group[0].priority) <= 0:
                asset.postpone(group)
                continue
            self._requests.append(build_request(asset.target, group, lake=self._lake.label))
            asset.pending.set_requested(group)
        asset.found.clear()

    def _room(self, priority: Priority) -> int:
        """Number of runs of this priority that this tick may still request."""
        made = len(self._requests)
        limit = HISTORY_RUNS_AT_A_TIME if priority is Priority.HISTORY else RUNS_AT_A_TIME
        return min(REQUESTS_PER_TICK - made, limit - self._runs.unfinished - made)

    def _reason(self) -> str:
        parts = [*self._problems, *given_up(self.cursor)]
        if waiting := self.cursor.periods_in(PendingStatus.SETTLING):
            parts.append(f"Periods whose archives are incomplete or being written: {len(waiting)}.")
        if self._runs.unfinished:
            parts.append(f"Runs in progress: {self._runs.unfinished}.")
        if self.cursor.next_dataset:
            parts.append(f"Continues with {self.cursor.next_dataset}.")
        return " ".join(parts) or "Everything is made from the archives that the lake has."
