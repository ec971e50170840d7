"""Lateness: whether a dataset is published on time, late, stalled or dead.

Exchanges announce no publication times, so the expectation is learned from when the last periods appeared; until there
are enough of them, defaults apply. The defaults follow Binance's archive as observed: a day is published by 10:00 UTC
of the next day, a month by the eighth day of the next month; stalls of three to eight days happen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from statistics import quantiles

from lakehouse_assets.archive.period import Cadence, Period

MIN_PERIODS_TO_LEARN = 14
"""Below this number of periods, the defaults apply."""

MAX_PERIODS_TO_LEARN = 60
"""The expectation is learned from this number of newest periods."""


class AvailabilityStatus(StrEnum):
    """``dead``: the publication ended, or nothing was published for so long that it counts as ended."""

    ON_TIME = "on_time"
    LATE = "late"
    STALLED = "stalled"
    DEAD = "dead"


BEHIND = frozenset({AvailabilityStatus.LATE, AvailabilityStatus.STALLED})


@dataclass(frozen=True, slots=True)
class Expectation:
    """How long after its end (midnight UTC) a period is late, and how long after it is stalled.

    ``periods`` is the number of periods that this was learned from, 0 for the defaults.
    """

    late: timedelta
    stalled: timedelta
    periods: int = 0


DEFAULTS = {
    Cadence.DAILY: Expectation(late=timedelta(hours=10), stalled=timedelta(days=2)),
    Cadence.MONTHLY: Expectation(late=timedelta(days=7), stalled=timedelta(days=14)),
}
"""A day T is late from T+1 10:00 on and stalled from T+3 on; a month from day 8 and day 15 of the next month on."""

_MARGIN = {Cadence.DAILY: timedelta(hours=2), Cadence.MONTHLY: timedelta(days=2)}
_DEAD_AFTER = {Cadence.DAILY: timedelta(days=60), Cadence.MONTHLY: timedelta(days=180)}


@dataclass(frozen=True, slots=True)
class Availability:
    """The availability of one dataset at one time.

    ``newest`` is the last published period, ``missing`` the first one that is due but not published. ``periods_behind``
    counts the periods that are due but not published, ``behind`` is the time since the first of them was due.
    """

    status: AvailabilityStatus
    expectation: Expectation
    newest: Period | None
    missing: Period | None = None
    periods_behind: int = 0
    behind: timedelta = timedelta()

    @property
    def is_behind(self) -> bool:
        return self.status in BEHIND


def expectation(cadence: Cadence, published: Mapping[str, datetime]) -> Expectation:
    """The expectation for a dataset whose ``published`` periods (texts) appeared at the given times (UTC).

    A period is late beyond Tukey's far fence: the third quartile plus three times the interquartile range, or plus a
    minimal margin if that is longer. So a stall in the history widens the expectation little. The time from late to
    stalled is that of the defaults.
    """
    default = DEFAULTS[cadence]
    newest = sorted(published)[-MAX_PERIODS_TO_LEARN:]
    lags = [(published[text] - _end_of(Period.parse(text, cadence))).total_seconds() for text in newest]
    if len(lags) < MIN_PERIODS_TO_LEARN:
        return default
    first, _, third = quantiles(lags, n=4, method="inclusive")
    late = timedelta(seconds=third) + max(timedelta(seconds=3 * (third - first)), _MARGIN[cadence])
    return Expectation(late, late + default.stalled - default.late, len(lags))


def availability(
    expected: Expectation, *, newest: Period | None, first: Period, last: Period | None, now: datetime
) -> Availability:
    """Classify a dataset that is tracked from the period ``first`` on. ``last`` is the last period of a publication
    that ended; ``now`` is in UTC."""
    if last is not None and newest is not None and newest >= last:
        return Availability(AvailabilityStatus.DEAD, expected, newest)
    missing = first if newest is None else max(first, newest.next())
    due = _end_of(missing) + expected.late
    if now < due:
        return Availability(AvailabilityStatus.ON_TIME, expected, newest)
    periods_behind = 1
    while periods_behind < MAX_PERIODS_TO_LEARN and _end_of(missing.shifted(periods_behind)) + expected.late <= now:
        periods_behind += 1
    behind = now - due
    if behind >= _DEAD_AFTER[missing.cadence] and newest is not None:
        status = AvailabilityStatus.DEAD
    elif now >= _end_of(missing) + expected.stalled:
        status = AvailabilityStatus.STALLED
    else:
        status = AvailabilityStatus.LATE
    return Availability(status, expected, newest, missing, periods_behind, behind)


def _end_of(period: Period) -> datetime:
    """Midnight UTC at the end of a period."""
    return datetime.combine(period.end, time(), UTC)
