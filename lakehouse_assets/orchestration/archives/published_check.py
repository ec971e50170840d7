"""The check `published`: whether an archive is published when it should be.

When nothing is published nothing is materialized, so the sensor records the check's evaluations: once a
day, and when the verdict changes. A run only repeats the last one, so that the check is never left open.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import dagster as dg

from lakehouse_assets.archive.availability import BEHIND, Availability, AvailabilityStatus, availability, expectation
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.lake.manifest_cache import ManifestSummary
from lakehouse_assets.orchestration.check_names import PUBLISHED
from lakehouse_assets.orchestration.dagster_internals import last_check_evaluation
from lakehouse_assets.orchestration.discovery.cursor import DatasetState
from lakehouse_assets.sync.changes import TrackedPeriods

WHOLE_EXCHANGE = 0.5
"""Where at least this share of an exchange's datasets is behind (two at least), the exchange is."""


def build_published_check(key: dg.AssetKey) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        PUBLISHED,
        asset=key,
        description="The exchange publishes when it is expected to: WARN when it is late, ERROR when it has stalled. "
        "A publication that ended passes. Recorded by the exchange's discovery sensor.",
    )


def judged(
    entry: DatasetEntry,
    known: ManifestSummary,
    followed: TrackedPeriods,
    watched: DatasetState,
    seen: Collection[str],
    *,
    now: datetime,
) -> Availability | None:
    """A dataset as the manifest, the canaries and the listings have it; None before anything of it is due."""
    expected = expectation(entry.dataset.cadence, known.published)
    listed = (period for period, each in watched.pursued.items() if each.fingerprint)
    text = max((*known.published, *seen, *listed), default=None)
    newest = None if text is None else entry.dataset.period(text)
    if followed.since > followed.newest:
        has_ended = entry.last_period is not None and entry.last_period <= followed.newest
        return Availability(AvailabilityStatus.DEAD, expected, newest) if has_ended else None
    return availability(expected, newest=newest, first=followed.since, last=entry.last_period, now=now)


def evaluations(
    entries: Sequence[DatasetEntry],
    verdicts: Mapping[str, Availability],
    watched: Mapping[str, DatasetState],
    now: datetime,
) -> Iterator[dg.AssetCheckEvaluation]:
    """Of one exchange's datasets, those whose verdict was not told yet, or not today.

    Where the whole exchange is behind, the first dataset tells it with the severity it has; the others
    warn and name it: one cause, one alert. Those without a verdict now stand as they were told last.
    """
    for cadence in Cadence:
        of_cadence = [entry for entry in entries if entry.dataset.cadence is cadence]
        standings = {
            (name := entry.dataset.name): verdicts[name].standing if name in verdicts else watched[name].standing
            for entry in of_cadence
        }
        behind = [name for name, standing in standings.items() if standing in BEHIND]
        alive = [name for name, standing in standings.items() if standing and standing != AvailabilityStatus.DEAD]
        is_whole = len(behind) > 1 and len(behind) >= WHOLE_EXCHANGE * len(alive)
        for entry in of_cadence:
            name = entry.dataset.name
            if (verdict := verdicts.get(name)) is None:
                continue
            others = f"{len(behind)} of {len(alive)}" if is_whole and name in behind else None
            told = f"{verdict.standing}{' with others' if others else ''} {now.date()}"
            if watched[name].told != told:
                watched[name].told = told
                yield _evaluation(entry, verdict, others, lead=behind[0] if others and name != behind[0] else None)


def _evaluation(
    entry: DatasetEntry, verdict: Availability, others: str | None, lead: str | None
) -> dg.AssetCheckEvaluation:
    dataset = entry.dataset
    text = _words(verdict)
    if others:
        text += f" The whole exchange is behind: {others} {dataset.cadence} datasets of {dataset.exchange}."
    if lead:
        text += f" {lead} tells how far."
    metadata: dict[str, dg.MetadataValue] = {
        "standing": dg.MetadataValue.text(verdict.standing.value),
        "periods_behind": dg.MetadataValue.int(verdict.periods_behind),
        "hours_behind": dg.MetadataValue.float(_hours(verdict.behind)),
        "late_after_hours": dg.MetadataValue.float(_hours(verdict.expectation.late)),
        "stalled_after_hours": dg.MetadataValue.float(_hours(verdict.expectation.stalled)),
        "learned_from_periods": dg.MetadataValue.int(verdict.expectation.periods),
    }
    if verdict.newest is not None:
        metadata["newest_period"] = dg.MetadataValue.text(str(verdict.newest))
    if others:
        metadata["whole_exchange"] = dg.MetadataValue.text(dataset.exchange)
    is_error = verdict.standing is AvailabilityStatus.STALLED and lead is None
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(dataset.asset_key),
        check_name=PUBLISHED,
        passed=not verdict.is_behind,
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        description=text,
        metadata=metadata,
    )


def _words(verdict: Availability) -> str:
    newest = f"The newest period is {verdict.newest}" if verdict.newest else "Nothing of it was ever seen"
    if verdict.standing is AvailabilityStatus.ON_TIME:
        return f"On time. {newest}."
    if verdict.standing is AvailabilityStatus.DEAD:
        return f"No longer published. {newest}."
    word = "Late" if verdict.standing is AvailabilityStatus.LATE else "Stalled"
    return (
        f"{word}: {verdict.missing} was due {_span(verdict.behind)} ago, {verdict.periods_behind} "
        f"{'period is' if verdict.periods_behind == 1 else 'periods are'} missing. {newest}."
    )


def _span(span: timedelta) -> str:
    days, hours = span.days, span.seconds // 3600
    return f"{days} d {hours} h" if days else f"{hours} h {span.seconds % 3600 // 60} min"


def _hours(span: timedelta) -> float:
    return round(span.total_seconds() / 3600, 2)


def repeated(instance: dg.DagsterInstance, key: dg.AssetKey) -> dg.AssetCheckEvaluation:
    """The check's last evaluation, for a run that was asked to evaluate it."""
    last = last_check_evaluation(instance, dg.AssetCheckKey(key, PUBLISHED))
    if last is None:
        return dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=PUBLISHED,
            passed=True,
            severity=dg.AssetCheckSeverity.WARN,
            description="Not judged yet: turn on the exchange's discovery sensor.",
        )
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=PUBLISHED,
        passed=last.passed,
        severity=last.severity,
        description=last.description,
        metadata=last.metadata,
    )
