"""The rescan of materialized and tracked periods: what it requests, what it ignores, what it costs."""

from __future__ import annotations

from itertools import pairwise

import dagster as dg
import pytest

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.orchestration.discovery import rescan
from lakehouse_assets.orchestration.discovery.cursor import DiscoveryCursor
from lakehouse_assets.sync import changes
from lakehouse_assets_tests.orchestration.watcher import FIRST_PAUSE, SETTLE, Watcher, days_of, periods
from lakehouse_assets_tests.world import KLINES, World, body_of, days, scope

DAY = 86_400
WEEK = 7 * DAY
HISTORY = days("2024-01-01", "2024-01-20")


@pytest.fixture
def entry(world: World) -> DatasetEntry:
    """Tracked from now on, with some history that a person backfilled."""
    return world.entry(follow_from="2024-03-05")


@pytest.fixture
def mirrored(watcher: Watcher, world: World, entry: DatasetEntry) -> list[str]:
    """History of two symbols, copied into the lake and polled once; returns its keys by symbol and day."""
    keys = world.publish(["BTCUSDT", "ETHUSDT"], HISTORY)
    world.engine().sync(scope(entry, HISTORY[0], HISTORY[-1]))
    watcher.tick(entry)
    assert watcher.reason == "Nothing new."
    return keys


def after_a_week(watcher: Watcher, *entries: DatasetEntry) -> list[str]:
    """The periods requested once the rescan has run and the changed periods were listed and have settled."""
    requested = periods(watcher.tick(*entries, later=WEEK))
    for later in (60, SETTLE):
        requested += periods(watcher.tick(*entries, later=later))
    return requested


# What it requests


def test_a_file_rewritten_long_after_its_period_is_requested(
    watcher: Watcher, world: World, entry: DatasetEntry, mirrored: list[str]
) -> None:
    world.put(mirrored[3], body_of(mirrored[3], 2, 400))
    assert periods(watcher.tick(entry, later=DAY)) == []
    [request] = [*watcher.tick(entry, later=WEEK - DAY), *watcher.tick(entry, later=60)]
    assert (request.partition_key, request.tags["lakehouse/objects"]) == ("2024-01-04", "2")
    watcher.obey(entry, request)
    assert after_a_week(watcher, entry) == []
    [row] = world.manifest().read(["2024-01-04"]).filter(key=mirrored[3]).to_dicts()
    assert row["former_etag"]


def test_contiguous_periods_share_a_run_up_to_the_limit_per_run(
    watcher: Watcher, world: World, mirrored: list[str]
) -> None:
    entry = world.entry(follow_from="2024-03-05", partitions_per_run=4)
    for position in (1, 2, 3, 7, 8, 9, 10, 11):
        world.put(mirrored[position], body_of(mirrored[position], 2, 400))
    assert after_a_week(watcher, entry) == ["2024-01-12", "2024-01-08..2024-01-11", "2024-01-02..2024-01-04"]


def test_a_withdrawn_folder_and_a_filled_gap_are_requested(watcher: Watcher, world: World, entry: DatasetEntry) -> None:
    kept = [day for day in HISTORY if day != "2024-01-09"]
    keys = world.publish(["BTCUSDT", "ETHUSDT"], kept)
    world.publish(["ETHUSDT"], ["2024-01-09"])
    world.engine().sync(scope(entry, HISTORY[0], HISTORY[-1]))
    watcher.tick(entry)
    world.publish(["BTCUSDT"], ["2024-01-09"])
    assert after_a_week(watcher, entry) == ["2024-01-09"]
    for key in [key for key in keys if "ETHUSDT" in key]:
        world.withdraw(key)
    world.withdraw(world.key("ETHUSDT", "2024-01-09"))
    watcher.obey(entry, *_after_another_week(watcher, entry))
    assert set(world.manifest().read(HISTORY).filter(symbol=world.symbol("ETHUSDT"))["state"]) == {"vanished"}
    assert after_a_week(watcher, entry) == []


def test_a_failed_run_is_requested_again_after_a_pause_although_the_manifest_looks_complete(
    watcher: Watcher, world: World, entry: DatasetEntry, mirrored: list[str]
) -> None:
    world.put(mirrored[3], body_of(mirrored[3], 2, 400))
    watcher.tick(entry, later=WEEK)
    [request] = watcher.tick(entry, later=60)
    watcher.run(request, dg.DagsterRunStatus.FAILURE)
    assert watcher.tick(entry, later=60) == []
    assert watcher.tick(entry, later=FIRST_PAUSE - 1) == []
    [retried] = watcher.tick(entry, later=1)
    assert retried.run_key == request.run_key.removesuffix("1") + "2"


