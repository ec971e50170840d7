"""Runs that sensors request for periods of archives, tables and verifications: run keys and tags, and their outcome.

A run covers one period or contiguous ones. Its tags hold the fingerprint of each period's content, so the last attempt
at a period can be read from Dagster's runs when the cursor is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import dagster as dg

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence, Period, period_range
from lakehouse_assets.errors import InputError
from lakehouse_assets.orchestration.dagster_tags import PARTITION_TAG, PRIORITY_TAG, RANGE_TAGS, range_tags
from lakehouse_assets.orchestration.location import LABEL_TAG, location_of_run

DATASET_TAG = "lakehouse/dataset"
"""The asset: its key with slashes."""
ATTEMPT_TAG = "lakehouse/attempt"
OBJECTS_TAG = "lakehouse/objects"
FINGERPRINTS_TAG = "lakehouse/fingerprints"
LAKE_TAG = "lakehouse/lake"
"""The lake that the run writes to (`Lake.label`): code locations with other lakes ignore the run."""

_UNFINISHED = [
    status
    for status in dg.DagsterRunStatus
    if status not in {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
]
_RUNS_READ = 200
_UNFINISHED_READ = 1_000


class Priority(IntEnum):
    """Which queued runs start first. A backfill that a person starts has Dagster's default, as HISTORY."""

    NEW_PERIOD = 30
    REWRITTEN = 20
    NEW_TABLE_PERIOD = 10
    HISTORY = 0


@dataclass(frozen=True, slots=True)
class Target:
    """An asset whose periods are requested, at most ``periods_per_run`` of them in one run."""

    asset_key: tuple[str, ...]
    cadence: Cadence
    periods_per_run: int

    @classmethod
    def of(cls, entry: DatasetEntry) -> Target:
        """The archive asset of a matrix entry."""
        return cls(entry.dataset.asset_key, entry.dataset.cadence, entry.partitions_per_run)

    @property
    def name(self) -> str:
        """``binance/um/klines/daily``."""
        return "/".join(self.asset_key)


@dataclass(frozen=True, slots=True)
class PeriodRequest:
    """A period to request a run for; ``fingerprint`` is of its source, ``attempt`` counts from 1."""

    period: Period
    fingerprint: str
    attempt: int
    objects: int
    priority: Priority


@dataclass(frozen=True, slots=True)
class Attempt:
    """One period of a requested run of the asset ``name``."""

    name: str
    period: str
    fingerprint: str
    number: int
    succeeded: bool


def grouped(requests: Sequence[PeriodRequest], limit: int) -> list[list[PeriodRequest]]:
    """Contiguous periods of the same attempt and priority, at most ``limit`` to a group; the newest group first."""
    ordered = sorted(requests, key=lambda request: request.period)
    groups: list[list[PeriodRequest]] = [ordered[:1]] if ordered else []
    for previous, request in pairwise(ordered):
        is_next = request.period == previous.period.next()
        is_alike = (request.attempt, request.priority) == (previous.attempt, previous.priority)
        if is_next and is_alike and len(groups[-1]) < limit:
            groups[-1].append(request)
        else:
            groups.append([request])
    return groups[::-1]


def build_request(target: Target, periods: Sequence[PeriodRequest], *, lake: str) -> dg.RunRequest:
    """The request of one run for contiguous periods: of one partition, or of a range. ``lake``: its label."""
    first, last = periods[0], periods[-1]
    name = target.name
    fingerprints = " ".join(period.fingerprint for period in periods)
    tags = {
        DATASET_TAG: name,
        ATTEMPT_TAG: str(first.attempt),
        OBJECTS_TAG: str(sum(period.objects for period in periods)),
        FINGERPRINTS_TAG: fingerprints,
        LAKE_TAG: lake,
        PRIORITY_TAG: str(first.priority.value),
    }
    if len(periods) == 1:
        window, digest = str(first.period), first.fingerprint
    else:
        window, digest = f"{first.period}..{last.period}", hashlib.sha256(fingerprints.encode()).hexdigest()[:16]
        tags |= range_tags(str(first.period), str(last.period))
    return dg.RunRequest(
        run_key=f"{name}@{window}@{digest}@{first.attempt}",
        partition_key=str(first.period) if len(periods) == 1 else None,
        asset_selection=[dg.AssetKey(target.asset_key)],
        tags=tags,
    )


