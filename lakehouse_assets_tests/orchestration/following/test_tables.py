"""Tables follow their archives by state: whatever happened, in the end the table has what the archives have."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.archive.bucket import Credentials
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets.orchestration.discovery.cursor import MAX_ATTEMPTS, MAX_PENDING, DiscoveryCursor, PendingPeriod
from lakehouse_assets.orchestration.discovery.pending import LONGEST_RETRY_SECONDS
from lakehouse_assets.orchestration.following import asset, tick
from lakehouse_assets.orchestration.following.tick import SWEEP_SECONDS
from lakehouse_assets.tables.delta import open_table
from lakehouse_assets.tables.outdated import TableComparison
from lakehouse_assets.tables.write.maintenance import compact
from lakehouse_assets_tests.dagster_internals import create_run_for_test
from lakehouse_assets_tests.orchestration.following.conftest import Following
from lakehouse_assets_tests.orchestration.watcher import lake_at, periods
from lakehouse_assets_tests.tables.tabled import Tabled
from lakehouse_assets_tests.world import World, days

ONE, TWO, THREE = "2024-03-05", "2024-03-06", "2024-03-07"
RETRY = 300
"""Seconds until the first retry; each later pause is twice as long."""


@pytest.fixture
def tabled(world: World) -> Tabled:
    return Tabled(world)


@pytest.fixture
def tables(following: Callable[..., Following], tabled: Tabled) -> Following:
    return following(*tabled.entries)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The months that were compared, in order."""
    seen: list[str] = []
    real = TableComparison.outdated

    def spy(self: TableComparison, month: str) -> Any:
        seen.append(month)
        return real(self, month)

    monkeypatch.setattr(TableComparison, "outdated", spy)
    return seen


def away(world: World) -> dict[str, Any]:
    """Resources of a run during which the lake refuses everything."""
    return {"lake": lake_at(world, credentials=Credentials("who", "wrong"))}


# What is requested


def test_a_changed_archive_requests_its_period_and_an_unchanged_one_requests_nothing(
    tables: Following, tabled: Tabled
) -> None:
    assert tables.asked_for() == []
    assert tables.reason == "Everything is made from the archives that the lake has."
    tabled.publish(["BTC"], [ONE, TWO, THREE])
    tabled.sync(ONE, THREE)
    [request] = tables.tick()
    assert request.tags["dagster/priority"] == "10"
    assert request.tags["lakehouse/dataset"] == "binance/um/klines/table"
    assert periods([request]) == [f"{ONE}..{THREE}"]
    tables.run(request)
    assert tables.asked_for() == []
    tabled.sync(ONE, THREE)
    assert tables.asked_for() == []

    tabled.publish(["BTC"], [ONE], price=7.0)
    tabled.sync(ONE, THREE)
    assert tables.settle() == [ONE]
    assert tabled.prices()["BTC", ONE] == {7.0}


def test_a_new_symbol_a_withdrawn_object_and_an_old_day_end_in_table_equals_archive(
    tables: Following, tabled: Tabled
) -> None:
    tabled.publish(["BTC", "ETH"], [ONE, TWO])
    tabled.sync(ONE, TWO)
    assert tables.settle() == [f"{ONE}..{TWO}"]
    old = "2021-01-31"
    tabled.publish(["SOL"], [TWO])
    tabled.publish(["BTC"], [old])
    for key in tabled.publish(["ETH"], [ONE]):
        tabled.world.withdraw(key)
    tabled.sync(ONE, TWO)
    tabled.sync(old)
    assert tables.settle() == [TWO, old]
    assert set(tabled.prices()) == {("BTC", ONE), ("ETH", ONE), ("BTC", TWO), ("ETH", TWO), ("SOL", TWO), ("BTC", old)}


def test_a_month_requests_its_days_and_days_do_not_wait_for_their_month(
    following: Callable[..., Following], world: World
) -> None:
    tabled = Tabled(world, monthly=True)
    tables = following(*tabled.entries)
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)
    assert tables.settle() == [ONE]
    tabled.publish(["BTC"], ["2024-02"], price=5.0)
    tabled.sync("2024-02")
    assert tables.settle() == ["2024-02-01..2024-02-29"]
    assert tabled.prices()["BTC", "2024-02-29"] == {5.0}


