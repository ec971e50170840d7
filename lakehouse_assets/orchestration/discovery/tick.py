"""One tick of a discovery sensor: looks at every dataset, decides which periods to ask for.

What is new is the difference of listing and manifest; what was asked for is in Dagster's runs.
Looks go on side by side, since most of them only wait for an answer; decisions are made one
dataset after the other. A dataset that cannot be looked at does not stop the others.

A period that differs is pursued: its whole listing is taken until it has settled, then a run is
asked for, and again after a growing pause until the listing and the manifest agree.
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
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.manifest_cache import ManifestCache, ManifestSummary
from lakehouse_assets.orchestration.archives.cost_guard import is_closed
from lakehouse_assets.orchestration.archives.published_check import evaluations, judged
from lakehouse_assets.orchestration.discovery.cursor import (
    MAX_PURSUED,
    DiscoveryCursor,
    PartialListing,
    PendingPeriod,
    Problem,
)
from lakehouse_assets.orchestration.discovery.give_up import Event, Log
from lakehouse_assets.orchestration.discovery.pending import MAX_ATTEMPTS, PERIODS_PER_LOOK, PendingPeriods, is_given_up
from lakehouse_assets.orchestration.discovery.rescan import Rescan
from lakehouse_assets.orchestration.discovery.time_budget import OutOfTimeError, TickBudget
from lakehouse_assets.orchestration.partitions import build_partitions
from lakehouse_assets.orchestration.run_requests import RunAsk, Runs, build_request, grouped
from lakehouse_assets.settings import DiscoverySettings
from lakehouse_assets.sync.changes import (
    Found,
    TrackedPeriods,
    compare,
    folders_holding,
    followed_periods,
    listed_symbols,
    parts_of,
    published_of,
    seen_by_canaries,
)
from lakehouse_assets.sync.cost import CostLimit

LOOKS_SHARE = 0.6
"""Of a tick's time; the rest is the rescan's."""

REQUESTS_PER_TICK = 25
RUNS_AT_A_TIME = 50

RELIST_SECONDS = 3600.0
"""So often all symbols of a dataset are listed although its canaries have not moved: of the newest
periods, objects may still come after a run has copied what was there, and a canary may be delisted."""

AWAY_SECONDS = 7 * 86_400
"""After such a time without a tick, everything is rescanned: more may have been published than a look sees."""

LIST_CONCURRENCY = 64
NAMED = 5


@dataclass(frozen=True, slots=True)
class DatasetPoll:
    """What the manifest and the canaries say of one dataset; ``seen`` are periods that a canary has."""

    known: ManifestSummary
    followed: TrackedPeriods
    seen: frozenset[str]
    moved: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tick asks for and tells; ``reason`` is for where it asks for nothing."""

    requests: list[dg.RunRequest]
    events: list[Event]
    reason: str


@dataclass
class _Findings:
    """What a tick comes to, step by step."""

    requests: list[dg.RunRequest] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    looks: dict[str, DatasetPoll] = field(default_factory=dict)
    troubled: set[str] = field(default_factory=set)
    crowded_out: str | None = None


