"""Predictions of the next publication, the end of a backfill, and the day on which a budget is used up.

Every prediction has an expected value, an interval, and the number of values that it was learned from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean, quantiles, stdev

NORMAL_90 = 1.645
"""90 % of a normal distribution lie within this many standard deviations."""

MINIMUM = 3
"""Least number of values for a prediction."""

PERCENTILES = 20


@dataclass(frozen=True, slots=True)
class Moment:
    """A predicted time (UTC) with its 90 % interval; ``latest`` is None if it may never come."""

    expected: datetime
    earliest: datetime
    latest: datetime | None
    learned_from: int


def publication(period_end: datetime, lags: Sequence[timedelta]) -> Moment | None:
    """When a period with this end will be published; None for fewer than MINIMUM earlier ``lags``.

    Uses the median and the 5th and 95th percentile of the time from the end of earlier periods to their publication,
    since lags have a long right tail, which mean and deviation describe badly. With fewer than twenty lags, the
    interval is from the shortest to the longest lag.
    """
    if len(lags) < MINIMUM:
        return None
    seconds = sorted(lag.total_seconds() for lag in lags)
    # quantiles() extrapolates beyond the values of a small sample.
    cuts = [min(max(cut, seconds[0]), seconds[-1]) for cut in quantiles(seconds, n=PERCENTILES, method="exclusive")]
    return Moment(
        expected=period_end + timedelta(seconds=cuts[PERCENTILES // 2 - 1]),
        earliest=period_end + timedelta(seconds=cuts[0]),
        latest=period_end + timedelta(seconds=cuts[-1]),
        learned_from=len(lags),
    )


def backfill_end(now: datetime, remaining: int, seconds_each: Sequence[float]) -> Moment | None:
    """When the ``remaining`` periods of a backfill will be finished.

    ``seconds_each`` are wall-clock seconds from one finished period to the next, so that parallel runs are accounted
    for. The interval is wider for more remaining periods and for fewer finished ones; see :func:`_sum`.
    """
    if len(seconds_each) < MINIMUM:
        return None
    total, margin = _sum(remaining, seconds_each)
    return Moment(
        expected=now + timedelta(seconds=total),
        earliest=now + timedelta(seconds=max(0.0, total - margin)),
        latest=now + timedelta(seconds=total + margin),
        learned_from=len(seconds_each),
    )


@dataclass(frozen=True, slots=True)
class Days:
    """Days until a budget is used up, with bounds; infinite if that may never happen."""

    expected: float
    least: float
    most: float
    learned_from: int


def days_until(budget: float, used: float, per_day: Sequence[float]) -> Days | None:
    """Days until ``used`` reaches ``budget`` (bytes or dollars), if it grows as on recent days.

    None for fewer than MINIMUM days; all 0 if the budget is already used up.
    """
    if len(per_day) < MINIMUM:
        return None
    left = budget - used
    if left <= 0:
        return Days(0.0, 0.0, 0.0, len(per_day))
    mean = fmean(per_day)
    return Days(
        left / mean if mean > 0 else math.inf,
        _days(left, per_day, NORMAL_90),
        _days(left, per_day, -NORMAL_90),
        len(per_day),
    )


def _sum(count: int, values: Sequence[float]) -> tuple[float, float]:
    """The expected sum of ``count`` more values, and the margin of its 90 % interval.

    Uses the mean, not the median, since a sum contains the long values too. The error has two parts: the ``count``
    values vary (deviation times the root of count), and the mean is estimated from few values (count times deviation
    over the root of their number).
    """
    deviation = stdev(values)
    error = deviation * math.sqrt(count + count**2 / len(values))
    return count * fmean(values), NORMAL_90 * error


def _days(left: float, per_day: Sequence[float], deviations: float) -> float:
    """Number of days n in which the sum, offset by ``deviations`` standard deviations, reaches ``left``.

    Solves n * mean + deviations * s * sqrt(n + n^2 / k) = left by bisection.
    """
    mean, deviation, count = fmean(per_day), stdev(per_day), len(per_day)

    def grown(days: float) -> float:
        return days * mean + deviations * deviation * math.sqrt(days + days**2 / count)

    if mean + deviations * deviation / math.sqrt(count) <= 0:
        return math.inf
    low, high = 0.0, 1.0
    while grown(high) < left:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if grown(middle) < left else (low, middle)
    return high
