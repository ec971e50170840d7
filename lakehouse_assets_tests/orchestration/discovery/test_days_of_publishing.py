"""Days of simulated publishing: exactly which runs are requested, and when."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse_assets.archive.bucket import Credentials
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.lake.manifest_cache import ManifestCache
from lakehouse_assets_tests.orchestration.watcher import SETTLE, Watcher, days_of, lake_at, periods
from lakehouse_assets_tests.world import World, body_of, days

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
HOURS = (0, 6, 9, 10, 11, 13, 16)
BEFORE = days("2024-02-20", "2024-03-04")
"""Published before the dataset is tracked, and never requested."""


class Story:
    """One dataset, tracked from 2024-03-05 on: time passes, the exchange publishes, and requested runs succeed."""

    def __init__(self, watcher: Watcher, world: World) -> None:
        self.watcher = watcher
        self.world = world
        self.entry: DatasetEntry = world.entry(follow_from="2024-03-05")
        self.requested: list[str] = []
        self.published: set[str] = set()
        world.publish(SYMBOLS, BEFORE)
        watcher.now = datetime(2024, 3, 5, 0, 0, tzinfo=UTC)
        self.restarts = False

    def until(self, day: int, hour: float) -> None:
        """Tick at HOURS, up to and including the given time of March 2024."""
        end = datetime(2024, 3, day, tzinfo=UTC) + timedelta(hours=hour)
        while (upcoming := self._next_tick()) <= end:
            self.watcher.now = upcoming
            self.tick()

    def tick(self) -> None:
        requests = self.watcher.tick(self.entry)
        self.requested += [f"{self.watcher.now:%d %H:%M} {text}" for text in periods(requests)]
        self.watcher.obey(self.entry, *requests)
        if self.restarts:
            self.watcher.restart()

    def _next_tick(self) -> datetime:
        now = self.watcher.now
        midnight = now.replace(hour=0, minute=0)
        upcoming = (midnight + timedelta(days=days, hours=hour) for days in (0, 1) for hour in HOURS)
        return next(moment for moment in upcoming if moment > now)

    def publish(self, *new_days: str, symbols: Iterable[str] = SYMBOLS) -> None:
        self.published |= set(new_days)
        self.world.publish(symbols, new_days)

    def assert_all_complete(self) -> None:
        """Assert that every period published meanwhile is complete, and that no earlier one was copied."""
        assert set(ManifestCache().known(self.world.manifest()).complete) == self.published

    @property
    def statuses(self) -> list[str]:
        """The statuses that the check `published` recorded, in order."""
        return [event.metadata["standing"].value for event in self.watcher.events]


@pytest.fixture
def story(watcher: Watcher, world: World) -> Story:
    return Story(watcher, world)


@pytest.mark.parametrize("restarts", [False, True])
def test_each_ordinary_day_takes_one_run(story: Story, restarts: bool) -> None:
    story.restarts = restarts
    for day in range(6, 9):
        story.until(day, 8)
        story.publish(f"2024-03-{day - 1:02}")
    story.until(8, 24)
    assert story.requested == [
        "06 10:00 2024-03-05",  # there is no earlier period to compare the first one with: it has to settle
        "07 09:00 2024-03-06",
        "08 09:00 2024-03-07",
    ]
    assert set(story.statuses) == {"on_time"}
    assert len(story.statuses) == 4  # once a day, first when the dataset becomes tracked
    story.assert_all_complete()


def test_a_day_published_in_parts_is_requested_once_settled_and_again_for_late_objects(story: Story) -> None:
    story.until(6, 8)
    story.publish("2024-03-05")
    story.until(7, 8)
    story.publish("2024-03-06", symbols=SYMBOLS[:1])
    story.until(7, 9)
    story.publish("2024-03-06", symbols=SYMBOLS[1:2])  # changed before it settled
    story.until(7, 12)
    story.publish("2024-03-06", symbols=SYMBOLS[2:])
    story.until(7, 24)
    assert story.requested == ["06 10:00 2024-03-05", "07 11:00 2024-03-06", "07 13:00 2024-03-06"]
    story.assert_all_complete()


def test_days_published_late_and_out_of_order_are_requested_as_they_appear(story: Story) -> None:
    story.until(6, 8)
    story.publish("2024-03-05")
    story.until(8, 8)
    story.publish("2024-03-07")
    story.until(9, 8)
    story.publish("2024-03-08")
    story.until(9, 15)
    story.publish("2024-03-06")
    story.until(9, 24)
    assert story.requested == [
        "06 10:00 2024-03-05",
        "08 09:00 2024-03-07",
        "09 09:00 2024-03-08",
        "09 16:00 2024-03-06",
    ]
    assert _without_repetitions(story.statuses) == ["on_time", "late", "on_time"]  # the newest period decides
    story.assert_all_complete()


def test_a_stall_is_recorded_and_ends_in_one_run_for_all_of_its_days(story: Story) -> None:
    story.until(6, 8)
    story.publish("2024-03-05")
    story.until(12, 12)
    story.publish(*days("2024-03-06", "2024-03-11"))
    story.until(12, 24)
    assert story.requested == ["06 10:00 2024-03-05", "12 13:00 2024-03-06..2024-03-11"]
    assert _without_repetitions(story.statuses) == ["on_time", "late", "stalled", "on_time"]
    assert len(story.statuses) <= 8 + 3  # once a day and at every change
    stalled = [event for event in story.watcher.events if event.metadata["standing"].value == "stalled"]
    assert [event.metadata["periods_behind"].value for event in stalled] == [2, 3, 4, 5]
    assert {(event.passed, event.severity.name) for event in stalled} == {(False, "ERROR")}
    assert stalled[0].description == (
        "Stalled: 2024-03-06 was due 1 d 14 h ago, 2 periods are missing. The newest period is 2024-03-05."
    )
    story.assert_all_complete()


def test_a_lake_outage_of_hours_delays_runs_and_loses_no_period(story: Story) -> None:
    story.until(6, 8)
    story.publish("2024-03-05")
    story.until(6, 9)
    working_lake = story.watcher.lake
    story.watcher.lake = lake_at(story.world, credentials=Credentials("who", "wrong"))
    story.until(6, 13)
    assert "Reading the manifest" in story.watcher.reason
    story.watcher.lake = working_lake
    story.until(7, 8)
    story.publish("2024-03-06")
    story.until(7, 12)
    assert story.requested == ["06 16:00 2024-03-05", "07 09:00 2024-03-06"]
    story.assert_all_complete()


def test_after_months_without_ticks_every_missed_period_is_copied_once(story: Story) -> None:
    story.until(6, 8)
    story.publish("2024-03-05")
    story.until(6, 12)
    missed = days("2024-03-06", "2024-06-20")
    story.publish(*missed)
    story.watcher.now = datetime(2024, 6, 21, 8, tzinfo=UTC)
    requested: list[str] = []
    for _ in range(16):
        requests = story.watcher.tick(story.entry, later=SETTLE)
        story.watcher.obey(story.entry, *requests)
        requested += [day for text in periods(requests) for day in days_of(text)]
    assert sorted(requested) == missed
    story.assert_all_complete()


def test_at_midnight_only_the_new_day_is_requested(story: Story) -> None:
    story.until(6, 8)
    story.publish("2024-03-05")
    story.until(6, 16)
    story.publish("2024-03-06")  # before the day is over
    for minute in range(-6, 7, 2):
        story.watcher.now = datetime(2024, 3, 7, tzinfo=UTC) + timedelta(minutes=minute)
        story.tick()
    assert story.requested == ["06 10:00 2024-03-05", "07 00:00 2024-03-06"]
    story.assert_all_complete()


def test_a_file_rewritten_within_the_week_and_each_new_day_take_one_run(story: Story) -> None:
    for day in range(6, 10):
        story.until(day, 6)
        story.publish(f"2024-03-{day - 1:02}")
    story.until(9, 18)
    key = story.world.key("ETHUSDT", "2024-03-05")
    story.world.put(key, body_of(key, 2, 400))
    for day in range(10, 15):
        story.until(day, 6)
        story.publish(f"2024-03-{day - 1:02}")
    story.until(14, 24)
    assert [text.split()[-1] for text in story.requested].count("2024-03-05") == 2
    assert len(story.requested) == 9 + 1
    [row] = story.world.manifest().read(["2024-03-05"]).filter(key=key).to_dicts()
    assert row["former_etag"]
    story.assert_all_complete()


def test_a_delisted_canary_delays_a_day_by_about_an_hour_at_most(watcher: Watcher, world: World) -> None:
    # All tests share the canaries, so this one uses a dataset and a year of its own.
    name, canary, other = "binance/um/premiumIndexKlines/daily", "BTCUSDT", world.symbol("ETHUSDT")
    entry = world.entry(name, follow_from="2022-06-01", symbols={"include": [canary, other]})

    def key(symbol: str, day: str) -> str:
        return entry.dataset.layout.key_of(symbol=symbol, interval="1m", period=entry.dataset.period(day))

    watcher.now = datetime(2022, 6, 2, 8, tzinfo=UTC)
    watcher.tick(entry)
    try:
        for symbol in (canary, other):
            world.put(key(symbol, "2022-06-01"), b"x")
        [first] = [*watcher.tick(entry, later=60), *watcher.tick(entry, later=SETTLE)]
        watcher.obey(entry, first)
        world.put(key(other, "2022-06-02"), b"x")
        watcher.now = datetime(2022, 6, 3, 8, tzinfo=UTC)
        requested = []
        for _ in range(15):
            requests = watcher.tick(entry, later=SETTLE)
            watcher.obey(entry, *requests)
            requested += [(watcher.now, text) for text in periods(requests)]
        [(when, text)] = requested
        assert text == "2022-06-02"
        assert when <= datetime(2022, 6, 3, 9, 10, tzinfo=UTC)
    finally:
        world.withdraw(key(canary, "2022-06-01"))


def _without_repetitions(texts: list[str]) -> list[str]:
    return [text for position, text in enumerate(texts) if position == 0 or texts[position - 1] != text]
