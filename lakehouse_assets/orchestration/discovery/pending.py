"""The pending periods of one dataset: when each is listed, requested, retried and given up.

A pending period waits until its listing has settled; then a run is requested. When that run is over and the period
still differs from the manifest, another run is requested after a pause that grows with each attempt, until the period
is given up. A period is no longer pending once listing and manifest agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Period
from lakehouse_assets.lake.manifest_cache import ManifestSummary
from lakehouse_assets.orchestration.discovery.cursor import MAX_ATTEMPTS, DatasetState, PendingPeriod, PendingStatus
from lakehouse_assets.orchestration.discovery.give_up import Event, Log, gave_up
from lakehouse_assets.orchestration.run_requests import PeriodRequest, Priority, Runs
from lakehouse_assets.settings import DiscoverySettings
from lakehouse_assets.sync.changes import PeriodContent, usual_objects

LONGEST_RETRY_SECONDS = 6 * 3600.0
PERIODS_PER_POLL = 124
SETTLED_SHARE = 0.95
"""A listing with this share of the previous period's objects counts as settled at once."""
NEW_PERIODS = 7
"""Runs of missing periods among this many newest ones start before others: a week, as exchanges publish late."""


class PendingPeriods:
    """Updates ``state``, the dataset's part of the cursor; collects what it has to record in ``events``."""

    def __init__(
        self,
        entry: DatasetEntry,
        state: DatasetState,
        *,
        runs: Runs,
        settings: DiscoverySettings,
        now: int,
        log: Log,
    ) -> None:
        self.events: list[Event] = []
        self._entry = entry
        self._state = state
        self._runs = runs
        self._settings = settings
        self._now = now
        self._log = log

    def note_runs(self, manifest: ManifestSummary) -> None:
        """Update the periods whose runs started or ended since the last tick."""
        name, pending = self._entry.dataset.name, self._state.pending
        in_progress = {period: run for (dataset, period), run in self._runs.in_progress.items() if dataset == name}
        for period, attempt in in_progress.items():
            pending[period] = PendingPeriod(attempt.fingerprint, attempt.number)
        for period, waiting in list(pending.items()):
            if waiting.status is not PendingStatus.REQUESTED or period in in_progress:
                continue
            attempt = self._runs.last_attempt(name, period, waiting.fingerprint)
            if period in manifest.complete and attempt is not None and attempt.succeeded:
                del pending[period]
            else:
                self._set_run_over(period, waiting)

    def due(self) -> list[Period]:
        """The periods to list now, ascending: the newest PERIODS_PER_POLL."""
        due = [period for period, waiting in self._state.pending.items() if self._is_due(waiting)]
        return [self._entry.dataset.period(text) for text in sorted(due)[-PERIODS_PER_POLL:]]

    def to_request(
        self,
        listed: Sequence[str],
        results: dict[str, PeriodContent],
        manifest: ManifestSummary,
        *,
        newest: Period,
        room: int,
    ) -> Iterator[PeriodRequest]:
        """Those of the listed periods to request now. At most ``room`` more become pending.

        ``newest``: the newest period that is over.
        """
        for period in listed:
            result = results.get(period, PeriodContent())
            if not result.differs:
                self._state.pending.pop(period, None)
            elif period in self._state.pending or room > 0:
                room -= period not in self._state.pending
                if (attempt := self._next_attempt(period, result, manifest)) is not None:
                    yield PeriodRequest(
                        self._entry.dataset.period(period),
                        result.fingerprint,
                        attempt,
                        result.objects,
                        self._priority(period, manifest, newest),
                    )

    def set_requested(self, requests: Sequence[PeriodRequest]) -> None:
        for request in requests:
            self._state.pending[str(request.period)] = PendingPeriod(request.fingerprint, request.attempt)

    def _priority(self, period: str, manifest: ManifestSummary, newest: Period) -> Priority:
        if period in manifest.complete:
            return Priority.REWRITTEN
        is_new = self._entry.dataset.period(period) > newest.shifted(-NEW_PERIODS)
        return Priority.NEW_PERIOD if is_new else Priority.HISTORY

    def _next_attempt(self, period: str, result: PeriodContent, manifest: ManifestSummary) -> int | None:
        """The attempt that is due now, None when none is."""
        waiting = self._state.pending.get(period, PendingPeriod())
        if waiting.attempt and waiting.fingerprint == result.fingerprint:
            if waiting.status is not PendingStatus.GIVEN_UP:
                return waiting.attempt + 1 if self._is_due(waiting) else None
            self._state.pending[period] = waiting._replace(since=self._now)
            return None
        if not self._is_settled(period, result, manifest):
            return None
        last = self._runs.last_attempt(self._entry.dataset.name, period, result.fingerprint)
        if last is None or last.number < MAX_ATTEMPTS:
            return last.number + 1 if last else 1
        self._set_run_over(period, PendingPeriod(result.fingerprint, MAX_ATTEMPTS))
        return None

    def _is_settled(self, period: str, result: PeriodContent, manifest: ManifestSummary) -> bool:
        """Whether the listing did not change for long enough, or has SETTLED_SHARE of the previous period's objects."""
        waiting = self._state.pending.get(period)
        if waiting is None or waiting.attempt or waiting.fingerprint != result.fingerprint:
            waiting = self._state.pending[period] = PendingPeriod(result.fingerprint, 0, self._now)
        usual = usual_objects(manifest, self._entry.dataset.period(period))
        looks_complete = usual is not None and result.objects >= SETTLED_SHARE * usual
        return looks_complete or self._now - waiting.since >= self._settings.settle_seconds

    def _is_due(self, waiting: PendingPeriod) -> bool:
        match waiting.status:
            case PendingStatus.NOT_LISTED:
                return True
            case PendingStatus.REQUESTED:
                return False
            case PendingStatus.SETTLING:
                pause: float = self._settings.settle_seconds
            case PendingStatus.RETRYING:
                first = self._settings.first_retry_seconds
                pause = min(first * 2 ** (waiting.attempt - 1), LONGEST_RETRY_SECONDS)
            case PendingStatus.GIVEN_UP:
                # Listed again now and then: the exchange may publish other content.
                pause = LONGEST_RETRY_SECONDS
        return self._now - waiting.since >= pause

    def _set_run_over(self, period: str, waiting: PendingPeriod) -> None:
        over = self._state.pending[period] = waiting._replace(since=self._now)
        if over.status is PendingStatus.GIVEN_UP:
            self.events.append(
                gave_up(self._log, self._entry.dataset, period, attempts=over.attempt, fingerprint=over.fingerprint)
            )
