"""The pending periods of one asset: when each is compared, requested, retried and given up.

The asset is an archive (discovery compares the exchange's listing with the manifest), a table or a verification (see
orchestration/following). A period that differs becomes pending and waits until its source has settled; then a run is
requested. When that run is over and the period still differs, another run is requested after a pause that grows with
each attempt, until the period is given up. A period is no longer pending once source and result agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.orchestration.discovery.cursor import MAX_ATTEMPTS, DatasetState, PendingPeriod, PendingStatus
from lakehouse_assets.orchestration.discovery.give_up import Event, Log, gave_up
from lakehouse_assets.orchestration.run_requests import PeriodRequest, Priority, Runs, Target

LONGEST_RETRY_SECONDS = 6 * 3600.0
PERIODS_PER_POLL = 124

NEW_PERIODS = {Cadence.DAILY: 7, Cadence.MONTHLY: 2}
"""Number of the newest periods that count as new: exchanges publish late."""


class Difference(NamedTuple):
    """A period that differs from its source, whose content has ``fingerprint`` and ``objects``.

    ``is_settled``: a run may be requested at once; otherwise only after the content did not change for a time.
    ``is_new``: one of the NEW_PERIODS, which become pending however many others are.
    """

    fingerprint: str
    objects: int
    is_settled: bool
    is_new: bool
    priority: Priority


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds: for how long content must not change, and from the first failed run to the next request."""

    settle: float
    first_retry: float


class PendingPeriods:
    """Updates ``state``, the asset's part of the cursor; collects what it has to record in ``events``."""

    def __init__(self, target: Target, state: DatasetState, *, runs: Runs, pauses: Pauses, now: int, log: Log) -> None:
        self.events: list[Event] = []
        self._target = target
        self._state = state
        self._runs = runs
        self._pauses = pauses
        self._now = now
        self._log = log

    def note_runs(self, complete: Collection[str]) -> None:
        """Update the periods whose runs started or ended since the last tick; ``complete`` ones agree already."""
        name, pending = self._target.name, self._state.pending
        in_progress = self._runs.in_progress_of(name)
        for period, attempt in in_progress.items():
            pending[period] = PendingPeriod(attempt.fingerprint, attempt.number)
        for period, waiting in list(pending.items()):
            if waiting.status is not PendingStatus.REQUESTED or period in in_progress:
                continue
            attempt = self._runs.last_attempt(name, period, waiting.fingerprint)
            if period in complete and attempt is not None and attempt.succeeded:
                del pending[period]
            else:
                self._set_run_over(period, waiting)

    def due(self) -> list[Period]:
        """The periods to compare now, ascending: the newest PERIODS_PER_POLL."""
        due = [period for period, waiting in self._state.pending.items() if self._is_due(waiting)]
        return [Period.parse(text, self._target.cadence) for text in sorted(due)[-PERIODS_PER_POLL:]]

    def to_request(
        self, compared: Collection[str], differences: Mapping[str, Difference], *, room: int
    ) -> Iterator[PeriodRequest]:
        """Those of the compared periods to request now. At most ``room`` more become pending, beside new ones and those
        that take the place of periods which agree now."""
        for period in compared:
            if period not in differences and self._state.pending.pop(period, None) is not None:
                room += 1
        for period, difference in ((period, differences[period]) for period in compared if period in differences):
            # History that is given up must not keep new periods out.
            if period in self._state.pending or room > 0 or difference.is_new:
                room -= period not in self._state.pending
                if (attempt := self._next_attempt(period, difference)) is not None:
                    yield PeriodRequest(
                        Period.parse(period, self._target.cadence),
                        difference.fingerprint,
                        attempt,
                        difference.objects,
                        difference.priority,
                    )

    def set_requested(self, requests: Iterable[PeriodRequest]) -> None:
        for request in requests:
            self._state.pending[str(request.period)] = PendingPeriod(request.fingerprint, request.attempt)

    def _next_attempt(self, period: str, difference: Difference) -> int | None:
        """The attempt that is due now, None when none is."""
        waiting = self._state.pending.get(period, PendingPeriod())
        if waiting.attempt and waiting.fingerprint == difference.fingerprint:
            if waiting.status is not PendingStatus.GIVEN_UP:
                return waiting.attempt + 1 if self._is_due(waiting) else None
            self._state.pending[period] = waiting._replace(since=self._now)
            return None
        if not self._is_settled(period, difference):
            return None
        last = self._runs.last_attempt(self._target.name, period, difference.fingerprint)
        if last is None or last.number < MAX_ATTEMPTS:
            return last.number + 1 if last else 1
        self._set_run_over(period, PendingPeriod(difference.fingerprint, MAX_ATTEMPTS))
        return None

    def _is_settled(self, period: str, difference: Difference) -> bool:
        waiting = self._state.pending.get(period)
        if waiting is None or waiting.attempt or waiting.fingerprint != difference.fingerprint:
            waiting = self._state.pending[period] = PendingPeriod(difference.fingerprint, 0, self._now)
        return difference.is_settled or self._now - waiting.since >= self._pauses.settle

    def _is_due(self, waiting: PendingPeriod) -> bool:
        match waiting.status:
            case PendingStatus.NOT_LISTED:
                return True
            case PendingStatus.REQUESTED:
                return False
            case PendingStatus.SETTLING:
                pause = self._pauses.settle
            case PendingStatus.RETRYING:
                pause = min(self._pauses.first_retry * 2 ** (waiting.attempt - 1), LONGEST_RETRY_SECONDS)
            case PendingStatus.GIVEN_UP:
                # Compared again now and then: the content may have changed.
                pause = LONGEST_RETRY_SECONDS
        return self._now - waiting.since >= pause

    def _set_run_over(self, period: str, waiting: PendingPeriod) -> None:
        over = self._state.pending[period] = waiting._replace(since=self._now)
        if over.status is PendingStatus.GIVEN_UP:
            self.events.append(
                gave_up(
                    self._log,
                    self._target,
                    period,
                    attempts=over.attempt,
                    fingerprint=over.fingerprint,
                    lake=self._runs.lake,
                )
            )


def is_new(period: Period, newest: Period) -> bool:
    """Whether a period is one of the NEW_PERIODS up to ``newest``."""
    return period > newest.shifted(-NEW_PERIODS[period.cadence])
