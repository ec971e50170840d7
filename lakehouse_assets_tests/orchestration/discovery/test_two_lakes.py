"""Two lakes in one Dagster instance, of two code locations that have an asset key in common.

Neither discovery sensor counts the other's runs, attempts or give-ups.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import dagster as dg
import pytest

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.orchestration.discovery import sensors, tick
from lakehouse_assets.orchestration.discovery.cursor import MAX_ATTEMPTS
from lakehouse_assets_tests.orchestration.gateway import Gateway
from lakehouse_assets_tests.orchestration.watcher import Watcher, resources_of
from lakehouse_assets_tests.world import KLINES, World

METRICS = "binance/um/metrics/daily"
TRADES = "binance/um/trades/daily"
NEW = "2024-03-04"
RETRY = 6 * 3600


@pytest.fixture
def entries(world: World) -> dict[str, DatasetEntry]:
    for name in (KLINES, METRICS, TRADES):
        world.publish(["BTCUSDT"], [NEW], dataset=name)
    return {name: world.entry(name, follow_from=NEW) for name in (KLINES, METRICS, TRADES)}


@pytest.fixture
def other(watcher: Watcher, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Watcher:
    """The sensor of the second location: the same instance, exchange and bucket, another prefix."""
    made = Watcher(watcher.world, gateway, watcher.instance)
    second = copy(watcher.world)
    second.lake = replace(second.lake, prefix=f"{second.tag.lower()}-second")
    made.lake = resources_of(second)["lake"]
    monkeypatch.setattr(sensors, "now", lambda: max(watcher.now, made.now).timestamp())
    return made


def test_each_sensor_requests_its_own_runs_and_counts_no_other_s(
    watcher: Watcher, other: Watcher, entries: dict[str, DatasetEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tick, "RUNS_AT_A_TIME", 2)
    first, second = (entries[KLINES], entries[METRICS]), (entries[KLINES], entries[TRADES])
    requested = watcher.settle(*first)
    for request in requested:
        watcher.run(request, dg.DagsterRunStatus.STARTED)
    other.now = watcher.now
    asked = other.settle(*second)
    assert {(request.tags["lakehouse/dataset"], request.tags["lakehouse/lake"]) for request in requested} == {
        (name, watcher.world.lake.label) for name in (KLINES, METRICS)
    }
    label = other.lake.lake().label
    assert {(request.tags["lakehouse/dataset"], request.tags["lakehouse/lake"]) for request in asked} == {
        (name, label) for name in (KLINES, TRADES)
    }
    other.run(asked[0], dg.DagsterRunStatus.STARTING)
    for watched, matrix, number in ((watcher, first, 2), (other, second, 1)):
        watched.tick(*matrix, later=60)
        assert f"Runs in progress: {number}." in (watched.reason or "")


def test_a_period_that_one_sensor_gave_up_is_requested_by_the_other_from_its_first_attempt(
    watcher: Watcher, other: Watcher, entries: dict[str, DatasetEntry]
) -> None:
    entry = entries[KLINES]
    [request] = watcher.settle(entry)
    for _attempt in range(MAX_ATTEMPTS - 1):
        watcher.run(request, dg.DagsterRunStatus.FAILURE)
        assert watcher.tick(entry, later=60) == []
        [request] = watcher.tick(entry, later=RETRY)
    watcher.run(request, dg.DagsterRunStatus.FAILURE)
    watcher.tick(entry, later=RETRY)
    assert "Gave up" in (watcher.reason or "")

    other.now = watcher.now
    [fresh] = other.settle(entry)
    assert (fresh.partition_key, fresh.tags["lakehouse/attempt"]) == (NEW, "1")
    # The other one's runs succeed: that is no attempt of the first lake, which still lacks the period.
    other.run(fresh, dg.DagsterRunStatus.SUCCESS)
    assert watcher.tick(entry, later=RETRY) == []
    assert "Gave up" in (watcher.reason or "")
    watcher.cursor = None
    assert watcher.settle(entry) == []
    assert "Gave up" in (watcher.reason or "")