def test_after_one_day_of_a_range_failed_only_that_day_is_requested_again(
    watcher: Watcher, world: World, mirrored: list[str]
) -> None:
    entry = world.entry(follow_from="2024-03-05")
    for position in (4, 5, 6):
        world.put(mirrored[position], body_of(mirrored[position], 2, 400))
    watcher.tick(entry, later=WEEK)
    [request] = watcher.tick(entry, later=60)
    assert periods([request]) == ["2024-01-05..2024-01-07"]
    watcher.copied(entry, "2024-01-05", "2024-01-07")
    watcher.run(request, dg.DagsterRunStatus.FAILURE)
    assert watcher.tick(entry, later=60) == []
    [retried] = watcher.tick(entry, later=FIRST_PAUSE)
    assert (retried.partition_key, retried.tags["lakehouse/attempt"]) == ("2024-01-06", "2")


def test_a_lost_cursor_does_not_repeat_the_request_of_a_range(
    watcher: Watcher, world: World, entry: DatasetEntry, mirrored: list[str]
) -> None:
    for position in (4, 5):
        world.put(mirrored[position], body_of(mirrored[position], 2, 400))
    watcher.tick(entry, later=WEEK)
    [request] = watcher.tick(entry, later=60)
    run = watcher.run(request, dg.DagsterRunStatus.STARTED)
    watcher.cursor = None
    assert [watcher.tick(entry, later=60) for _ in range(3)] == [[], [], []]
    assert "Runs in progress: 1." in watcher.reason
    watcher.copied(entry, "2024-01-05")
    watcher.instance.report_run_failed(run)
    watcher.cursor = None
    requested = [*watcher.tick(entry, later=60), *watcher.tick(entry, later=60)]
    assert [(retry.partition_key, retry.tags["lakehouse/attempt"]) for retry in requested] == [("2024-01-06", "2")]


# What it ignores


def test_history_that_was_never_requested_is_not_requested_now(
    watcher: Watcher, world: World, entry: DatasetEntry, mirrored: list[str]
) -> None:
    world.publish(["BTCUSDT", "ETHUSDT"], days("2024-01-21", "2024-02-10"))
    partial_scope = scope(entry, "2024-02-01", symbols=(world.symbol("BTCUSDT"),))
    world.engine().sync(partial_scope)
    assert after_a_week(watcher, entry) == []
    assert watcher.reason == "Nothing new."


def test_periods_before_the_first_period_of_the_matrix_are_ignored(
    watcher: Watcher, world: World, mirrored: list[str]
) -> None:
    for key in mirrored[:10]:
        world.put(key, body_of(key, 2, 400))
    later = world.entry(first_period="2024-01-08", follow_from="2024-03-05")
    assert after_a_week(watcher, later) == ["2024-01-08..2024-01-10"]


def test_a_wider_matrix_requests_tracked_periods_at_once_and_older_ones_only_with_catch_up(
    watcher: Watcher, world: World
) -> None:
    both = ("1h", "1m")
    narrow = world.entry(follow_from="2024-03-01")
    tracked, older = days("2024-03-01", "2024-03-04"), days("2024-02-20", "2024-02-29")
    world.publish(["BTCUSDT"], [*older, *tracked], intervals=both)
    world.engine().sync(scope(narrow, older[0], tracked[-1]))
    assert watcher.tick(narrow) == []
    wide = world.entry(follow_from="2024-03-01", intervals=list(both))
    requested = [*watcher.tick(wide, later=60), *watcher.tick(wide, later=60), *watcher.tick(wide, later=SETTLE)]
    assert periods(requested) == [f"{tracked[0]}..{tracked[-1]}"]
    watcher.obey(wide, *requested)
    assert after_a_week(watcher, wide) == []
    whole_history = world.entry(catch_up=True, first_period=older[0], intervals=list(both))
    requested = [*watcher.tick(whole_history, later=60), *watcher.tick(whole_history, later=60)]
    requested += watcher.tick(whole_history, later=SETTLE)
    # There is no earlier period to compare the oldest one with: it has to settle.
    assert periods(requested) == [f"{older[1]}..{older[-1]}", older[0]]


