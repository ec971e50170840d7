"""Periods: the days and months into which exchanges divide their archives.

A period's text is its partition key: ``2024-01-31`` (daily) or ``2024-01`` (monthly). Within a cadence, the texts sort
like the periods, so frames hold them as plain strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from lakehouse_assets.errors import InputError

if TYPE_CHECKING:
    import polars as pl

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")


class Cadence(StrEnum):
    """The length of the periods that an exchange publishes as files."""

    DAILY = "daily"
    MONTHLY = "monthly"

    @property
    def key_format(self) -> str:
        """strftime format of a period's text."""
        return "%Y-%m-%d" if self is Cadence.DAILY else "%Y-%m"

    @classmethod
    def of(cls, text: str) -> Cadence:
        """The cadence of a period's text."""
        return cls.MONTHLY if _MONTH.fullmatch(text) else cls.DAILY


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One day or one month of the exchange's calendar (UTC unless the exchange says otherwise)."""

    cadence: Cadence
    start: date

    def __post_init__(self) -> None:
        if self.cadence is Cadence.MONTHLY and self.start.day != 1:
            raise ValueError(f"A monthly period starts on the first: {self.start}")

    def __str__(self) -> str:
        # Not strftime: it writes years before 1000 without their leading zeros.
        text = self.start.isoformat()
        return text if self.cadence is Cadence.DAILY else month_of(text)

    @property
    def month(self) -> str:
        """``YYYY-MM``: the manifest's partition."""
        return month_of(self.start.isoformat())

    @property
    def end(self) -> date:
        """The first date after the period."""
        return self.next().start

    def next(self) -> Period:
        return self.shifted(1)

    def shifted(self, count: int) -> Period:
        """The period ``count`` later (earlier when negative)."""
        if self.cadence is Cadence.DAILY:
            return Period(self.cadence, self.start + timedelta(days=count))
        months = self.start.year * 12 + self.start.month - 1 + count
        return Period(self.cadence, date(months // 12, months % 12 + 1, 1))

    @classmethod
    def containing(cls, cadence: Cadence, day: date) -> Period:
        return cls(cadence, day if cadence is Cadence.DAILY else day.replace(day=1))

    @classmethod
    def parse(cls, text: str, cadence: Cadence) -> Period:
        """Read ``2024-01-31``, or ``2024-01`` (for a daily cadence: the month's first day).

        A day given for a monthly cadence means the month that contains it. Raises InputError.
        """
        try:
            if _DAY.fullmatch(text):
                return cls.containing(cadence, date.fromisoformat(text))
            if _MONTH.fullmatch(text):
                return cls.containing(cadence, date.fromisoformat(f"{text}-01"))
        except ValueError as error:
            raise InputError(f"{text!r} is not a date: {error}.") from error
        form = "YYYY-MM-DD" if cadence is Cadence.DAILY else "YYYY-MM"
        raise InputError(f"{text!r} is not a {cadence} period; write it as {form}.")


_MONTH_LENGTH = len("YYYY-MM")


def month_of(period: str) -> str:
    """The month, ``YYYY-MM``, of the text of a day or a month: the partition of the lake's tables."""
    return period[:_MONTH_LENGTH]


def months_of(periods: Iterable[str]) -> list[str]:
    """The months of periods' texts, ascending, each once."""
    return sorted({month_of(period) for period in periods})


def periods_of_month(month: str, cadence: Cadence) -> list[str]:
    """The texts of all periods of a month, ascending: its days, or the month itself."""
    whole = Period.parse(month, Cadence.MONTHLY)
    if cadence is Cadence.MONTHLY:
        return [str(whole)]
    first, last = Period(Cadence.DAILY, whole.start), Period(Cadence.DAILY, whole.end).shifted(-1)
    return [str(period) for period in period_range(first, last)]


def month_expr(period: pl.Expr) -> pl.Expr:
    """:func:`month_of` for a column of periods."""
    return period.str.head(_MONTH_LENGTH)


def period_range(first: Period, last: Period) -> list[Period]:
    """Every period from ``first`` to ``last``, both included. Raises InputError when reversed."""
    if first.cadence != last.cadence:
        raise InputError(f"{first} and {last} have different cadences.")
    if last < first:
        raise InputError(f"The range {first} to {last} ends before it starts.")
    periods = [first]
    while periods[-1] < last:
        periods.append(periods[-1].next())
    return periods
