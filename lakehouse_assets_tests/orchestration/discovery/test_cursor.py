"""The cursor of a discovery sensor: its content, its size, and reading what earlier versions wrote."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.orchestration.discovery.cursor import (
    MAX_ATTEMPTS,
    MAX_PENDING,
    MAX_RESCANS,
    DatasetState,
    DiscoveryCursor,
    PartialListing,
    PendingPeriod,
    PendingStatus,
    RescanPosition,
)
from lakehouse_assets.sync.changes import WINDOW_PERIODS
from lakehouse_assets_tests.world import days

EPOCH = 1_700_000_000
NAMES = [f"binance/option/premiumIndexKlines{number:03}/monthly" for number in range(300)]
DAYS = days("2014-01-01", "2024-03-31")


def a_dataset() -> DatasetState:
    return DatasetState(
        since=date(2024, 3, 4),
        listed=EPOCH,
        rescanned=EPOCH,
        scope_digest="0" * 8,
        recorded="stalled 2024-03-04",
        problem="source",
    )


def fill(cursor: DiscoveryCursor, periods: int, attempt: int = 8) -> None:
    """Add that many pending periods, spread over the datasets."""
    for number in range(periods):
        state = cursor.of(NAMES[number % len(NAMES)])
        state.pending[DAYS[number // len(NAMES)]] = PendingPeriod("0123456789abcdef", attempt, EPOCH)


def test_with_300_datasets_nothing_that_a_sensor_keeps_is_dropped() -> None:
    cursor = DiscoveryCursor(ticked=EPOCH, next_dataset=NAMES[-1], datasets={name: a_dataset() for name in NAMES})
    for name in NAMES[:MAX_RESCANS]:
        cursor.of(name).rescan_position = RescanPosition("2024-03-04", "1000000MOGUSDT/1m/1000000MOGUSDT-1m-2021-01-01")
    # A rescan stops at MAX_PENDING, and the batch before it may have added the periods of one window.
    fill(cursor, MAX_PENDING + WINDOW_PERIODS)
    results = dict.fromkeys(DAYS[:124], (700, 2**64 - 1, True))
    cursor.partial_listing = PartialListing(
        dataset=NAMES[0], periods=tuple(DAYS[:124]), key="BTCUSDT/1m/BTCUSDT-1m-2021", results=results
    )
    text = cursor.write()
    assert len(text) < 100_000
    read = DiscoveryCursor.read(text)
    assert read == cursor
    assert read.pending_periods == MAX_PENDING + WINDOW_PERIODS


@settings(max_examples=25)
@given(
    datasets=st.integers(1, 300),
    periods=st.integers(0, 5_000),
    attempt=st.integers(0, 8),
    rescans=st.integers(0, 300),
    listed=st.integers(0, 124),
)
def test_the_cursor_stays_below_100_kb_and_never_loses_the_date_from_which_a_dataset_is_tracked(
    datasets: int, periods: int, attempt: int, rescans: int, listed: int
) -> None:
    cursor = DiscoveryCursor(datasets={name: a_dataset() for name in NAMES[:datasets]})
    for name in NAMES[:rescans]:
        cursor.of(name).rescan_position = RescanPosition("2024-03-04", "1000000MOGUSDT/1m/1000000MOGUSDT-1m-2021-01-01")
    fill(cursor, periods, attempt)
    results = dict.fromkeys(DAYS[:listed], (700, 2**64 - 1, True))
    cursor.partial_listing = PartialListing(dataset=NAMES[0], periods=tuple(results), results=results)
    text = cursor.write()
    assert len(text) < 100_000
    read = DiscoveryCursor.read(text)
    assert {name: state.since for name, state in read.datasets.items()} == {
        name: state.since for name, state in cursor.datasets.items()
    }
    assert all(read.of(name).since for name in NAMES[:datasets])


def test_periods_without_a_request_are_dropped_first_beginning_with_the_oldest() -> None:
    cursor = DiscoveryCursor()
    state = cursor.of(NAMES[0])
    requested = {period: PendingPeriod("0123456789abcdef", 1, EPOCH) for period in DAYS[:1_500]}
    state.pending = requested | {period: PendingPeriod("0123456789abcdef", 0, EPOCH) for period in DAYS[1_500:3_000]}
    kept = DiscoveryCursor.read(cursor.write()).of(NAMES[0]).pending
    assert requested.keys() <= kept.keys()
    waiting = sorted(kept.keys() - requested.keys())
    assert waiting == DAYS[3_000 - len(waiting) : 3_000]
    assert 0 < len(waiting) < 1_500


@pytest.mark.parametrize("text", ["{", '{"asked": {}}', '{"datasets": {"a": {"pursued": {"2024-01-01": 7}}}}'])
def test_an_invalid_cursor_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="1 faults"):
        DiscoveryCursor.read(text)


# Written by the sensor of version 0.1 on a real instance; the second has a rescan's position added.
WRITTEN_BEFORE = [
    (
        '{"ticked":1709625600,"datasets":{"binance/um/klines/daily":{"listed":1709625600,"rescanned":1709'
        '625600,"wanted":"19fbba2f","told":"on_time 2024-03-05","pursued":{"2024-03-03":["0f2bdbcbbdf07b4'
        'a",0,1709625600]}},"binance/um/metrics/daily":{"since":"2024-03-05","rescanned":1709625600,"want'
        'ed":"cb4337b7"},"binance/um/fundingRate/monthly":{"listed":1709625600,"rescanned":1709625600,"wa'
        'nted":"26957db9","told":"on_time 2024-03-05","pursued":{"2024-02":["3405261dfbe9f3db",0,17096256'
        "00]}}}}"
    ),
    (
        '{"ticked":1709935820,"next_dataset":"binance/um/klines/daily","survey":{"dataset":"binance/um/kl'
        'ines/daily","periods":["2024-03-01","2024-03-02","2024-03-05","2024-03-06","2024-03-07"],"key":"'
        'S2USDT/1m/S2USDT-1m-2024-03-01","found":{"2024-03-05":[2,668842401238327314,true]}},"datasets":{'
        '"binance/um/klines/daily":{"listed":1709928360,"rescanned":1709625600,"wanted":"19fbba2f","told"'
        ':"stalled with others 2024-03-08","place":["2023-12-31","BTCUSDT/1m/BTCUSDT-1m-2023-05-01"],"pur'
        'sued":{"2024-03-03":["0f2bdbcbbdf07b4a",7,1709928360],"2024-03-04":["f865361d9048484a",6,1709928'
        '420]}},"binance/um/metrics/daily":{"since":"2024-03-05","listed":1709928360,"rescanned":17096256'
        '00,"wanted":"cb4337b7","told":"stalled with others 2024-03-08"},"binance/um/fundingRate/monthly"'
        ':{"listed":1709928360,"rescanned":1709625600,"wanted":"26957db9","told":"on_time 2024-03-08","pu'
        'rsued":{"2024-02":["3405261dfbe9f3db",7,1709928360]}}}}'
    ),
]


@pytest.mark.parametrize("text", WRITTEN_BEFORE)
def test_a_cursor_that_an_earlier_version_wrote_is_read_and_written_unchanged(text: str) -> None:
    assert DiscoveryCursor.read(text).write() == text


def test_every_field_of_a_cursor_that_an_earlier_version_wrote_is_read() -> None:
    waiting, later = (DiscoveryCursor.read(text) for text in WRITTEN_BEFORE)
    assert waiting.of("binance/um/klines/daily").pending == {
        "2024-03-03": PendingPeriod("0f2bdbcbbdf07b4a", 0, 1_709_625_600)
    }
    klines = later.of("binance/um/klines/daily")
    assert (klines.scope_digest, klines.recorded, klines.status) == (
        "19fbba2f",
        "stalled with others 2024-03-08",
        "stalled",
    )
    assert klines.rescan_position == RescanPosition("2023-12-31", "BTCUSDT/1m/BTCUSDT-1m-2023-05-01")
    assert klines.pending["2024-03-03"] == PendingPeriod("0f2bdbcbbdf07b4a", 7, 1_709_928_360)
    assert later.partial_listing is not None
    assert later.partial_listing.results == {"2024-03-05": (2, 668842401238327314, True)}


@pytest.mark.parametrize(
    ("pending", "status"),
    [
        (PendingPeriod(), PendingStatus.NOT_LISTED),
        (PendingPeriod("0123456789abcdef", 0, EPOCH), PendingStatus.SETTLING),
        (PendingPeriod("0123456789abcdef", 1), PendingStatus.REQUESTED),
        (PendingPeriod("0123456789abcdef", MAX_ATTEMPTS), PendingStatus.REQUESTED),
        (PendingPeriod("0123456789abcdef", MAX_ATTEMPTS - 1, EPOCH), PendingStatus.RETRYING),
        (PendingPeriod("0123456789abcdef", MAX_ATTEMPTS, EPOCH), PendingStatus.GIVEN_UP),
    ],
)
def test_the_status_of_a_pending_period(pending: PendingPeriod, status: PendingStatus) -> None:
    assert pending.status is status


def test_a_missing_cursor_is_read_as_an_empty_one() -> None:
    assert DiscoveryCursor.read(None) == DiscoveryCursor()


def test_times_in_the_future_are_reset_to_now_when_a_cursor_is_read() -> None:
    ahead = EPOCH + 400 * 86_400
    cursor = DiscoveryCursor(ticked=ahead)
    state = cursor.of(NAMES[0])
    state.listed, state.rescanned = ahead, EPOCH - 1
    state.pending = {DAYS[0]: PendingPeriod("0123456789abcdef", 8, ahead), DAYS[1]: PendingPeriod()}
    read = DiscoveryCursor.read(cursor.write(), EPOCH)
    assert (read.ticked, read.of(NAMES[0]).listed, read.of(NAMES[0]).rescanned) == (EPOCH, EPOCH, EPOCH - 1)
    assert read.of(NAMES[0]).pending == {DAYS[0]: PendingPeriod("0123456789abcdef", 8, EPOCH), DAYS[1]: PendingPeriod()}
