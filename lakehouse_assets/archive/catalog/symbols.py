"""Parses symbols into facts of the instrument: base, quote, kind of contract, delivery, settlement.

The exchange declares its spelling (``Exchange.symbol_forms`` and its quote assets); ``symbol_tables.py`` has what the
spelling does not reveal. ``instrument`` is the same name on every exchange, in the form of ccxt's unified symbols:
``BTC/USDT`` (spot), ``BTC/USDT:USDT`` (a perpetual settled in USDT), ``BTC/USD:BTC-210326`` (an inverse contract
delivered on 2021-03-26).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

from lakehouse_assets.archive.catalog.symbol_tables import ALIASES, LEVERAGED, PEGS
from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.exchanges.grammar import Exchange
from lakehouse_assets.archive.exchanges.spelling import PAIR, Contract, SymbolForm, form

_FRIDAY = 4
_MONTH_CODES = "FGHJKMNQUVXZ"
"""January to December, as futures exchanges write them: XBTZ25 is delivered in December 2025."""


@dataclass(frozen=True, slots=True)
class SymbolFacts:
    """What the name of a symbol reveals.

    ``base``, ``quote`` and ``instrument`` are None if the symbol ends with no known quote asset. ``delivery`` is a UTC
    date. ``settled``: the symbol carries the exchange's mark of a settled contract. ``asset`` is the base under the
    name that all exchanges share (XBT is BTC).
    """

    contract: Contract
    base: str | None = None
    quote: str | None = None
    asset: str | None = None
    delivery: date | None = None
    settled: bool = False
    leveraged: bool = False
    stable_pair: bool = False
    settle: str | None = None

    @property
    def instrument(self) -> str | None:
        return None if self.asset is None else self.instrument_of(self.asset)

    def instrument_of(self, asset: str) -> str:
        """The instrument's name with ``asset`` as its base."""
        name = f"{asset}/{self.quote}"
        if self.contract in {Contract.INDEX, Contract.OPTION, Contract.CFD}:
            return f"{name}.{self.contract}"
        if self.contract is Contract.SPOT:
            return name
        return f"{name}:{self.settle or asset}" + (f"-{self.delivery:%y%m%d}" if self.delivery else "")


_PLAIN = form(PAIR, Contract.SPOT)


@lru_cache(maxsize=65_536)
def symbol_facts(exchange_name: str, market: str, symbol: str) -> SymbolFacts:
    """Parse a symbol of a market. Accepts any text; an unknown exchange raises InputError."""
    exchange = exchange_named(exchange_name)
    for spelling in exchange.symbol_forms.get(market, ()):
        match = spelling.pattern.fullmatch(symbol)
        if match is None:
            continue
        parts = match.groupdict()
        delivery = _delivery(parts.get("delivery") or "")
        if delivery is not None or spelling.contract is not Contract.DELIVERY:
            return _facts(exchange, market, spelling, parts, delivery)
    return _facts(exchange, market, _PLAIN, {"pair": symbol}, None)


def same_symbol(exchange_name: str, market: str, one: str, other: str) -> bool:
    """Whether two spellings denote the same instrument.

    Case, separators, aliases of an asset (XBT) and marks (``-PERP``, ``_SETTLED``) are ignored.
    """
    if _letters(one) == _letters(other):
        return True
    names = {symbol_facts(exchange_name, market, symbol).instrument for symbol in (one, other)}
    return len(names) == 1 and None not in names


def _letters(symbol: str) -> str:
    return "".join(filter(str.isalnum, symbol)).upper()


def _facts(
    exchange: Exchange, market: str, spelling: SymbolForm, parts: dict[str, str | None], delivery: date | None
) -> SymbolFacts:
    base, quote = _split(exchange, market, parts, spelling.quote)
    settled = bool(parts.get("settled"))
    if base is None or quote is None:
        return SymbolFacts(spelling.contract, delivery=delivery, settled=settled)
    is_spot = spelling.contract is Contract.SPOT
    asset = ALIASES.get(exchange.name, {}).get(base, base)
    # A contract quoted in USD itself is settled in its base asset.
    settle = None if is_spot else spelling.settle or (None if quote == "USD" else quote)
    return SymbolFacts(
        contract=spelling.contract,
        base=base,
        quote=quote,
        asset=asset,
        delivery=delivery,
        settled=settled,
        leveraged=is_spot and base in LEVERAGED.get(exchange.name, ()),
        stable_pair=base in PEGS and PEGS[base] == PEGS.get(quote),
        settle=settle,
    )


def _split(
    exchange: Exchange, market: str, parts: dict[str, str | None], default_quote: str | None
) -> tuple[str | None, str | None]:
    if parts.get("base"):
        return parts["base"], parts.get("quote") or default_quote
    pair = parts.get("pair") or ""
    quote = exchange.quote_asset(pair, market)
    base = pair.removesuffix(quote).rstrip("-_") if quote and pair.endswith(quote) else ""
    return (base, quote) if base else (None, None)


def _delivery(text: str) -> date | None:
    """The date of ``YYMMDD``, ``YYYYMMDD``, ``29DEC23``, or the last Friday of a month code such as ``Z25``."""
    if not text:
        return None
    if len(text) == len("Z25"):
        month = _MONTH_CODES.find(text[0]) + 1
        if not month:
            return None
        after = date(2000 + int(text[1:]) + month // 12, month % 12 + 1, 1)
        return after - timedelta(days=(after.weekday() - _FRIDAY - 1) % 7 + 1)
    form = "%Y%m%d" if len(text) == len("YYYYMMDD") else "%y%m%d" if text.isdigit() else "%d%b%y"
    try:
        return datetime.strptime(text, form).date()  # noqa: DTZ007 - a date, in UTC by its exchange
    except ValueError:
        return None
