"""Gate: spot, perpetual and delivery contracts and tradfi, in folders of months.

Keys are ``{market}/{type}/{YYYYMM}/{SYMBOL}-{YYYYMM[DD[HH]]}.csv.gz``: the folders below a type are months, and a file
name begins with the symbol. The type's folder of candlesticks contains the interval; files of short intervals are
daily, of long ones monthly. Order books have a file per hour, which is a part of the day's period. Order book snapshots
(``orderbooks_slice``) end in ``.gz``. No header, no checksums. Since 2018-01, order books since 2021-07. The exchange
describes types, intervals and paths on its page of historical quotes; its download host is a CDN that answers every
listing with the same thousand keys, so only the bucket answers listings.

Reported as unrecognized: files in the folder of another month (nearly all are copies of files in the right folder, but
the hour 2022-11-30 23:00 of the order books exists only there); months directly below a market; markets that ended
(``futures_usd/``, ``future_usdt/``, ``v2/``) or belong to other companies (``hk/``, ``malta/``); snapshots of all pairs
with the second in their name (``spot_index/``, ``options_ticker/``).

Uncertain: the first month of most datasets (2018-01 is the first of the archive). For tradfi, the page says that all
candlesticks are monthly, but a daily file of 15m was listed, so both are declared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from lakehouse_assets.archive.exchanges.grammar import Exchange, TermsOfUse, UnrecognizedRule
from lakehouse_assets.archive.exchanges.layout import HOURS, SYMBOL, SYMBOL_WITH_DOTS, Layout, Publication
from lakehouse_assets.archive.exchanges.spelling import DATED, PAIR, Contract, form
from lakehouse_assets.archive.period import Cadence

_FIRST = {
    "spot": date(2018, 1, 1),
    "futures_usdt": date(2018, 1, 1),
    "futures_btc": date(2018, 1, 1),
    "delivery_usdt": date(2023, 5, 1),
    "tradfi": date(2024, 1, 1),
}
_CANDLESTICKS = {
    "spot": {Cadence.DAILY: ("30s", "1m", "5m"), Cadence.MONTHLY: ("1h", "4h", "1d", "7d")},
    "futures_usdt": {Cadence.MONTHLY: ("10s", "1m", "5m", "1h", "4h", "1d", "7d")},
    "futures_btc": {Cadence.MONTHLY: ("10s", "1m", "5m", "1h", "4h", "1d", "7d")},
    "tradfi": {Cadence.DAILY: ("10s", "1m", "15m"), Cadence.MONTHLY: ("10s", "1m", "15m", "1h", "4h", "1d")},
}
_FUTURES = ("trades", "mark_prices", "funding_updates", "funding_applies")
_BY_MONTH = {"spot": ("deals",), "futures_usdt": _FUTURES, "futures_btc": _FUTURES, "delivery_usdt": ("trades",)}
_BY_HOUR = {
    "spot": ("orderbooks", "orderbooks_slice"),
    "futures_usdt": ("orderbooks", "orderbooks_slice"),
    "futures_btc": ("orderbooks", "orderbooks_slice"),
    "delivery_usdt": ("orderbooks",),
}
_BOOKS_BEGAN = date(2021, 7, 1)
_PERIOD_FORMAT = {Cadence.DAILY: "%Y%m%d", Cadence.MONTHLY: "%Y%m"}


def _publications() -> Iterator[Publication]:
    for market, first in _FIRST.items():
        for data_type in _BY_MONTH.get(market, ()):
            yield Publication(market, data_type, Cadence.MONTHLY, first)
        for cadence, intervals in _CANDLESTICKS.get(market, {}).items():
            yield Publication(market, "candlesticks", cadence, first, intervals)
        for data_type in _BY_HOUR.get(market, ()):
            yield Publication(market, data_type, Cadence.DAILY, max(first, _BOOKS_BEGAN))


def _layout(publication: Publication) -> Layout:
    market, data_type = publication.market, publication.data_type
    by_hour = data_type in _BY_HOUR.get(market, ())
    folder = f"{market}/{data_type}{'_{interval}' if publication.intervals else ''}/{{month}}"
    suffix = ".gz" if data_type == "orderbooks_slice" else ".csv.gz"
    return Layout(
        f"{folder}/{{symbol}}-{{period}}{'{part}' if by_hour else ''}{suffix}",
        publication.cadence,
        period_format=_PERIOD_FORMAT[publication.cadence],
        symbol=SYMBOL_WITH_DOTS if market == "tradfi" else SYMBOL,
        parts=HOURS if by_hour else (),
    )


_PUBLICATIONS = tuple(_publications())
_BOOKS = "One object an hour; a day is complete with the hours that the exchange lists."

GATE = Exchange(
    name="gate",
    bucket="gateio-public-data",
    region="ap-northeast-1",
    homepage="https://www.gate.com",
    documentation="https://www.gate.com/developer/historical_quotes",
    terms=TermsOfUse(
        "https://www.gate.com/legal/user-agreement",
        "The files come without a licence; the exchange offers them for backtests, and its general terms apply.",
    ),
    max_requests=64,
    publications=_PUBLICATIONS,
    layouts={publication.id: _layout(publication) for publication in _PUBLICATIONS},
    canaries={
        "spot": ("BTC_USDT", "ETH_USDT"),
        "futures_usdt": ("BTC_USDT", "ETH_USDT"),
        "futures_btc": ("BTC_USD",),
        "tradfi": ("XAUUSD",),
    },
    quote_assets={
        "spot": ("BTC", "ETH", "TRY", "USD", "USD1", "USDC", "USDT"),
        "futures_usdt": ("USDT",),
        "futures_btc": ("USD",),
        "delivery_usdt": ("USDT",),
        "tradfi": ("USD",),
    },
    pair_suffix=re.compile(r"_[0-9]{8}\Z"),
    symbol_forms={
        "spot": (form(PAIR, Contract.SPOT),),
        "futures_usdt": (form(PAIR, Contract.PERPETUAL),),
        "futures_btc": (form(PAIR, Contract.PERPETUAL, settle="BTC"),),
        "delivery_usdt": (form(PAIR + DATED, Contract.DELIVERY),),
        "tradfi": (form(PAIR, Contract.CFD),),
    },
    unrecognized_rules=(
        UnrecognizedRule(re.compile(r"/\Z"), "it is a folder marker"),
        UnrecognizedRule(re.compile(r"^(hk|malta)/"), "it is of another company's exchange"),
        UnrecognizedRule(re.compile(r"^(v2|futures_usd|future_usdt|gatepay)/"), "it is of a tree that ended in 2022"),
        UnrecognizedRule(
            re.compile(r"^(spot_index|options_ticker)/"), "it is a snapshot of all pairs, named by its second"
        ),
        UnrecognizedRule(re.compile(r"^[a-z_]+/[0-9]{6}/"), "a month lies where a data type belongs"),
        UnrecognizedRule(re.compile(r"\.csv\Z"), "it is the uncompressed twin of a file"),
    ),
    caveats={
        "trades": "No header. 85 files of futures of 2021-07 contain trades of the spot market instead; some files "
        "are empty.",
        "deals": "No header. Some files are empty.",
        "candlesticks": "No header. Columns are time, volume, close, high, low, open. An interval without a trade "
        "has no row. Monthly files of 7d are published on the 7th.",
        "orderbooks": f"{_BOOKS} Rows are changes of the order book, not snapshots.",
        "orderbooks_slice": f"{_BOOKS} JSON lines, 20 levels per side.",
    },
)
