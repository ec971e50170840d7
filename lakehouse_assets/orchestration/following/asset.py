"""One followed asset within a tick: which of its months have to be compared, and what the comparison finds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from lakehouse_assets.archive.period import Period, month_of, periods_of_month
from lakehouse_assets.lake.delta.latest import FilesByMonth, MonthFiles
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.outdated import Comparison, Outdated
from lakehouse_assets.orchestration.discovery.cursor import DatasetState, PendingPeriod
from lakehouse_assets.orchestration.discovery.give_up import Log
from lakehouse_assets.orchestration.discovery.pending import Difference, Pauses, PendingPeriods, is_new
from lakehouse_assets.orchestration.run_requests import PeriodRequest, Priority, Runs, Target

CLOCK_SKEW_SECONDS = 86_400.0
"""After a restart, files written up to this long before the last comparison count as new: clocks differ."""


@dataclass(frozen=True)
class Follower:
    """An asset that follows archives. ``compare`` builds the comparison for one tick."""

    target: Target
    partitions: dg.TimeWindowPartitionsDefinition
    compare: Callable[[Lake, FilesByMonth], Comparison]


@dataclass
class Memory:
    """What a process keeps between ticks: the files of records, and those that each asset's months were compared
    with."""

    files: FilesByMonth = field(default_factory=FilesByMonth)
    compared: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)


class FollowedAsset:
    """``months`` are the files of its records; ``found`` are the periods to request, in the order of comparison."""

    def __init__(
        self,
        follower: Follower,
        state: DatasetState,
        comparison: Comparison,
        months: Mapping[str, MonthFiles],
        *,
        memory: Memory,
        runs: Runs,
        pauses: Pauses,
        now: int,
        log: Log,
    ) -> None:
        self.target = follower.target
        self.state = state
        self.months = months
        self.found: list[PeriodRequest] = []
        self.pending = PendingPeriods(self.target, state, runs=runs, pauses=pauses, now=now, log=log)
        self._follower = follower
        self._comparison = comparison
        self._runs = runs
        self._newest = Period.containing(self.target.cadence, datetime.fromtimestamp(now, UTC).date()).shifted(-1)
        if self.target.name not in memory.compared:
            memory.compared[self.target.name] = self._compared_by_an_earlier_process()
        self._compared = memory.compared[self.target.name]

    @property
    def newest_month(self) -> str:
        return max(self.months, default="")

    def has_new_periods(self, month: str) -> bool:
        """Whether a month has new periods, or will have."""
        last = periods_of_month(month, self.target.cadence)[-1]
        return is_new(Period.parse(last, self.target.cadence), self._newest)

    def changed_months(self) -> set[str]:
        """Months whose files changed since they were compared."""
        return {month for month, files in self.months.items() if self._compared.get(month) != files.names}

    def due_months(self, *, history: bool) -> set[str]:
        """Months of pending periods that are due; without ``history`` only those of new periods."""
        return {period.month for period in self.pending.due() if history or is_new(period, self._newest)}

    def compare(self, month: str, *, room: int) -> None:
        """Compare one month. At most ``room`` more periods become pending; a month that needs more stays changed."""
        outdated = self._comparison.outdated(month)
        mine = self._runs.in_progress_of(self.target.name)
        of_month = {text for text in self.state.pending if month_of(text) == month}
        compared = sorted((of_month | set(outdated)) - set(mine), reverse=True)
        differences = {
            period: self._difference(period, outdated[period])
            for period in compared
            if period in outdated and self._follower.partitions.has_partition_key(period)
        }
        self.found += self.pending.to_request(compared, differences, room=room)
        if differences.keys() <= self.state.pending.keys() and month in self.months:
            self._compared[month] = self.months[month].names

    def postpone(self, requests: Collection[PeriodRequest]) -> None:
        """There is no room for these requests: their periods are due at the next tick."""
        for request in requests:
            self.state.pending[str(request.period)] = PendingPeriod()

    def _difference(self, period: str, outdated: Outdated) -> Difference:
        is_recent = is_new(Period.parse(period, self.target.cadence), self._newest)
        return Difference(
            outdated.fingerprint,
            outdated.objects,
            # A run that a person started may be about to write the period.
            is_settled=outdated.is_complete and period not in self._runs.others_in_progress_of(self.target.name),
            is_new=is_recent,
            priority=Priority.NEW_TABLE_PERIOD if is_recent or outdated.is_known else Priority.HISTORY,
        )

    def _compared_by_an_earlier_process(self) -> dict[str, frozenset[str]]:
        """Months that need no comparison when a process starts; a sweep that is due compares them nevertheless."""
        if not self.state.listed:
            return {month: files.names for month, files in self.months.items() if month != self.newest_month}
        since = self.state.listed - CLOCK_SKEW_SECONDS
        return {month: files.names for month, files in self.months.items() if files.written < since}
