"""The declaration of an exchange's archive: its bucket, its publications, and the grammar of its keys.

An :class:`Exchange` has facts of its bucket, a table of publications, and for each publication a :class:`Layout`
(``layout.py``). The layout's regular expression parses single keys (:meth:`Exchange.parse`) and complete listings
(``archive/listing.py``), so the two can never disagree.
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
    Layout,
    Publication,
    canonical_period,
    compiled,
)
from lakehouse_assets.archive.exchanges.spelling import SymbolForm
from lakehouse_assets.archive.period import Cadence, Period, month_of
from lakehouse_assets.errors import InputError


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """The fields of an archive object's key."""

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
    """A key that is not an archive object of a known publication, and the reason."""

    key: str
    reason: str


@dataclass(frozen=True)
class UnrecognizedRule:
    """Keys that match ``pattern`` are unrecognized for ``reason``.

    The lake's catalogs contain the reasons and are compared by them, so a reason's text must not change. A rule of
    ``last_resort`` guesses the reason for a key; its folder may still contain a new dataset.
    """

    pattern: re.Pattern[str]
    reason: str
    last_resort: bool = False


@dataclass(frozen=True, slots=True)
class Checksum:
    """The sidecar of each object: its key ends with ``suffix`` (see Layout), ``algorithm`` is sha256 or md5."""

    suffix: str
    algorithm: str


@dataclass(frozen=True, slots=True)
class TermsOfUse:
    """The exchange's own terms of use for the data, and a summary in one sentence."""

    url: str
    summary: str = "The files come without a licence; the exchange's general terms apply."


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One exchange's archive. ``endpoint_url`` is None on AWS; ``checksum`` is None if no checksums are published.

    ``timezone`` (IANA) defines the exchange's days, and so its periods and the current date. The bucket gets at most
    ``max_requests`` concurrent requests. Without ``server_side_copy``, objects are never copied by the store itself.
    ``canaries`` are symbols, per market, whose newest file shows that a period was published. ``quote_assets`` are the
    known quote assets of each market, ``pair_suffix`` is what may follow the pair in a symbol (a delivery date, a
    settlement mark), ``symbol_forms`` are the spellings of each market. ``documentation`` is the exchange's own page
    about its data types, ``caveats`` are known peculiarities of the files by data type.
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
        """The end of a sidecar's key; empty if there are no sidecars."""
        return self.checksum.suffix if self.checksum else ""

    def today(self, now: datetime) -> date:
        """The exchange's date at a time (which must have a time zone)."""
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
        """The publication. Raises an InputError that lists the existing ones."""
        publication = self._publications.get((market, data_type, cadence))
        if publication is not None:
            return publication
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
        """The key of an object's sidecar; None if the exchange publishes none, or if the key is not an object's."""
        parsed = self.parse(key)
        if self.checksum is None or isinstance(parsed, UnrecognizedKey) or parsed.is_sidecar:
            return None
        return self.layout(parsed.market, parsed.data_type, parsed.cadence).sidecar_of(key)

    def quote_asset(self, symbol: str, market: str) -> str | None:
        """The quote asset of a symbol: the longest known quote asset of its market with which the pair ends.

        It depends on the market: if only USD is a quote asset, ``BNBUSD`` is BNB in USD, not BN in BUSD.
        """
        pair = self.pair_suffix.sub("", symbol) if self.pair_suffix else symbol
        quotes = self.quote_assets.get(market, ())
        return max((q for q in quotes if pair.endswith(q) and pair != q), key=len, default=None)

    def parse(self, key: str) -> ParsedKey | UnrecognizedKey:
        """Parse any key of the bucket, or return why it is unrecognized. Never raises."""
        reasons = []
        for publication_id, layout in self.layouts.items():
            if key.startswith(layout.head):
                parsed = self._parse_within(key, self._publications[publication_id], layout)
                if isinstance(parsed, ParsedKey):
                    return parsed
                reasons.append(parsed)
        # Several layouts may have the same beginning; the first specific reason is the best one.
        known = next((reason for reason in reasons if reason), None) or self._rule_reason(key)
        otherwise = "its name is not of the data set's form" if reasons else "it lies outside every known data set"
        return UnrecognizedKey(key, known or otherwise)

    def _parse_within(self, key: str, publication: Publication, layout: Layout) -> ParsedKey | str:
        """The object, or the problem of its key; empty if the key does not match the layout."""
        match = compiled(layout.pattern).fullmatch(key)
        if match is None:
            return ""
        groups = match.groupdict()
        text = canonical_period(groups["period"])
        groups["month"] = month_of(text).replace("-", "")
        for field_name in ("symbol", "interval", "month"):
            if groups.get(f"folder_{field_name}", groups.get(field_name)) != groups.get(field_name):
                return f"its folder is of another {field_name}"
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
