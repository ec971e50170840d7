"""The cursor of a discovery sensor: what it keeps, and that it stays small."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.orchestration.discovery.cursor import (
    MAX_PURSUED,
    MAX_RESCANS,
    DatasetState,
    DiscoveryCursor,
    PartialListing,
    PendingPeriod,
    Place,
)
from lakehouse_assets.sync.changes import STRETCH
from lakehouse_assets_tests.world import days

EPOCH = 1_700_000_000
NAMES = [f"binance/option/premiumIndexKlines{number:03}/monthly" for number in range(300)]
DAYS = days("2014-01-01", "2024-03-31")


def a_watched() -> DatasetState:
    return DatasetState(
        since=date(2024, 3, 4), listed=EPOCH, rescanned=EPOCH, wanted="0" * 8, told="stalled 2024-03-04"
    )


def fill(cursor: DiscoveryCursor, periods: int, attempt: int = 8) -> None:
    """As many pursued periods, spread over the datasets."""
    for number in range(periods):
        watched = cursor.of(NAMES[number % len(NAMES)])
        watched.pursued[DAYS[number // len(NAMES)]] = PendingPeriod("0123456789abcdef", attempt, EPOCH)


def test_with_300_datasets_nothing_that_a_sensor_keeps_is_dropped() -> None:
    cursor = DiscoveryCursor(ticked=EPOCH, next_dataset=NAMES[-1], datasets={name: a_watched() for name in NAMES})
    for name in NAMES[:MAX_RESCANS]:
        cursor.of(name).place = Place("2024-03-04", "1000000MOGUSDT/1m/1000000MOGUSDT-1m-2021-01-01")
    # A rescan stops when MAX_PURSUED is reached, and the part before may have found a stretch's.
    fill(cursor, MAX_PURSUED + STRETCH)
    found = dict.fromkeys(DAYS[:124], (700, 2**64 - 1, True))
    cursor.survey = PartialListing(
        dataset=NAMES[0], periods=tuple(DAYS[:124]), key="BTCUSDT/1m/BTCUSDT-1m-2021", found=found
    )
    text = cursor.write()
    assert len(text) < 100_000
    read = DiscoveryCursor.read(text)
    assert read == cursor
    assert read.pursued == MAX_PURSUED + STRETCH


@settings(max_examples=25)
@given(
    datasets=st.integers(1, 300),
    periods=st.integers(0, 5_000),
    attempt=st.integers(0, 8),
    places=st.integers(0, 300),
    surveyed=st.integers(0, 124),
)
def test_the_cursor_stays_below_100_kb_and_never_loses_since_when_a_dataset_is_followed(
    datasets: int, periods: int, attempt: int, places: int, surveyed: int
) -> None:
    cursor = DiscoveryCursor(datasets={name: a_watched() for name in NAMES[:datasets]})
    for name in NAMES[:places]:
        cursor.of(name).place = Place("2024-03-04", "1000000MOGUSDT/1m/1000000MOGUSDT-1m-2021-01-01")
    fill(cursor, periods, attempt)
    found = dict.fromkeys(DAYS[:surveyed], (700, 2**64 - 1, True))
    cursor.survey = PartialListing(dataset=NAMES[0], periods=tuple(found), found=found)
    text = cursor.write()
    assert len(text) < 100_000
    read = DiscoveryCursor.read(text)
    assert {name: watched.since for name, watched in read.datasets.items()} == {
        name: watched.since for name, watched in cursor.datasets.items()
    }
    assert all(read.of(name).since for name in NAMES[:datasets])


def test_what_was_not_asked_for_goes_first_and_then_the_oldest() -> None:
    cursor = DiscoveryCursor()
    watched = cursor.of(NAMES[0])
    asked = {period: PendingPeriod("0123456789abcdef", 1, EPOCH) for period in DAYS[:1_500]}
    watched.pursued = asked | {period: PendingPeriod("0123456789abcdef", 0, EPOCH) for period in DAYS[1_500:3_000]}
    kept = DiscoveryCursor.read(cursor.write()).of(NAMES[0]).pursued
    assert asked.keys() <= kept.keys()
    waiting = sorted(kept.keys() - asked.keys())
    assert waiting == DAYS[3_000 - len(waiting) : 3_000]
    assert 0 < len(waiting) < 1_500


@pytest.mark.parametrize("text", ["{", '{"asked": {}}', '{"datasets": {"a": {"pursued": {"2024-01-01": 7}}}}'])
def test_a_text_that_no_sensor_wrote_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="1 faults"):
        DiscoveryCursor.read(text)


def test_no_text_is_an_empty_cursor() -> None:
    assert DiscoveryCursor.read(None) == DiscoveryCursor()


def test_no_time_of_a_cursor_that_is_read_lies_in_the_future() -> None:
    ahead = EPOCH + 400 * 86_400
    cursor = DiscoveryCursor(ticked=ahead)
    watched = cursor.of(NAMES[0])
    watched.listed, watched.rescanned = ahead, EPOCH - 1
    watched.pursued = {DAYS[0]: PendingPeriod("0123456789abcdef", 8, ahead), DAYS[1]: PendingPeriod()}
    read = DiscoveryCursor.read(cursor.write(), EPOCH)
    assert (read.ticked, read.of(NAMES[0]).listed, read.of(NAMES[0]).rescanned) == (EPOCH, EPOCH, EPOCH - 1)
    assert read.of(NAMES[0]).pursued == {DAYS[0]: PendingPeriod("0123456789abcdef", 8, EPOCH), DAYS[1]: PendingPeriod()}
