"""What an exchange's archive looks like: publications, folders, and the grammar of its keys.

An exchange is declared by an :class:`Exchange`: facts of its bucket, a table of what it
publishes, and for each publication a :class:`Layout`, made of one template of its keys. Keys,
folders and one regular expression follow from the template; the same expression reads a single
key (:meth:`Exchange.parse`) and a whole listing (``archive/listing.py``), so the two can never
disagree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from functools import cached_property
from zoneinfo import ZoneInfo

from lakehouse_assets.archive.exchanges.layout import (
    ALL_SYMBOLS,
    HOURS,
    INTERVAL,
    SYMBOL,
    SYMBOL_WITH_DASHES,
    SYMBOL_WITH_DOTS,
    Folder,
    Layout,
    Publication,
    SymbolPlace,
    canonical_period,
    compiled,
)
from lakehouse_assets.archive.exchanges.spelling import SymbolForm
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.errors import InputError

__all__ = [
    "ALL_SYMBOLS",
    "HOURS",
    "INTERVAL",
    "SYMBOL",
    "SYMBOL_WITH_DASHES",
    "SYMBOL_WITH_DOTS",
    "Checksum",
    "Exchange",
    "Folder",
    "Layout",
    "ParsedKey",
    "Publication",
    "SymbolPlace",
    "TermsOfUse",
    "UnrecognizedKey",
    "UnrecognizedRule",
    "compiled",
]


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
    part: str | None = None


@dataclass(frozen=True, slots=True)
class UnrecognizedKey:
    """A key that is no archive object of a known publication, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class UnrecognizedRule:
    """Keys that match ``pattern`` are strays for ``reason``.

    A rule of ``last_resort`` says what an odd key probably is; it does not vouch for the folder it is in, where
    a new data set may lie.
    """

    pattern: re.Pattern[str]
    reason: str
    last_resort: bool = False


@dataclass(frozen=True, slots=True)
class Checksum:
    """The sidecar beside each object: ``suffix`` ends its key (see Layout), ``algorithm`` is sha256 or md5."""

    suffix: str
    algorithm: str


@dataclass(frozen=True, slots=True)
class TermsOfUse:
    """What is known of how the data may be used, in a sentence of ours, and the exchange's own terms."""

    url: str
    summary: str = "Nothing beside the files says how they may be used; the exchange's general terms apply."


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One exchange's archive. ``endpoint_url`` is None on AWS; ``checksum`` is None where none are published.

    ``timezone`` (IANA) is that of the exchange's days: a period, and what is today, follow from it.
    At most ``max_requests`` requests are made of the bucket at a time. Without
    ``server_side_copy`` no store is asked to copy from it. ``canaries`` are symbols whose newest file
    tells, per market, that a period has appeared.
    ``quote_assets`` are the known quote assets of each market, ``pair_suffix`` what may follow
    the pair in a symbol (a delivery date, a settlement mark), ``symbol_forms`` the spellings of each market.
    ``documentation`` is the exchange's own page about its data types, ``caveats`` say by data type what
    whoever reads the files should know.
    """

    name: str
    bucket: str
    region: str
    endpoint_url: str | None = None
    homepage: str
    documentation: str
    terms: TermsOfUse
    checksum: Checksum | None = None
    timezone: str = "UTC"
    max_requests: int = 256
    server_side_copy: bool = True
    publications: Sequence[Publication]
    layouts: Mapping[tuple[str, str, Cadence], Layout]
    canaries: Mapping[str, tuple[str, ...]]
    quote_assets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pair_suffix: re.Pattern[str] | None = None
    symbol_forms: Mapping[str, Sequence[SymbolForm]] = field(default_factory=dict)
    unrecognized_rules: Sequence[UnrecognizedRule] = field(default_factory=tuple)
    caveats: Mapping[str, str] = field(default_factory=dict)

    @property
    def sidecar_suffix(self) -> str:
        """What a sidecar's key ends with; empty where there are none."""
        return self.checksum.suffix if self.checksum else ""

    def today(self, now: datetime) -> date:
        """The exchange's date at a moment (which knows its time zone)."""
        return now.astimezone(ZoneInfo(self.timezone)).date()

    def bounds(self, period: Period) -> tuple[datetime, datetime]:
        """When a period of the exchange's calendar begins and ends, in UTC."""
        zone = ZoneInfo(self.timezone)
        start, end = (datetime.combine(day, time(), zone).astimezone(UTC) for day in (period.start, period.end))
        return start, end

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

    def sidecar_of(self, key: str) -> str | None:
        """The key of the sidecar of an object with this key; None where none is published, or for another key."""
        parsed = self.parse(key)
        if self.checksum is None or isinstance(parsed, UnrecognizedKey) or parsed.is_sidecar:
            return None
        return self.layout(parsed.market, parsed.data_type, parsed.cadence).sidecar_of(key)

    def quote_asset(self, symbol: str, market: str) -> str | None:
        """The quote asset of a symbol: the longest known one of its market that its pair ends with.

        The market decides: ``BNBUSD`` is BNB in USD where only USD is a quote asset, and not BN in BUSD.
        """
        pair = self.pair_suffix.sub("", symbol) if self.pair_suffix else symbol
        quotes = self.quote_assets.get(market, ())
        return max((q for q in quotes if pair.endswith(q) and pair != q), key=len, default=None)

    def parse(self, key: str) -> ParsedKey | UnrecognizedKey:
        """Read any key of the bucket, or say why it is a stray. Never raises."""
        reasons = []
        for publication_id, layout in self.layouts.items():
            if key.startswith(layout.head):
                found = self._parse_within(key, self._publications[publication_id], layout)
                if isinstance(found, ParsedKey):
                    return found
                reasons.append(found)
        # Of several layouts that begin alike, the one that read most of the key knows best.
        known = next((reason for reason in reasons if reason), None) or self._rule_reason(key)
        otherwise = "its name is not of the data set's form" if reasons else "it lies outside every known data set"
        return UnrecognizedKey(key, known or otherwise)

    def _parse_within(self, key: str, publication: Publication, layout: Layout) -> ParsedKey | str:
        """The object, or what is wrong with its key; empty where it is not of the layout's form."""
        match = compiled(layout.pattern).fullmatch(key)
        if match is None:
            return ""
        groups = match.groupdict()
        text = canonical_period(groups["period"])
        groups["month"] = text[:7].replace("-", "")
        for twin in ("symbol", "interval", "month"):
            if groups.get(f"folder_{twin}", groups.get(twin)) != groups.get(twin):
                return f"its folder is of another {twin}"
        interval = groups.get("interval")
        if publication.intervals and interval not in publication.intervals:
            return f"interval {interval} is not published {publication.cadence}"
        try:
            period = Period.parse(text, publication.cadence)
        except InputError:
            return f"{groups['period']} is not a date"
        return ParsedKey(
            market=publication.market,
            data_type=publication.data_type,
            cadence=publication.cadence,
            symbol=groups.get("symbol", ALL_SYMBOLS),
            interval=interval,
            period=period,
            is_sidecar=bool(groups.get("sidecar")),
            part=groups.get("part"),
        )

    def _rule_reason(self, key: str) -> str | None:
        for rule in self.unrecognized_rules:
            if rule.pattern.search(key):
                return rule.reason
        return None
