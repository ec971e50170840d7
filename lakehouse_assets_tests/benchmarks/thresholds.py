"""How well thresholds separate unusual days from usual ones, on labelled synthetic series.

The detector's parameters were chosen on the development seeds of series.py; the figures are of the
evaluation seeds, on which nothing was ever chosen. The other two ways got the same care: their one
parameter each was set on the development seeds, for a recall of about 0.95.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from lakehouse_assets.archive.matrix import DatasetEntry, load_matrix
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.observability.expectations.quantities import QUANTITIES
from lakehouse_assets.observability.expectations.thresholds import WEEK, AdaptiveThresholdDetector, Parameters
from lakehouse_assets.observability.incidents.causes import Cause
from lakehouse_assets.observability.incidents.lifecycle import NoticeKind, mark_notified, notices, observe
from lakehouse_assets.observability.incidents.model import IncidentState, Signal
from lakehouse_assets_tests.benchmarks.support.measure import Row
from lakehouse_assets_tests.benchmarks.support.series import (
    EVALUATION,
    KINDS,
    Labelled,
    history_and_value,
    labelled,
    student,
)

Point = tuple[date, float]
Judge = Callable[[Labelled], set[date]]
"""A detector: the evaluated days of a series that it calls unusual."""

WINDOW = Parameters().window
STL_DEVIATIONS = 5.0
FOREST_CONTAMINATION = 0.05
WEEKS = 13


@dataclass(frozen=True, slots=True)
class Score:
    """Days of all series of a kind."""

    found: int
    missed: int
    wrong: int
    judged: int

    @property
    def recall(self) -> float:
        return self.found / (self.found + self.missed)

    @property
    def precision(self) -> float:
        return self.found / max(1, self.found + self.wrong)

    def __add__(self, other: Score) -> Score:
        return Score(
            self.found + other.found, self.missed + other.missed, self.wrong + other.wrong, self.judged + other.judged
        )


def run(*, quick: bool = False, seeds: Sequence[int] = EVALUATION) -> list[Row]:
    """A row per kind and detector, and false incidents of the packaged matrix. ``quick``: only our detector."""
    ways: dict[str, Judge] = {"adaptive": adaptive}
    if not quick:
        ways |= {"STL + MAD (statsmodels)": stl, "IsolationForest (scikit-learn)": forest}
    rows: list[Row] = []
    totals = dict.fromkeys(ways, Score(0, 0, 0, 0))
    for kind in KINDS:
        for way, judge in ways.items():
            score = score_of(judge, kind, seeds)
            totals[way] += score
            rows.append(_row(kind, way, score))
    rows += [_row("all kinds", way, total) for way, total in totals.items()]
    incidents, weeks = false_incidents(seeds[:5])
    rows.append(
        Row(
            "packaged matrix, nothing wrong",
            "adaptive",
            incidents / weeks,
            "incidents a week",
            budget="<= 1",
            note=f"{incidents} in {weeks} weeks, {len(load_matrix().entries)} datasets, {len(QUANTITIES)} quantities",
        )
    )
    return rows


def score_of(judge: Judge, kind: str, seeds: Sequence[int]) -> Score:
    total = Score(0, 0, 0, 0)
    for seed in seeds:
        series = labelled(kind, seed)
        called = judge(series)
        found = len(called & series.events)
        total += Score(found, len(series.events) - found, len(called - series.events), len(series.judged))
    return total


def _row(kind: str, way: str, score: Score) -> Row:
    note = f"precision {score.precision:.3f}, {100 * score.wrong / score.judged:.2f} false per 100 days"
    return Row(kind, way, score.recall, "recall", budget=">= 0.95" if way == "adaptive" else "", note=note)


# The detectors


def adaptive(series: Labelled) -> set[date]:
    detector = AdaptiveThresholdDetector()
    return {
        day
        for history, day, value in history_and_value(series)
        if detector.evaluate(QUANTITIES["bytes"], history, day, value).is_unusual
    }


def stl(series: Labelled) -> set[date]:
    """Seasonal-trend decomposition of the window before the day; expects its last trend and weekday effect."""
    return {day for day, deviations in stl_deviations(series) if deviations > STL_DEVIATIONS}


def stl_deviations(series: Labelled) -> Iterator[tuple[date, float]]:
    import numpy as np  # noqa: PLC0415 - of the group `benchmarks`
    from statsmodels.tsa.seasonal import STL  # noqa: PLC0415

    values, first = _without_gaps(series.values), series.values[0][0]
    for day in sorted(series.judged):
        at = (day - first).days
        window = values[max(0, at - WINDOW) : at]
        if len(window) < 2 * WEEK:
            continue
        fitted = STL(window, period=WEEK, robust=True).fit()
        spread = 1.4826 * np.median(np.abs(fitted.resid - np.median(fitted.resid)))
        yield day, abs(values[at] - fitted.trend[-1] - fitted.seasonal[-WEEK]) / spread


def forest(series: Labelled) -> set[date]:
    """An isolation forest on distances from the last weeks' median and from a week ago, trained weekly."""
    import numpy as np  # noqa: PLC0415 - of the group `benchmarks`
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415

    values = _without_gaps(series.values)
    first = series.values[0][0]
    features = np.array(
        [
            (
                values[at] - np.median(values[at - 28 : at]),
                values[at] - values[at - 7],
                (first.toordinal() + at) % 7 >= 5,
            )
            for at in range(28, len(values))
        ]
    )
    called = set()
    fitted: IsolationForest | None = None
    for number, day in enumerate(sorted(series.judged)):
        at = (day - first).days - 28
        if at < 14:
            continue
        if fitted is None or number % WEEK == 0:
            fitted = IsolationForest(n_estimators=30, contamination=FOREST_CONTAMINATION, random_state=0)
            fitted.fit(features[max(0, at - WINDOW) : at])
        if fitted.predict(features[at : at + 1])[0] < 0:
            called.add(day)
    return called


