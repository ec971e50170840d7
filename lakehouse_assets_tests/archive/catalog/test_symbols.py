"""Symbols: facts from the name on every exchange, and facts from tables."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.archive.catalog.symbol_tables import LEVERAGED, PEGS, REUSED_TICKERS
from lakehouse_assets.archive.catalog.symbols import symbol_facts
from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.exchanges.binance import BINANCE
from lakehouse_assets.archive.exchanges.grammar import ParsedKey
from lakehouse_assets.archive.exchanges.layout import ALL_SYMBOLS, SymbolLocation


@pytest.mark.parametrize(
    ("market", "symbol", "expected"),
    [
        ("spot", "BTCUSDT", ("spot", "BTC", "USDT", "BTC/USDT")),
        ("spot", "BTCUSD1", ("spot", "BTC", "USD1", "BTC/USD1")),
        ("spot", "BTCU", ("spot", "BTC", "U", "BTC/U")),
        ("spot", "BCCBTC", ("spot", "BCC", "BTC", "BCH/BTC")),
        ("spot", "币安人生USDT", ("spot", "币安人生", "USDT", "币安人生/USDT")),
        ("spot", "这是测试币456", ("spot", None, None, None)),
        ("spot", "BTCUSDSOLD", ("spot", None, None, None)),
        ("spot", "USDT", ("spot", None, None, None)),
        ("um", "1000SHIBUSDT", ("perpetual", "1000SHIB", "USDT", "1000SHIB/USDT:USDT")),
        ("um", "BTCUSDT_210326", ("delivery", "BTC", "USDT", "BTC/USDT:USDT-210326")),
        ("um", "BTCUSDT_219999", ("perpetual", None, None, None)),
        ("um", "CVCUSDTSETTLED", ("perpetual", "CVC", "USDT", "CVC/USDT:USDT")),
        ("um", "ICPUSDT_SETTLED1", ("perpetual", "ICP", "USDT", "ICP/USDT:USDT")),
        ("cm", "BTCUSD_PERP", ("perpetual", "BTC", "USD", "BTC/USD:BTC")),
        ("cm", "BNBUSD_PERP", ("perpetual", "BNB", "USD", "BNB/USD:BNB")),
        ("cm", "BTCUSD_PERP_SETTLED2", ("perpetual", "BTC", "USD", "BTC/USD:BTC")),
        ("cm", "BTCUSD_210326", ("delivery", "BTC", "USD", "BTC/USD:BTC-210326")),
        ("cm", "BTCUSD", ("index", "BTC", "USD", "BTC/USD.index")),
        ("option", "BTCBVOLUSDT", ("index", "BTCBVOL", "USDT", "BTCBVOL/USDT.index")),
        ("option", "BTCUSDT", ("option", "BTC", "USDT", "BTC/USDT.option")),
    ],
)
def test_a_symbol_of_binance_is_parsed_into_its_facts(
    market: str, symbol: str, expected: tuple[str, str | None, str | None, str | None]
) -> None:
    facts = symbol_facts("binance", market, symbol)
    assert (facts.contract, facts.base, facts.quote, facts.instrument) == expected


@pytest.mark.parametrize(
    ("instrument", "places"),
    [
        ("BTC/USDT", ["binance/spot/BTCUSDT", "gate/spot/BTC_USDT", "htx/spot/BTC-USDT", "kucoin/spot/BTC-USDT"]),
        (
            "BTC/USDT:USDT",
            [
                "binance/um/BTCUSDT",
                "bybit/derivatives/BTCUSDT",
                "gate/futures_usdt/BTC_USDT",
                "htx/futures/BTC-USDT-PERP",
                "kucoin/futures/XBTUSDTM",
            ],
        ),
        ("BTC/USD:BTC", ["binance/cm/BTCUSD_PERP", "bybit/derivatives/BTCUSD", "kucoin/futures/XBTUSDM"]),
        (
            "BTC/USD:BTC-250926",
            ["binance/cm/BTCUSD_250926", "bybit/derivatives/BTCUSDU25", "kucoin/futures/XBTMU25"],
        ),
        ("BTC/USDT:USDT-250926", ["binance/um/BTCUSDT_250926", "gate/delivery_usdt/BTC_USDT_20250926"]),
        ("BTC/USDC:USDC-231229", ["bybit/derivatives/BTC-29DEC23"]),
        ("ETH/USD:BTC", ["gate/futures_btc/ETH_USD"]),
        ("XAU/USD.cfd", ["gate/tradfi/XAUUSD"]),
    ],
)
def test_one_instrument_has_one_name_on_every_exchange(instrument: str, places: list[str]) -> None:
    named = {place: symbol_facts(*place.split("/")).instrument for place in places}
    assert named == dict.fromkeys(places, instrument)


@pytest.mark.parametrize(
    ("symbol", "delivery"),
    [
        ("BTCUSDH23", date(2023, 3, 31)),
        ("BTCUSDZ22", date(2022, 12, 30)),
        ("BTCUSDM24", date(2024, 6, 28)),
        ("BTCUSDT-3JAN25", date(2025, 1, 3)),
    ],
)
def test_a_month_code_means_its_last_friday(symbol: str, delivery: date) -> None:
    assert symbol_facts("bybit", "derivatives", symbol).delivery == delivery


@pytest.mark.parametrize("symbol", ["CVCUSDTSETTLED", "AERGOUSDTSETTLED", "ICPUSDT_SETTLED", "BTCUSDT_210326_SETTLED"])
def test_the_settlement_mark_is_parsed(symbol: str) -> None:
    assert symbol_facts("binance", "um", symbol).settled
    assert not symbol_facts("binance", "um", symbol.partition("SETTLED")[0].rstrip("_")).settled


# Tables


@pytest.mark.parametrize(
    "symbol",
    ["BTCUPUSDT", "ETHDOWNUSDT", "XRPUPUSDT", "1INCHUPUSDT", "BULLUSDT", "BEARBUSD", "ETHBULLUSDT", "BNBBEARBUSD"],
)
def test_leveraged_tokens_are_known(symbol: str) -> None:
    assert symbol_facts("binance", "spot", symbol).leveraged


@pytest.mark.parametrize(
    "symbol", ["JUPUSDT", "SYRUPUSDT", "BULLAUSDT", "UPUSDT", "SUPERUSDT", "BTCUSDT", "CHECKUPUSDT"]
)
def test_coins_with_the_same_ending_are_not_leveraged(symbol: str) -> None:
    assert not symbol_facts("binance", "spot", symbol).leveraged


def test_leveraged_tokens_depend_on_the_exchange_and_exist_on_spot_only() -> None:
    assert symbol_facts("bybit", "spot", "BTC3LUSDT").leveraged
    assert symbol_facts("gate", "spot", "BTC5S_USDT").leveraged
    assert not symbol_facts("binance", "spot", "BTC3LUSDT").leveraged
    assert not symbol_facts("binance", "um", "BTCUPUSDT").leveraged


@pytest.mark.parametrize(
    ("symbol", "is_stable"),
    [
        ("USDCUSDT", True),
        ("USD1USDT", True),
        ("BUSDUSDT", True),
        ("EURIEUR", True),
        ("BTCUSDT", False),
        ("EURUSDT", False),
        ("PAXGUSDT", False),
        ("USDTTRY", False),
    ],
)
def test_a_stable_pair_has_one_currency_on_both_sides(symbol: str, is_stable: bool) -> None:
    assert symbol_facts("binance", "spot", symbol).stable_pair is is_stable


def test_the_tables_name_exchanges_and_markets_that_are_known() -> None:
    assert set(LEVERAGED) <= set(EXCHANGES)
    assert all(market in EXCHANGES[exchange].markets for exchange, market, _ in REUSED_TICKERS)
    assert all(
        former.until and later.since and former.until < later.since
        for tenures in REUSED_TICKERS.values()
        for former, later in pairwise(tenures)
    )
    assert all(not tokens & set(PEGS) for tokens in LEVERAGED.values())


# Any input


@given(st.sampled_from([(e.name, market) for e in EXCHANGES.values() for market in e.markets]), st.text())
def test_any_text_is_parsed_and_parts_come_from_the_text(place: tuple[str, str], symbol: str) -> None:
    facts = symbol_facts(*place, symbol)
    assert (facts.base is None) == (facts.quote is None) == (facts.instrument is None)
    if facts.base is not None:
        assert facts.base
        assert facts.base in symbol


def test_every_market_has_forms_that_parse_its_canaries() -> None:
    for exchange in EXCHANGES.values():
        places = {(p.market, exchange.layouts[p.id].symbol_location) for p in exchange.publications}
        assert {market for market, place in places if place is not SymbolLocation.NOWHERE} == set(exchange.symbol_forms)
        for market, canaries in exchange.canaries.items():
            for symbol in canaries:
                if symbol != ALL_SYMBOLS:
                    facts = symbol_facts(exchange.name, market, symbol)
                    assert facts.asset in {"BTC", "ETH", "BNB", "XAU", "BTCBVOL", "ETHBVOL"}, (exchange.name, symbol)


def test_every_real_symbol_has_a_distinct_instrument(listed_keys: tuple[str, tuple[str, ...]]) -> None:
    parsed = {BINANCE.parse(key) for key in listed_keys[1]}
    symbols = {key.symbol for key in parsed if isinstance(key, ParsedKey)}
    facts = {symbol: symbol_facts("binance", "um", symbol) for symbol in symbols}
    assert {symbol for symbol, fact in facts.items() if fact.instrument is None} == set()
    assert {fact.quote for fact in facts.values()} == {"USDT"}
    traded = [fact.instrument for fact in facts.values() if not fact.settled]
    assert len(set(traded)) == len(traded)
    assert not any(fact.leveraged for fact in facts.values())
