"""Periods: texts that are partition keys, and their calendar."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.archive.period import Cadence, Period, period_range
from lakehouse_assets.errors import InputError

periods = st.builds(
    Period.containing, st.sampled_from(Cadence), st.dates(min_value=date(2, 1, 1), max_value=date(9998, 1, 1))
)


@given(periods)
def test_a_period_is_parsed_back_from_its_text(period: Period) -> None:
    assert Period.parse(str(period), period.cadence) == period


@given(periods, st.integers(-400, 400))
def test_texts_sort_like_their_periods(period: Period, count: int) -> None:
    if period.start.year in range(50, 9900):
        other = period.shifted(count)
        assert (str(period) < str(other)) == (period < other)


@given(periods, st.integers(-20, 20))
def test_shifting_forward_and_back_gives_the_same_period(period: Period, count: int) -> None:
    if period.start.year in range(50, 9900):
        assert period.shifted(count).shifted(-count) == period


@given(periods)
def test_a_period_ends_where_the_next_begins(period: Period) -> None:
    assert period.end == period.next().start
    assert Period.containing(period.cadence, period.end - timedelta(days=1)) == period


@pytest.mark.parametrize(
    ("text", "cadence", "following"),
    [
        ("2024-02-28", Cadence.DAILY, "2024-02-29"),
        ("2023-02-28", Cadence.DAILY, "2023-03-01"),
        ("2024-12-31", Cadence.DAILY, "2025-01-01"),
        ("2024-12", Cadence.MONTHLY, "2025-01"),
    ],
)
def test_the_next_period_respects_leap_years_and_year_ends(text: str, cadence: Cadence, following: str) -> None:
    assert str(Period.parse(text, cadence).next()) == following


def test_a_month_given_for_days_is_its_first_day() -> None:
    assert str(Period.parse("2024-02", Cadence.DAILY)) == "2024-02-01"


def test_a_day_given_for_months_is_the_month_that_contains_it() -> None:
    assert str(Period.parse("2024-02-29", Cadence.MONTHLY)) == "2024-02"


def test_the_manifest_partition_of_a_period_is_its_month() -> None:
    assert Period.parse("2024-02-29", Cadence.DAILY).month == "2024-02"
    assert Period.parse("2024-02", Cadence.MONTHLY).month == "2024-02"


@pytest.mark.parametrize("cadence", Cadence)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "2024-1",
        "2024-02-3",
        "2024-13",
        "2023-02-29",
        "0000-01-01",
        "2024-02-01\n",
        " 2024-02",
        "\uff12\uff10\uff12\uff14-02",
    ],
)
def test_an_invalid_period_is_an_input_error_that_quotes_it(text: str, cadence: Cadence) -> None:
    with pytest.raises(InputError) as caught:
        Period.parse(text, cadence)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_month_cannot_begin_on_another_day_than_the_first() -> None:
    with pytest.raises(ValueError, match="2024-01-02"):
        Period(Cadence.MONTHLY, date(2024, 1, 2))


@pytest.mark.parametrize("cadence", Cadence)
def test_the_key_format_writes_the_period_of_the_text(cadence: Cadence) -> None:
    period = Period.containing(cadence, date(2024, 2, 1))
    assert period.start.strftime(cadence.key_format) == str(period)


def test_a_range_contains_both_its_ends_and_every_period_between() -> None:
    first, last = (Period.parse(text, Cadence.DAILY) for text in ("2024-02-27", "2024-03-02"))
    assert [str(period) for period in period_range(first, last)] == [
        "2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02",
    ]  # fmt: skip
    assert period_range(first, first) == [first]


def test_a_reversed_range_is_refused() -> None:
    first, last = (Period.parse(text, Cadence.MONTHLY) for text in ("2024-02", "2024-01"))
    with pytest.raises(InputError, match="2024-02 to 2024-01 ends before it starts"):
        period_range(first, last)


def test_a_range_of_two_cadences_is_refused() -> None:
    day, month = Period.parse("2024-02-01", Cadence.DAILY), Period.parse("2024-03", Cadence.MONTHLY)
    with pytest.raises(InputError, match="different cadences"):
        period_range(day, month)
