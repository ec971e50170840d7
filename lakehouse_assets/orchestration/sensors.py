"""Discovery sensors: one per exchange, asking for a run of each newly published period."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

import dagster as dg

from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.listing import Lister
from lakehouse_assets.archive.matrix import ArchiveMatrix, DatasetEntry
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.orchestration.cursor import Asked, DiscoveryCursor, Waiting
from lakehouse_assets.orchestration.resources import LakeResource, SourceResource
from lakehouse_assets.sync.manifest import Manifest
from lakehouse_assets.sync.watch import Published, published_periods

TICK_SECONDS = 60
BUDGET_SECONDS = 20.0
"""A tick stops starting work then (Dagster ends it at 60 s, and its cursor would be lost)."""

SETTLE_SECONDS = 300.0
"""A listing that did not change for so long is taken as whole."""

REQUESTS_PER_TICK = 10
FIRST_RETRY_SECONDS = 300.0
LONGEST_RETRY_SECONDS = 6 * 3600.0
MAX_ATTEMPTS = 8

RUN_KEY_TAG = "dagster/run_key"
"""Dagster's tag of a run's key, by which the sensor finds what became of a request."""

_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def build_discovery_sensors(matrix: ArchiveMatrix) -> list[dg.SensorDefinition]:
    """One sensor per exchange of the matrix, so that one's outage does not stop another's."""
    exchanges = dict.fromkeys(entry.dataset.exchange for entry in matrix.entries)
    return [
        _build_sensor(name, [entry for entry in matrix.entries if entry.dataset.exchange == name]) for name in exchanges
    ]


def _build_sensor(exchange_name: str, entries: Sequence[DatasetEntry]) -> dg.SensorDefinition:
    exchange = exchange_named(exchange_name)

    @dg.sensor(
        name=f"{exchange_name}_discovery",
        asset_selection=dg.AssetSelection.assets(*(entry.dataset.asset_key for entry in entries)),
        minimum_interval_seconds=TICK_SECONDS,
        description=f"Polls {exchange.bucket} for newly published periods of the followed datasets and asks "
        "for one run per settled period. History before `follow_from` is a backfill that a person starts.",
    )
    def discovery_sensor(
        context: dg.SensorEvaluationContext, lake: LakeResource, source: SourceResource
    ) -> dg.SensorResult:
        cursor = DiscoveryCursor.read(context.cursor)
        target = lake.lake()
        lister = Lister(source.bucket(exchange))
        tick = _Tick(context.instance, cursor, now=time.time())
        requests: list[dg.RunRequest] = []
        started = time.monotonic()
        trouble: list[str] = []
        for entry in _rotated(entries, cursor.next_dataset):
            cursor.next_dataset = entry.dataset.name
            if time.monotonic() - started > BUDGET_SECONDS or len(requests) >= REQUESTS_PER_TICK:
                break
            try:
                requests += tick.look(entry, lister, Manifest(target, entry.dataset), REQUESTS_PER_TICK - len(requests))
            except LakehouseError as error:
                trouble.append(f"{entry.dataset}: {error}")
        else:
            cursor.next_dataset = None
        waiting = f"{len(cursor.waiting)} published periods are settling. " if cursor.waiting else ""
        reason = waiting + ("; ".join(trouble) or "Nothing else is new.")
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else reason, cursor=cursor.write())

    return discovery_sensor


class _Tick:
    """One evaluation: decides for each published period whether to ask for a run now."""

    def __init__(self, instance: dg.DagsterInstance, cursor: DiscoveryCursor, *, now: float) -> None:
        self._instance = instance
        self._cursor = cursor
        self._now = now

    def look(self, entry: DatasetEntry, source: Lister, manifest: Manifest, limit: int) -> Iterator[dg.RunRequest]:
        """Requests for one dataset, at most ``limit``."""
        name = entry.dataset.name
        today = datetime.fromtimestamp(self._now, UTC).date()
        in_hand = [key for key, asked in self._cursor.asked.items() if _of(key, name) and not self._may_ask(key, asked)]
        published = published_periods(
            entry,
            source,
            manifest,
            since=self._since(entry, today),
            today=today,
            skip=[key.rsplit("@", 1)[1] for key in in_hand],
        )
        self._forget(name, published, in_hand)
        for found in published:
            key = f"{name}@{found.period}"
            if limit and self._is_settled(key, found):
                limit -= 1
                yield self._request(entry, key, found)

    def _since(self, entry: DatasetEntry, today: date) -> date:
        if entry.catch_up:
            return entry.first_period.start
        if entry.follow_from is not None:
            return entry.follow_from
        return self._cursor.followed.setdefault(entry.dataset.name, today)

    def _may_ask(self, key: str, asked: Asked) -> bool:
        """Whether a run that was asked for before is over and its back-off too."""
        run_key = _run_key(key, asked.fingerprint, asked.attempt)
        runs = self._instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: run_key}), limit=1)
        if runs and runs[0].status in _IN_PROGRESS:
            return False
        pause = min(FIRST_RETRY_SECONDS * 2 ** (asked.attempt - 1), LONGEST_RETRY_SECONDS)
        return asked.attempt < MAX_ATTEMPTS and self._now >= asked.at + pause

    def _is_settled(self, key: str, found: Published) -> bool:
        if key in self._cursor.asked and self._cursor.asked[key].fingerprint == found.fingerprint:
            return True
        waiting = self._cursor.waiting.get(key)
        if waiting is None or waiting.fingerprint != found.fingerprint:
            waiting = self._cursor.waiting[key] = Waiting(fingerprint=found.fingerprint, since=self._now)
        return found.looks_whole or self._now - waiting.since >= SETTLE_SECONDS

    def _request(self, entry: DatasetEntry, key: str, found: Published) -> dg.RunRequest:
        before = self._cursor.asked.get(key)
        attempt = before.attempt + 1 if before and before.fingerprint == found.fingerprint else 1
        self._cursor.asked[key] = Asked(fingerprint=found.fingerprint, attempt=attempt, at=self._now)
        self._cursor.waiting.pop(key, None)
        return dg.RunRequest(
            run_key=_run_key(key, found.fingerprint, attempt),
            partition_key=str(found.period),
            asset_selection=[dg.AssetKey(entry.dataset.asset_key)],
            tags={"lakehouse/attempt": str(attempt)},
        )

    def _forget(self, name: str, published: Sequence[Published], in_hand: Sequence[str]) -> None:
        """Drop what is no longer open: done, or no longer published."""
        still = {f"{name}@{found.period}" for found in published} | set(in_hand)
        for entries in (self._cursor.waiting, self._cursor.asked):
            for key in [key for key in entries if _of(key, name) and key not in still]:
                del entries[key]


def _of(key: str, dataset_name: str) -> bool:
    return key.startswith(f"{dataset_name}@")


def _run_key(key: str, fingerprint: str, attempt: int) -> str:
    return f"{key}@{fingerprint}@{attempt}"


def _rotated(entries: Sequence[DatasetEntry], start: str | None) -> list[DatasetEntry]:
    names = [entry.dataset.name for entry in entries]
    position = names.index(start) if start in names else 0
    return [*entries[position:], *entries[:position]]
