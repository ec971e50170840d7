"""Runs that discovery requests: their run keys and tags, and their outcome.

A run covers one period or contiguous ones. Its tags hold the fingerprint of each period's content, so the last attempt
at a period can be read from Dagster's runs when the cursor is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import dagster as dg

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Period, period_range
from lakehouse_assets.errors import InputError
from lakehouse_assets.orchestration.dagster_tags import PARTITION_TAG, PRIORITY_TAG, RANGE_TAGS, range_tags

DATASET_TAG = "lakehouse/dataset"
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


class Priority(IntEnum):
    """Which queued runs start first. A backfill that a person starts has Dagster's default, as HISTORY."""

    NEW_PERIOD = 30
    REWRITTEN = 20
    NEW_TABLE_PERIOD = 10
    HISTORY = 0


@dataclass(frozen=True, slots=True)
class PeriodRequest:
    """A period to request a run for; ``fingerprint`` is of its listing, ``attempt`` counts from 1."""

    period: Period
    fingerprint: str
    attempt: int
    objects: int
    priority: Priority


@dataclass(frozen=True, slots=True)
class Attempt:
    """One period of a requested run."""

    dataset: str
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


def build_request(entry: DatasetEntry, periods: Sequence[PeriodRequest], *, lake: str) -> dg.RunRequest:
    """The request of one run for contiguous periods: of one partition, or of a range. ``lake``: its label."""
    first, last = periods[0], periods[-1]
    name = entry.dataset.name
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
        target, digest = str(first.period), first.fingerprint
    else:
        target, digest = f"{first.period}..{last.period}", hashlib.sha256(fingerprints.encode()).hexdigest()[:16]
        tags |= range_tags(str(first.period), str(last.period))
    return dg.RunRequest(
        run_key=f"{name}@{target}@{digest}@{first.attempt}",
        partition_key=str(first.period) if len(periods) == 1 else None,
        asset_selection=[dg.AssetKey(entry.dataset.asset_key)],
        tags=tags,
    )


class Runs:
    """The runs that were requested so far for one lake, as Dagster has them. ``lake``: its label."""

    def __init__(self, instance: dg.DagsterInstance, datasets: Collection[str], *, lake: str) -> None:
        self._instance = instance
        self._lake = lake
        tags = {DATASET_TAG: list(datasets), LAKE_TAG: lake}
        unfinished = instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED, tags=tags))
        self.unfinished = len(unfinished)
        """Number of runs."""
        self.in_progress = {
            (attempt.dataset, attempt.period): attempt for run in unfinished for attempt in _attempts_of(run)
        }
        """Attempts in progress by dataset and period."""
        self._past: dict[str, dict[tuple[str, str], Attempt]] = {}

    def last_attempt(self, dataset: str, period: str, fingerprint: str) -> Attempt | None:
        """The last attempt at this content of a period; None where Dagster has no run of it."""
        if dataset not in self._past:
            tags = {DATASET_TAG: dataset, LAKE_TAG: self._lake}
            runs = self._instance.get_runs(dg.RunsFilter(tags=tags), limit=_RUNS_READ)
            attempts = sorted((item for run in runs for item in _attempts_of(run)), key=lambda item: item.number)
            self._past[dataset] = {(item.period, item.fingerprint): item for item in attempts}
        return self._past[dataset].get((period, fingerprint))


def _attempts_of(run: dg.DagsterRun) -> Iterator[Attempt]:
    """The attempts that a run's tags name; no attempts if a person changed the tags."""
    try:
        dataset = Dataset.parse(run.tags[DATASET_TAG])
        first, last = (run.tags.get(tag) or run.tags[PARTITION_TAG] for tag in RANGE_TAGS)
        periods = period_range(dataset.period(first), dataset.period(last))
        number = int(run.tags[ATTEMPT_TAG])
        fingerprints = run.tags[FINGERPRINTS_TAG].split(" ")
    except (KeyError, ValueError, InputError):
        return
    for period, fingerprint in zip(periods, fingerprints, strict=False):
        yield Attempt(
            dataset.name, str(period), fingerprint, number, succeeded=run.status is dg.DagsterRunStatus.SUCCESS
        )
