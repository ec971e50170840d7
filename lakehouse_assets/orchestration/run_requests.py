"""Runs that discovery asks for: how they are named, and what Dagster says became of them.

A run covers one period or contiguous ones. Its tags say for which content of each period it was
asked, so that Dagster's runs alone tell the last attempt at a period when the cursor is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import dagster as dg

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Period, period_range
from lakehouse_assets.errors import InputError
from lakehouse_assets.orchestration.dagster_tags import PARTITION_TAG, RANGE_TAGS, range_tags

DATASET_TAG = "lakehouse/dataset"
ATTEMPT_TAG = "lakehouse/attempt"
OBJECTS_TAG = "lakehouse/objects"
FINGERPRINTS_TAG = "lakehouse/fingerprints"

_UNFINISHED = [
    status
    for status in dg.DagsterRunStatus
    if status not in {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
]
_RUNS_REMEMBERED = 200


@dataclass(frozen=True, slots=True)
class RunAsk:
    """A period to be asked for; ``fingerprint`` is of its listing, ``attempt`` counts from 1."""

    period: Period
    fingerprint: str
    attempt: int
    objects: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a run was asked to do about one period."""

    dataset: str
    period: str
    fingerprint: str
    number: int
    succeeded: bool


def grouped(asks: Sequence[RunAsk], most: int) -> list[list[RunAsk]]:
    """Contiguous periods of one attempt together, at most ``most``; the newest group first."""
    ordered = sorted(asks, key=lambda ask: ask.period)
    groups: list[list[RunAsk]] = [ordered[:1]] if ordered else []
    for before, ask in pairwise(ordered):
        fits = ask.period == before.period.next() and ask.attempt == before.attempt and len(groups[-1]) < most
        if fits:
            groups[-1].append(ask)
        else:
            groups.append([ask])
    return groups[::-1]


def build_request(entry: DatasetEntry, asks: Sequence[RunAsk]) -> dg.RunRequest:
    """One run for contiguous periods: of one partition, or of a range of them."""
    first, last = asks[0], asks[-1]
    name = entry.dataset.name
    fingerprints = " ".join(ask.fingerprint for ask in asks)
    tags = {
        DATASET_TAG: name,
        ATTEMPT_TAG: str(first.attempt),
        OBJECTS_TAG: str(sum(ask.objects for ask in asks)),
        FINGERPRINTS_TAG: fingerprints,
    }
    if len(asks) == 1:
        what, digest = str(first.period), first.fingerprint
    else:
        what, digest = f"{first.period}..{last.period}", hashlib.sha256(fingerprints.encode()).hexdigest()[:16]
        tags |= range_tags(str(first.period), str(last.period))
    return dg.RunRequest(
        run_key=f"{name}@{what}@{digest}@{first.attempt}",
        partition_key=str(first.period) if len(asks) == 1 else None,
        asset_selection=[dg.AssetKey(entry.dataset.asset_key)],
        tags=tags,
    )


class Runs:
    """Dagster's runs that were asked for so far."""

    def __init__(self, instance: dg.DagsterInstance, datasets: Collection[str]) -> None:
        self._instance = instance
        unfinished = instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED, tags={DATASET_TAG: list(datasets)}))
        self.unfinished = len(unfinished)
        """Number of runs."""
        self.going_on = {
            (attempt.dataset, attempt.period): attempt for run in unfinished for attempt in _attempts_of(run)
        }
        """Attempts in progress by dataset and period."""
        self._past: dict[str, dict[tuple[str, str], Attempt]] = {}

    def last_attempt(self, dataset: str, period: str, fingerprint: str) -> Attempt | None:
        """The last one at this content of a period, as far as Dagster has runs of it."""
        if dataset not in self._past:
            runs = self._instance.get_runs(dg.RunsFilter(tags={DATASET_TAG: dataset}), limit=_RUNS_REMEMBERED)
            attempts = sorted((each for run in runs for each in _attempts_of(run)), key=lambda each: each.number)
            self._past[dataset] = {(each.period, each.fingerprint): each for each in attempts}
        return self._past[dataset].get((period, fingerprint))


def _attempts_of(run: dg.DagsterRun) -> Iterator[Attempt]:
    """None for a run whose tags a person changed."""
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
