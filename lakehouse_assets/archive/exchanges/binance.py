"""Binance: https://data.binance.vision, the most complete public archive of an exchange.

Key tree: ``data/{spot|futures/um|futures/cm|option}/{daily|monthly}/{type}/{SYMBOL}/[{interval}/]{file}``, where file
is ``{SYMBOL}-{interval or type}-{date}.zip``, with a SHA-256 sidecar ``.CHECKSUM``. File names of mark, index and
premium index klines do not contain the type; only the path does. Source: github.com/binance/binance-public-data and its
issues.
"""

from __future__ import annotations

import re
from datetime import date

from lakehouse_assets.archive.exchanges.grammar import Checksum, Exchange, TermsOfUse, UnrecognizedRule
from lakehouse_assets.archive.exchanges.layout import Layout, Publication
from lakehouse_assets.archive.exchanges.spelling import DATED, PAIR, Contract, form
from lakehouse_assets.archive.period import Cadence

_ROOTS = {"spot": "data/spot", "um": "data/futures/um", "cm": "data/futures/cm", "option": "data/option"}

_MINUTES_TO_DAY = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")
_LONG = ("3d", "1w", "1mo")
_CHECKSUM = Checksum(".CHECKSUM", "sha256")

_STABLECOINS = (
    "BUSD", "DAI", "FDUSD", "PAX", "TUSD", "U", "USD", "USD1", "USDC", "USDE", "USDP",
    "USDS", "USDT", "UST", "VAI",
)  # fmt: skip
_COINS = ("BNB", "BTC", "DOGE", "DOT", "ETH", "SOL", "TRX", "XRP")
_FIAT = (
    "AEUR", "ARS", "AUD", "BIDR", "BKRW", "BRL", "BVND", "COP", "CZK", "EUR", "EURI", "GBP", "IDRT",
    "JPY", "MXN", "NGN", "PLN", "RON", "RUB", "TRY", "UAH", "ZAR",
)  # fmt: skip
# One table per market: in cm everything is quoted in USD, so that BNBUSD and DOTUSD are never parsed as pairs of BUSD
# and TUSD.
_QUOTE_ASSETS = {
    "spot": (*_STABLECOINS, *_COINS, *_FIAT),
    "um": ("BTC", "BUSD", "ETH", "U", "USD1", "USDC", "USDT"),
    "cm": ("USD",),
    "option": ("USDT",),
}


def _spot() -> list[Publication]:
    # BNBBTC, ETHBTC, LTCBTC and NEOBTC; BTCUSDT begins on 2017-08-17.
    first = date(2017, 7, 14)
    klines = ("1s", *_MINUTES_TO_DAY)
    rows = [
        Publication("spot", "klines", Cadence.DAILY, first, klines),
        Publication("spot", "klines", Cadence.MONTHLY, first, (*klines, *_LONG)),
    ]
    for data_type in ("aggTrades", "trades"):
        rows += [Publication("spot", data_type, cadence, first) for cadence in Cadence]
    return rows


def _futures(market: str) -> list[Publication]:
    daily_first = date(2019, 12, 31) if market == "um" else date(2020, 8, 11)
    monthly_first = date(2020, 1, 1) if market == "um" else date(2020, 8, 1)
    firsts = {Cadence.DAILY: daily_first, Cadence.MONTHLY: monthly_first}
    rows = []
    for data_type in ("klines", "markPriceKlines", "indexPriceKlines", "premiumIndexKlines"):
        rows += [
            Publication(market, data_type, Cadence.DAILY, daily_first, _MINUTES_TO_DAY),
            Publication(market, data_type, Cadence.MONTHLY, monthly_first, (*_MINUTES_TO_DAY, *_LONG)),
        ]
    for data_type in ("aggTrades", "trades"):
        rows += [
            Publication(
                market,
                data_type,
                cadence,
                date(2019, 9, 1) if (market, data_type, cadence) == ("um", "trades", "monthly") else firsts[cadence],
            )
            for cadence in Cadence
        ]
    rows += [
        Publication(market, "fundingRate", Cadence.MONTHLY, monthly_first),
        Publication(market, "metrics", Cadence.DAILY, date(2020, 9, 1)),
        Publication(market, "bookDepth", Cadence.DAILY, date(2023, 1, 1)),
    ]
    book_ended = date(2024, 3, 30) if market == "um" else date(2024, 10, 15)
    book_ended_monthly = date(2024, 4, 1) if market == "um" else date(2024, 10, 1)
    rows += [
        Publication(market, "bookTicker", Cadence.DAILY, date(2023, 5, 16), ended=book_ended),
        Publication(market, "bookTicker", Cadence.MONTHLY, date(2023, 5, 1), ended=book_ended_monthly),
    ]
    if market == "cm":
        rows.append(
            Publication("cm", "liquidationSnapshot", Cadence.DAILY, date(2023, 6, 25), ended=date(2024, 10, 14))
        )
    return rows


