"""How long a candle is: exchanges' names of intervals, as durations.

``1s 1m 15m 1h 1d 1w 1mo`` (Binance, Bybit, Gate, KuCoin) and ``1min 60min 4hour 1day 1week 1mon 1year`` (HTX).
A month is not a duration: it is counted by the calendar.
"""

from __future__ import annotations

import re
from datetime import timedelta

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
