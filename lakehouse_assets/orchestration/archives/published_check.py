"""The check `published`: whether an exchange publishes an archive on time.

Without a publication no run starts, so the discovery sensor records the evaluations: once a day, and when the status
changes. A run only repeats the last evaluation, since Dagster shows a check without one as not executed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import dagster as dg

from lakehouse_assets.archive.lateness import BEHIND, Availability, AvailabilityStatus, availability, expectation
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.lake.manifest_cache import ManifestSummary
from lakehouse_assets.orchestration.check_names import PUBLISHED
from lakehouse_assets.orchestration.dagster_internals import last_check_evaluation
from lakehouse_assets.orchestration.discovery.cursor import DatasetState
from lakehouse_assets.orchestration.location import LAKE
from lakehouse_assets.sync.changes import TrackedPeriods

WHOLE_EXCHANGE = 0.5
"""The whole exchange is behind where at least this share of its datasets, and at least two of them, are."""


def build_published_check(key: dg.AssetKey) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        PUBLISHED,
        asset=key,
        description="The exchange publishes on time: WARN when it is late, ERROR when it has stalled. Datasets no "
        "longer published pass. Recorded by the exchange's discovery sensor.",
    )


def availability_of(
    entry: DatasetEntry,
    manifest: ManifestSummary,
    tracked: TrackedPeriods,
    state: DatasetState,
    seen: Collection[str],
    *,
    now: datetime,
) -> Availability | None:
    """A dataset's availability by its manifest, canaries (``seen``) and listings; None before a period is due."""
    expected = expectation(entry.dataset.cadence, manifest.published)
    listed = (period for period, pending in state.pending.items() if pending.fingerprint)
    newest_text = max((*manifest.published, *seen, *listed), default=None)
    newest = None if newest_text is None else entry.dataset.period(newest_text)
    if tracked.since > tracked.newest:
        has_ended = entry.last_period is not None and entry.last_period <= tracked.newest
        return Availability(AvailabilityStatus.DEAD, expected, newest) if has_ended else None
    return availability(expected, newest=newest, first=tracked.since, last=entry.last_period, now=now)


def evaluations(
    entries: Sequence[DatasetEntry],
    verdicts: Mapping[str, Availability],
    states: Mapping[str, DatasetState],
    now: datetime,
    *,
    lake: str,
) -> Iterator[dg.AssetCheckEvaluation]:
    """Evaluations of one exchange's datasets whose status changed or was not recorded today.

    Where the whole exchange is behind, the first dataset keeps its own severity, and the others warn and name it: one
    cause raises one alert. A dataset without a verdict counts with its last recorded status. ``lake``: its label.
    """
    for cadence in Cadence:
        cadence_entries = [entry for entry in entries if entry.dataset.cadence is cadence]
        statuses = {
            (name := entry.dataset.name): verdicts[name].status if name in verdicts else states[name].status
            for entry in cadence_entries
        }
        behind = [name for name, status in statuses.items() if status in BEHIND]
        alive = [name for name, status in statuses.items() if status and status != AvailabilityStatus.DEAD]
        is_whole_exchange = len(behind) > 1 and len(behind) >= WHOLE_EXCHANGE * len(alive)
        for entry in cadence_entries:
            name = entry.dataset.name
            if (verdict := verdicts.get(name)) is None:
                continue
            others = f"{len(behind)} of {len(alive)}" if is_whole_exchange and name in behind else None
            recorded = f"{verdict.status}{' with others' if others else ''} {now.date()}"
            if states[name].recorded != recorded:
                states[name].recorded = recorded
                lead = behind[0] if others and name != behind[0] else None
                yield _evaluation(entry, verdict, others, lead, lake)


def _evaluation(
    entry: DatasetEntry, verdict: Availability, others: str | None, lead: str | None, lake: str
) -> dg.AssetCheckEvaluation:
    dataset = entry.dataset
    text = _description(verdict)
    if others:
        text += f" The whole exchange is behind: {others} {dataset.cadence} datasets of {dataset.exchange}."
    if lead:
        text += f" See {lead}."
    metadata: dict[str, dg.MetadataValue] = {
        "standing": dg.MetadataValue.text(verdict.status.value),
        LAKE: dg.MetadataValue.text(lake),
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
    is_error = verdict.status is AvailabilityStatus.STALLED and lead is None
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(dataset.asset_key),
        check_name=PUBLISHED,
        passed=not verdict.is_behind,
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        description=text,
        metadata=metadata,
    )


def _description(verdict: Availability) -> str:
    newest = f"The newest period is {verdict.newest}" if verdict.newest else "No period of it was ever listed"
    if verdict.status is AvailabilityStatus.ON_TIME:
        return f"On time. {newest}."
    if verdict.status is AvailabilityStatus.DEAD:
        return f"No longer published. {newest}."
    word = "Late" if verdict.status is AvailabilityStatus.LATE else "Stalled"
    return (
        f"{word}: {verdict.missing} was due {_duration(verdict.behind)} ago, {verdict.periods_behind} "
        f"{'period is' if verdict.periods_behind == 1 else 'periods are'} missing. {newest}."
    )


def _duration(time: timedelta) -> str:
    days, hours = time.days, time.seconds // 3600
    return f"{days} d {hours} h" if days else f"{hours} h {time.seconds % 3600 // 60} min"


def _hours(time: timedelta) -> float:
    return round(time.total_seconds() / 3600, 2)


def repeated_evaluation(instance: dg.DagsterInstance, key: dg.AssetKey) -> dg.AssetCheckEvaluation:
    """The check's last evaluation, for a run that selects the check."""
    last = last_check_evaluation(instance, dg.AssetCheckKey(key, PUBLISHED))
    if last is None:
        return dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=PUBLISHED,
            passed=True,
            severity=dg.AssetCheckSeverity.WARN,
            description="Not evaluated yet: turn on the exchange's discovery sensor.",
        )
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=PUBLISHED,
        passed=last.passed,
        severity=last.severity,
        description=last.description,
        metadata=last.metadata,
    )