def _without_gaps(values: Sequence[Point]) -> list[float]:
    """Logarithms of all days in a row; a missing day repeats the one before."""
    known = dict(values)
    filled: list[float] = []
    day = values[0][0]
    while day <= values[-1][0]:
        filled.append(math.log(known[day]) if day in known else filled[-1])
        day += timedelta(days=1)
    return filled


# The packaged matrix without faults


def false_incidents(seeds: Sequence[int]) -> tuple[int, int]:
    """Notified incidents and simulated weeks, with only ordinary numbers."""
    told = 0
    for seed in seeds:
        state = IncidentState()
        for now, signals in _weeks_of(load_matrix().entries, seed):
            state = observe(state, signals, now)
            # The next tick, after the hold and after resolved incidents have settled.
            for later in (timedelta(minutes=2), timedelta(minutes=10)):
                state = observe(state, [], now + later)
                due = notices(state)
                told += sum(notice.kind in {NoticeKind.OPENED, NoticeKind.REOPENED} for notice in due)
                state = mark_notified(state, due, now + later)
    return told, WEEKS * len(seeds)


def _weeks_of(entries: Sequence[DatasetEntry], seed: int) -> Iterator[tuple[datetime, list[Signal]]]:
    """Results of the check `expected` for every dataset, day by day."""
    first = date(2023, 1, 2)
    start = first + timedelta(days=WINDOW + 1)
    detector = AdaptiveThresholdDetector()
    series = {
        entry.dataset.name: _ordinary(entry, random.Random(f"{entry.dataset.name}:{seed}"), first) for entry in entries
    }
    for number in range(WEEK * WEEKS):
        today = start + timedelta(days=number)
        now = datetime.combine(today, time(10), UTC)
        signals = []
        for entry in entries:
            name, cadence = entry.dataset.name, entry.dataset.cadence.value
            days = series[name]["bytes"]
            if today not in days:
                continue
            unusual = [
                str(verdict)
                for quantity, values in series[name].items()
                if (
                    verdict := detector.evaluate(
                        QUANTITIES[quantity], values.items(), today, values[today], cadence=cadence
                    )
                ).is_unusual
            ]
            signals.append(
                Signal(
                    source="expected",
                    cause=Cause.UNUSUAL,
                    exchange=entry.dataset.exchange,
                    subject=name,
                    at=now,
                    firing=bool(unusual),
                    text=" ".join(unusual),
                )
            )
        yield now, signals


def _ordinary(entry: DatasetEntry, rng: random.Random, first: date) -> dict[str, dict[date, float]]:
    """Realistic numbers of a dataset: slow growth, weekdays, volatile periods, heavy tails, slow machines."""
    if entry.dataset.cadence is Cadence.MONTHLY:
        periods = [date(2020 + month // 12, month % 12 + 1, 1) for month in range(45)]
    else:
        periods = [first + timedelta(days=day) for day in range(WINDOW + 1 + WEEK * WEEKS)]
    symbols, size, mood = rng.choice((2, 120, 500, 700)), math.exp(rng.uniform(8.0, 12.0)), 0.0
    values: dict[str, dict[date, float]] = {name: {} for name in QUANTITIES}
    for period in periods:
        symbols += rng.choices((0, 1, 2, -1), (80, 12, 4, 4))[0] if symbols > 100 else 0
        objects = float(2 * symbols)
        mood = 0.8 * mood + rng.gauss(0.0, 0.05)
        week = -0.06 if period.weekday() >= 5 else 0.0
        held = objects * size * math.exp(mood + week + 0.03 * student(rng))
        seconds = 10 + objects / 50 * math.exp(0.3 * student(rng))
        values["objects"][period] = objects
        values["symbols"][period] = float(symbols)
        values["bytes"][period] = held
        values["rows"][period] = objects * 1440
        values["seconds"][period] = seconds
        values["throughput"][period] = held / seconds
        values["retries"][period] = float(sum(rng.random() < 0.002 for _ in range(int(objects))))
        values["failures"][period] = 0.0
        values["discovery_lag"][period] = 1200 * math.exp(0.4 * student(rng))
    return values
