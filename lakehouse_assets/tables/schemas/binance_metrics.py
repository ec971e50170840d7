"""Binance metrics: whether the times of a file are the beginnings or the ends of the five minutes.

In um, ``create_time`` is the end of the five minutes until 2026-06-24 and the beginning from 2026-06-25 on; in cm it
has always been the beginning (binance-public-data #491, and the cm file of 2023-06-25). The times of a daily file show
which it has: ends run from 00:05 to the next midnight, beginnings from midnight to 23:55. Market and date decide
only if a file has neither midnight, or both.

Beginnings are moved to ends, so that ``time`` is always when a row became known: a backtest has no look-ahead, and no
two files have a row of the same time. If a file of ends lacks rows so that it looks like one of beginnings, its times
are five minutes late, which causes no look-ahead.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

STEP = timedelta(minutes=5)
UM_CHANGED = datetime(2026, 6, 25, tzinfo=UTC)
"""The first day whose um file has beginnings."""

_DAY = timedelta(days=1)
_LATE = timedelta(minutes=1)
"""Times are a second or two late in some files."""


def ends_of_steps(rows: pl.DataFrame, *, changed: datetime | None) -> pl.DataFrame:
    """Rows of one day's file with ``time`` at the end of each step; ``create_time`` stays as published.

    ``changed`` is the first day whose file has beginnings; None if all files have.
    """
    if rows.is_empty() or not _are_beginnings(rows["time"].to_list(), changed):
        return rows
    return rows.with_columns(pl.col("time") + STEP)


def _are_beginnings(times: list[datetime], changed: datetime | None) -> bool:
    # The median is in the file's own day, even if some rows are not.
    median = sorted(times)[len(times) // 2] - _LATE
    midnight = median.replace(hour=0, minute=0, second=0, microsecond=0)
    has_midnight, has_next = (any(abs(time - day) <= _LATE for time in times) for day in (midnight, midnight + _DAY))
    if len(times) == 1 or has_midnight == has_next:
        return changed is None or midnight + _DAY > changed
    return has_midnight
