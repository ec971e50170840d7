"""Detects unusual numbers of a period by comparison with the series' own history. Pure functions.

The expected value of a period is

    level of the last six weeks + trend + effect of the weekday, plus or minus a limit

Every part is a median, so that a few outliers in the history neither shift the expected value nor widen the limit. The
effect of a weekday is the median distance of its days from the median of the week around them. The trend is the
Theil-Sen slope, the median of the slopes of all pairs of days, here of pairs that are whole weeks apart (as in the
seasonal Kendall slope of Hirsch, Slack and Smith 1982, so that the weekly pattern is not taken for a trend); it is
used only if Kendall's test is significant. A least squares line would follow a single spike; a median of weekly ratios
compares only adjacent weeks. The spread is the median absolute deviation (MAD) from the expected values, times 1.4826
(a normal distribution's standard deviation). It is computed over all weekdays together, since sixteen days of one
weekday are too few.

A level shift that lasts becomes the expected level after ``adopt`` periods.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from statistics import median
from typing import Literal

from lakehouse_assets.observability.expectations.quantities import Quantity, Sides

MAD_TO_DEVIATION = 1.4826
"""The standard deviation of a normal distribution, in MADs."""

WEEK = 7

SHIFT_REACH = 3 * WEEK
"""Number of periods before and after a shift that are compared."""

Cadence = Literal["daily", "monthly"]

_Point = tuple[int, float]


class ThresholdState(StrEnum):
    """State of a number. ``learning``: the history is too short, and there is no fixed limit."""

    USUAL = "usual"
    LOW = "low"
    HIGH = "high"
    LEARNING = "learning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Parameters of the detector. Defaults were chosen on the development seeds of the benchmark.

    ``deviations``: a value farther than this many spreads from the expected one is unusual. ``window``: periods of
    history for weekday, trend and spread; ``level_window``: for the level. ``minimum``: with fewer periods, only the
    fixed limits apply. ``per_weekday``: days of each weekday that are needed for weekday effects. ``adopt``: periods
    after which a shifted level becomes the expected one. ``trend_certainty``: standard deviations of Kendall's test
    from which on a trend is significant.
    """

    deviations: float = 3.6
    window: int = 112
    level_window: int = 42
    minimum: int = 14
    per_weekday: int = 4
    adopt: int = 4
    trend_certainty: float = 3.0


MONTHLY = Parameters(window=36, level_window=12, minimum=6)
"""Parameters for months: no weekday effects, and a trend over three years."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result for one value. ``low`` and ``high`` bound the expected range; None for a side that does not matter.

    ``score`` is the distance from ``expected``, divided by the limit: above 1 the value is unusual. ``history`` is the
    number of periods that were used, ``since`` the first of them.
    """

    quantity: Quantity
    period: date
    value: float
    state: ThresholdState
    expected: float | None
    low: float | None
    high: float | None
    score: float
    history: int
    since: date | None
    weekday: bool = False
    growth: float = 0.0
    cadence: Cadence = "daily"

    @property
    def is_unusual(self) -> bool:
        return self.state in {ThresholdState.LOW, ThresholdState.HIGH}

    def __str__(self) -> str:
        """One sentence with the value, the expected range, and the history that was used."""
        number = f"{self.quantity.name} of {self.period}: {_amount(self.value)} {self.quantity.unit}"
        if self.state is ThresholdState.LEARNING:
            return f"{number}; {self.history} earlier periods are too few to tell what is usual."
        state = f"unusually {self.state}" if self.is_unusual else "as usual"
        result = f"{number}, {state}: expected {_range(self.low, self.high)}"
        if self.expected is None:
            return f"{result} (a fixed limit, as {self.history} earlier periods are too few to learn from)."
        basis = f"median {_amount(self.expected)} of {self.history} periods since {self.since}"
        if self.weekday:
            basis += f", as on a {self.period:%A}"
        if self.growth:
            basis += f", changing by {self.growth:+.1%} a {'week' if self.cadence == 'daily' else 'month'}"
        return f"{result} ({basis})."


