"""The cost limits: of a run, and of all runs that sensors start in a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.archives.cost_guard import (
    ALLOW_TAG,
    BYTES_TAG,
    DAY_TAG,
    DOLLARS_TAG,
    is_closed,
    spending_day,
    spent,
)
from lakehouse_assets.orchestration.discovery import sensors
from lakehouse_assets.orchestration.run_requests import DATASET_TAG, LAKE_TAG
from lakehouse_assets.sync.cost import CostLimit
from lakehouse_assets_tests.dagster_internals import create_run_for_test
from lakehouse_assets_tests.orchestration.conftest import Runner
from lakehouse_assets_tests.orchestration.gateway import Gateway
from lakehouse_assets_tests.orchestration.watcher import SETTLE, Watcher, periods, resources_of
from lakehouse_assets_tests.world import World, days

DAY = "2024-03-04"


@pytest.fixture
def entry(world: World) -> DatasetEntry:
    world.publish(["BTCUSDT", "ETHUSDT"], [DAY])
    return world.entry(follow_from=DAY)


def failure(result: dg.ExecuteInProcessResult) -> str:
    [step] = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    return step.step_failure_data.user_failure_data.description


def test_the_first_line_of_a_run_is_its_estimate(runner: Runner, entry: DatasetEntry) -> None:
    result = runner.run(entry, DAY)
    assert result.success
    lines = [
        record.event_log_entry.user_message
        for record in runner.instance.get_records_for_run(result.run_id).records
        if not record.event_log_entry.is_dagster_event
    ]
    assert lines[0].startswith("To copy: 2 objects, ")


def test_a_run_above_the_cost_limit_copies_nothing_and_names_the_override(
    runner: Runner, world: World, entry: DatasetEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_SPENDING_MAX_BYTES", "100")
    result = runner.run(entry, DAY)
    assert not result.success
    assert "above LAKEHOUSE_SPENDING_MAX_BYTES=100. Nothing was copied." in failure(result)
    assert ALLOW_TAG in failure(result)
    assert "allow_spending: true" in failure(result)
    assert world.lake_files("archive/") == {}
    assert runner.materialized(entry) == []


@pytest.mark.parametrize("override", ["config", "tag"])
def test_the_override_permits_the_run(
    runner: Runner, entry: DatasetEntry, monkeypatch: pytest.MonkeyPatch, override: str
) -> None:
    monkeypatch.setenv("LAKEHOUSE_SPENDING_MAX_DOLLARS", "0")
    if override == "config":
        assert runner.run(entry, DAY, allow_spending=True).success
    else:
        assert _run(runner, entry, {ALLOW_TAG: "true"}).success
    assert runner.materialized(entry) == [DAY]


def test_runs_that_sensors_start_stay_below_the_daily_cost_limit(
    runner: Runner, watcher: Watcher, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher.now = datetime.now(UTC).replace(hour=8)
    today = watcher.now.date()
    all_days = [str(today - timedelta(days=number)) for number in (3, 2, 1)]
    entry = world.entry(follow_from=all_days[0], partitions_per_run=1)
    world.publish(["BTCUSDT"], all_days)
    requests = watcher.settle(entry)
    assert periods(requests) == all_days[::-1]
    monkeypatch.setenv("LAKEHOUSE_SPENDING_DAILY_MAX_BYTES", "1200")  # two objects of 400 B with their sidecars
    results = []
    for request in requests:
        run = _run(runner, entry, request.tags | {"dagster/run_key": request.run_key}, request.partition_key)
        results.append(run.success)
    assert results == [True, True, False]
    lake = world.lake.label
    assert 800 < spent(watcher.instance, today, lake)[1] <= 1200
    assert spent(watcher.instance, today - timedelta(days=1), lake) == (0, 0)
    assert spent(watcher.instance, today, "another/lake") == (0, 0)
    assert not is_closed(watcher.instance, CostLimit(None, 1200, ""), watcher.now, "another/lake")

    for _ in range(3):
        assert watcher.tick(entry, later=SETTLE) == []
        assert "daily cost limit (LAKEHOUSE_SPENDING_DAILY_MAX_*) is reached" in watcher.reason
    watcher.now += timedelta(days=1)
    [retry] = [*watcher.tick(entry), *watcher.tick(entry, later=SETTLE)]
    assert (retry.partition_key, retry.tags["lakehouse/attempt"]) == (all_days[0], "2")


def test_a_run_that_a_person_started_does_not_count_towards_the_daily_cost_limit(
    runner: Runner, entry: DatasetEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_SPENDING_DAILY_MAX_BYTES", "1")
    result = runner.run(entry, DAY)
    assert result.success
    assert BYTES_TAG not in runner.instance.get_run_by_id(result.run_id).tags


def test_the_override_applies_to_every_period_of_a_range(
    runner: Runner, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_SPENDING_MAX_DOLLARS", "0")
    entry = world.entry()
    world.publish(["BTCUSDT"], days("2024-01-01", "2024-01-03"))
    assert not runner.run(entry, "2024-01-01", "2024-01-03").success
    assert runner.run(entry, "2024-01-01", "2024-01-03", allow_spending=True).success
    assert runner.materialized(entry) == days("2024-01-01", "2024-01-03")


def _run(
    runner: Runner, entry: DatasetEntry, tags: dict[str, str], period: str | None = None
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [build_archive_asset(entry, "s3://lake")],
        instance=runner.instance,
        resources=resources_of(runner.world),
        raise_on_error=False,
        partition_key=period or DAY,
        tags=tags,
    )


@pytest.mark.parametrize(
    ("exchange", "dataset"), [("binance", "binance/um/klines/daily"), ("htx", "htx/spot/trades/daily")]
)
@pytest.mark.parametrize("hour", [1, 17])
def test_the_daily_cost_limit_uses_the_utc_day_for_every_exchange(  # noqa: PLR0917
    store: EmbeddedStore,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    exchange: str,
    dataset: str,
    hour: int,
) -> None:
    monkeypatch.setenv("LAKEHOUSE_SPENDING_DAILY_MAX_BYTES", "1000")
    now = datetime(2026, 3, 5, hour, tzinfo=UTC)
    spending = {DAY_TAG: str(spending_day(now)), DOLLARS_TAG: "1", BYTES_TAG: "5000"}
    world = World(store, exchange)
    tags = {DATASET_TAG: dataset, LAKE_TAG: world.lake.label} | spending
    create_run_for_test(instance, status=dg.DagsterRunStatus.SUCCESS, tags=tags)
    entry = world.entry(dataset, follow_from="2026-03-03")
    world.publish(["BTCUSDT"], ["2026-03-03"], dataset=dataset)
    with Gateway(store.endpoint_url).running() as gateway:
        watcher = Watcher(world, gateway, instance)
        monkeypatch.setattr(sensors, "now", lambda: watcher.now.timestamp())  # noqa: PLW0108 - the clock moves on
        watcher.now = now
        assert [*watcher.tick(entry), *watcher.tick(entry, later=SETTLE)] == []
        assert "daily cost limit" in watcher.reason
        watcher.now += timedelta(days=1)
        assert periods([*watcher.tick(entry), *watcher.tick(entry, later=SETTLE)]) == ["2026-03-03"]
