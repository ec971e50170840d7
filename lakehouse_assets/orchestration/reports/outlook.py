"""The outlook: when the next periods are expected, when backfills end, when budgets are used up.

Each is a 90 % interval, estimated from manifests, runs and the sync log.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.lateness import MAX_PERIODS_TO_LEARN
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence, Period, period_range
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.manifest_cache import ManifestCache
from lakehouse_assets.lake.manifest_stats import ManifestStats
from lakehouse_assets.lake.sync_log import read_sync_log_or_empty
from lakehouse_assets.observability.expectations.predictions import Days, Moment, backfill_end, days_until, publication
from lakehouse_assets.orchestration.dagster_internals import AssetBackfill, AssetGraph, running_asset_backfills
from lakehouse_assets.orchestration.dagster_tags import BACKFILL_TAG, RANGE_TAGS
from lakehouse_assets.orchestration.location import is_own_run, location_of_run
from lakehouse_assets.orchestration.markdown import table
from lakehouse_assets.orchestration.reports.asset import report_asset
from lakehouse_assets.orchestration.reports.timetable import Timetable
from lakehouse_assets.orchestration.resources import LakeResource
from lakehouse_assets.settings import SpendingSettings, read_group

# No `from __future__ import annotations` here: Dagster reads the annotation of `context`.

OUTLOOK = dg.AssetKey(["reports", "outlook"])
TIMETABLE = Timetable("10 * * * *", every=timedelta(hours=1))
BUDGET_DAYS = 30
"""Number of days (UTC) that the lake's growth is estimated from."""