class AdaptiveThresholdDetector:
    """Compares values with their history. Has no state except its parameters."""

    def __init__(self, parameters: Parameters | None = None) -> None:
        self._given = parameters

    def evaluate(
        self,
        quantity: Quantity,
        history: Iterable[tuple[date, float]],
        period: date,
        value: float,
        *,
        cadence: Cadence = "daily",
    ) -> Verdict:
        """Compare one value with the periods before it.

        ``history`` has a pair (start of period, value) per period, in any order. Periods not before ``period`` are
        ignored, so the complete series may be given (a frame's ``iter_rows()``). Periods may be missing.
        """
        parameters = self._given or (MONTHLY if cadence == "monthly" else Parameters())
        now = _number(period, cadence)
        scale = _Scale(quantity)
        past = sorted((_number(day, cadence), scale.of(earlier)) for day, earlier in history if day < period)
        past = [(when, earlier) for when, earlier in past if when >= now - parameters.window]
        if len(past) < parameters.minimum:
            return _by_fixed_limits(quantity, period, value, len(past))
        model = _fit(past, now, parameters, scale, weekly=cadence == "daily")
        centre = model.centre
        limit = max(parameters.deviations * model.spread, scale.floor(centre))
        distance = scale.of(value) - centre
        low = None if quantity.sides is Sides.HIGH else max(0.0, scale.back(centre - limit))
        high = None if quantity.sides is Sides.LOW else scale.back(centre + limit)
        state = ThresholdState.USUAL
        if low is not None and distance < -limit:
            state = ThresholdState.LOW
        elif high is not None and distance > limit:
            state = ThresholdState.HIGH
        return Verdict(
            quantity=quantity,
            period=period,
            value=value,
            state=state,
            expected=max(0.0, scale.back(centre)),
            low=low,
            high=high,
            score=abs(distance) / limit,
            history=model.history,
            since=_start(model.since, cadence),
            weekday=model.weekday,
            growth=_growth(scale, model, WEEK if cadence == "daily" else 1),
            cadence=cadence,
        )


