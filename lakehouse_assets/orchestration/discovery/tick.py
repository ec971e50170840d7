"""One tick of a discovery sensor: polls every dataset and decides which periods to request runs for.

New is what the listing has and the manifest lacks; what was requested is in Dagster's runs. Datasets are polled in
threads, since a poll mostly waits for answers; decisions are made one dataset after the other. A dataset that cannot
be polled does not stop the others.

A period that differs becomes pending: all of it is listed until the listing has settled, then a run is requested, and
again after a growing pause until listing and manifest agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import dagster as dg

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.listing import Lister
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Period, period_range
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.manifest_cache import ManifestCache
from lakehouse_assets.orchestration.archives.cost_guard import is_closed
from lakehouse_assets.orchestration.archives.published_check import availability_of, evaluations
from lakehouse_assets.orchestration.discovery.cursor import (
    MAX_PENDING,
    OTHER_PROBLEM,
    DiscoveryCursor,
    PartialListing,
    PendingPeriod,
    PendingStatus,
)
from lakehouse_assets.orchestration.discovery.give_up import Event, Log
from lakehouse_assets.orchestration.discovery.outcome import Outcome, given_up, note_problem, rotated
from lakehouse_assets.orchestration.discovery.pending import PERIODS_PER_POLL, Pauses, PendingPeriods
from lakehouse_assets.orchestration.discovery.poll import DatasetPoll
from lakehouse_assets.orchestration.discovery.rescan import Rescan
from lakehouse_assets.orchestration.discovery.time_budget import OutOfTimeError, TickBudget
from lakehouse_assets.orchestration.partitions import build_partitions
from lakehouse_assets.orchestration.run_requests import PeriodRequest, Runs, Target, build_request, grouped
from lakehouse_assets.settings import DiscoverySettings
from lakehouse_assets.sync.changes import (
    PeriodContent,
    compare,
    folder_batches,
    folders_holding,
    listed_symbols,
    published_of,
    seen_by_canaries,
    tracked_periods,
)
from lakehouse_assets.sync.cost import CostLimit

POLLS_SHARE = 0.6
"""Share of a tick's time for polling the newest periods; the rescan has the rest."""

REQUESTS_PER_TICK = 25
RUNS_AT_A_TIME = 50

RELIST_SECONDS = 3600.0
"""All symbols of a dataset are listed this often although no canary moved: objects of the newest periods may be
published after a run has copied the period, and a canary may be delisted."""

AWAY_SECONDS = 7 * 86_400
"""After this time without a tick, everything is rescanned: more may have been published than a poll covers."""

LIST_CONCURRENCY = 64


@dataclass
class _Results:
    """What a tick collects, step by step."""

    requests: list[dg.RunRequest] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    polls: dict[str, DatasetPoll] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    crowded_out: str | None = None