def test_a_new_symbol_has_its_tracked_periods_requested_with_the_next_listing_and_no_older_ones(
    watcher: Watcher, world: World
) -> None:
    entry = world.entry(follow_from="2024-02-10")
    all_days = days("2024-02-05", "2024-03-04")
    world.publish(["BTCUSDT"], all_days)
    world.engine().sync(scope(entry, all_days[0], all_days[-1]))
    assert watcher.tick(entry) == []
    world.publish(["NEWUSDT"], all_days)
    requested: list[str] = []
    for later in (3600, 60, SETTLE):
        requests = watcher.tick(entry, later=later)
        watcher.obey(entry, *requests)
        requested += periods(requests)
    assert requested == ["2024-03-02..2024-03-04", "2024-02-10..2024-03-01"]
    assert after_a_week(watcher, entry) == []


def test_catch_up_requests_all_of_history_in_ranges_from_the_newest_on(
    watcher: Watcher, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescan, "MAX_PENDING_OF_DATASET", 20)
    monkeypatch.setattr(rescan, "WINDOW_PERIODS", 20)
    first, last = "2023-11-20", "2024-03-04"
    entry = world.entry(first_period=first, catch_up=True, partitions_per_run=10)
    published = [day for day in days(first, last) if not "2024-01-05" <= day <= "2024-02-20"]
    world.publish(["BTCUSDT"], published)  # the gap is longer than a window
    requested: list[str] = []
    for _ in range(30):
        requests = watcher.tick(entry, later=SETTLE)
        watcher.obey(entry, *requests)
        requested += periods(requests)
    copied_days = [day for text in requested for day in days_of(text)]
    assert sorted(copied_days) == published
    assert len(set(copied_days)) == len(copied_days)
    assert len(requested) == 7
    assert requested[0].endswith(last)
    assert requested[-1].startswith(first)
    assert watcher.reason == "Nothing new."


# What it costs, and where it resumes


def test_each_folder_is_listed_once_a_week_for_all_periods(watcher: Watcher, world: World, mirrored: list[str]) -> None:
    entry = world.entry(follow_from="2025-01-01")  # no newest period to poll
    watcher.tick(entry, later=60)
    folders = [f"{entry.dataset.source_prefix}{world.symbol(name)}/1m/" for name in ("BTCUSDT", "ETHUSDT")]
    rescanned = [0]
    for number in range(1, 64):
        watcher.gateway.listed.clear()
        assert watcher.tick(entry, later=DAY / 3) == []
        if watcher.gateway.listed:
            assert sorted(watcher.gateway.listed) == [entry.dataset.source_prefix, *folders]
            rescanned.append(number)
    assert len(rescanned) in {4, 5}
    assert all(5 * 3 <= after - before <= 7 * 3 for before, after in pairwise(rescanned))


def test_a_rescan_resumes_after_a_restart_and_lists_no_folder_twice(
    watcher: Watcher, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "BATCH_FOLDERS", 1)
    entry = world.entry(follow_from="2025-01-01")
    names = [f"S{number}USDT" for number in range(5)]
    keys = world.publish(names, HISTORY[:3])
    world.engine().sync(scope(entry, HISTORY[0], HISTORY[2]))
    world.put(keys[-1], body_of(keys[-1], 2, 400))
    watcher.settings = {"budget_seconds": 0.3}
    watcher.gateway.delay = 0.12
    ticks = 0
    # The rewritten file is in the last folder. On a busy machine a tick may have no time for any folder.
    while not (ticks and DiscoveryCursor.read(watcher.cursor).of(KLINES).pending):
        assert watcher.tick(entry, later=1) == []
        watcher.restart()
        ticks += 1
        assert ticks < 60
    assert ticks > 2
    listed = [prefix for prefix in watcher.gateway.listed if prefix.endswith("/1m/")]
    assert sorted(listed) == [f"{entry.dataset.source_prefix}{world.symbol(name)}/1m/" for name in names]
    assert list(DiscoveryCursor.read(watcher.cursor).of(KLINES).pending) == [HISTORY[2]]


def _after_another_week(watcher: Watcher, entry: DatasetEntry) -> list[dg.RunRequest]:
    return [
        *watcher.tick(entry, later=WEEK),
        *watcher.tick(entry, later=60),
        *watcher.tick(entry, later=SETTLE),
    ]