def test_an_incomplete_archive_period_is_followed_once_it_did_not_change_for_hours(
    tables: Following, tabled: Tabled
) -> None:
    [_, refused] = tabled.publish(["BTC", "ETH"], [ONE])
    with tabled.world.refused_writes(refused):
        tabled.sync(ONE)
    assert tables.asked_for() == []
    assert "Periods whose archives are incomplete or being written: 1." in (tables.reason or "")
    assert tables.asked_for(later=LONGEST_RETRY_SECONDS / 2) == []
    tables.restart()
    [request] = tables.tick(later=LONGEST_RETRY_SECONDS / 2)
    tables.run(request)
    assert set(tabled.prices()) == {("BTC", ONE)}
    tabled.sync(ONE)
    assert tables.settle() == [ONE]
    assert set(tabled.prices()) == {("BTC", ONE), ("ETH", ONE)}


# Failures


def test_a_period_whose_run_failed_is_requested_again_after_growing_pauses(tables: Following, tabled: Tabled) -> None:
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)
    pauses = []
    [request] = tables.tick()
    for attempt in range(1, 5):
        assert request.run_key.endswith(f"@{attempt}")
        assert not tables.run(request, **away(tabled.world)).success
        start = tables.now
        while not (requests := tables.tick()):
            assert (tables.now - start).total_seconds() < LONGEST_RETRY_SECONDS
        [request] = requests
        # The first tick after the run sees that it is over.
        pauses.append((tables.now - start).total_seconds() - 60)
    assert pauses == [RETRY, 2 * RETRY, 4 * RETRY, 8 * RETRY]
    assert tables.run(request).success
    assert tables.asked_for(later=86_400) == []
    assert set(tabled.prices()) == {("BTC", ONE)}


def test_a_period_is_given_up_after_the_last_attempt_and_requested_again_with_other_content(
    tables: Following, tabled: Tabled
) -> None:
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)
    for _ in range(MAX_ATTEMPTS):
        [request] = tables.tick(later=LONGEST_RETRY_SECONDS)
        tables.run(request, **away(tabled.world))
        tables.tick()
    [event] = tables.events
    assert (event.asset_key.to_user_string(), event.partition) == ("binance/um/klines/table", ONE)
    assert event.metadata["failed_runs"].value == MAX_ATTEMPTS
    assert f"Gave up after {MAX_ATTEMPTS} failed runs each: binance/um/klines/table@{ONE}" in (tables.reason or "")
    assert tables.asked_for(later=LONGEST_RETRY_SECONDS) == []
    tables.cursor = None
    assert tables.asked_for() == []  # the tags of its runs have the attempts
    assert len(tables.events) == 2
    tabled.publish(["BTC"], [ONE], price=7.0)
    tabled.sync(ONE)
    assert tables.settle() == [ONE]


def test_a_lake_that_is_away_for_a_day_delays_periods_and_loses_none(tables: Following, tabled: Tabled) -> None:
    tabled.publish(["BTC"], [ONE, TWO])
    tabled.sync(ONE)
    assert tables.settle() == [ONE]
    tabled.sync(TWO)
    working, tables.lake = tables.lake, away(tabled.world)["lake"]
    for _ in range(4):
        assert tables.asked_for(later=6 * 3600) == []
        assert "binance/um/klines/table: Reading" in (tables.reason or "")
        assert DiscoveryCursor.read(tables.cursor).datasets["binance/um/klines/table"].problem == "lake"
    tables.lake = working
    assert tables.settle() == [TWO]


def test_after_a_restart_or_with_a_lost_or_foreign_cursor_only_what_differs_is_requested(
    tables: Following, tabled: Tabled
) -> None:
    tabled.publish(["BTC"], [ONE, TWO])
    tabled.sync(ONE, TWO)
    assert tables.settle() == [f"{ONE}..{TWO}"]
    tabled.publish(["BTC"], [ONE], price=7.0)
    tabled.sync(ONE)
    for cursor in (tables.cursor, None, "of an earlier version", "{}"):
        tables.restart()
        tables.cursor = cursor
        assert tables.asked_for() == [ONE]
    assert tables.asked_for() == []
    [again] = tables.tick(later=RETRY)  # the requested run was lost before it was launched
    tables.run(again)
    assert tables.asked_for() == []
    assert tabled.prices() == {("BTC", ONE): {7.0}, ("BTC", TWO): {100.0}}


