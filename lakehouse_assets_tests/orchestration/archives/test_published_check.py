"""The check `published`: what the sensor records, and what a run reports."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.archives.source import source_key
from lakehouse_assets_tests.orchestration.conftest import Runner
from lakehouse_assets_tests.orchestration.watcher import MORNING, Watcher, resources_of
from lakehouse_assets_tests.world import KLINES, World

METRICS = "binance/um/metrics/daily"
TRADES = "binance/um/trades/daily"
BOOK = "binance/um/bookTicker/daily"
FUNDING = "binance/um/fundingRate/monthly"


def recorded(watcher: Watcher, *entries: DatasetEntry, later: float = 0) -> dict[str, dg.AssetCheckEvaluation]:
    """The evaluations that the next tick records, by dataset."""
    watcher.events.clear()
    watcher.tick(*entries, later=later)
    assert {event.check_name for event in watcher.events} <= {"published"}
    evaluations = {event.asset_key.to_user_string(): event for event in watcher.events}
    assert len(evaluations) == len(watcher.events)
    return evaluations


def test_a_dataset_that_is_late_warns_and_one_that_stalled_is_an_error(watcher: Watcher, world: World) -> None:
    entry = world.entry(follow_from="2024-03-04")
    watcher.now = MORNING.replace(hour=9)
    [on_time] = recorded(watcher, entry).values()
    assert (on_time.passed, on_time.description) == (True, "On time. No period of it was ever listed.")
    assert on_time.metadata["lake"].value == world.lake.label
    [late] = recorded(watcher, entry, later=2 * 3600).values()
    assert (late.passed, late.severity.name) == (False, "WARN")
    assert late.description == (
        "Late: 2024-03-04 was due 1 h 0 min ago, 1 period is missing. No period of it was ever listed."
    )
    assert late.metadata["periods_behind"].value == 1
    assert late.metadata["hours_behind"].value == 1.0
    [stalled] = recorded(watcher, entry, later=2 * 86_400).values()
    assert (stalled.passed, stalled.severity.name) == (False, "ERROR")
    assert stalled.metadata["standing"].value == "stalled"


def test_the_check_is_recorded_once_a_day_and_when_its_status_changes(watcher: Watcher, world: World) -> None:
    entry = world.entry(follow_from="2024-03-04")
    assert len(recorded(watcher, entry)) == 1
    for _ in range(5):
        assert recorded(watcher, entry, later=60) == {}
    watcher.restart()
    assert recorded(watcher, entry, later=60) == {}
    assert len(recorded(watcher, entry, later=86_400)) == 1


def test_a_period_that_is_published_but_not_copied_is_on_time(watcher: Watcher, world: World) -> None:
    entry = world.entry(follow_from="2024-03-04")
    world.publish(["BTCUSDT"], ["2024-03-04"])
    watcher.now = MORNING.replace(hour=12)
    [verdict] = recorded(watcher, entry).values()
    assert (verdict.passed, verdict.metadata["newest_period"].value) == (True, "2024-03-04")


def test_when_the_whole_exchange_is_behind_one_dataset_is_an_error_and_the_others_refer_to_it(
    watcher: Watcher, world: World
) -> None:
    entries = [world.entry(name, follow_from="2024-03-04") for name in (KLINES, METRICS, TRADES)]
    monthly = world.entry(FUNDING, follow_from="2024-02-01")
    watcher.now = MORNING + timedelta(days=5)
    evaluations = recorded(watcher, *entries, monthly)
    assert {name: verdict.severity.name for name, verdict in evaluations.items() if not verdict.passed} == {
        KLINES: "ERROR",
        METRICS: "WARN",
        TRADES: "WARN",
        FUNDING: "WARN",
    }
    assert "The whole exchange is behind: 3 of 3 daily datasets of binance." in evaluations[KLINES].description
    assert evaluations[METRICS].description.endswith(f"of binance. See {KLINES}.")
    assert evaluations[METRICS].metadata["whole_exchange"].value == "binance"
    assert "exchange" not in evaluations[FUNDING].description


def test_a_single_dataset_that_is_behind_does_not_mention_the_exchange(watcher: Watcher, world: World) -> None:
    entries = [world.entry(name, follow_from="2024-03-04") for name in (KLINES, METRICS, TRADES)]
    for name in (METRICS, TRADES):
        world.publish(["BTCUSDT"], ["2024-03-04"], dataset=name)
    watcher.now = MORNING.replace(hour=12)
    evaluations = recorded(watcher, *entries)
    assert [name for name, verdict in evaluations.items() if not verdict.passed] == [KLINES]
    assert "whole_exchange" not in evaluations[KLINES].metadata


def test_a_publication_that_ended_passes_and_the_check_says_so(watcher: Watcher, world: World) -> None:
    watcher.now = datetime(2024, 6, 1, tzinfo=UTC)
    [verdict] = recorded(watcher, world.entry(BOOK)).values()
    assert verdict.passed
    assert verdict.description.startswith("No longer published.")


def test_nothing_is_recorded_for_a_paused_dataset_nor_before_a_period_is_due_nor_without_a_listing(
    watcher: Watcher, world: World
) -> None:
    assert recorded(watcher, world.entry(follow_from="2024-03-05")) == {}
    assert recorded(watcher, world.entry(follow_from="2024-03-04", paused=True)) == {}
    assert watcher.reason == "Paused in the matrix: 1 datasets."
    watcher.gateway.refusal = (403, "AccessDenied")
    assert recorded(watcher, world.entry(follow_from="2024-03-04")) == {}


@pytest.mark.usefixtures("stored_instance")
def test_dagster_stores_what_the_sensor_records_and_a_run_repeats_it(
    watcher: Watcher, runner: Runner, world: World
) -> None:
    entry = world.entry(follow_from="2024-03-04")
    asset = build_archive_asset(entry, "s3://lake")
    key = dg.AssetCheckKey(asset.key, "published")
    watcher.now = MORNING + timedelta(days=3)
    sensor = watcher.sensor(entry)
    definitions = dg.Definitions([asset], sensors=[sensor], resources=resources_of(world))
    with watcher.context(definitions=definitions, instance_ref=watcher.instance.get_ref()) as context:
        data = definitions.resolve_sensor_def("binance_discovery").evaluate_tick(context)
    event, observed = data.asset_events
    assert observed.asset_key == source_key("binance")
    runner.instance.report_runless_asset_event(event)  # as the daemon does
    assert latest(runner, key).evaluation.description == event.description

    world.publish(["BTCUSDT"], ["2024-03-01"])
    result = runner.run(entry, "2024-03-01")
    newest = latest(runner, key)
    assert newest.run_id == result.run_id
    assert (newest.evaluation.passed, newest.evaluation.description) == (False, event.description)


def test_a_run_without_a_sensor_passes_the_check_and_advises_to_turn_the_sensor_on(
    runner: Runner, world: World
) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT"], ["2024-03-01"])
    runner.run(entry, "2024-03-01")
    key = dg.AssetCheckKey(dg.AssetKey(entry.dataset.asset_key), "published")
    record = latest(runner, key)
    assert record.evaluation.passed
    assert "turn on the exchange's discovery sensor" in record.evaluation.description


def test_a_run_of_the_check_alone_lists_nothing(watcher: Watcher, runner: Runner, world: World) -> None:
    asset = build_archive_asset(world.entry(), "s3://lake")
    result = dg.materialize(
        [asset],
        selection=dg.AssetSelection.checks(dg.AssetCheckKey(asset.key, "published")),
        instance=runner.instance,
        resources=resources_of(world) | {"source": watcher.source},
    )
    assert result.success
    assert watcher.gateway.listed == []


def test_usual_publication_hours_are_learned_from_the_manifest(watcher: Watcher, world: World) -> None:
    # The store dates its objects today, long after the days that they cover.
    entry = world.entry(follow_from="2024-02-01")
    all_days = [f"2024-02-{day:02}" for day in range(1, 16)]
    world.publish(["BTCUSDT"], all_days)
    watcher.copied(entry, *all_days)
    [verdict] = recorded(watcher, entry).values()
    assert verdict.metadata["learned_from_periods"].value == 15
    lag = (datetime.now(UTC) - datetime(2024, 2, 9, tzinfo=UTC)) / timedelta(hours=1)
    assert verdict.metadata["late_after_hours"].value > lag


def latest(runner: Runner, key: dg.AssetCheckKey) -> Any:
    """The evaluation that the UI shows. (Those that Dagster plans for each partition of a run stay open.)"""
    return runner.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]


@pytest.fixture
def runner(world: World, watcher: Watcher) -> Runner:
    return Runner(world, watcher.instance)