def _by_fixed_limits(quantity: Quantity, period: date, value: float, history: int) -> Verdict:
    low, high = quantity.at_least, quantity.at_most
    state = ThresholdState.LEARNING if low is None and high is None else ThresholdState.USUAL
    if low is not None and value < low:
        state = ThresholdState.LOW
    elif high is not None and value > high:
        state = ThresholdState.HIGH
    return Verdict(
        quantity=quantity,
        period=period,
        value=value,
        state=state,
        expected=None,
        low=low,
        high=high,
        score=math.inf if state in {ThresholdState.LOW, ThresholdState.HIGH} else 0.0,
        history=history,
        since=None,
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """The scale on which distances are measured: log(1 + value) for values that vary by ratio."""

    quantity: Quantity

    def of(self, value: float) -> float:
        return math.log1p(max(0.0, value)) if self.quantity.by_ratio else value

    def back(self, scaled: float) -> float:
        return math.expm1(scaled) if self.quantity.by_ratio else scaled

    def floor(self, centre: float) -> float:
        """The smallest deviation that matters, on this scale."""
        expected = max(0.0, self.back(centre))
        least = max(self.quantity.relative_floor * expected, self.quantity.absolute_floor)
        # On the logarithmic scale, half the value is as far away as twice the value.
        return self.of(expected + least) - self.of(expected)


@dataclass(frozen=True, slots=True)
class _Model:
    centre: float
    spread: float
    slope: float
    history: int
    since: int
    weekday: bool


def _fit(past: Sequence[_Point], now: int, parameters: Parameters, scale: _Scale, *, weekly: bool) -> _Model:
    """Fit the model to a series of (period number, scaled value), ascending, for the period ``now``."""
    effects = _weekday_effects(past, parameters.per_weekday) if weekly else None
    flat = [(when, value - effects[when % WEEK]) for when, value in past] if effects else list(past)
    shift = _last_shift(flat, parameters, scale)
    before, flat = flat[:shift], flat[shift:]
    slope = _slope(flat, parameters, apart=WEEK if weekly else 1)
    level = median(value + slope * (now - when) for when, value in flat[-parameters.level_window :])
    around = [abs(value + slope * (now - when) - level) for when, value in flat]
    if len(flat) < parameters.minimum:
        # The few values since a shift are not enough for the spread, so those before it are used as well.
        former = median(value for _, value in before)
        around += [abs(value - former) for _, value in before]
    return _Model(
        centre=level + (effects[now % WEEK] if effects else 0.0),
        spread=_spread(around),
        slope=slope,
        history=len(flat),
        since=flat[0][0],
        weekday=effects is not None,
    )


def _spread(distances: Sequence[float]) -> float:
    """Standard deviation from distances to the median of the same values, corrected for the small-sample bias."""
    count = len(distances)
    return MAD_TO_DEVIATION * median(distances) * count / (count - 1)


def _weekday_effects(past: Sequence[_Point], needed: int) -> list[float] | None:
    """Median distance of each weekday from the week around it; None if weekdays do not differ."""
    values = dict(past)
    around: list[_Point] = []
    for when, value in past:
        week = [values[day] for day in range(when - 3, when + 4) if day in values]
        if len(week) >= WEEK - 1:
            around.append((when % WEEK, value - median(week)))
    by_weekday = [[distance for weekday, distance in around if weekday == number] for number in range(WEEK)]
    if min(map(len, by_weekday)) < needed:
        return None
    effects = [median(distances) for distances in by_weekday]
    with_weekdays = median(abs(distance - effects[weekday]) for weekday, distance in around)
    without = median(abs(distance) for _, distance in around)
    # Seven medians always fit a little better than none.
    return effects if with_weekdays < 0.85 * without else None


def _last_shift(flat: Sequence[_Point], parameters: Parameters, scale: _Scale) -> int:
    """Position at which the level of a series last shifted for good; 0 if it did not.

    Compares the three weeks (or fewer at the ends) before a point with those after it. A drift in both is a trend, not
    a shift.
    """
    values = [value for _, value in flat]
    best, start = 1.0, 0
    for split in range(parameters.minimum, len(values) - parameters.adopt + 1):
        before, after = values[max(0, split - SHIFT_REACH) : split], values[split : split + SHIFT_REACH]
        level = median(before)
        step = median(after) - level - _common_drift(before, after) * (len(before) + len(after)) / 2
        spread = MAD_TO_DEVIATION * median(abs(value - level) for value in before)
        limit = max(parameters.deviations * spread, scale.floor(level))
        if not limit or abs(step) / limit < best:
            continue
        beyond = sum(math.copysign(1, step) * (value - level) > limit / 2 for value in after)
        if beyond >= 0.9 * len(after):
            best, start = abs(step) / limit, split
    return start


def _common_drift(before: Sequence[float], after: Sequence[float]) -> float:
    """Change per period common to both, the smaller of the two; 0 if their directions differ."""
    drifts = [
        (median(values[(len(values) + 1) // 2 :]) - median(values[: len(values) // 2])) / ((len(values) + 1) // 2)
        for values in (before, after)
    ]
    return min(drifts, key=abs) if drifts[0] * drifts[1] > 0 else 0.0


def _slope(flat: Sequence[_Point], parameters: Parameters, *, apart: int) -> float:
    """Theil-Sen slope per period over pairs whose distance is a multiple of ``apart``.

    0 if Kendall's test finds no significant trend.
    """
    slopes: list[float] = []
    variance = 0.0
    for season in range(apart):
        members = [(when, value) for when, value in flat if when % apart == season]
        count = len(members)
        variance += count * (count - 1) * (2 * count + 5) / 18
        slopes += [
            (later - earlier) / (then - when)
            for position, (when, earlier) in enumerate(members)
            for then, later in members[position + 1 :]
        ]
    if len(slopes) < parameters.minimum:
        return 0.0
    rising = sum(slope > 0 for slope in slopes) - sum(slope < 0 for slope in slopes)
    return median(slopes) if abs(rising) > parameters.trend_certainty * math.sqrt(variance) else 0.0


def _growth(scale: _Scale, model: _Model, steps: int) -> float:
    """The trend over ``steps`` periods, as a share of the expected value."""
    if not model.slope:
        return 0.0
    expected = scale.back(model.centre)
    return (scale.back(model.centre + steps * model.slope) - expected) / abs(expected) if expected else 0.0


def _number(day: date, cadence: Cadence) -> int:
    """Consecutive numbers for consecutive periods; days of one weekday are equal modulo 7."""
    return day.toordinal() if cadence == "daily" else 12 * day.year + day.month - 1


def _start(number: int, cadence: Cadence) -> date:
    return date.fromordinal(number) if cadence == "daily" else date(number // 12, number % 12 + 1, 1)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.3g}"  # noqa: PLR2004


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"at most {_amount(high)}" if high is not None else f"at least {_amount(low or 0.0)}"
    return f"{_amount(low)} to {_amount(high)}"
