"""Intervals of predictions are right about nine times in ten; without enough values there is no prediction."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse_assets.observability.expectations.predictions import backfill_end, days_until, publication

NOW = datetime(2024, 3, 5, tzinfo=UTC)


def test_a_publication_is_expected_at_the_median_lag() -> None:
    lags = [timedelta(hours=hours) for hours in [8, 8.5, 9, 9, 9, 9.5, 10, 10, 11, 30]]
    moment = publication(NOW, lags)
    assert moment.expected == NOW + timedelta(hours=9.25)
    assert (moment.earliest, moment.latest) == (NOW + timedelta(hours=8), NOW + timedelta(hours=30))
    assert moment.learned_from == 10


def test_nothing_is_predicted_from_two_values() -> None:
    assert publication(NOW, [timedelta(hours=8)] * 2) is None
    assert backfill_end(NOW, 10, [1.0, 1.0]) is None
    assert days_until(100, 0, [1.0, 1.0]) is None


def test_the_end_of_a_steady_backfill_follows_from_its_rate() -> None:
    moment = backfill_end(NOW, 100, [6.0] * 5)
    assert moment.expected == moment.earliest == moment.latest == NOW + timedelta(minutes=10)
    assert backfill_end(NOW, 0, [6.0, 9.0, 30.0]).latest == NOW


def test_a_backfill_ends_within_the_interval_about_nine_times_in_ten() -> None:
    rng = random.Random(7)
    inside = 0
    for _ in range(400):
        seen, left = ([rng.gammavariate(2.0, 5.0) for _ in range(count)] for count in (30, 200))
        moment = backfill_end(NOW, 200, seen)
        inside += moment.earliest <= NOW + timedelta(seconds=sum(left)) <= moment.latest
    assert 0.83 < inside / 400 < 0.97


def test_days_until_a_budget_are_bounded_by_good_and_bad_days() -> None:
    days = days_until(1_000, 400, [8, 10, 12, 9, 11])
    assert days.expected == 60
    assert 50 < days.least < 60 < days.most < 75
    rng = random.Random(11)
    inside = 0
    for _ in range(400):
        seen = [rng.gauss(10, 3) for _ in range(30)]
        predicted = days_until(1_000, 400, seen)
        used, day = 400.0, 0
        while used < 1_000:
            used, day = used + rng.gauss(10, 3), day + 1
        inside += predicted.least - 1 <= day <= predicted.most + 1
    assert inside / 400 > 0.83


@pytest.mark.parametrize("per_day", [[0, 0, 0], [-1, -1, -1]])
def test_a_budget_without_growth_is_never_used_up(per_day: list[float]) -> None:
    assert days_until(100, 0, per_day).expected == math.inf
    assert days_until(100, 0, per_day).most == math.inf


def test_a_budget_may_last_for_ever_if_days_differ_much() -> None:
    days = days_until(100, 0, [-20, 40, -30, 25, 10])
    assert (days.least < math.inf, days.most) == (True, math.inf)


def test_a_full_budget_has_no_days_left() -> None:
    assert days_until(100, 130, [1, 2, 3]).most == 0
