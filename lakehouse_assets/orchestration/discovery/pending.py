"""The pursuit of one dataset's periods that differ: when each is listed, asked for, asked for again.

A pursued period waits until its listing has settled; then a run is asked for; while that goes on
nothing happens; when it is over and the period still differs, it is asked for again after a pause
that grows, until it is given up. It ends when listing and manifest agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Period
from lakehouse_assets.lake.manifest_cache import ManifestSummary
from lakehouse_assets.orchestration.discovery.cursor import DatasetState, PendingPeriod
from lakehouse_assets.orchestration.discovery.give_up import Event, Log, gave_up
from lakehouse_assets.orchestration.run_requests import RunAsk, Runs
from lakehouse_assets.settings import DiscoverySettings
from lakehouse_assets.sync.changes import Found, usual_objects

MAX_ATTEMPTS = 8
LONGEST_RETRY_SECONDS = 6 * 3600.0
PERIODS_PER_LOOK = 124


class PendingPeriods:
    """``watched`` is the dataset's part of the cursor; ``events`` is added to."""

    def __init__(
        self,
        entry: DatasetEntry,
        watched: DatasetState,
        *,
        runs: Runs,
        settings: DiscoverySettings,
        now: int,
        log: Log,
        events: list[Event],
    ) -> None:
        self._entry = entry
        self._watched = watched
        self._runs = runs
        self._settings = settings
        self._now = now
        self._log = log
        self._events = events

    def note_runs(self, known: ManifestSummary) -> None:
        """What became of earlier requests."""
        name, pursued = self._entry.dataset.name, self._watched.pursued
        going_on = {period: each for (dataset, period), each in self._runs.going_on.items() if dataset == name}
        for period, attempt in going_on.items():
            pursued[period] = PendingPeriod(attempt.fingerprint, attempt.number)
        for period, each in list(pursued.items()):
            if not each.attempt or each.at or period in going_on:
                continue
            attempt = self._runs.last_attempt(name, period, each.fingerprint)
            if period in known.whole and attempt is not None and attempt.succeeded:
                del pursued[period]
            else:
                self._set_over(period, each)

    def due(self) -> list[Period]:
        """The periods whose listing is to be taken now, ascending; the newest where there are many."""
        due = [text for text, each in self._watched.pursued.items() if self._is_due(each)]
        return [self._entry.dataset.period(text) for text in sorted(due)[-PERIODS_PER_LOOK:]]

    def asks(
        self, listed: Sequence[str], found: dict[str, Found], known: ManifestSummary, *, room: int
    ) -> Iterator[RunAsk]:
        """Those of the listed periods that a run is to be asked for now. At most ``room`` more are pursued."""
        for text in listed:
            here = found.get(text, Found())
            if not here.differs:
                self._watched.pursued.pop(text, None)
            elif text in self._watched.pursued or room > 0:
                room -= text not in self._watched.pursued
                if (attempt := self._attempt(text, here, known)) is not None:
                    yield RunAsk(self._entry.dataset.period(text), here.fingerprint, attempt, here.objects)

    def asked(self, asks: Sequence[RunAsk]) -> None:
        """These were asked for."""
        for ask in asks:
            self._watched.pursued[str(ask.period)] = PendingPeriod(ask.fingerprint, ask.attempt)

    def _attempt(self, text: str, found: Found, known: ManifestSummary) -> int | None:
        """The attempt whose time has come, if any."""
        before = self._watched.pursued.get(text, PendingPeriod())
        if before.attempt and before.fingerprint == found.fingerprint:
            if not is_given_up(before):
                return before.attempt + 1 if self._is_due(before) else None
            self._watched.pursued[text] = before._replace(at=self._now)
            return None
        if not self._is_settled(text, found, known):
            return None
        past = self._runs.last_attempt(self._entry.dataset.name, text, found.fingerprint)
        if past is None or past.number < MAX_ATTEMPTS:
            return past.number + 1 if past else 1
        self._set_over(text, PendingPeriod(found.fingerprint, MAX_ATTEMPTS))
        return None

    def _is_settled(self, text: str, found: Found, known: ManifestSummary) -> bool:
        """Unchanged for long enough, or at least 95 % of what the period before has."""
        before = self._watched.pursued.get(text)
        if before is None or before.attempt or before.fingerprint != found.fingerprint:
            before = self._watched.pursued[text] = PendingPeriod(found.fingerprint, 0, self._now)
        usual = usual_objects(known, self._entry.dataset.period(text))
        looks_whole = usual is not None and found.objects >= 0.95 * usual
        return looks_whole or self._now - before.at >= self._settings.settle_seconds

    def _is_due(self, each: PendingPeriod) -> bool:
        if not each.attempt:
            return not each.fingerprint or self._now - each.at >= self._settings.settle_seconds
        return bool(each.at) and self._now - each.at >= self._pause(each)

    def _pause(self, each: PendingPeriod) -> float:
        """After a failed run. A period that was given up is listed again after the longest, in case the
        exchange has other objects by then."""
        if is_given_up(each):
            return LONGEST_RETRY_SECONDS
        return min(self._settings.first_retry_seconds * 2 ** (each.attempt - 1), LONGEST_RETRY_SECONDS)

    def _set_over(self, period: str, each: PendingPeriod) -> None:
        over = self._watched.pursued[period] = each._replace(at=self._now)
        if is_given_up(over):
            self._events.append(
                gave_up(self._log, self._entry.dataset, period, attempts=each.attempt, fingerprint=each.fingerprint)
            )


def is_given_up(each: PendingPeriod) -> bool:
    return each.attempt >= MAX_ATTEMPTS and each.at > 0
