"""Layouts: where the files of a publication lie in a bucket, and how their keys read.

A :class:`Layout` is made of one template of the publication's keys. Keys, folders and one regular expression follow
from the template.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cached_property, lru_cache
from string import Formatter

from lakehouse_assets.archive.period import Cadence, Period, period_range

SYMBOL = (
    r"[0-9A-Z_a-z"
    r"\u00c0-\u05ff\u0606-\u061b\u061d-\u06dc\u06de-\u070e\u0710-\u088f\u0892-\u08e1\u08e3-\u115e"
    r"\u1161-\u167f\u1681-\u180a\u1810-\u1fff\u2071-\u218f\u2c00-\u2dff\u2e80-\u2fff\u3005-\u3007"
    r"\u3021-\u3163\u3165-\ud7ff\uf900-\ufdff\ufe20-\ufefe\uff10-\uffdc"
    r"\U00020000-\U0003fffd]+"
)
"""Letters, marks and digits of any script, and underscores.

Spaces, control and format characters and ASCII punctuation are excluded: nothing that could leave its folder or look
like another symbol. The ranges are explicit because ``\\w`` differs between Python and the Rust expressions of Polars
(on over 12,000 characters), and both parse keys.
"""

SYMBOL_WITH_DASHES = SYMBOL.replace("[", "[-", 1)
"""SYMBOL with dashes, for exchanges that write ``BTC-USDT`` or ``BTC-29DEC23``."""

SYMBOL_WITH_DOTS = rf"{SYMBOL}(?:\.{SYMBOL})*"
"""SYMBOL with dots inside: ``BRK.B``."""

INTERVAL = r"[0-9]+(?:s|mo|m|h|d|w)"

ALL_SYMBOLS = "*"
"""The symbol of an object that contains all symbols."""

HOURS = tuple(f"{hour:02}" for hour in range(24))
"""Parts of a day that is published by the hour."""

GROUP_SYMBOLS_ABOVE = 100
"""Up to this number of symbols of one folder, each is listed by its own request; above, several by one request."""

_PAGE = 1000
# Years 1000 to 2999: Python and Polars agree on what is a date there, and no period overflows.
_DATE_PARTS = {"%Y": "[12][0-9]{3}", "%m": "[0-9]{2}", "%d": "[0-9]{2}"}


@dataclass(frozen=True, slots=True)
class Publication:
    """One (market, data type, cadence) that an exchange publishes.

    ``intervals`` is empty if the data type has none. ``first`` is the first day known to be published, for the oldest
    symbol; ``ended`` is the last day of a dataset that is no longer published.
    """

    market: str
    data_type: str
    cadence: Cadence
    first: date
    intervals: tuple[str, ...] = ()
    ended: date | None = None

    @property
    def id(self) -> tuple[str, str, Cadence]:
        return (self.market, self.data_type, self.cadence)


@dataclass(frozen=True, slots=True)
class Folder:
    """A range of keys to list: keys below ``prefix``, from ``first`` up to those that begin with ``last``.

    ``prefix`` ends with a slash, so that a folder never matches its siblings. ``first`` and ``last`` are complete key
    prefixes in the bucket's (UTF-8) order. If the range covers several symbols, ``symbols`` are the wanted ones, and
    the range may include keys of other periods.
    """

    prefix: str
    first: str
    last: str
    symbols: tuple[str, ...] | None = None


class SymbolLocation(StrEnum):
    """Where a publication's keys contain the symbol: as a folder, at the beginning of the file name, or nowhere, since
    every file contains all symbols."""

    FOLDERS = "folders"
    FILE_NAMES = "file names"
    NOWHERE = "nowhere"


@dataclass(frozen=True)
class Layout:
    """Where the files of one publication are, and how their keys are parsed.

    ``template`` is a complete key with the fields ``{symbol}``, ``{interval}``, ``{period}``, ``{part}`` (a part of the
    period, such as an hour, after the period in the file name) and ``{month}`` (``YYYYMM``, a folder). ``{period}``
    occurs once, in the file name, in the ``period_format``: %Y, %m and %d in this order, by default with dashes. A
    field that occurs twice must have the same value. Symbols are folders directly below ``root``, or the beginning of
    the file name (up to a character that no symbol contains), or not in the key. ``symbol`` and ``interval`` are
    regular expressions without groups that mean the same in Python and Rust. ``parts`` are all possible parts of a
    period, in order. A sidecar's key is the object's key and ``sidecar_suffix``; with ``sidecar_of_stem``, the suffix
    replaces the file's ending.
    """

    template: str
    cadence: Cadence
    period_format: str = ""
    symbol: str = SYMBOL
    interval: str = INTERVAL
    parts: tuple[str, ...] = ()
    sidecar_suffix: str = ""
    sidecar_of_stem: bool = False

    def __post_init__(self) -> None:
        if not self.period_format:
            object.__setattr__(self, "period_format", self.cadence.key_format)

    @cached_property
    def head(self) -> str:
        """The beginning of every key of the publication, up to the first field."""
        return self.template[: self.template.index("{")]

    @cached_property
    def root(self) -> str:
        """The deepest folder with all keys of the publication (and perhaps of others); ends with a slash."""
        return self.head[: self.head.rindex("/") + 1]

    @cached_property
    def _folder(self) -> str:
        return self.template[: self.template.rindex("/") + 1]

    @cached_property
    def _stem(self) -> str:
        """The file name up to the period."""
        return self.template[len(self._folder) : self.template.index("{period}")]

    @cached_property
    def suffix(self) -> str:
        """The end of the file name, after period and part: ``.csv.gz``."""
        return self.template[self.template.rindex("}") + 1 :]

    @cached_property
    def symbol_location(self) -> SymbolLocation:
        if "{symbol}" not in self.template:
            return SymbolLocation.NOWHERE
        return SymbolLocation.FOLDERS if "{symbol}" in self._folder else SymbolLocation.FILE_NAMES

    @cached_property
    def symbol_end(self) -> str:
        """The character that ends a symbol at the beginning of a file name."""
        return self._stem.removeprefix("{symbol}")[0]

    @cached_property
    def pattern(self) -> str:
        """A regular expression of complete keys (and their sidecars), for Python and for Polars.

        Its groups are ``period`` and, as far as the template has them, ``symbol``, ``interval``, ``part`` and
        ``sidecar``. If a field occurs in a folder as well, its value there is ``folder_symbol``, ``folder_interval`` or
        ``folder_month``.
        """
        period = self.period_format
        for field_name, digits in _DATE_PARTS.items():
            period = period.replace(field_name, digits)
        forms = {
            "symbol": self.symbol,
            "interval": self.interval,
            "period": period,
            "part": "|".join(self.parts),
            "month": _DATE_PARTS["%Y"] + _DATE_PARTS["%m"],
        }
        written, expression = "", ""
        for text, name, _, _ in Formatter().parse(self.template):
            written, expression = written + text, expression + re.escape(text)
            if name is not None:
                written += f"{{{name}}}"
                again = f"{{{name}}}" in self.template[len(written) :]
                group = f"folder_{name}" if again or name == "month" else name
                expression += f"(?P<{group}>{forms[name]})"
        if not self.sidecar_suffix:
            return expression
        sidecar = f"(?P<sidecar>{re.escape(self.sidecar_suffix)})"
        if not self.sidecar_of_stem:
            return f"{expression}{sidecar}?"
        end = re.escape(self.suffix)
        return f"{expression.removesuffix(end)}(?:{end}|{sidecar})"

    @property
    def sidecar_drops(self) -> str:
        """The end of an object's key that its sidecar's key replaces."""
        return self.suffix if self.sidecar_of_stem else ""

    def sidecar_of(self, key: str) -> str:
        """The key of an object's sidecar, if sidecars are published."""
        return key.removesuffix(self.sidecar_drops) + self.sidecar_suffix

    def period_text(self, period: Period) -> str:
        """The period as keys write it."""
        text = self.period_format
        for field_name, value in zip(_DATE_PARTS, period.start.isoformat().split("-"), strict=True):
            text = text.replace(field_name, value)
        return text

    def key_of(self, *, symbol: str, interval: str | None, period: Period, part: str | None = None) -> str:
        """The key of one archive object."""
        return self._filled(self.template, symbol, interval, period, part)

    def folder_of(self, *, symbol: str, interval: str | None, first: Period, last: Period) -> Folder:
        """The folder of one symbol (and interval), restricted to a range of periods (within one month, if months are
        folders)."""
        prefix = self._filled(self._folder, symbol, interval, first)
        stem = prefix + self._filled(self._stem, symbol, interval, first)
        return Folder(prefix, stem + self.period_text(first), stem + self.period_text(last))

    def folders(self, *, symbols: Iterable[str], intervals: Sequence[str], first: Period, last: Period) -> list[Folder]:
        """The folders to list for a range of periods: each once, with few requests and few unwanted keys."""
        choices: Sequence[str | None] = intervals if "{interval}" in self.template else (None,)
        if self.symbol_location is SymbolLocation.FOLDERS:
            return [
                self.folder_of(symbol=symbol, interval=interval, first=first, last=last)
                for symbol in symbols
                for interval in choices
            ]
        if self.symbol_location is SymbolLocation.NOWHERE:
            symbols = tuple(symbols)[:1]
        groups = self._symbol_groups(sorted(symbols))
        return [
            self._group_folder(group, interval, start, end)
            for start, end in self._months(first, last)
            for group in groups
            for interval in choices
        ]

    def month_root(self, interval: str | None) -> str:
        """The folder that contains the months of an interval as folders; ends with a slash."""
        return self._filled(self.template[: self.template.index("{month}")], "", interval)

    def _symbol_groups(self, symbols: Sequence[str]) -> list[tuple[str, ...]]:
        """Groups of neighbouring symbols whose files of a month fill about a page."""
        files = max(1, len(self.parts)) * (1 if self.cadence is Cadence.MONTHLY else 31)
        size = 1 if len(symbols) <= GROUP_SYMBOLS_ABOVE else max(1, _PAGE // files)
        return [tuple(symbols[start : start + size]) for start in range(0, len(symbols), size)]

    def _group_folder(self, symbols: Sequence[str], interval: str | None, first: Period, last: Period) -> Folder:
        start = self.folder_of(symbol=symbols[0], interval=interval, first=first, last=last)
        if len(symbols) == 1:
            return start
        end = self.folder_of(symbol=symbols[-1], interval=interval, first=first, last=last)
        return Folder(start.prefix, start.first, end.last, tuple(symbols))

    def _months(self, first: Period, last: Period) -> list[tuple[Period, Period]]:
        """The range, split by month if months are folders."""
        if "{month}" not in self.template:
            return [(first, last)]
        months = period_range(*(Period.containing(Cadence.MONTHLY, period.start) for period in (first, last)))
        starts = [max(first, Period.containing(self.cadence, month.start)) for month in months]
        return [
            (start, min(last, Period.containing(self.cadence, month.end).shifted(-1)))
            for start, month in zip(starts, months, strict=True)
        ]

    def _filled(
        self, template: str, symbol: str, interval: str | None, period: Period | None = None, part: str | None = None
    ) -> str:
        return template.format(
            symbol=symbol,
            interval=interval or "",
            part=part or "",
            period="" if period is None else self.period_text(period),
            month="" if period is None else period.month.replace("-", ""),
        )


@lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def canonical_period(text: str) -> str:
    """A period's text in the form of partition keys, from its digits with or without dashes."""
    digits = text.replace("-", "")
    return "-".join(filter(None, (digits[:4], digits[4:6], digits[6:])))
