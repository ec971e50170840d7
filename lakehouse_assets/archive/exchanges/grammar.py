"""What an exchange's archive looks like: publications, folders, and the grammar of its keys.

An exchange is declared by an :class:`Exchange`: facts of its bucket, a table of what it
publishes, and for each publication a :class:`Layout`, made of a folder template and one regular
expression. The same expression reads a single key (:meth:`Exchange.parse`) and a whole listing
(``archive/listing.py``), so the two can never disagree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, lru_cache

from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.errors import InputError

SYMBOL = (
    r"[0-9A-Z_a-z"
    r"\u00c0-\u05ff\u0606-\u061b\u061d-\u06dc\u06de-\u070e\u0710-\u088f\u0892-\u08e1\u08e3-\u115e"
    r"\u1161-\u167f\u1681-\u180a\u1810-\u1fff\u2071-\u218f\u2c00-\u2dff\u2e80-\u2fff\u3005-\u3007"
    r"\u3021-\u3163\u3165-\ud7ff\uf900-\ufdff\ufe20-\ufefe\uff10-\uffdc"
    r"\U00020000-\U0003fffd]+"
)
"""Letters and digits of any script, marks on them, and underscores.

No space, control, format or ASCII punctuation character: nothing that could leave its folder or
read as other than it is. The ranges are spelt out because ``\\w`` means different characters to
Python and to the Rust expressions of Polars (it differs on over 12,000), and both read keys.
"""


@dataclass(frozen=True, slots=True)
class Publication:
    """One (market, data type, cadence) that an exchange publishes.

    ``intervals`` is empty where the data type has none. ``first`` is the first day known to be
    published for the oldest symbol, ``ended`` the last one of a data set that is dead.
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
    """A part of the bucket to list: keys below ``prefix`` from ``first`` up to those beginning with ``last``.

    ``prefix`` ends with a slash, so that a folder never matches its siblings. ``first`` and
    ``last`` are full key beginnings, in the bucket's (UTF-8) order.
    """

    prefix: str
    first: str
    last: str
    symbol: str | None = None
    interval: str | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the files of one publication lie, and how their keys read.

    ``root`` ends with a slash. With ``symbol_folders``, the folders below ``root`` are symbols.
    ``folder`` and ``stem`` are templates of ``{symbol}`` and ``{interval}``; a file is
    ``folder + stem + period + suffix``. ``pattern`` has the groups ``symbol``, ``period`` and
    ``sidecar``, and where the key says them twice ``folder_symbol`` and ``folder_interval``
    (which must agree with ``symbol`` and ``interval``).
    """

    root: str
    folder: str
    stem: str
    pattern: str
    suffix: str
    symbol_folders: bool = True

    def folder_of(self, *, symbol: str, interval: str | None, first: Period, last: Period) -> Folder:
        """The folder of one symbol (and interval), narrowed to a range of periods."""
        names = {"symbol": symbol, "interval": interval or ""}
        prefix = self.folder.format(**names)
        stem = prefix + self.stem.format(**names)
        return Folder(prefix, f"{stem}{first}", f"{stem}{last}", symbol, interval)

    def key_of(self, *, symbol: str, interval: str | None, period: Period) -> str:
        """The key of one archive object."""
        names = {"symbol": symbol, "interval": interval or ""}
        return f"{self.folder.format(**names)}{self.stem.format(**names)}{period}{self.suffix}"


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """What a key of the archive says about its object."""

    market: str
    data_type: str
    cadence: Cadence
    symbol: str
    interval: str | None
    period: Period
    is_sidecar: bool


@dataclass(frozen=True, slots=True)
class Stray:
    """A key that is no archive object of a known publication, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class StrayRule:
    """Keys that match ``pattern`` are strays for ``reason``."""

    pattern: re.Pattern[str]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One exchange's archive. ``endpoint_url`` is None on AWS; ``sidecar_suffix`` is empty without checksums.

    ``canaries`` are symbols whose newest file tells, per market, that a period has appeared.
    ``quote_assets`` are the known quote assets of each market, ``pair_suffix`` what may follow
    the pair in a symbol (a delivery date, a settlement mark).
    """

    name: str
    bucket: str
    region: str
    endpoint_url: str | None
    homepage: str
    sidecar_suffix: str
    publications: Sequence[Publication]
    layouts: Mapping[tuple[str, str, Cadence], Layout]
    canaries: Mapping[str, tuple[str, ...]]
    quote_assets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pair_suffix: re.Pattern[str] | None = None
    stray_rules: Sequence[StrayRule] = field(default_factory=tuple)

    @cached_property
    def _publications(self) -> dict[tuple[str, str, Cadence], Publication]:
        return {publication.id: publication for publication in self.publications}

    @property
    def markets(self) -> list[str]:
        return list(dict.fromkeys(publication.market for publication in self.publications))

    def data_types(self, market: str) -> list[str]:
        """Data types published in a market, in the table's order."""
        return list(dict.fromkeys(p.data_type for p in self.publications if p.market == market))

    def publication(self, market: str, data_type: str, cadence: Cadence) -> Publication:
        """The publication, or InputError naming what exists instead."""
        found = self._publications.get((market, data_type, cadence))
        if found is not None:
            return found
        if market not in self.markets:
            raise InputError(f"{self.name} has no market {market!r}; it has {', '.join(self.markets)}.")
        if data_type not in self.data_types(market):
            known = ", ".join(self.data_types(market))
            raise InputError(f"{self.name}/{market} has no data type {data_type!r}; it has {known}.")
        published = [p.cadence for p in self.publications if (p.market, p.data_type) == (market, data_type)]
        raise InputError(f"{self.name}/{market}/{data_type} is not published {cadence}, but {' and '.join(published)}.")

    def layout(self, market: str, data_type: str, cadence: Cadence) -> Layout:
        return self.layouts[self.publication(market, data_type, cadence).id]

    def quote_asset(self, symbol: str, market: str) -> str | None:
        """The quote asset of a symbol: the longest known one of its market that its pair ends with.

        The market decides: ``BNBUSD`` is BNB in USD where only USD is a quote asset, and not BN in BUSD.
        """
        pair = self.pair_suffix.sub("", symbol) if self.pair_suffix else symbol
        quotes = self.quote_assets.get(market, ())
        return max((q for q in quotes if pair.endswith(q) and pair != q), key=len, default=None)

    def parse(self, key: str) -> ParsedKey | Stray:
        """Read any key of the bucket, or say why it is a stray. Never raises."""
        for publication_id, layout in self.layouts.items():
            if key.startswith(layout.root):
                return self._parse_within(key, self._publications[publication_id], layout)
        return Stray(key, self._stray_reason(key) or "it lies outside every known data set")

    def _parse_within(self, key: str, publication: Publication, layout: Layout) -> ParsedKey | Stray:
        match = compiled(layout.pattern).fullmatch(key)
        if match is None:
            return Stray(key, self._stray_reason(key) or "its name is not of the data set's form")
        groups = match.groupdict()
        interval = groups.get("interval")
        for twin in ("symbol", "interval"):
            if groups.get(f"folder_{twin}", groups.get(twin)) != groups.get(twin):
                return Stray(key, f"its folder is of another {twin}")
        if publication.intervals and interval not in publication.intervals:
            return Stray(key, f"interval {interval} is not published {publication.cadence}")
        try:
            period = Period.parse(groups["period"], publication.cadence)
        except InputError:
            return Stray(key, f"{groups['period']} is not a date")
        return ParsedKey(
            market=publication.market,
            data_type=publication.data_type,
            cadence=publication.cadence,
            symbol=groups["symbol"],
            interval=interval,
            period=period,
            is_sidecar=bool(groups["sidecar"]),
        )

    def _stray_reason(self, key: str) -> str | None:
        for rule in self.stray_rules:
            if rule.pattern.search(key):
                return rule.reason
        return None


@lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