def build_outlook_report(entries: Sequence[DatasetEntry]) -> dg.AssetsDefinition:
    """An unpartitioned asset whose metadata are the predictions."""
    datasets = [entry.dataset for entry in entries]

    @report_asset(
        OUTLOOK,
        "When each dataset's next period is expected, when running backfills end, and in how many days the "
        "budget is used up (LAKEHOUSE_SPENDING_BUDGET_BYTES, _BUDGET_DOLLARS_PER_MONTH). 90 % intervals; times are "
        "UTC.",
        TIMETABLE,
    )
    def outlook_report(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
        target, now = lake.lake(), datetime.now(UTC)
        backfills = list(
            backfills_of(
                context.instance, context.repository_def.asset_graph, now, location=location_of_run(context.run)
            )
        )
        days = budget(target, datasets, read_group(SpendingSettings), now.date())
        metadata = {
            "publications": dg.MetadataValue.md(_publications(publications(target, datasets))),
            "backfills": dg.MetadataValue.md(_backfills(backfills)),
            "budget": dg.MetadataValue.md(_budget(days)),
        }
        if days is not None and math.isfinite(days.expected):
            metadata["budget_days"] = dg.MetadataValue.float(round(days.expected, 1))
        return dg.MaterializeResult(metadata=metadata)

    return outlook_report


def build_outlook_schedule() -> dg.ScheduleDefinition:
    """Every hour."""
    return TIMETABLE.schedule("report_outlook_hourly", job="report_outlook", asset=OUTLOOK)


def publications(lake: Lake, datasets: Sequence[Dataset]) -> list[tuple[Dataset, Period, Moment | None]]:
    """For each dataset that was ever synced: the period after its newest one, and when it is expected."""
    outlook = []
    manifests = ManifestCache()
    for dataset in datasets:
        published = manifests.known(Manifest(lake, dataset)).published
        if not published:
            continue
        newest = sorted(published.items())[-MAX_PERIODS_TO_LEARN:]
        lags = [at - dataset.end_of(dataset.period(text)) for text, at in newest]
        following = dataset.period(max(published)).next()
        # An object cannot be older than the end of its period: such times come from a wrong clock, and are ignored.
        moment = publication(dataset.end_of(following), [lag for lag in lags if lag >= timedelta()])
        outlook.append((dataset, following, moment))
    return outlook


@dataclass(frozen=True, slots=True)
class BackfillOutlook:
    """A running backfill: this location's assets in it, how many of their partitions are done, and the end (UTC)."""

    id: str
    assets: str
    done: int
    total: int
    end: Moment | None


def backfills_of(
    instance: dg.DagsterInstance, graph: AssetGraph, now: datetime, *, location: str | None = None
) -> Iterator[BackfillOutlook]:
    """Running backfills of assets, estimated from their own finished runs.

    Only assets of ``graph`` count that no run of another code location than ``location`` (its label) materializes:
    Dagster does not record which location a backfill is of, and two may have the same keys.
    """
    for backfill in running_asset_backfills(instance, graph):
        records = instance.get_run_records(dg.RunsFilter(tags={BACKFILL_TAG: backfill.id}))
        runs = [record.dagster_run for record in records]
        foreign = {asset for run in runs if not is_own_run(run, location) for asset in _assets(run)}
        partitions = {asset: number for asset, number in backfill.partitions.items() if asset not in foreign}
        if not partitions:
            continue
        own = [record for record in records if is_own_run(record.dagster_run, location)]
        seconds = _seconds_per_partition(backfill, own)
        total = sum(partitions.values())
        done = min(len(seconds), total)
        yield BackfillOutlook(
            backfill.id, ", ".join(sorted(partitions)), done, total, backfill_end(now, total - done, seconds)
        )


def _seconds_per_partition(backfill: AssetBackfill, runs: Sequence[dg.RunRecord]) -> list[float]:
    """Wall seconds from one finished partition to the next; the partitions of one run share its time."""
    finished = sorted(
        # A run without a selection is of one asset.
        (record.end_time, max(1, len(_assets(record.dagster_run))) * _partitions(record.dagster_run.tags))
        for record in runs
        if record.end_time is not None
    )
    last, seconds = backfill.started, []
    for end, partitions in finished:
        seconds += [max(0.0, end - last) / partitions] * partitions
        last = max(last, end)
    return seconds


def _assets(run: dg.DagsterRun) -> list[str]:
    return [key.to_user_string() for key in run.asset_selection or ()]


def _partitions(tags: Mapping[str, str]) -> int:
    first, last = (tags.get(name) for name in RANGE_TAGS)
    if first is None or last is None:
        return 1
    return len(period_range(*(Period.parse(text, Cadence.of(first)) for text in (first, last))))


def budget(lake: Lake, datasets: Sequence[Dataset], spending: SpendingSettings, today: date) -> Days | None:
    """Days until the lake's archive reaches the smaller budget.

    None without a budget, or with less than three days of history.
    """
    limit = spending.budget
    if limit is None:
        return None
    stats = ManifestStats(lake)
    used = float(sum(int(stats.of(dataset)["bytes"].sum()) for dataset in datasets))
    history = read_sync_log_or_empty(lake, since=today - timedelta(days=BUDGET_DAYS))
    return days_until(limit, used, bytes_per_day(history, today))


def bytes_per_day(history: pl.DataFrame, today: date) -> list[float]:
    """Bytes copied on each of the last BUDGET_DAYS days (UTC) before ``today``, from the first sync on."""
    days = history.group_by(day=pl.col("synced_at").dt.date()).agg(pl.col("bytes_copied").sum())
    copied = {day: float(size) for day, size in days.iter_rows() if day < today}
    if not copied:
        return []
    first = max(min(copied), today - timedelta(days=BUDGET_DAYS))
    return [copied.get(first + timedelta(days=number), 0.0) for number in range((today - first).days)]


_INTERVAL = ("between", "and", "learned from")


def _publications(outlook: Sequence[tuple[Dataset, Period, Moment | None]]) -> str:
    rows = [(dataset, period, *_moment(moment)) for dataset, period, moment in outlook]
    return table(("dataset", "period", "expected", *_INTERVAL), rows, empty="Nothing was synced yet.")


def _backfills(backfills: Sequence[BackfillOutlook]) -> str:
    rows = [
        (backfill.id, backfill.assets, f"{backfill.done} of {backfill.total}", *_moment(backfill.end))
        for backfill in backfills
    ]
    columns = ("backfill", "assets", "partitions", "ends", *_INTERVAL)
    return table(columns, rows, empty="No backfill is running.")


def _moment(moment: Moment | None) -> tuple[object, ...]:
    """Four cells: expected, earliest, latest, and the number of observations."""
    if moment is None:
        return ("not enough history", "", "", "")
    times = (moment.expected, moment.earliest, moment.latest)
    return (*(f"{time:%Y-%m-%d %H:%M}" if time else "never" for time in times), moment.learned_from)


def _budget(days: Days | None) -> str:
    if days is None:
        return "No budget is set, or there is not enough history."
    if not math.isfinite(days.expected):
        return "The lake does not grow."
    most = f"{days.most:,.0f}" if math.isfinite(days.most) else "never"
    return (
        f"Used up in {days.expected:,.0f} days ({days.least:,.0f} to {most}), from the last {days.learned_from} days."
    )
