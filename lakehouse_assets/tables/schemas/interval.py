"""The exchanges' names of candle intervals, as durations.

``1s 1m 15m 1h 1d 1w 1mo`` (Binance, Bybit, Gate, KuCoin) and ``1min 60min 4hour 1day 1week 1mon`` (HTX).
A month is not a duration: its length depends on the calendar. HTX's ``1year`` is refused.
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

INTERVAL_LENGTH = ":length"
"""Name of the column of `interval_lengths`."""


def duration(interval: str) -> timedelta | None:
    """The length of an interval; None for months. Raises InputError."""
    match = _NAME.fullmatch(interval)
    if match is None:
        raise InputError(f"{interval!r} is not an interval; write it as 1s, 1m, 1h, 1d, 1w or 1mo.")
    count, unit = match.groups()
    length = _UNITS.get(unit)
    return None if length is None else int(count) * length


def interval_lengths(intervals: pl.Series) -> pl.Series:
    """The length of each row's interval as a column INTERVAL_LENGTH; null for months. Raises InputError."""
    lengths = {name: duration(name) for name in intervals.unique().drop_nulls()}
    if len(lengths) == 1 and not intervals.null_count():
        (length,) = lengths.values()
        return pl.Series(INTERVAL_LENGTH, [length], pl.Duration("us")).new_from_index(0, len(intervals))
    return intervals.replace_strict(lengths, default=None, return_dtype=pl.Duration("us")).alias(INTERVAL_LENGTH)
