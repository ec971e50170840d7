"""Whether a dataset is published when it should be: on time, late, stalled, dead.

Exchanges name no hours, so what is expected is learned from when the last periods appeared; before
there are enough of them, the defaults are used. They are what Binance's archive is seen to do: a day is
there by 10:00 UTC of the next one, a month by its eighth day; stalls of three to eight days happen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from statistics import quantiles

from lakehouse_assets.archive.period import Cadence, Period

MIN_PERIODS_TO_LEARN = 14
"""Periods after which a dataset's own history counts."""

REMEMBERED = 60
"""Newest periods that it is learned from."""


class AvailabilityStatus(StrEnum):
    """``dead``: the publication ended, or was silent for so long that it is taken for ended."""

    ON_TIME = "on_time"
    LATE = "late"
    STALLED = "stalled"
    DEAD = "dead"


BEHIND = frozenset({AvailabilityStatus.LATE, AvailabilityStatus.STALLED})


@dataclass(frozen=True, slots=True)
class Expectation:
    """After the end of a period (midnight UTC): from when on it is late, and from when on stalled.

    ``periods`` is the number of periods that it was learned from, 0 for the defaults.
    """

    late: timedelta
    stalled: timedelta
    periods: int = 0


DEFAULTS = {
    Cadence.DAILY: Expectation(late=timedelta(hours=10), stalled=timedelta(days=2)),
    Cadence.MONTHLY: Expectation(late=timedelta(days=7), stalled=timedelta(days=14)),
}
"""Day T: late from T+1 10:00 on, stalled from T+3 on. A month: from day 8 of the next one, and from day 15."""

_MARGIN = {Cadence.DAILY: timedelta(hours=2), Cadence.MONTHLY: timedelta(days=2)}
_DEAD_AFTER = {Cadence.DAILY: timedelta(days=60), Cadence.MONTHLY: timedelta(days=180)}


@dataclass(frozen=True, slots=True)
class Availability:
    """What is to be said of one dataset at one time.

    ``newest`` is the last period known to be published, ``missing`` the first that should be and is not.
    ``periods_behind`` counts the periods that should be there by now, ``behind`` is the time since the
    first of them was due.
    """

    standing: AvailabilityStatus
    expectation: Expectation
    newest: Period | None
    missing: Period | None = None
    periods_behind: int = 0
    behind: timedelta = timedelta()

    @property
    def is_behind(self) -> bool:
        return self.standing in BEHIND


def expectation(cadence: Cadence, published: Mapping[str, datetime]) -> Expectation:
    """What to expect of a dataset whose ``published`` periods (texts) appeared at the given times (UTC).

    Late is what is later than usual by Tukey's far fence: third quartile and three times the range
    between the quartiles, at least an hour-scale margin; so a stall in the history widens it little.
    Stalled comes after late as it does in the defaults.
    """
    default = DEFAULTS[cadence]
    newest = sorted(published)[-REMEMBERED:]
    lags = [(published[text] - _midnight(Period.parse(text, cadence))).total_seconds() for text in newest]
    if len(lags) < MIN_PERIODS_TO_LEARN:
        return default
    first, _, third = quantiles(lags, n=4, method="inclusive")
    late = timedelta(seconds=third) + max(timedelta(seconds=3 * (third - first)), _MARGIN[cadence])
    return Expectation(late, late + default.stalled - default.late, len(lags))


def availability(
    expected: Expectation, *, newest: Period | None, first: Period, last: Period | None, now: datetime
) -> Availability:
    """Judge a dataset watched from ``first`` on; ``last`` is the last period of one that ended, ``now`` in UTC."""
    if last is not None and newest is not None and newest >= last:
        return Availability(AvailabilityStatus.DEAD, expected, newest)
    missing = first if newest is None else max(first, newest.next())
    due = _midnight(missing) + expected.late
    if now < due:
        return Availability(AvailabilityStatus.ON_TIME, expected, newest)
    behind = 1
    while behind < REMEMBERED and _midnight(missing.shifted(behind)) + expected.late <= now:
        behind += 1
    late = now - due
    if late >= _DEAD_AFTER[missing.cadence] and newest is not None:
        return Availability(AvailabilityStatus.DEAD, expected, newest, missing, behind, late)
    is_stalled = now >= _midnight(missing) + expected.stalled
    return Availability(
        AvailabilityStatus.STALLED if is_stalled else AvailabilityStatus.LATE, expected, newest, missing, behind, late
    )


def _midnight(period: Period) -> datetime:
    """The end of a period."""
    return datetime.combine(period.end, time(), UTC)
