"""Labelled synthetic series of a dataset's bytes per day, with events at known days.

Noise is on a logarithmic scale. On the day of an event the value lies EVENT noise deviations (of 1.4826
MADs) from what the series would have without noise: just that far, never farther.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

FIRST = date(2023, 1, 2)
DAYS = 200
JUDGED_FROM = 100
"""Earlier days are only history, except for a new dataset."""

EVENT = 5.0
EVENTS = 6
SETTLING = 7
"""Days after a level shift on which no result counts as wrong."""

DEVELOPMENT = range(100, 110)
"""Seeds that were used to choose the detector's parameters."""

EVALUATION = range(9000, 9010)
"""Seeds of the reported figures, which were never used to choose parameters."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A series and what is true of it. ``values`` has one (day, value) each; ``judged`` are the days that
    count, ``events`` those of them that are unusual."""

    values: tuple[tuple[date, float], ...]
    judged: frozenset[date]
    events: frozenset[date]


def labelled(kind: str, seed: int) -> Labelled:
    """The series of one kind and seed; always the same."""
    return KINDS[kind](random.Random(f"{kind}:{seed}"))


def _normal(rng: random.Random) -> float:
    return rng.gauss(0.0, 1.0)


def student(rng: random.Random) -> float:
    """Student's t with 4 degrees of freedom; its deviation by MAD is 1."""
    return rng.gauss(0.0, 1.0) / math.sqrt(rng.gammavariate(2.0, 2.0) / 4.0) / (1.4826 * 0.7407)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recipe:
    week: tuple[float, ...] = (0.0,) * 7
    trend: float = 0.0
    shifts: int = 0
    direction: int = 0
    noise: Callable[[random.Random], float] = _normal
    gaps: bool = False
    judged_from: int = JUDGED_FROM

    def __call__(self, rng: random.Random) -> Labelled:
        deviation = rng.uniform(0.04, 0.15)
        base = math.log(rng.uniform(1e6, 1e9))
        days = [day for day in range(DAYS) if not (self.gaps and rng.random() < 0.1)]
        if self.gaps:
            hole = rng.randrange(20, DAYS - 60)
            days = [day for day in days if not hole <= day < hole + 15]
        candidates = [day for day in days if day >= self.judged_from]
        shift_days = sorted(rng.sample(candidates[20:-20], self.shifts))
        settling = {day + later for day in shift_days for later in range(1, SETTLING)}
        free = [day for day in candidates if not settling & set(range(day - 1, day + 2)) and day not in shift_days]
        events = {day: self.direction or rng.choice((-1, 1)) for day in rng.sample(free, EVENTS)}
        steps = {day: rng.choice((-1, 1)) * rng.uniform(8.0, 14.0) for day in shift_days}
        values = []
        level = base
        for day in days:
            level += deviation * steps.get(day, 0.0)
            noise = self.noise(rng)
            if day in events:
                noise = EVENT * events[day]
            value = level + self.trend * day + self.week[day % 7] + deviation * noise
            values.append((FIRST + timedelta(days=day), math.exp(value)))
        return Labelled(
            tuple(values),
            frozenset(FIRST + timedelta(days=day) for day in candidates if day not in settling),
            frozenset(FIRST + timedelta(days=day) for day in (*events, *shift_days)),
        )


_WEEK = (0.0, 0.02, 0.05, 0.03, 0.0, -0.35, -0.4)

KINDS: Mapping[str, Callable[[random.Random], Labelled]] = {
    "steady": _Recipe(),
    "weekly season": _Recipe(week=_WEEK),
    "trend": _Recipe(trend=0.008),
    "season and trend": _Recipe(week=_WEEK, trend=0.005),
    "level shift": _Recipe(shifts=1),
    "spikes": _Recipe(week=_WEEK, direction=1),
    "dips": _Recipe(week=_WEEK, direction=-1),
    "gaps": _Recipe(week=_WEEK, gaps=True),
    "heavy tails": _Recipe(noise=student),
    "new dataset": _Recipe(judged_from=14),
}


def history_and_value(series: Labelled) -> Iterator[tuple[tuple[tuple[date, float], ...], date, float]]:
    """The inputs of a detector, day by day: all earlier days, the day, its value."""
    for position, (day, value) in enumerate(series.values):
        if day in series.judged:
            yield series.values[:position], day, value
