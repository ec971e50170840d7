"""When a dataset is late, stalled, dead."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from lakehouse_assets.archive.lateness import (
    DEFAULTS,
    MIN_PERIODS_TO_LEARN,
    Availability,
    AvailabilityStatus,
    Expectation,
    availability,
    expectation,
)
from lakehouse_assets.archive.period import Cadence, Period

DAY = Period(Cadence.DAILY, date(2024, 3, 4))
MONTH = Period(Cadence.MONTHLY, date(2024, 2, 1))


def availability_at(
    newest: Period | None, now: str, *, last: Period | None = None, first: Period | None = None
) -> Availability:
    of = newest or first or DAY
    expected = DEFAULTS[of.cadence]
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    return availability(expected, newest=newest, first=first or of.shifted(-30), last=last, now=moment)


@pytest.mark.parametrize(
    ("now", "status", "behind"),
    [
        ("2024-03-05 23:59", "on_time", 0),
        ("2024-03-06 09:59", "on_time", 0),  # the day after DAY, one hour short of T+1 10:00
        ("2024-03-06 10:00", "late", 1),
        ("2024-03-07 10:00", "late", 2),
        ("2024-03-07 23:59", "late", 2),
        ("2024-03-08 00:00", "stalled", 2),  # T+3
        ("2024-03-20 12:00", "stalled", 15),
        ("2024-05-05 09:59", "stalled", 60),
        ("2024-05-05 10:00", "dead", 60),
    ],
)
def test_a_day_is_late_from_10_utc_of_the_next_one_and_stalled_from_the_third(
    now: str, status: str, behind: int
) -> None:
    result = availability_at(DAY, now)
    assert (result.status, result.periods_behind) == (status, behind)


@pytest.mark.parametrize(
    ("now", "status"),
    [
        ("2024-04-07 23:59", "on_time"),
        ("2024-04-08 00:00", "late"),
        ("2024-04-14 23:59", "late"),
        ("2024-04-15 00:00", "stalled"),
        ("2024-10-04 23:59", "stalled"),
        ("2024-10-05 00:00", "dead"),
    ],
)
def test_a_month_is_late_from_its_eighth_day_on_and_stalled_from_its_fifteenth(now: str, status: str) -> None:
    assert availability_at(MONTH, now).status == status


def test_the_first_missing_period_and_the_delay_are_reported() -> None:
    result = availability_at(DAY, "2024-03-07 12:30")
    assert (result.missing, result.behind) == (DAY.next(), timedelta(days=1, hours=2, minutes=30))


def test_a_publication_that_ended_is_dead_and_never_late() -> None:
    assert availability_at(DAY, "2024-03-20 12:00", last=DAY).status is AvailabilityStatus.DEAD
    assert availability_at(DAY, "2024-03-20 12:00", last=DAY.next()).status is AvailabilityStatus.STALLED


def test_a_dataset_without_any_period_is_behind_from_its_first_tracked_one_and_not_dead() -> None:
    result = availability_at(None, "2024-12-31 12:00", first=DAY)
    assert (result.status, result.missing, result.periods_behind) == ("stalled", DAY, 60)


def test_periods_before_the_first_tracked_one_are_ignored() -> None:
    old = DAY.shifted(-300)
    assert availability_at(old, "2024-03-05 09:59", first=DAY).status is AvailabilityStatus.ON_TIME
    assert availability_at(old, "2024-03-05 10:00", first=DAY).missing == DAY


def history(cadence: Cadence, lags: list[timedelta]) -> dict[str, datetime]:
    """The last periods up to March 2024, each published with its lag after its end."""
    newest = Period.containing(cadence, date(2024, 3, 1))
    periods = [newest.shifted(1 + number - len(lags)) for number in range(len(lags))]
    return {
        str(period): datetime(period.end.year, period.end.month, period.end.day, tzinfo=UTC) + lag
        for period, lag in zip(periods, lags, strict=True)
    }


def hours(*values: float) -> list[timedelta]:
    return [timedelta(hours=value) for value in values]


@pytest.mark.parametrize("cadence", list(Cadence))
def test_below_14_periods_the_defaults_apply(cadence: Cadence) -> None:
    assert expectation(cadence, history(cadence, hours(*[3] * (MIN_PERIODS_TO_LEARN - 1)))) == DEFAULTS[cadence]
    assert expectation(cadence, history(cadence, hours(*[3] * MIN_PERIODS_TO_LEARN))) != DEFAULTS[cadence]


def test_lateness_is_learned_from_the_times_of_publication() -> None:
    steady = expectation(Cadence.DAILY, history(Cadence.DAILY, hours(*[8, 8.5] * 10)))
    assert steady == Expectation(late=timedelta(hours=10.5), stalled=timedelta(hours=48.5), periods=20)
    slow = expectation(Cadence.DAILY, history(Cadence.DAILY, hours(*[70, 74] * 10)))
    assert slow.late == timedelta(hours=74 + 3 * 4)


def test_a_past_stall_of_eight_days_widens_the_expectation_little() -> None:
    stall = [24 * days + 8 for days in range(8, 0, -1)]
    learned = expectation(Cadence.DAILY, history(Cadence.DAILY, hours(*[8, 8.5] * 26, *stall)))
    assert learned.periods == 60
    assert learned.late <= timedelta(hours=11)


def test_only_the_newest_60_periods_count() -> None:
    learned = expectation(Cadence.DAILY, history(Cadence.DAILY, hours(*[1000] * 100, *[8] * 60)))
    assert learned.late == timedelta(hours=10)