class DiscoveryTick:
    """One evaluation; ``cursor`` is to be kept after :meth:`run`."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        cursor: DiscoveryCursor,
        entries: Sequence[DatasetEntry],
        *,
        source: Bucket,
        lake: Lake,
        memory: ManifestCache,
        settings: DiscoverySettings,
        ceiling: CostLimit,
        now: float,
        log: Log,
    ) -> None:
        self.cursor = cursor
        self._paused = sum(entry.paused for entry in entries)
        self._entries = [entry for entry in entries if not entry.paused]
        self._source = Lister(source, concurrency=LIST_CONCURRENCY)
        self._lake = lake
        self._memory = memory
        self._settings = settings
        self._now = int(now)
        moment = datetime.fromtimestamp(now, UTC)
        self._today = entries[0].dataset.source.today(moment)
        self._log = log
        self._runs = Runs(instance, [entry.dataset.name for entry in self._entries])
        self._turn = TickBudget(settings.budget_seconds)
        self._is_closed = is_closed(instance, ceiling, moment)
        self._done = _Findings()
        cursor.keep({entry.dataset.name for entry in entries})

    def run(self) -> Outcome:
        if self.cursor.ticked and self._now - self.cursor.ticked > AWAY_SECONDS:
            for watched in self.cursor.datasets.values():
                watched.rescanned = 0
        self.cursor.ticked = self._now
        self.cursor.problems.clear()
        try:
            self._look_at_the_newest()
            self._rescan()
            self._tell_what_is_late()
        finally:
            self._turn.end()
        for text in self._done.trouble:
            self._log.warning(text)
        return Outcome(self._done.requests, self._done.events, self._reason())

    def _look_at_the_newest(self) -> None:
        entries = _rotated(self._entries, self.cursor.next_dataset)
        looks = [self._turn.begin(self._looker(entry)) for entry in entries]
        if self.cursor.survey is not None and self.cursor.survey.dataset != self.cursor.next_dataset:
            self.cursor.survey = None
        self.cursor.next_dataset = None
        for position, (entry, look) in enumerate(zip(entries, looks, strict=True)):
            # The first one always, so that every tick gets somewhere.
            if position and (self._turn.is_over(LOOKS_SHARE) or self._turn.is_too_late_for(look, LOOKS_SHARE)):
                self.cursor.next_dataset = entry.dataset.name
                break
            try:
                is_done = self._look_at(entry, look)
            except OutOfTimeError as error:
                # The first one had all the time there is: let the others come before it is tried again.
                following = entries[1 % len(entries)] if position == 0 else entry
                self.cursor.next_dataset = following.dataset.name
                self._note_trouble(entry, error)
                break
            except Exception as error:  # noqa: BLE001 - one dataset's fault must not stop the others
                self._note_trouble(entry, error)
                continue
            if not is_done:
                self.cursor.next_dataset = entry.dataset.name
                break
        self.cursor.next_dataset = self.cursor.next_dataset or self._done.crowded_out

    def _rescan(self) -> None:
        rescan = Rescan(
            self.cursor,
            self._source,
            self._turn,
            self._runs,
            every_seconds=self._settings.rescan_days * 86_400,
            now=self._now,
        )
        entries = [entry for entry in self._entries if entry.dataset.name in self._done.looks]
        for entry in rescan.due(entries, {entry.dataset.name: self._since(entry) for entry in entries}):
            if self._turn.is_over():
                break
            look = self._done.looks[entry.dataset.name]
            try:
                rescan.go_on(entry, look.known, look.followed, self._manifest(entry))
            except Exception as error:  # noqa: BLE001 - as above
                self._note_trouble(entry, error)

    def _tell_what_is_late(self) -> None:
        now = datetime.fromtimestamp(self._now, UTC)
        looks = {name: look for name, look in self._done.looks.items() if name not in self._done.troubled}
        verdicts = {
            name: verdict
            for entry in self._entries
            if (look := looks.get(name := entry.dataset.name))
            and (verdict := judged(entry, look.known, look.followed, self.cursor.of(name), look.seen, now=now))
        }
        self._done.events += evaluations(self._entries, verdicts, self.cursor.datasets, now)

    def _note_trouble(self, entry: DatasetEntry, error: Exception) -> None:
        self._done.troubled.add(entry.dataset.name)
        self.cursor.problems[entry.dataset.name] = Problem.of(error)
        if isinstance(error, LakehouseError | OutOfTimeError):
            self._done.trouble.append(f"{entry.dataset.name}: {error}")
        else:
            self._log.exception(f"Looking at {entry.dataset.name} failed.")
            self._done.trouble.append(f"{entry.dataset.name}: {type(error).__name__}: {error}")

    def _reason(self) -> str:
        pursued = {
            f"{name}@{period}": each
            for name, watched in self.cursor.datasets.items()
            for period, each in watched.pursued.items()
        }
        parts = [*self._done.trouble]
        if given_up := sorted(key for key, each in pursued.items() if is_given_up(each)):
            parts.append(
                f"Gave up after {MAX_ATTEMPTS} failed runs each: {', '.join(given_up[:NAMED])}"
                f"{', ...' if len(given_up) > NAMED else ''}; see the runs, and materialize by hand."
            )
        if waiting := sum(not each.attempt for each in pursued.values()):
            parts.append(f"Published periods that are not settled yet: {waiting}.")
        if self._runs.unfinished:
            parts.append(f"Runs in progress: {self._runs.unfinished}.")
        if self._is_closed:
            parts.append(
                "The day's spending ceiling (LAKEHOUSE_SPENDING_DAILY_MAX_*) is reached; goes on tomorrow (UTC)."
            )
        if self.cursor.next_dataset:
            parts.append(f"Goes on with {self.cursor.next_dataset}.")
        if self._paused:
            parts.append(f"Paused in the matrix: {self._paused} datasets.")
        return " ".join(parts) or "Nothing new."

    # Looking, in threads: reads source and lake, touches nothing else

    def _looker(self, entry: DatasetEntry) -> Callable[[], DatasetPoll]:
        since = self._since(entry)
        watched = self.cursor.of(entry.dataset.name)
        pursued, unlisted_seconds = set(watched.pursued), self._now - watched.listed

        def look() -> DatasetPoll:
            known = self._memory.known(self._manifest(entry))
            followed = followed_periods(entry, known, since=since, today=self._today)
            expected = [period for period in followed.open if str(period) not in pursued]
            seen = seen_by_canaries(entry, self._source, expected) if expected else set()
            if seen is None:
                return DatasetPoll(known, followed, frozenset(), unlisted_seconds >= self._settings.settle_seconds)
            return DatasetPoll(known, followed, frozenset(seen), bool(seen))

        return look

    def _since(self, entry: DatasetEntry) -> date:
        if entry.catch_up:
            return entry.first_period.start
        watched = self.cursor.of(entry.dataset.name)
        if entry.follow_from is not None:
            return entry.follow_from
        # A day to come was kept by a clock that was ahead.
        watched.since = self._today if watched.since is None else min(watched.since, self._today)
        return watched.since

    def _manifest(self, entry: DatasetEntry) -> Manifest:
        return Manifest(self._lake, entry.dataset)

    # Deciding

    @property
    def _room(self) -> int:
        """Runs that may still be asked for."""
        made = len(self._done.requests)
        return 0 if self._is_closed else min(REQUESTS_PER_TICK - made, RUNS_AT_A_TIME - self._runs.unfinished - made)

    def _look_at(self, entry: DatasetEntry, future: Future[DatasetPoll]) -> bool:
        """Ask for what one dataset needs; False when there was no time to finish."""
        look = self._turn.answer(future)
        self._done.looks[entry.dataset.name] = look
        watched = self.cursor.of(entry.dataset.name)
        pursuit = PendingPeriods(
            entry,
            watched,
            runs=self._runs,
            settings=self._settings,
            now=self._now,
            log=self._log,
            events=self._done.events,
        )
        pursuit.note_runs(look.known)
        periods = set(pursuit.due() if self._room > 0 else ())
        is_newest_due = look.moved or self._now - watched.listed >= RELIST_SECONDS
        if is_newest_due:
            newest = (*look.followed.open, *look.followed.recent)
            periods |= {period for period in newest if str(period) not in watched.pursued}
        if periods:
            survey = self._survey(entry, look, sorted(periods))
            if survey is None:
                return False
            if is_newest_due:
                watched.listed = self._now
            found = {period: Found(*each) for period, each in survey.found.items()}
            room = MAX_PURSUED - self.cursor.pursued
            self._request(entry, pursuit, list(pursuit.asks(survey.periods, found, look.known, room=room)))
        return True

    def _request(self, entry: DatasetEntry, pursuit: PendingPeriods, asks: Sequence[RunAsk]) -> None:
        partitions = build_partitions(entry)
        there = [ask for ask in asks if partitions.has_partition_key(str(ask.period))]
        for group in grouped(there, entry.partitions_per_run):
            if self._room <= 0:
                # It comes first in the next tick.
                self._done.crowded_out = self._done.crowded_out or entry.dataset.name
                break
            self._done.requests.append(build_request(entry, group))
            pursuit.asked(group)
        if len(there) < len(asks):
            self._done.trouble.append(f"{entry.dataset.name}: {len(asks) - len(there)} periods are no partitions.")

    def _survey(self, entry: DatasetEntry, look: DatasetPoll, periods: Sequence[Period]) -> PartialListing | None:
        """List all symbols; None when the time is over, and the next tick goes on."""
        name, root = entry.dataset.name, entry.dataset.source_prefix
        survey = self.cursor.survey
        if survey is None or survey.dataset != name:
            survey = PartialListing(dataset=name, periods=tuple(map(str, periods)))
        periods = [entry.dataset.period(text) for text in survey.periods]
        symbols = self._turn.ask(listed_symbols, entry, self._source, periods)
        folders = folders_holding(entry, symbols, periods)
        manifest = self._manifest(entry)
        found = {period: Found(*each) for period, each in survey.found.items()}
        for part in parts_of(folders, after=root + survey.key if survey.key else ""):
            here = self._turn.ask(compare, entry, self._source, manifest, part, periods)
            found |= {period: found.get(period, Found()).with_more(more) for period, more in here.items()}
            survey.found = {period: (each.objects, each.digest, each.differs) for period, each in found.items()}
            if part.end is not None:
                survey.key = part.end.removeprefix(root)
                if self._turn.is_over(LOOKS_SHARE):
                    self.cursor.survey = survey
                    return None
        self.cursor.survey = None
        self._pursue_new_symbols(entry, look, symbols, survey.periods)
        return survey

    def _pursue_new_symbols(
        self, entry: DatasetEntry, look: DatasetPoll, symbols: Sequence[str], surveyed: Sequence[str]
    ) -> None:
        """Symbols that no followed period has yet: all followed periods of theirs at once, not only the newest."""
        new = self._memory.new_symbols(entry.dataset.name, symbols, look.known.symbols)
        since, newest = look.followed.since, look.followed.newest
        if not new or since > newest:
            return
        first = max(since, newest.shifted(1 - PERIODS_PER_LOOK))
        periods = [period for period in period_range(first, newest) if str(period) not in surveyed]
        if not periods:
            return
        watched = self.cursor.of(entry.dataset.name)
        for period in self._turn.ask(published_of, entry, self._source, new, periods):
            watched.pursued.setdefault(period, PendingPeriod())


def _rotated(entries: Sequence[DatasetEntry], start: str | None) -> list[DatasetEntry]:
    names = [entry.dataset.name for entry in entries]
    position = names.index(start) if start in names else 0
    return [*entries[position:], *entries[:position]]
