"""How long a candle is: exchanges' names of intervals, as durations.

``1s 1m 15m 1h 1d 1w 1mo`` (Binance, Bybit, Gate, KuCoin) and ``1min 60min 4hour 1day 1week 1mon 1year`` (HTX).
A month is not a duration: it is counted by the calendar.
"""

from __future__ import annotations

import re
from datetime import timedelta

import polars as pl

from lakehouse_assets.errors import InputError

_NAME = re.compile(r"([1-9][0-9]*)(s|m|min|h|hour|d|day|w|week|mo|mon|month)")
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "hour": timedelta(hours=1),
    "d": timedelta(days=1),
    "day": timedelta(days=1),
    "w": timedelta(weeks=1),
    "week": timedelta(weeks=1),
}
HOUR = timedelta(hours=1)


def duration(interval: str) -> timedelta | None:
    """How long a candle of that interval is; None for whole months. Raises InputError."""
    match = _NAME.fullmatch(interval)
    if match is None:
        raise InputError(f"{interval!r} is not an interval; write it as 1s, 1m, 1h, 1d, 1w or 1mo.")
    count, unit = match.groups()
    one = _UNITS.get(unit)
    return None if one is None else int(count) * one


class Length:
    """The length of each row's interval, as a column beside the table's own."""

    COLUMN = ":length"

    @classmethod
    def of(cls, intervals: pl.Series) -> pl.Series:
        """For the intervals of some rows; null for months. Raises InputError."""
        names = intervals.unique().drop_nulls()
        lengths = {name: duration(name) for name in names}
        if len(lengths) == 1 and not intervals.null_count():
            return pl.Series(cls.COLUMN, [next(iter(lengths.values()))], pl.Duration("us")).new_from_index(
                0, len(intervals)
            )
        return intervals.replace_strict(lengths, default=None, return_dtype=pl.Duration("us")).alias(cls.COLUMN)
