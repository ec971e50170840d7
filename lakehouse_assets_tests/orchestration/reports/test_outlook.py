"""The outlook: predictions from manifests, runs and the sync log."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.lake.sync_log import SYNC_LOG_SCHEMA
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.dagster_internals import PartitionBackfill
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets.orchestration.reports.outlook import (
    backfills_of,
    budget,
    bytes_per_day,
    publications,
)
from lakehouse_assets.settings import SpendingSettings
from lakehouse_assets_tests.dagster_internals import create_run_for_test, job_origin
from lakehouse_assets_tests.orchestration.archives.test_expected_check import TODAY, remember
from lakehouse_assets_tests.orchestration.conftest import Runner, resources_of
from lakehouse_assets_tests.world import World, days


def test_the_next_publication_is_predicted_from_earlier_ones(world: World) -> None:
    dataset = world.entry().dataset
    assert publications(world.lake, [dataset]) == []
    remember(world, 20)  # each at 09:00 UTC of the day after
    [(_, period, moment)] = publications(world.lake, [dataset])
    assert (str(period), moment.expected) == (TODAY, datetime(2024, 3, 2, 9, tzinfo=UTC))
    assert moment.earliest == moment.latest == moment.expected
    assert moment.learned_from == 20


def test_a_budget_is_used_up_at_the_pace_of_the_last_days(world: World) -> None:
    dataset, today = world.entry().dataset, date.fromisoformat(TODAY)
    remember(world, 20)  # three objects of about 1 kB a day, 3,000 bytes copied
    assert budget(world.lake, [dataset], SpendingSettings(), today) is None
    bytes_present = sum(3 * (1_000 + 7 * (int(day[-2:]) % 3)) for day in days("2024-02-10", "2024-02-29"))
    forecast = budget(world.lake, [dataset], SpendingSettings(budget_bytes=bytes_present + 30_000), today)
    # The sync log is dated a day later than its periods: of its twenty days, today is not counted.
    assert forecast is not None
    assert forecast.expected == pytest.approx(10.0)
    full = budget(world.lake, [dataset], SpendingSettings(budget_bytes=1_000), today)
    assert full is not None
    assert full.expected == 0
    dollars = SpendingSettings(budget_dollars_per_month=0.023, storage_dollars_per_gb_month=0.023)
    assert dollars.budget == pytest.approx(1e9)
    both = SpendingSettings(budget_dollars_per_month=0.023, storage_dollars_per_gb_month=0.023, budget_bytes=7)
    assert both.budget == 7


def test_days_without_a_sync_count_as_zero_and_today_is_not_counted() -> None:
    rows = [
        {"synced_at": datetime(2024, 3, day, 23, 59, 59, tzinfo=UTC), "bytes_copied": size}
        for day, size in ((1, 10), (1, 5), (3, 7), (4, 100))
    ]
    history = pl.from_dicts(rows, schema=SYNC_LOG_SCHEMA)
    assert bytes_per_day(history, date(2024, 3, 4)) == [15.0, 0.0, 7.0]
    assert bytes_per_day(history.clear(), date(2024, 3, 4)) == []
    long_ago = bytes_per_day(history, date(2024, 5, 1))
    assert long_ago == [0.0] * 30


# Dagster's own factory of backfills calls the deprecated function.
@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")
def test_the_end_of_a_backfill_is_predicted_from_the_pace_of_its_runs(runner: Runner, world: World) -> None:
    entry = world.entry()
    week = days("2024-03-01", "2024-03-08")
    world.publish(["BTCUSDT"], week)
    asset = build_archive_asset(entry, "s3://lake")
    graph = dg.Definitions([asset], resources=resources_of(world)).resolve_asset_graph()
    now = datetime.now(UTC)
    runner.instance.add_backfill(
        PartitionBackfill.from_asset_partitions(
            "somebackfill", graph, week, [asset.key], (now - timedelta(seconds=1)).timestamp(), {},
            runner.instance, all_partitions=False, title=None, description=None, run_config=None,
        )
    )  # fmt: skip
    [before] = backfills_of(runner.instance, graph, now)
    assert (before.id, before.done, before.total, before.end) == ("somebackfill", 0, 8, None)
    dg.materialize(
        [asset],
        instance=runner.instance,
        resources=resources_of(world),
        tags={**range_tags(week[0], week[5]), "dagster/backfill": "somebackfill"},
    )
    ended = datetime.now(UTC)
    [after] = backfills_of(runner.instance, graph, ended)
    assert (after.done, after.total) == (6, 8)
    assert after.end is not None
    assert after.end.learned_from == 6
    assert ended < after.end.expected < ended + (ended - now + timedelta(seconds=2))


@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")
def test_only_assets_of_the_own_code_location_are_counted_in_a_backfill(instance: dg.DagsterInstance) -> None:
    by_day = dg.DailyPartitionsDefinition("2024-03-01", end_date="2024-03-09")
    own, table, theirs = (dg.AssetSpec(dg.AssetKey(name), partitions_def=by_day) for name in ("own", "table", "theirs"))
    week, now = days("2024-03-01", "2024-03-08"), datetime.now(UTC)

    def backfill(name: str, *specs: dg.AssetSpec) -> None:
        instance.add_backfill(
            PartitionBackfill.from_asset_partitions(
                name, dg.Definitions([*specs]).resolve_asset_graph(), week, [spec.key for spec in specs],
                (now - timedelta(seconds=60)).timestamp(), {}, instance,
                all_partitions=False, title=None, description=None, run_config=None,
            )
        )  # fmt: skip

    def finished(name: str, *specs: dg.AssetSpec, location: str) -> None:
        run = create_run_for_test(
            instance,
            tags={**range_tags(week[0], week[2]), "dagster/backfill": name},
            asset_selection=frozenset(spec.key for spec in specs),
            remote_job_origin=job_origin(location),
        )
        instance.report_run_failed(run)

    def shown(location: str) -> dict[str, tuple[str, int, int]]:
        graph = dg.Definitions([own, table]).resolve_asset_graph()
        outlook = backfills_of(instance, graph, now, location=f"__repository__@{location}")
        return {backfill.id: (backfill.assets, backfill.done, backfill.total) for backfill in outlook}

    backfill("several", own, table)
    backfill("mixed", own, theirs)
    backfill("foreign", theirs)
    backfill("same_keys", own)
    waiting = {"several": ("own, table", 0, 16), "mixed": ("own", 0, 8), "same_keys": ("own", 0, 8)}
    assert shown("lakehouse") == waiting
    finished("several", own, table, location="lakehouse")
    finished("mixed", own, location="lakehouse")
    finished("mixed", theirs, location="other")
    finished("same_keys", own, location="other")
    assert shown("lakehouse") == {"several": ("own, table", 6, 16), "mixed": ("own", 3, 8)}
    assert shown("other") == {"same_keys": ("own", 3, 8)}
