"""How a data type's facts are written into files, and which rows the table should have: forms in order of time,
columns by name, instants by their unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from lakehouse_assets_tests.orchestration.tables.market_facts import Facts, File

TIMES = ("time", "close_time", "sent", "label")
"""Facts that are instants, in microseconds since 1970; all others have the type of their Python values."""


@dataclass(frozen=True)
class Form:
    """How files are written from a date on: columns in order as ``name=fact:writing``, where ``=fact`` is left out if
    the fact has the same name. ``header`` may have other names than the columns; empty: no header."""

    columns: str
    header: str | None = None
    since: date = date.min
    newest_first: bool = False

    @property
    def cells(self) -> list[tuple[str, str, str]]:
        """Name, fact and writing of each column."""
        cells = []
        for word in self.columns.split():
            place, _, writing = word.partition(":")
            name, _, fact = place.partition("=")
            cells.append((name, fact or name, writing))
        return cells

    @property
    def first_line(self) -> str:
        return ",".join(name for name, _, _ in self.cells) if self.header is None else self.header


@dataclass(frozen=True)
class Kind:
    """A data type: its forms in order of time, and the table's columns as ``name=fact``."""

    facts: Callable[[File], Facts]
    table: str
    forms: tuple[Form, ...]
    number: Callable[[float], str] = repr
    rows_twice: bool = False

    @property
    def changed(self) -> date | None:
        """When the newest form began; None if there is only one."""
        return self.forms[-1].since if len(self.forms) > 1 else None

    def form_of(self, file: File) -> Form:
        return [form for form in self.forms if form.since <= file.day][-1]

    def text(self, file: File) -> str:
        """The file's text as the exchange writes it."""
        form, facts = self.form_of(file), self.facts(file)
        columns = [_written(facts[fact], writing, self.number) for _, fact, writing in form.cells]
        rows = list(map(",".join, zip(*columns, strict=True)))
        if form.newest_first:
            rows.reverse()
        if self.rows_twice:
            rows = [row for row in rows for _ in range(2)]
        return "".join(f"{row}\n" for row in [*filter(None, [form.first_line]), *rows])

    def rows(self, file: File) -> pl.DataFrame:
        """The rows that the table should have of the file."""
        facts = self.facts(file)
        known = {"exchange": file.exchange, "market": file.market, "symbol": file.symbol, "interval": file.interval}
        resolution = {fact: PRECISION.get(writing, 1) for _, fact, writing in self.form_of(file).cells}
        columns = {}
        for name, _, fact in (word.partition("=") for word in self.table.split()):
            values = facts[fact or name]
            if (fact or name) in TIMES:
                unit = resolution.get(fact or name, 1)
                columns[name] = pl.Series([value // unit * unit for value in values]).cast(pl.Datetime("us", "UTC"))
            else:
                columns[name] = pl.Series(values, dtype=None if values[0] is not None else pl.Float64)
        named = {name: text for name, text in known.items() if text is not None and name not in columns}
        return pl.DataFrame(columns).with_columns(pl.lit(text).alias(name) for name, text in named.items())


def _seconds(us: int, places: int) -> str:
    return f"{us // 10**6}.{us % 10**6:06}"[: places - 6 or None]


def _stamp(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // 10**9, UTC):%Y-%m-%dD%H:%M:%S}.{ns % 10**9:09}"


PRECISION = {"s": 10**6, "text": 10**6, "hour": 3600 * 10**6, "ms": 1000, "s4": 100}
"""Resolution in microseconds of a way to write instants, if coarser than one microsecond."""

WRITINGS: dict[str, Callable[[Any], str]] = {
    "s": lambda us: str(us // 10**6),
    "s4": lambda us: _seconds(us, 4).rstrip("0").rstrip("."),
    "s6": lambda us: _seconds(us, 6),
    "ms": lambda us: str(us // 1000),
    "us": str,
    "stamp": _stamp,
    "text": lambda us: f"{datetime.fromtimestamp(us // 10**6, UTC):%Y-%m-%d %H:%M:%S}",
    "date": lambda us: f"{datetime.fromtimestamp(us // 10**6, UTC):%Y-%m-%d}",
    "hour": lambda us: f"{datetime.fromtimestamp(us // 10**6, UTC):%H}",
    "title": str.title,
    "upper": str.upper,
    "Maker": lambda side: str(side == "sell"),
    "maker": lambda side: str(side == "sell").lower(),
    "number": {"sell": "1", "buy": "2"}.__getitem__,
    "e": "{:.16e}".format,
}
"""How a fact is written, if not by the default of its type."""


def _written(values: list[Any], writing: str, number: Callable[[float], str]) -> list[str]:
    if writing:
        return list(map(WRITINGS[writing], values))
    write = number if isinstance(values[0], float) else str
    return ["" if value is None else write(value) for value in values]