def test_a_table_that_was_deleted_is_built_again(tables: Following, tabled: Tabled) -> None:
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)
    tables.settle()
    for name in tabled.world.lake_files(tabled.table.place):
        tabled.world.delete_in_lake(name)
    tables.restart()
    assert tables.asked_for(later=SWEEP_SECONDS) == [ONE]


def test_rows_that_another_program_deleted_are_written_again(tables: Following, tabled: Tabled) -> None:
    tabled.publish(["BTC"], [ONE, TWO])
    tabled.sync(ONE, TWO)
    tables.settle()
    delta = open_table(tabled.world.lake, tabled.table.place)
    assert delta is not None
    delta.delete(f"period = '{ONE}'")
    assert tables.settle() == [f"{ONE}..{TWO}"]  # they share a file
    assert set(tabled.prices()) == {("BTC", ONE), ("BTC", TWO)}


def test_days_of_publishing_with_every_kind_of_trouble_end_in_table_equals_archive(
    tables: Following, tabled: Tabled
) -> None:
    world, working = tabled.world, tables.lake
    expected: dict[tuple[str, str], set[float]] = {}

    def publish(symbol: str, day: str, price: float) -> None:
        tabled.publish([symbol], [day], price=price)
        tabled.sync(day)
        expected[symbol, day] = {price}

    tables.now = datetime(2024, 3, 1, 9, tzinfo=UTC)
    for number, day in enumerate(days("2024-03-01", "2024-03-08")):
        publish("BTC", day, 100.0 + number)
        if number >= 3:
            publish("NEW", day, 1.0 + number)
        if number == 4:
            publish("BTC", "2024-03-02", 7.0)  # rewritten
            publish("BTC", "2023-12-31", 8.0)  # an old day
            world.withdraw(world.key("BTC", "2024-03-01", interval="1h"))
            tabled.sync("2024-03-01")
        tables.lake = away(world)["lake"] if number == 5 else working
        if number == 6:
            tables.cursor = None
            tables.restart()
        for hour in range(0, 24, 8):
            for position, request in enumerate(tables.tick(later=8 * 3600)):
                is_failing = (number == 2 and hour == 0) or (number == 4 and position == 0)
                assert tables.run(request, **(away(world) if is_failing else {})).success is not is_failing
    tables.settle()
    assert tables.asked_for(later=86_400) == []
    assert tabled.prices() == expected


# Runs in progress


def test_a_period_of_a_run_in_progress_is_not_requested_again_and_a_change_meanwhile_is_not_lost(
    tables: Following, tabled: Tabled
) -> None:
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)
    [request] = tables.tick()
    run = create_run_for_test(
        tables.instance,
        tags={**request.tags, "dagster/partition": ONE},
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset(request.asset_selection),
    )
    tabled.publish(["BTC"], [ONE], price=7.0)
    tabled.sync(ONE)
    assert [tables.asked_for(later=later) for later in (60, LONGEST_RETRY_SECONDS)] == [[], []]
    tables.cursor = None
    assert tables.asked_for() == []
    tables.instance.report_run_failed(run)
    assert tables.asked_for() == []
    assert tables.asked_for(later=RETRY) == [ONE]


def test_a_persons_backfill_in_progress_is_left_alone_for_hours(tables: Following, tabled: Tabled) -> None:
    tabled.publish(["BTC"], [ONE, TWO, THREE])
    tabled.sync(ONE, THREE)
    create_run_for_test(
        tables.instance,
        tags={"dagster/backfill": "mine", **range_tags(ONE, TWO)},
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset({dg.AssetKey(tabled.table.asset_key)}),
    )
    assert tables.asked_for() == [THREE]
    assert tables.asked_for(later=LONGEST_RETRY_SECONDS) == [f"{ONE}..{TWO}"]


# Cost


