"""What the sensor observes of the exchange's bucket: when, what, and at no cost."""

from __future__ import annotations

from typing import Any

import dagster as dg

from lakehouse_assets.orchestration.discovery.cursor import DiscoveryCursor, PendingPeriod
from lakehouse_assets.orchestration.discovery.source_observation import source_observations
from lakehouse_assets_tests.orchestration.watcher import MORNING, Watcher
from lakehouse_assets_tests.world import KLINES, World

METRICS = "binance/um/metrics/daily"
HOUR = 3600


def facts(observation: dg.AssetObservation) -> dict[str, Any]:
    return {name: value.value for name, value in observation.metadata.items()}


def test_the_bucket_is_observed_once_a_day_and_when_a_dataset_changes_its_status(
    watcher: Watcher, world: World
) -> None:
    entries = [world.entry(follow_from="2024-03-04"), world.entry(METRICS, follow_from="2024-03-04", paused=True)]
    watcher.now = MORNING.replace(hour=9)
    for _ in range(3):
        watcher.tick(*entries, later=60)
    [on_time] = watcher.observed
    assert (facts(on_time)["datasets"], facts(on_time)["datasets_paused"], facts(on_time)["datasets_behind"]) == (
        2,
        1,
        0,
    )
    assert f"| {KLINES} | on_time | 0 |" in facts(on_time)["status"]
    assert f"| {METRICS} | paused | 0 |" in facts(on_time)["status"]
    assert on_time.partition is None
    assert not on_time.tags

    watcher.tick(*entries, later=2 * HOUR)
    watcher.restart()
    watcher.tick(*entries, later=60)
    [_, late] = watcher.observed
    assert facts(late)["datasets_behind"] == 1
    assert f"| {KLINES} | late | 0 |" in facts(late)["status"]

    watcher.tick(*entries, later=14 * HOUR)
    assert [facts(one)["datasets_behind"] for one in watcher.observed] == [0, 1, 1]


def test_pending_periods_are_counted_and_cause_no_observation_until_one_is_given_up(
    watcher: Watcher, world: World
) -> None:
    entry, cursor, now = world.entry(), DiscoveryCursor(), MORNING.timestamp()
    assert len(source_observations([entry], cursor, now)) == 1
    pending = cursor.of(KLINES).pending
    pending["2024-03-01"] = PendingPeriod("abc", 1)
    assert source_observations([entry], cursor, now) == []
    pending["2024-03-02"] = PendingPeriod("abc", 8, 1)
    [observed] = source_observations([entry], DiscoveryCursor.read(cursor.write()), now)
    assert (facts(observed)["periods_pending"], facts(observed)["periods_given_up"]) == (2, 1)
