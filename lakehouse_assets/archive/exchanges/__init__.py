"""The supported exchanges, by name."""

from __future__ import annotations

from lakehouse_assets.archive.exchanges.binance import BINANCE
from lakehouse_assets.archive.exchanges.bitmex import BITMEX
from lakehouse_assets.archive.exchanges.bybit import BYBIT
from lakehouse_assets.archive.exchanges.gate import GATE
from lakehouse_assets.archive.exchanges.grammar import Exchange
from lakehouse_assets.archive.exchanges.htx import HTX
from lakehouse_assets.archive.exchanges.kucoin import KUCOIN
from lakehouse_assets.errors import InputError

EXCHANGES: dict[str, Exchange] = {exchange.name: exchange for exchange in (BINANCE, BYBIT, GATE, BITMEX, HTX, KUCOIN)}


def exchange_named(name: str) -> Exchange:
    """The exchange. Raises an InputError that lists the supported ones."""
    try:
        return EXCHANGES[name]
    except KeyError:
        raise InputError(f"Unknown exchange {name!r}; choose from {', '.join(EXCHANGES)}.") from None
