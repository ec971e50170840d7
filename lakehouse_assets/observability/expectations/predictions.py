"""When is something to be expected: the next publication, the end of a backfill, a full budget.

Every prediction is an interval with the value in its middle, and says from how much it was learned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean, quantiles, stdev

NORMAL_90 = 1.645
"""90 % of a normal distribution lie within so many standard deviations."""

MINIMUM = 3
"""Values below which nothing is predicted."""

PERCENTILES = 20


@dataclass(frozen=True, slots=True)
class Moment:
    """A time (UTC) with the interval that holds it nine times in ten; ``latest`` is None where it may never come."""

    expected: datetime
    earliest: datetime
    latest: datetime | None
    learned_from: int


def publication(period_end: datetime, lags: Sequence[timedelta]) -> Moment | None:
    """When a period that ends then will be published; None for fewer than MINIMUM earlier ``lags``.

    The median and the 5th and 95th percentile of what earlier periods took after their end: lags
    have a long right tail, so that their mean and deviation would say less. With fewer than twenty,
    the ends are the shortest and the longest seen.
    """
    if len(lags) < MINIMUM:
        return None
    seconds = sorted(lag.total_seconds() for lag in lags)
    # Beyond the first and last of the cuts, a small sample would be extrapolated.
    cuts = [min(max(cut, seconds[0]), seconds[-1]) for cut in quantiles(seconds, n=PERCENTILES, method="exclusive")]
    return Moment(
        expected=period_end + timedelta(seconds=cuts[PERCENTILES // 2 - 1]),
        earliest=period_end + timedelta(seconds=cuts[0]),
        latest=period_end + timedelta(seconds=cuts[-1]),
        learned_from=len(lags),
    )


def backfill_end(now: datetime, remaining: int, seconds_each: Sequence[float]) -> Moment | None:
    """When ``remaining`` periods will be done, of which earlier ones took ``seconds_each`` from one to the next.

    ``seconds_each`` are wall seconds between finished periods, so that runs side by side count as
    they come. The interval widens with the number left and with how little was seen; see :func:`_sum`.
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
    """Days until a budget is used up, at the least and at the most; infinite where it may never be."""

    expected: float
    least: float
    most: float
    learned_from: int


def days_until(budget: float, used: float, per_day: Sequence[float]) -> Days | None:
    """Days until ``used`` grows to ``budget`` (bytes, or dollars), at what recent days added each.

    None for fewer than MINIMUM days; all 0 where the budget is used up already.
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
    """What ``count`` more values will add up to, and the margin that holds it nine times in ten.

    The mean, not the median, since a sum of many has every long one in it. Its error has two parts:
    each of the ``count`` varies (deviation times the root of count), and the mean itself was learned
    from few (count times deviation over the root of their number).
    """
    deviation = stdev(values)
    error = deviation * math.sqrt(count + count**2 / len(values))
    return count * fmean(values), NORMAL_90 * error


def _days(left: float, per_day: Sequence[float], deviations: float) -> float:
    """Days n for which the mean of n days and so many deviations of their sum make ``left``.

    n * mean + deviations * s * sqrt(n + n^2 / k) = left, solved by halving.
    """
    mean, deviation, known = fmean(per_day), stdev(per_day), len(per_day)

    def grown(days: float) -> float:
        return days * mean + deviations * deviation * math.sqrt(days + days**2 / known)

    if mean + deviations * deviation / math.sqrt(known) <= 0:
        return math.inf
    low, high = 0.0, 1.0
    while grown(high) < left:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if grown(middle) < left else (low, middle)
    return high