def _option() -> list[Publication]:
    return [
        Publication("option", "BVOLIndex", Cadence.DAILY, date(2023, 6, 20)),
        Publication("option", "EOHSummary", Cadence.DAILY, date(2023, 5, 18), ended=date(2023, 10, 23)),
    ]


def _layout(publication: Publication) -> Layout:
    root = f"{_ROOTS[publication.market]}/{publication.cadence}/{publication.data_type}"
    if publication.intervals:
        template = f"{root}/{{symbol}}/{{interval}}/{{symbol}}-{{interval}}-{{period}}.zip"
    else:
        template = f"{root}/{{symbol}}/{{symbol}}-{publication.data_type}-{{period}}.zip"
    return Layout(template, publication.cadence, sidecar_suffix=_CHECKSUM.suffix)


_PUBLICATIONS = (*_spot(), *_futures("um"), *_futures("cm"), *_option())

# CVCUSDTSETTLED, ICPUSDT_SETTLED1, BTCUSD_PERP_SETTLED2
_SETTLED = r"(?P<settled>_?SETTLED[0-9]*)?"
_SYMBOL_FORMS = {
    "spot": (form(PAIR, Contract.SPOT),),
    "um": (
        form(PAIR + DATED + _SETTLED, Contract.DELIVERY),
        form(PAIR + _SETTLED, Contract.PERPETUAL),
    ),
    "cm": (
        form(f"{PAIR}_PERP{_SETTLED}", Contract.PERPETUAL),
        form(PAIR + DATED + _SETTLED, Contract.DELIVERY),
        form(PAIR, Contract.INDEX),
    ),
    "option": (
        form("(?P<base>.+BVOL)(?P<quote>USDT)", Contract.INDEX),
        form(PAIR, Contract.OPTION),
    ),
}

_UNRECOGNIZED_RULES = (
    UnrecognizedRule(re.compile(r"^/"), "it begins with a slash: the frozen duplicate tree of 2021"),
    UnrecognizedRule(re.compile(r"^data2/"), "data2/ is the exchange's staging tree of 2020"),
    UnrecognizedRule(re.compile(r"^data3/"), "data3/ is an unannounced tree (um liquidation snapshots)"),
    UnrecognizedRule(re.compile(r"(^|/)part-[0-9]+-[^/]*\Z"), "it is a Spark part file"),
    UnrecognizedRule(
        re.compile(r"-[0-9]{4}-([0-9]-[0-9]{1,2}|[0-9]{2}-[0-9]|[0-9])\.zip(\.CHECKSUM)?\Z"),
        "its date is not zero-padded",
    ),
    UnrecognizedRule(re.compile(r"/\Z"), "it is a folder marker"),
    UnrecognizedRule(re.compile(r"(^|/)\.DS_Store\Z"), "it is a file manager's leftover"),
    UnrecognizedRule(
        re.compile(r"^(?!data/)"), "it is no archive file (web assets of the listing site)", last_resort=True
    ),
)

BINANCE = Exchange(
    name="binance",
    bucket="data.binance.vision",
    region="ap-northeast-1",
    homepage="https://data.binance.vision",
    documentation="https://github.com/binance/binance-public-data",
    terms=TermsOfUse("https://www.binance.com/en/terms"),
    checksum=_CHECKSUM,
    publications=_PUBLICATIONS,
    layouts={publication.id: _layout(publication) for publication in _PUBLICATIONS},
    canaries={
        "spot": ("BTCUSDT", "ETHUSDT", "BNBUSDT"),
        "um": ("BTCUSDT", "ETHUSDT", "BNBUSDT"),
        "cm": ("BTCUSD_PERP", "ETHUSD_PERP", "BNBUSD_PERP", "BTCUSD", "ETHUSD"),
        "option": ("BTCBVOLUSDT", "ETHBVOLUSDT", "BTCUSDT"),
    },
    quote_assets=_QUOTE_ASSETS,
    pair_suffix=re.compile(r"(?:SETTLED[0-9]*|_.*)\Z"),
    symbol_forms=_SYMBOL_FORMS,
    unrecognized_rules=_UNRECOGNIZED_RULES,
    caveats={
        "bookTicker": "The monthly file of 2024-04 contains only 7 hours of BTCUSDT, although its checksum matches.",
        "metrics": "Half days and blank rows are common.",
    },
)
