"""How an exchange spells its symbols: declared per market, parsed by ``archive/catalog/symbols.py``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Contract(StrEnum):
    """The kind of instrument. ``option`` may be all options of an underlying, ``index`` is not traded, ``cfd`` is a
    contract on something that is traded elsewhere (metals, shares)."""

    SPOT = "spot"
    PERPETUAL = "perpetual"
    DELIVERY = "delivery"
    OPTION = "option"
    INDEX = "index"
    CFD = "cfd"


@dataclass(frozen=True, slots=True)
class SymbolForm:
    """One spelling. The first form of a market whose ``pattern`` matches the whole symbol applies.

    Groups: ``pair`` (split by the market's quote assets) or ``base`` and ``quote``; ``delivery`` (``YYMMDD``,
    ``YYYYMMDD``, ``29DEC23``, or a month code such as ``Z25``); ``settled``, the mark of a settled contract. The
    ``quote`` of the form applies if the symbol has none. ``settle`` is the settlement asset of every contract of the
    form; None means the quote asset, or the base if the quote is USD.
    """

    pattern: re.Pattern[str]
    contract: Contract
    quote: str | None = None
    settle: str | None = None


PAIR = r"(?P<pair>.+?)"
DOLLARS = r"(?P<quote>USDT|USDC|USD)"
DATED = r"[_-](?P<delivery>[0-9]{8}|[0-9]{6}|[0-9]{1,2}[A-Z]{3}[0-9]{2})"
QUARTER = r"(?P<delivery>[HMUZ][0-9]{2})"


def form(pattern: str, contract: Contract, *, quote: str | None = None, settle: str | None = None) -> SymbolForm:
    return SymbolForm(re.compile(pattern, re.DOTALL), contract, quote, settle)
