"""One tick of a discovery sensor: looks at every dataset, decides which periods to ask for.

What is new is the difference of listing and manifest; what was asked for is in Dagster's runs.
Looks go on side by side, since most of them only wait for an answer; decisions are made one
dataset after the other. A dataset that cannot be looked at does not stop the others.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Protocol, TypeVar

import dagster as dg

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.listing import Lister
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Period
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.orchestration.cursor import (
    MAX_ASKED,
    Asked,
    DiscoveryCursor,
    Waiting,
    dataset_of,
    entry_key,
    period_of,
)
from lakehouse_assets.settings import DiscoverySettings
from lakehouse_assets.sync.lake import Lake
from lakehouse_assets.sync.manifest import Manifest
from lakehouse_assets.sync.watch import (
    NEWEST,
    WINDOW,
    Followed,
    Published,
    canaries_moved,
    followed_periods,
    open_periods,
    published_periods,
)

LIMIT_SECONDS = 45.0
"""A tick waits for no answer beyond this: Dagster ends it at 60 s, and its cursor would be lost."""

REQUESTS_PER_TICK = 25
MAX_ATTEMPTS = 8
LONGEST_RETRY_SECONDS = 6 * 3600.0

RELIST_SECONDS = 3600.0
"""So often all symbols of a dataset are listed although its canaries have not moved: of the newest
periods, objects may still come after a run has copied what was there."""

LOOKS = 16
LIST_CONCURRENCY = 64

RUN_KEY_TAG = "dagster/run_key"
"""Dagster's tag of a run's key, by which the sensor finds what became of a request."""

T = TypeVar("T")


class Log(Protocol):
    def warning(self, msg: str) -> None: ...
    def exception(self, msg: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Look:
    """What the manifest and the canaries say of one dataset."""

    followed: Followed
    window: tuple[Period, ...]
    moved: bool


class OutOfTimeError(Exception):
    """An answer did not come within the tick."""


class DiscoveryTick:
    """One evaluation. :meth:`run` returns the requests and, for where there are none, the reason;
    ``cursor`` is then to be kept."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        cursor: DiscoveryCursor,
        entries: Sequence[DatasetEntry],
        *,
        source: Bucket,
        lake: Lake,
        settings: DiscoverySettings,
        now: float,
        log: Log,
    ) -> None:
        self.cursor = cursor
        self._instance = instance
        self._entries = entries
        self._source = Lister(source, concurrency=LIST_CONCURRENCY)
        self._lake = lake
        self._settings = settings
        self._now = int(now)
        self._today = entries[0].dataset.source.today(datetime.fromtimestamp(now, UTC))
        self._log = log
        self._started = time.monotonic()
        self._pool = ThreadPoolExecutor(max_workers=LOOKS, thread_name_prefix="discovery")

    def run(self) -> tuple[list[dg.RunRequest], str]:
        self.cursor.keep({entry.dataset.name for entry in self._entries})
        self._note_runs_that_are_over()
        entries = _rotated(self._entries, self.cursor.next_dataset)
        looks = [self._pool.submit(self._looker(entry)) for entry in entries]
        requests: list[dg.RunRequest] = []
        trouble: list[str] = []
        self.cursor.next_dataset = None
        try:
            for position, (entry, look) in enumerate(zip(entries, looks, strict=True)):
                name = entry.dataset.name
                in_hand = sum(not _gave_up(asked) for asked in self.cursor.asked.values())
                room = min(REQUESTS_PER_TICK - len(requests), MAX_ASKED - in_hand)
                is_late = self._elapsed() > self._settings.budget_seconds
                # The first one always, so that every tick gets somewhere.
                if (position and is_late) or len(requests) >= REQUESTS_PER_TICK:
                    self.cursor.next_dataset = name
                    break
                try:
                    requests += self._decide(entry, self._answer(look), room)
                except OutOfTimeError:
                    # The first one had all the time there is: let the others come before it is tried again.
                    self.cursor.next_dataset = entries[1 % len(entries)].dataset.name if position == 0 else name
                    trouble.append(f"{name}: no answer within {LIMIT_SECONDS:g} s")
                    break
                except LakehouseError as error:
                    trouble.append(f"{name}: {error}")
                except Exception as error:  # noqa: BLE001 - one dataset's fault must not stop the others
                    self._log.exception(f"Looking for new periods of {name} failed.")
                    trouble.append(f"{name}: {type(error).__name__}: {error}")
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
        for text in trouble:
            self._log.warning(text)
        return requests, self._reason(trouble)

    def _reason(self, trouble: Sequence[str]) -> str:
        parts = [*trouble]
        if gave_up := sorted(key for key, asked in self.cursor.asked.items() if _gave_up(asked)):
            parts.append(
                f"Gave up after {MAX_ATTEMPTS} failed runs each: {', '.join(gave_up[:5])}"
                f"{', ...' if len(gave_up) > 5 else ''}; see the runs, and materialize by hand."  # noqa: PLR2004
            )
        if self.cursor.waiting:
            parts.append(f"Published periods that are not settled yet: {len(self.cursor.waiting)}.")
        if running := sum(asked.over is None for asked in self.cursor.asked.values()):
            parts.append(f"Runs in progress: {running}.")
        if self.cursor.next_dataset:
            parts.append(f"Goes on with {self.cursor.next_dataset}.")
        return " ".join(parts) or "Nothing new."

    # Looking, in threads: reads source and lake, touches nothing else

    def _looker(self, entry: DatasetEntry) -> Callable[[], Look]:
        name = entry.dataset.name
        since = self._since(entry)
        skip = {period_of(key) for key, asked in self._asked_of(name) if not self._may_ask(asked)}
        before = self.cursor.before.get(name)

        def look() -> Look:
            followed = followed_periods(entry, self._manifest(entry), since=since, today=self._today)
            window = tuple(open_periods(followed.open, skip=skip, before=before))
            return Look(followed, window, canaries_moved(entry, self._source, window))

        return look

    def _since(self, entry: DatasetEntry) -> date:
        if entry.catch_up:
            return entry.first_period.start
        return entry.follow_from or self.cursor.followed.setdefault(entry.dataset.name, self._today)

    def _manifest(self, entry: DatasetEntry) -> Manifest:
        return Manifest(self._lake, entry.dataset)

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _answer(self, future: Future[T]) -> T:
        wait([future], timeout=max(0.0, LIMIT_SECONDS - self._elapsed()))
        if not future.done():
            raise OutOfTimeError
        return future.result()

    # Deciding

    def _decide(self, entry: DatasetEntry, look: Look, room: int) -> Iterator[dg.RunRequest]:
        """Requests for one dataset, newest period first, at most ``room``."""
        name = entry.dataset.name
        self._forget_done(name, look.followed)
        listed = self.cursor.listed.setdefault(name, self._now)
        late = any(str(period) in self._waiting_of(name) for period in look.followed.recent)
        if not (look.moved or late or self._now - listed >= RELIST_SECONDS):
            self._note_window(name, look, [])
            return
        published = self._answer(
            self._pool.submit(published_periods, entry, self._source, self._manifest(entry), look.followed, look.window)
        )
        self.cursor.listed[name] = self._now
        self._note_window(name, look, published)
        gone = {str(period) for period in (*look.window, *look.followed.recent)}
        gone -= {str(found.period) for found in published}
        for period in self._waiting_of(name) & gone:
            del self.cursor.waiting[entry_key(name, period)]
        room = min(room, WINDOW - sum(not _gave_up(asked) for _, asked in self._asked_of(name)))
        for found in published:
            if room > 0 and (request := self._request(entry, found)):
                room -= 1
                yield request

    def _forget_done(self, name: str, followed: Followed) -> None:
        """Drop what is no longer followed or whole by now."""
        still_open = {str(period) for period in followed.open}
        for key, asked in self._asked_of(name):
            if asked.over is not None and period_of(key) not in still_open:
                del self.cursor.asked[key]
        for period in self._waiting_of(name) - still_open - {str(period) for period in followed.recent}:
            del self.cursor.waiting[entry_key(name, period)]

    def _note_window(self, name: str, look: Look, published: Sequence[Published]) -> None:
        """Where nothing of the window's older part is published, the next look goes on before it."""
        older = look.window[:-NEWEST]
        if not older:
            self.cursor.before.pop(name, None)
        elif len(look.followed.open) > WINDOW and not any(found.period in older for found in published):
            self.cursor.before[name] = str(older[0])

    def _request(self, entry: DatasetEntry, found: Published) -> dg.RunRequest | None:
        key = entry_key(entry.dataset.name, found.period)
        asked = self.cursor.asked.get(key)
        if asked is not None and not self._may_ask(asked):
            return None
        if (asked is None or asked.fingerprint != found.fingerprint) and not self._is_settled(key, found):
            return None
        self.cursor.waiting.pop(key, None)
        last, in_progress = self._attempts(key, found.fingerprint)
        if asked is not None and asked.fingerprint == found.fingerprint:
            last = max(last, asked.attempt)
        if in_progress or last >= MAX_ATTEMPTS:
            over = None if in_progress else self._now
            self.cursor.asked[key] = Asked(fingerprint=found.fingerprint, attempt=last, over=over)
            if not in_progress:
                self._log.warning(f"{key}: gave up after {MAX_ATTEMPTS} failed runs.")
            return None
        self.cursor.asked[key] = Asked(fingerprint=found.fingerprint, attempt=last + 1)
        return dg.RunRequest(
            run_key=_run_key(key, found.fingerprint, last + 1),
            partition_key=str(found.period),
            asset_selection=[dg.AssetKey(entry.dataset.asset_key)],
            tags={"lakehouse/attempt": str(last + 1), "lakehouse/objects": str(found.objects)},
        )

    def _is_settled(self, key: str, found: Published) -> bool:
        waiting = self.cursor.waiting.get(key)
        if waiting is None or waiting.fingerprint != found.fingerprint:
            waiting = self.cursor.waiting[key] = Waiting(fingerprint=found.fingerprint, since=self._now)
        return found.looks_whole or self._now - waiting.since >= self._settings.settle_seconds

    # What became of earlier requests

    def _note_runs_that_are_over(self) -> None:
        keys = {key: _run_key(key, asked.fingerprint, asked.attempt) for key, asked in self.cursor.asked.items()}
        going_on = {run.tags[RUN_KEY_TAG] for run in self._runs(list(keys.values())) if not run.is_finished}
        for key, asked in self.cursor.asked.items():
            if keys[key] in going_on:
                asked.over = None
            elif asked.over is None:
                asked.over = self._now

    def _may_ask(self, asked: Asked) -> bool:
        """Whether the run is over, and the pause after it. One that was given up is looked at again
        after the longest pause, in case the exchange has other objects by then."""
        pause = min(self._settings.first_retry_seconds * 2 ** (asked.attempt - 1), LONGEST_RETRY_SECONDS)
        if _gave_up(asked):
            pause = LONGEST_RETRY_SECONDS
        return asked.over is not None and self._now >= asked.over + pause

    def _attempts(self, key: str, fingerprint: str) -> tuple[int, bool]:
        """The last attempt that Dagster has a run of (0 for none), and whether it is in progress.

        Dagster launches nothing for a run key that it knows, so a lost cursor must not begin at 1.
        """
        numbers = {_run_key(key, fingerprint, number): number for number in range(1, MAX_ATTEMPTS + 1)}
        runs = self._runs(list(numbers))
        last = max((numbers[run.tags[RUN_KEY_TAG]] for run in runs), default=0)
        return last, any(not run.is_finished for run in runs)

    def _runs(self, run_keys: list[str]) -> Sequence[dg.DagsterRun]:
        return self._instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: run_keys})) if run_keys else []

    def _asked_of(self, name: str) -> list[tuple[str, Asked]]:
        return [(key, asked) for key, asked in self.cursor.asked.items() if dataset_of(key) == name]

    def _waiting_of(self, name: str) -> set[str]:
        return {period_of(key) for key in self.cursor.waiting if dataset_of(key) == name}


def _gave_up(asked: Asked) -> bool:
    return asked.attempt >= MAX_ATTEMPTS and asked.over is not None


def _run_key(key: str, fingerprint: str, attempt: int) -> str:
    return f"{key}@{fingerprint}@{attempt}"


def _rotated(entries: Sequence[DatasetEntry], start: str | None) -> list[DatasetEntry]:
    names = [entry.dataset.name for entry in entries]
    position = names.index(start) if start in names else 0
    return [*entries[position:], *entries[:position]]