class Runs:
    """The runs that were requested so far for one lake, as Dagster has them.

    ``lake`` is the lake's label, ``location`` that of the code location.
    """

    def __init__(
        self, instance: dg.DagsterInstance, names: Collection[str], *, lake: str, location: str | None = None
    ) -> None:
        self._instance = instance
        self.lake = lake
        self._location = location
        tags = {DATASET_TAG: list(names), LAKE_TAG: lake}
        unfinished = instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED, tags=tags))
        self.unfinished = len(unfinished)
        """Number of runs."""
        self._in_progress: dict[str, dict[str, Attempt]] = {}
        for run in unfinished:
            for attempt in _attempts_of(run):
                self._in_progress.setdefault(attempt.name, {})[attempt.period] = attempt
        self._others: dict[str, frozenset[str]] | None = None
        self._past: dict[str, dict[tuple[str, str], Attempt]] = {}

    def in_progress_of(self, name: str) -> Mapping[str, Attempt]:
        """An asset's attempts in progress, by period."""
        return self._in_progress.get(name, {})

    def others_in_progress_of(self, name: str) -> frozenset[str]:
        """Periods that other unfinished runs of this code location materialize: a person's, or a backfill's."""
        if self._others is None:
            own = {} if self._location is None else {LABEL_TAG: self._location}
            self._others = _periods_by_asset(
                run
                for run in self._instance.get_runs(
                    dg.RunsFilter(statuses=_UNFINISHED, tags=own), limit=_UNFINISHED_READ
                )
                if DATASET_TAG not in run.tags and location_of_run(run) == self._location
            )
        return self._others.get(name, frozenset())

    def last_attempt(self, name: str, period: str, fingerprint: str) -> Attempt | None:
        """The last attempt at this content of a period; None where Dagster has no run of it."""
        if name not in self._past:
            tags = {DATASET_TAG: name, LAKE_TAG: self.lake}
            runs = self._instance.get_runs(dg.RunsFilter(tags=tags), limit=_RUNS_READ)
            attempts = sorted((item for run in runs for item in _attempts_of(run)), key=lambda item: item.number)
            self._past[name] = {(item.period, item.fingerprint): item for item in attempts}
        return self._past[name].get((period, fingerprint))


def _periods_by_asset(runs: Iterable[dg.DagsterRun]) -> dict[str, frozenset[str]]:
    """The periods that runs materialize, by the asset's key with slashes."""
    periods: dict[str, set[str]] = {}
    for run in runs:
        for key in run.asset_selection or ():
            periods.setdefault(key.to_user_string(), set()).update(str(period) for period in periods_of(run))
    return {name: frozenset(texts) for name, texts in periods.items()}


def periods_of(run: dg.DagsterRun) -> list[Period]:
    """The periods of a run's partitions; none where the tags name no periods."""
    try:
        first, last = (run.tags.get(tag) or run.tags[PARTITION_TAG] for tag in RANGE_TAGS)
        cadence = Cadence.of(first)
        return period_range(Period.parse(first, cadence), Period.parse(last, cadence))
    except (KeyError, InputError):
        return []


def _attempts_of(run: dg.DagsterRun) -> Iterator[Attempt]:
    """The attempts that a run's tags name; no attempts if a person changed the tags."""
    try:
        name = run.tags[DATASET_TAG]
        number = int(run.tags[ATTEMPT_TAG])
        fingerprints = run.tags[FINGERPRINTS_TAG].split(" ")
    except (KeyError, ValueError):
        return
    for period, fingerprint in zip(periods_of(run), fingerprints, strict=False):
        yield Attempt(name, str(period), fingerprint, number, succeeded=run.status is dg.DagsterRunStatus.SUCCESS)
