"""Binance metrics: which of their two meanings a file's times have.

Of um, ``create_time`` is the end of the five minutes until 2026-06-24, from 2026-06-25 on their beginning, as it has
always been of cm (binance-public-data #491, and a file of cm of 2023-06-25). A day's file tells by its own times which
it is: with ends it goes from 00:05 to the next midnight, with beginnings from midnight to 23:55. Market and date decide
only where a file has neither midnight, or both.

Beginnings are moved to ends, so that a row's ``time`` is when it was known, whatever the file's convention: nobody
sees the future, and no two files have a row of the same time. A file of ends that was cut to look like one
of beginnings is five minutes late, which does no harm.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

STEP = timedelta(minutes=5)
UM_CHANGED = datetime(2026, 6, 25, tzinfo=UTC)
"""The first day whose file of um is labelled with beginnings."""

_DAY = timedelta(days=1)
_LATE = timedelta(minutes=1)
"""Times are a second or two late in some files."""


def ends_of_steps(rows: pl.DataFrame, *, changed: datetime | None) -> pl.DataFrame:
    """Rows of one day's file with ``time`` at the end of each step; ``create_time`` stays as published.

    ``changed`` is the first day that is labelled with beginnings; None: all are.
    """
    if rows.is_empty() or not _are_beginnings(rows["time"].to_list(), changed):
        return rows
    return rows.with_columns(pl.col("time") + STEP)


def _are_beginnings(times: list[datetime], changed: datetime | None) -> bool:
    # The median is of the file's own day, even where a row or two are not.
    middle = sorted(times)[len(times) // 2] - _LATE
    midnight = middle.replace(hour=0, minute=0, second=0, microsecond=0)
    own, next_one = (any(abs(time - day) <= _LATE for time in times) for day in (midnight, midnight + _DAY))
    if len(times) == 1 or own == next_one:
        return changed is None or midnight + _DAY > changed
    return own
