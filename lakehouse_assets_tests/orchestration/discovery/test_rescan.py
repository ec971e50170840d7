"""The rescan of what is materialized or followed: what it finds, what it leaves alone, what it costs."""

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
    """Followed from now on, with some history that a person backfilled."""
    return world.entry(follow_from="2024-03-05")


@pytest.fixture
def mirrored(watcher: Watcher, world: World, entry: DatasetEntry) -> list[str]:
    """History of two symbols, in the lake, and seen once; returns its keys, by symbol and day."""
    keys = world.publish(["BTCUSDT", "ETHUSDT"], HISTORY)
    world.engine().sync(scope(entry, HISTORY[0], HISTORY[-1]))
    watcher.tick(entry)
    assert watcher.reason == "Nothing new."
    return keys


def after_a_week(watcher: Watcher, *entries: DatasetEntry) -> list[str]:
    """What is asked for once the rescan has come by and what it found was listed (and settled)."""
    asked = periods(watcher.tick(*entries, later=WEEK))
    for later in (60, SETTLE):
        asked += periods(watcher.tick(*entries, later=later))
    return asked


# What it finds


def test_a_file_rewritten_long_after_is_asked_for(
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


def test_contiguous_periods_are_one_run_and_never_more_than_fit(
    watcher: Watcher, world: World, mirrored: list[str]
) -> None:
    entry = world.entry(follow_from="2024-03-05", partitions_per_run=4)
    for position in (1, 2, 3, 7, 8, 9, 10, 11):
        world.put(mirrored[position], body_of(mirrored[position], 2, 400))
    assert after_a_week(watcher, entry) == ["2024-01-12", "2024-01-08..2024-01-11", "2024-01-02..2024-01-04"]


def test_a_withdrawn_folder_and_a_hole_that_was_filled_are_asked_for(
    watcher: Watcher, world: World, entry: DatasetEntry
) -> None:
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


def test_a_run_that_failed_is_asked_for_again_with_a_pause_although_the_manifest_looks_whole(
    watcher: Watcher, world: World, entry: DatasetEntry, mirrored: list[str]
) -> None:
    world.put(mirrored[3], body_of(mirrored[3], 2, 400))
    watcher.tick(entry, later=WEEK)
    [request] = watcher.tick(entry, later=60)
    watcher.run(request, dg.DagsterRunStatus.FAILURE)
    assert watcher.tick(entry, later=60) == []
    assert watcher.tick(entry, later=FIRST_PAUSE - 1) == []
    [again] = watcher.tick(entry, later=1)
    assert again.run_key == request.run_key.removesuffix("1") + "2"


def test_a_range_of_which_one_day_fails_is_asked_for_again_for_that_day_only(
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
    [again] = watcher.tick(entry, later=FIRST_PAUSE)
    assert (again.partition_key, again.tags["lakehouse/attempt"]) == ("2024-01-06", "2")


def test_a_lost_cursor_does_not_repeat_what_a_range_run_was_asked_for(
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
    asked = [*watcher.tick(entry, later=60), *watcher.tick(entry, later=60)]
    assert [(each.partition_key, each.tags["lakehouse/attempt"]) for each in asked] == [("2024-01-06", "2")]


# What it leaves alone


def test_history_that_was_never_asked_for_is_not_started(
    watcher: Watcher, world: World, entry: DatasetEntry, mirrored: list[str]
) -> None:
    world.publish(["BTCUSDT", "ETHUSDT"], days("2024-01-21", "2024-02-10"))
    narrowed = scope(entry, "2024-02-01", symbols=(world.symbol("BTCUSDT"),))
    world.engine().sync(narrowed)
    assert after_a_week(watcher, entry) == []
    assert watcher.reason == "Nothing new."


def test_periods_before_the_first_one_of_the_matrix_are_left_alone(
    watcher: Watcher, world: World, mirrored: list[str]
) -> None:
    for key in mirrored[:10]:
        world.put(key, body_of(key, 2, 400))
    later = world.entry(first_period="2024-01-08", follow_from="2024-03-05")
    assert after_a_week(watcher, later) == ["2024-01-08..2024-01-10"]


def test_a_wider_matrix_brings_followed_periods_at_once_and_older_ones_only_with_catch_up(
    watcher: Watcher, world: World
) -> None:
    both = ("1h", "1m")
    narrow = world.entry(follow_from="2024-03-01")
    followed, older = days("2024-03-01", "2024-03-04"), days("2024-02-20", "2024-02-29")
    world.publish(["BTCUSDT"], [*older, *followed], intervals=both)
    world.engine().sync(scope(narrow, older[0], followed[-1]))
    assert watcher.tick(narrow) == []
    wide = world.entry(follow_from="2024-03-01", intervals=list(both))
    asked = [*watcher.tick(wide, later=60), *watcher.tick(wide, later=60), *watcher.tick(wide, later=SETTLE)]
    assert periods(asked) == [f"{followed[0]}..{followed[-1]}"]
    watcher.obey(wide, *asked)
    assert after_a_week(watcher, wide) == []
    all_of_it = world.entry(catch_up=True, first_period=older[0], intervals=list(both))
    asked = [*watcher.tick(all_of_it, later=60), *watcher.tick(all_of_it, later=60)]
    asked += watcher.tick(all_of_it, later=SETTLE)
    # The oldest has none before it to be compared with, and waits until it has settled.
    assert periods(asked) == [f"{older[1]}..{older[-1]}", older[0]]


def test_a_new_symbol_brings_its_followed_periods_with_the_next_listing_and_no_older_ones(
    watcher: Watcher, world: World
) -> None:
    entry = world.entry(follow_from="2024-02-10")
    every = days("2024-02-05", "2024-03-04")
    world.publish(["BTCUSDT"], every)
    world.engine().sync(scope(entry, every[0], every[-1]))
    assert watcher.tick(entry) == []
    world.publish(["NEWUSDT"], every)
    asked: list[str] = []
    for later in (3600, 60, SETTLE):
        requests = watcher.tick(entry, later=later)
        watcher.obey(entry, *requests)
        asked += periods(requests)
    assert asked == ["2024-03-02..2024-03-04", "2024-02-10..2024-03-01"]
    assert after_a_week(watcher, entry) == []


def test_catch_up_brings_all_of_history_from_the_newest_on_in_ranges(
    watcher: Watcher, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescan, "MAX_PENDING_OF_DATASET", 20)
    monkeypatch.setattr(rescan, "WINDOW_PERIODS", 20)
    first, last = "2023-11-20", "2024-03-04"
    entry = world.entry(first_period=first, catch_up=True, partitions_per_run=10)
    there = [day for day in days(first, last) if not "2024-01-05" <= day <= "2024-02-20"]
    world.publish(["BTCUSDT"], there)  # in between, nothing for longer than a look sees
    asked: list[str] = []
    for _ in range(30):
        requests = watcher.tick(entry, later=SETTLE)
        watcher.obey(entry, *requests)
        asked += periods(requests)
    brought = [day for each in asked for day in days_of(each)]
    assert sorted(brought) == there
    assert len(set(brought)) == len(brought)
    assert len(asked) == 7
    assert asked[0].endswith(last)
    assert asked[-1].startswith(first)
    assert watcher.reason == "Nothing new."


# What it costs, and where it goes on


def test_each_folder_is_listed_once_for_the_whole_range_within_a_week(
    watcher: Watcher, world: World, mirrored: list[str]
) -> None:
    entry = world.entry(follow_from="2025-01-01")  # nothing newest to look at
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


def test_a_rescan_goes_on_where_it_was_after_a_restart_and_lists_nothing_twice(
    watcher: Watcher, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "PART_FOLDERS", 1)
    entry = world.entry(follow_from="2025-01-01")
    names = [f"S{number}USDT" for number in range(5)]
    keys = world.publish(names, HISTORY[:3])
    world.engine().sync(scope(entry, HISTORY[0], HISTORY[2]))
    world.put(keys[-1], body_of(keys[-1], 2, 400))
    watcher.settings = {"budget_seconds": 0.3}
    watcher.gateway.delay = 0.12
    ticks = 0
    while not ticks or "place" in watcher.cursor:
        assert watcher.tick(entry, later=1) == []
        watcher.restart()
        ticks += 1
        assert ticks < 20
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