def test_an_idle_tick_compares_nothing_and_a_change_compares_its_month(
    tables: Following, tabled: Tabled, compared: list[str]
) -> None:
    tabled.publish(["BTC"], ["2024-01-10", "2024-02-10", ONE])
    for day in ("2024-01-10", "2024-02-10", ONE):
        tabled.sync(day)
    tables.settle()
    compared.clear()
    assert tables.asked_for() == []
    assert compared == []
    tabled.publish(["BTC"], ["2024-02-11"])
    tabled.sync("2024-02-11")
    assert tables.asked_for() == ["2024-02-11"]
    assert compared == ["2024-02"]
    compared.clear()
    assert tables.asked_for(later=SWEEP_SECONDS) == []
    assert compared == ["2024-03", "2024-02", "2024-01"]


def test_after_a_restart_only_months_that_were_written_since_are_compared(
    tables: Following, tabled: Tabled, compared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asset, "CLOCK_SKEW_SECONDS", 0.0)
    tabled.publish(["BTC"], ["2024-01-10", ONE])
    for day in ("2024-01-10", ONE):
        tabled.sync(day)
    tables.now = datetime.now(UTC) + timedelta(days=1)  # the files' times are the machine's
    tables.settle()
    tables.restart()
    compared.clear()
    assert tables.asked_for() == []
    assert compared == []


def test_compaction_of_the_table_requests_nothing(tables: Following, tabled: Tabled) -> None:
    for day in ("2024-01-10", "2024-01-11"):
        tabled.publish(["BTC"], [day])
        tabled.sync(day)
        tables.settle()
    assert compact(tabled.world.lake, tabled.table).files_before > 1
    assert tables.asked_for() == []


def test_new_days_come_before_history_and_history_leaves_room_for_them(
    tables: Following, tabled: Tabled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tick, "HISTORY_RUNS_AT_A_TIME", 1)
    history = ["2023-06-01", "2023-09-01", "2023-12-01"]
    tabled.publish(["BTC"], [*history, ONE])
    for day in (*history, ONE):
        tabled.sync(day)
    [request] = tables.tick()
    assert (periods([request]), request.tags["dagster/priority"]) == ([ONE], "10")
    tables.run(request)
    asked: list[str] = []
    for _ in range(3):
        [request] = tables.tick()
        assert request.tags["dagster/priority"] == "0"
        asked += periods([request])
        tables.run(request)
    assert asked == history[::-1]
    assert tables.asked_for() == []
    assert {day for _, day in tabled.prices()} == {*history, ONE}


def test_a_new_day_is_followed_beside_as_much_history_that_is_given_up_as_the_cursor_keeps(
    tables: Following, tabled: Tabled
) -> None:
    cursor = DiscoveryCursor(ticked=int(tables.now.timestamp()))
    given_up = PendingPeriod("0123456789abcdef", MAX_ATTEMPTS, int(tables.now.timestamp()))
    name = "/".join(tabled.table.asset_key)
    cursor.of(name).pending = dict.fromkeys(days("2021-01-01", "2022-12-31")[:MAX_PENDING], given_up)
    tables.cursor = cursor.write()
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)
    assert tables.asked_for() == [ONE]


def test_a_crowd_of_old_periods_does_not_keep_a_new_day_from_being_followed(
    tables: Following, tabled: Tabled, monkeypatch: pytest.MonkeyPatch
) -> None:
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)
    tables.settle()
    for name, limit in (("MAX_PENDING", 12), ("RESERVED_PENDING", 6), ("HISTORY_RUNS_AT_A_TIME", 0)):
        monkeypatch.setattr(tick, name, limit)
    old = days("2023-11-01", "2023-11-10")
    tabled.publish(["BTC"], old)
    tabled.sync(old[0], old[-1])
    assert tables.asked_for() == []
    assert DiscoveryCursor.read(tables.cursor).pending_periods == 6
    tabled.publish(["BTC"], [TWO])
    tabled.sync(TWO)
    [request] = tables.tick()
    assert periods([request]) == [TWO]
    tables.run(request)
    monkeypatch.setattr(tick, "HISTORY_RUNS_AT_A_TIME", 10)
    tables.settle()
    assert {day for _, day in tabled.prices()} == {*old, ONE, TWO}
