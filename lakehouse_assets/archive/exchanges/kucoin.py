"""KuCoin: spot and futures, one file per symbol and day, with an MD5 sidecar.

Keys are ``data/{spot|futures}/daily/{type}/{SYMBOL}/[{interval}/]{file}`` where file is
``{SYMBOL}-{interval or type}-{date}.zip``; order books are in ``depth/orderbooklv50/``. Each file has a ``.CHECKSUM``
sidecar with its MD5. Symbols have no dash (``BTCUSDT``, ``XBTUSDTM``), except those of spot order books (``0G-USDT``).

Unverified: access to the bucket itself. The archive is served at https://historical-data.kucoin.com, a CDN that answers
S3 listings only with ``max-keys``, with unencoded slashes in the prefix (which no S3 client sends), and without the
bucket in the path (where path-style clients put it). So requests go to the bucket that the CDN's listings name, in its
region, by the S3 protocol. If the bucket refuses anonymous requests, a listing fails with AccessDenied, and this
exchange cannot be mirrored. Server-side copies are not tried: objects are relayed.

Uncertain: the intervals (those of the exchange's REST interface), and the first days.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from lakehouse_assets.archive.exchanges.grammar import Checksum, Exchange, TermsOfUse, UnrecognizedRule
from lakehouse_assets.archive.exchanges.layout import SYMBOL_WITH_DASHES, Layout, Publication
from lakehouse_assets.archive.exchanges.spelling import DOLLARS, PAIR, QUARTER, Contract, form
from lakehouse_assets.archive.period import Cadence

_CHECKSUM = Checksum(".CHECKSUM", "md5")
_FIRST = date(2022, 12, 1)
_BOOKS_FIRST = date(2025, 1, 1)
_INTERVALS = {
    "spot": ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d"),
    "futures": ("1m", "5m", "15m", "30m", "1h", "2h", "4h", "8h", "12h", "1d"),
}
_SPOT_QUOTES = (
    "BRL", "BTC", "DAI", "DOGE", "ETH", "EUR", "GBP", "KCS", "THB", "TRX", "TRY", "TUSD", "USD1", "USDC", "USDG",
    "USDT",
)  # fmt: skip
_KLINES = {"spot": ("klines",), "futures": ("klines", "index", "mark")}
_BY_DAY = {"spot": ("trades",), "futures": ("trades", "fundingRates")}


def _templates() -> Iterator[tuple[Publication, str]]:
    for market, intervals in _INTERVALS.items():
        root = f"data/{market}/daily"
        for data_type in _BY_DAY[market]:
            yield (
                Publication(market, data_type, Cadence.DAILY, _FIRST),
                f"{root}/{data_type}/{{symbol}}/{{symbol}}-{data_type}-{{period}}.zip",
            )
        for data_type in _KLINES[market]:
            yield (
                Publication(market, data_type, Cadence.DAILY, _FIRST, intervals),
                f"{root}/{data_type}/{{symbol}}/{{interval}}/{{symbol}}-{{interval}}-{{period}}.zip",
            )
        yield (
            Publication(market, "depth", Cadence.DAILY, _BOOKS_FIRST),
            f"{root}/depth/orderbooklv50/{{symbol}}/{{symbol}}-orderbooklv50-{{period}}.zip",
        )


_TEMPLATES = dict(_templates())

KUCOIN = Exchange(
    name="kucoin",
    bucket="k-line-history-data",
    region="ap-northeast-1",
    homepage="https://historical-data.kucoin.com",
    documentation="https://historical-data.kucoin.com",
    terms=TermsOfUse("https://www.kucoin.com/legal/terms-of-use"),
    checksum=_CHECKSUM,
    # Another tool reports that many concurrent connections are left unanswered.
    max_requests=16,
    server_side_copy=False,
    publications=tuple(_TEMPLATES),
    layouts={
        publication.id: Layout(
            template, publication.cadence, symbol=SYMBOL_WITH_DASHES, sidecar_suffix=_CHECKSUM.suffix
        )
        for publication, template in _TEMPLATES.items()
    },
    canaries={"spot": ("BTCUSDT", "ETHUSDT", "BTC-USDT"), "futures": ("XBTUSDTM", "BTCUSDTM", "ETHUSDTM")},
    quote_assets={"spot": _SPOT_QUOTES, "futures": ("USD", "USDC", "USDT")},
    # Contracts end in M, dated ones in M, the month's letter and the year (XBTMU26).
    pair_suffix=re.compile(r"M(?:[HMUZ][0-9]{2})?\Z"),
    symbol_forms={
        "spot": (form(PAIR, Contract.SPOT),),
        "futures": (
            form(f"(?P<base>.+?){DOLLARS}?M{QUARTER}", Contract.DELIVERY, quote="USD"),
            form(f"(?P<base>.+?){DOLLARS}M", Contract.PERPETUAL),
        ),
    },
    unrecognized_rules=(
        UnrecognizedRule(re.compile(r"/\Z"), "it is a folder marker"),
        UnrecognizedRule(
            re.compile(r"^(?!data/)"), "it is no archive file (web assets of the listing site)", last_resort=True
        ),
    ),
    caveats={
        "klines": "Columns of spot are time, open, close, high, low; of futures time, open, high, low, close. "
        "Files of futures 1d are published broken: six column names, five values.",
        "depth": "JSON lines, 50 levels per side, 20 to 45 MB per symbol and day.",
    },
)
