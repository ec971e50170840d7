"""Results of the detector for one value and its history."""

from __future__ import annotations

import math
import random
from datetime import date, timedelta

import polars as pl
import pytest

from lakehouse_assets.observability.expectations.quantities import QUANTITIES, Sides
from lakehouse_assets.observability.expectations.thresholds import (
    AdaptiveThresholdDetector,
    Cadence,
    ThresholdState,
    Verdict,
)

FIRST = date(2024, 1, 1)
BYTES = QUANTITIES["bytes"]


def days(count: int, value=lambda day: 1_000_000.0, *, noise: float = 0.05, seed: int = 1) -> list[tuple[date, float]]:
    rng = random.Random(seed)
    return [(FIRST + timedelta(days=day), value(day) * math.exp(noise * rng.gauss(0, 1))) for day in range(count)]


def judged(
    history, value: float, name: str = "bytes", *, cadence: Cadence = "daily", period: date | None = None
) -> Verdict:
    after = period or max(day for day, _ in history) + timedelta(days=1)
    return AdaptiveThresholdDetector().evaluate(QUANTITIES[name], history, after, value, cadence=cadence)


@pytest.mark.parametrize(
    ("value", "state"), [(1e6, ThresholdState.USUAL), (1.4e6, ThresholdState.HIGH), (0.7e6, ThresholdState.LOW)]
)
def test_a_steady_series_is_judged_by_its_median(value: float, state: ThresholdState) -> None:
    assert judged(days(60), value).state is state


def test_a_value_is_judged_by_its_own_weekday() -> None:
    history = days(84, lambda day: 500_000 if day % 7 >= 5 else 1_000_000)
    saturday, monday = FIRST + timedelta(days=89), FIRST + timedelta(days=84)
    assert judged(history, 500_000, period=saturday).state is ThresholdState.USUAL
    assert judged(history, 500_000, period=monday).state is ThresholdState.LOW
    assert judged(history, 1_000_000, period=saturday).state is ThresholdState.HIGH
    assert judged(history, 500_000, period=saturday).weekday


def test_a_growing_series_is_expected_to_grow() -> None:
    history = days(100, lambda day: 1e6 * 1.01**day)
    expected = 1e6 * 1.01**100
    assert judged(history, expected).state is ThresholdState.USUAL
    assert judged(history, 0.75 * expected).state is ThresholdState.LOW
    assert judged(history, expected).growth == pytest.approx(1.01**7 - 1, abs=0.02)


def test_outliers_in_the_history_do_not_shift_the_expected_value() -> None:
    clean = days(90)
    odd = [(day, value * (20 if number % 10 == 0 else 1)) for number, (day, value) in enumerate(clean)]
    without, with_odd = judged(clean, 1.4e6), judged(odd, 1.4e6)
    assert with_odd.state is ThresholdState.HIGH
    assert with_odd.expected == pytest.approx(without.expected, rel=0.03)


def test_a_shifted_level_is_unusual_at_first_and_expected_after_four_days() -> None:
    history = days(70, lambda day: 1e6 if day < 60 else 2e6)
    states = [judged(history[:count], 2e6).state for count in range(60, 70)]
    assert states == [ThresholdState.HIGH] * 4 + [ThresholdState.USUAL] * 6


def test_history_may_have_gaps_and_any_order_and_be_a_frame() -> None:
    history = [point for number, point in enumerate(days(100, lambda day: 5e5 if day % 7 >= 5 else 1e6)) if number % 5]
    frame = pl.DataFrame(history[::-1], schema=["period", "value"], orient="row")
    assert judged(history, 2e6) == judged(list(frame.iter_rows()), 2e6)
    assert judged(history, 2e6).state is ThresholdState.HIGH


def test_later_periods_are_not_part_of_the_history() -> None:
    history = days(60)
    period = history[40][0]
    assert judged(history, 1e6, period=period) == judged(history[:40], 1e6, period=period)


def test_a_deviation_below_the_floor_is_usual_even_with_a_steady_history() -> None:
    history = [(day, 700.0) for day, _ in days(60)]
    assert judged(history, 690, "symbols").state is ThresholdState.USUAL
    assert judged(history, 670, "symbols").state is ThresholdState.LOW
    assert judged([(day, 2.0) for day, _ in days(60)], 1, "objects").state is ThresholdState.LOW


@pytest.mark.parametrize("quantity", QUANTITIES.values(), ids=str)
def test_only_the_sides_that_matter_are_judged(quantity) -> None:
    history = [(day, value / 1_000) for day, value in days(60)]
    far = AdaptiveThresholdDetector().evaluate(quantity, history, FIRST + timedelta(days=60), 1e7)
    none = AdaptiveThresholdDetector().evaluate(quantity, history, FIRST + timedelta(days=60), 0)
    assert (far.state is ThresholdState.HIGH) == (quantity.sides is not Sides.LOW)
    assert (none.state is ThresholdState.LOW) == (quantity.sides is not Sides.HIGH)


def test_a_short_history_is_judged_by_fixed_limits_or_not_at_all() -> None:
    assert judged(days(13), 0).state is ThresholdState.LOW
    assert judged(days(13), 5e6).state is ThresholdState.USUAL
    assert judged(days(14), 5e6).state is ThresholdState.HIGH
    assert judged(days(13), 0, "throughput").state is ThresholdState.LEARNING
    assert judged(days(13), 3, "failures").state is ThresholdState.HIGH


def test_months_are_judged_by_earlier_months() -> None:
    history = [(date(2022 + month // 12, month % 12 + 1, 1), 1e6 * 1.05**month) for month in range(24)]
    after = date(2024, 1, 1)
    assert judged(history, 1e6 * 1.05**24, cadence="monthly", period=after).state is ThresholdState.USUAL
    low = judged(history, 1e6 * 1.05**20, cadence="monthly", period=after)
    assert (low.state, low.history, low.weekday) == (ThresholdState.LOW, 24, False)
    assert "changing by +5.0% a month" in str(low)


def test_the_verdict_text_has_value_range_and_history() -> None:
    history = [(day, 1_000_000.0 + 50_000 * (number % 3)) for number, (day, _) in enumerate(days(60))]
    assert str(judged(history, 2_000_000)) == (
        "bytes of 2024-03-01: 2,000,000 bytes, unusually high: expected 815,697 to 1,351,605 "
        "(median 1,050,000 of 60 periods since 2024-01-01)."
    )
    slow, none, thin = judged(history, 900, "seconds"), judged(history[:5], 0), judged(history[:5], 7, "throughput")
    assert "as usual: expected at most 2,100,000 (median 1,050,000 of 60 periods" in str(slow)
    assert str(none).endswith("expected at least 1 (a fixed limit, as 5 earlier periods are too few to learn from).")
    assert str(thin).endswith("5 earlier periods are too few to tell what is usual.")