class DiscoveryTick:
    """One evaluation of the sensor. :meth:`run` updates ``cursor``, which the caller has to save."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        cursor: DiscoveryCursor,
        entries: Sequence[DatasetEntry],
        *,
        source: Bucket,
        lake: Lake,
        manifests: ManifestCache,
        settings: DiscoverySettings,
        cost_limit: CostLimit,
        now: float,
        log: Log,
    ) -> None:
        self.cursor = cursor
        self._paused = sum(entry.paused for entry in entries)
        self._entries = [entry for entry in entries if not entry.paused]
        self._source = Lister(source, concurrency=LIST_CONCURRENCY)
        self._lake = lake
        self._manifests = manifests
        self._settings = settings
        self._now = int(now)
        moment = datetime.fromtimestamp(now, UTC)
        self._today = entries[0].dataset.source.today(moment)
        self._log = log
        self._runs = Runs(instance, [entry.dataset.name for entry in self._entries], lake=lake.label)
        self._budget = TickBudget(settings.budget_seconds)
        self._is_closed = is_closed(instance, cost_limit, moment, lake.label)
        self._results = _Results()
        cursor.keep({entry.dataset.name for entry in entries})

    def run(self) -> Outcome:
        was_away = self.cursor.ticked and self._now - self.cursor.ticked > AWAY_SECONDS
        for state in self.cursor.datasets.values():
            state.problem = ""
            if was_away:
                state.rescanned = 0
        self.cursor.ticked = self._now
        try:
            self._poll_newest()
            self._rescan()
            self._evaluate_published()
        finally:
            self._budget.end()
        for text in self._results.problems:
            self._log.warning(text)
        return Outcome(self._results.requests, self._results.events, self._reason())

    def _poll_newest(self) -> None:
        entries = rotated(self._entries, lambda entry: entry.dataset.name, self.cursor.next_dataset)
        polls = [self._budget.start(self._poll_of(entry)) for entry in entries]
        unfinished = self.cursor.partial_listing
        if unfinished is not None and unfinished.dataset != self.cursor.next_dataset:
            self.cursor.partial_listing = None
        self.cursor.next_dataset = None
        for position, (entry, poll) in enumerate(zip(entries, polls, strict=True)):
            # The first dataset has no limit, so that every tick makes progress.
            if position and (self._budget.is_over(POLLS_SHARE) or self._budget.is_too_late_for(poll, POLLS_SHARE)):
                self.cursor.next_dataset = entry.dataset.name
                break
            try:
                is_done = self._decide(entry, poll)
            except OutOfTimeError as error:
                # The first dataset had all of the tick's time: the others come first before it is tried again.
                following = entries[1 % len(entries)] if position == 0 else entry
                self.cursor.next_dataset = following.dataset.name
                self._note_problem(entry, error)
                break
            except Exception as error:  # noqa: BLE001 - one dataset's error must not stop the others
                self._note_problem(entry, error)
                continue
            if not is_done:
                self.cursor.next_dataset = entry.dataset.name
                break
        self.cursor.next_dataset = self.cursor.next_dataset or self._results.crowded_out

    def _rescan(self) -> None:
        rescan = Rescan(
            self.cursor,
            self._source,
            self._budget,
            self._runs,
            every_seconds=self._settings.rescan_days * 86_400,
            now=self._now,
        )
        entries = [entry for entry in self._entries if entry.dataset.name in self._results.polls]
        for entry in rescan.due(entries, {entry.dataset.name: self._since(entry) for entry in entries}):
            if self._budget.is_over():
                break
            poll = self._results.polls[entry.dataset.name]
            try:
                rescan.go_on(entry, poll.manifest, poll.tracked, self._manifest(entry))
            except Exception as error:  # noqa: BLE001 - one dataset's error must not stop the others
                self._note_problem(entry, error)

    def _evaluate_published(self) -> None:
        now = datetime.fromtimestamp(self._now, UTC)
        polls = {name: poll for name, poll in self._results.polls.items() if name not in self._results.failed}
        verdicts = {
            name: verdict
            for entry in self._entries
            if (poll := polls.get(name := entry.dataset.name))
            and (
                verdict := availability_of(entry, poll.manifest, poll.tracked, self.cursor.of(name), poll.seen, now=now)
            )
        }
        self._results.events += evaluations(self._entries, verdicts, self.cursor.datasets, now, lake=self._lake.label)

    def _note_problem(self, entry: DatasetEntry, error: Exception) -> None:
        name = entry.dataset.name
        self._results.failed.add(name)
        self._results.problems.append(note_problem(self.cursor, name, error, work="Polling", log=self._log))

    def _reason(self) -> str:
        parts = [*self._results.problems, *given_up(self.cursor)]
        if waiting := self.cursor.periods_in(PendingStatus.NOT_LISTED, PendingStatus.SETTLING):
            parts.append(f"Published periods that are not settled yet: {len(waiting)}.")
        if self._runs.unfinished:
            parts.append(f"Runs in progress: {self._runs.unfinished}.")
        if self._is_closed:
            parts.append(
                "The daily cost limit (LAKEHOUSE_SPENDING_DAILY_MAX_*) is reached; requests resume tomorrow (UTC)."
            )
        if self.cursor.next_dataset:
            parts.append(f"Continues with {self.cursor.next_dataset}.")
        if self._paused:
            parts.append(f"Paused in the matrix: {self._paused} datasets.")
        return " ".join(parts) or "Nothing new."

    # Polling, in threads: reads source and lake, and changes no state

    def _poll_of(self, entry: DatasetEntry) -> Callable[[], DatasetPoll]:
        since = self._since(entry)
        state = self.cursor.of(entry.dataset.name)
        pending, unlisted_seconds = set(state.pending), self._now - state.listed

        def poll() -> DatasetPoll:
            manifest = self._manifests.known(self._manifest(entry))
            tracked = tracked_periods(entry, manifest, since=since, today=self._today)
            expected = [period for period in tracked.open if str(period) not in pending]
            seen = seen_by_canaries(entry, self._source, expected) if expected else set()
            if seen is None:  # no canary: the time since the last listing decides
                return DatasetPoll(manifest, tracked, frozenset(), unlisted_seconds >= self._settings.settle_seconds)
            return DatasetPoll(manifest, tracked, frozenset(seen), bool(seen))

        return poll

    def _since(self, entry: DatasetEntry) -> date:
        """The first tracked day of a dataset."""
        if entry.catch_up:
            return entry.first_period.start
        state = self.cursor.of(entry.dataset.name)
        if entry.follow_from is not None:
            return entry.follow_from
        # A clock that was ahead may have saved a day in the future.
        state.since = self._today if state.since is None else min(state.since, self._today)
        return state.since

    def _manifest(self, entry: DatasetEntry) -> Manifest:
        return Manifest(self._lake, entry.dataset)

    # Deciding

    @property
    def _room(self) -> int:
        """Number of runs that this tick may still request."""
        made = len(self._results.requests)
        return 0 if self._is_closed else min(REQUESTS_PER_TICK - made, RUNS_AT_A_TIME - self._runs.unfinished - made)

    def _decide(self, entry: DatasetEntry, future: Future[DatasetPoll]) -> bool:
        """Request what one dataset needs; False when there was no time to finish."""
        poll = self._budget.result_of(future)
        self._results.polls[entry.dataset.name] = poll
        state = self.cursor.of(entry.dataset.name)
        pauses = Pauses(self._settings.settle_seconds, self._settings.first_retry_seconds)
        pending = PendingPeriods(Target.of(entry), state, runs=self._runs, pauses=pauses, now=self._now, log=self._log)
        try:
            return self._request_due(entry, poll, pending)
        finally:
            self._results.events += pending.events

    def _request_due(self, entry: DatasetEntry, poll: DatasetPoll, pending: PendingPeriods) -> bool:
        state = self.cursor.of(entry.dataset.name)
        pending.note_runs(poll.manifest.complete)
        periods = set(pending.due() if self._room > 0 else ())
        is_newest_due = poll.moved or self._now - state.listed >= RELIST_SECONDS
        if is_newest_due:
            newest = (*poll.tracked.open, *poll.tracked.recent)
            periods |= {period for period in newest if str(period) not in state.pending}
        if periods:
            listing = self._list_all_symbols(entry, poll, sorted(periods))
            if listing is None:
                return False
            if is_newest_due:
                state.listed = self._now
            room = MAX_PENDING - self.cursor.pending_periods
            due = list(pending.to_request(listing.periods, poll.differences(entry, listing), room=room))
            self._request(entry, pending, due)
        return True

    def _request(self, entry: DatasetEntry, pending: PendingPeriods, due: Sequence[PeriodRequest]) -> None:
        partitions = build_partitions(entry)
        existing = [request for request in due if partitions.has_partition_key(str(request.period))]
        for group in grouped(existing, entry.partitions_per_run):
            if self._room <= 0:
                # The next tick begins with this dataset.
                self._results.crowded_out = self._results.crowded_out or entry.dataset.name
                break
            self._results.requests.append(build_request(Target.of(entry), group, lake=self._lake.label))
            pending.set_requested(group)
        if len(existing) < len(due):
            text = f"{entry.dataset.name}: {len(due) - len(existing)} periods are no partitions."
            self._results.problems.append(text)
            self.cursor.of(entry.dataset.name).problem = OTHER_PROBLEM

    def _list_all_symbols(
        self, entry: DatasetEntry, poll: DatasetPoll, periods: Sequence[Period]
    ) -> PartialListing | None:
        """List periods of all symbols; None when the time is over, and the next tick continues."""
        name, root = entry.dataset.name, entry.dataset.source_prefix
        listing = self.cursor.partial_listing
        if listing is None or listing.dataset != name:
            listing = PartialListing(dataset=name, periods=tuple(map(str, periods)))
        periods = [entry.dataset.period(text) for text in listing.periods]
        symbols = self._budget.run(listed_symbols, entry, self._source, periods)
        folders = folders_holding(entry, symbols, periods)
        manifest = self._manifest(entry)
        results = {period: PeriodContent(*result) for period, result in listing.results.items()}
        for batch in folder_batches(folders, after=root + listing.key if listing.key else ""):
            batch_results = self._budget.run(compare, entry, self._source, manifest, batch, periods)
            results |= {
                period: results.get(period, PeriodContent()).with_more(more) for period, more in batch_results.items()
            }
            listing.results = {
                period: (result.objects, result.digest, result.differs) for period, result in results.items()
            }
            if batch.end is not None:
                listing.key = batch.end.removeprefix(root)
                if self._budget.is_over(POLLS_SHARE):
                    self.cursor.partial_listing = listing
                    return None
        self.cursor.partial_listing = None
        self._add_new_symbols(entry, poll, symbols, listing.periods)
        return listing

    def _add_new_symbols(
        self, entry: DatasetEntry, poll: DatasetPoll, symbols: Sequence[str], listed: Sequence[str]
    ) -> None:
        """Make pending all tracked periods, not only the newest, of symbols that the manifest does not have yet."""
        new = self._manifests.new_symbols(entry.dataset.name, symbols, poll.manifest.symbols)
        since, newest = poll.tracked.since, poll.tracked.newest
        if not new or since > newest:
            return
        first = max(since, newest.shifted(1 - PERIODS_PER_POLL))
        periods = [period for period in period_range(first, newest) if str(period) not in listed]
        if not periods:
            return
        state = self.cursor.of(entry.dataset.name)
        for period in self._budget.run(published_of, entry, self._source, new, periods):
            state.pending.setdefault(period, PendingPeriod())
