"""Bybit: trades of all contracts and of the spot market, one file per symbol and day.

Trees of the bucket: ``trading/`` (contracts; no separator between symbol and date), ``spot/`` (months as
``SYMBOL-YYYY-MM``, days as ``SYMBOL_YYYY-MM-DD``, in one folder), and ``premium_index/`` and ``spot_index/``, which are
no longer published. No checksums. The advertised https://public.bybit.com is a CDN that shows an HTML index, ignores
queries and bans clients above about 40 requests per second; only the bucket answers listings.

Not collected, and reported as unrecognized: ``kline_for_metatrader4/`` (its days are in UTC+3, unlike all others in the
bucket, and its file names contain the first and last day of a month); ``trade/option/`` and ``mark_kline/option/``
(unannounced); files of ``trading/`` whose folder was renamed, such as
``trading/DATAOLD01USDT/DATAUSDT2024-08-23.csv.gz``. Order books are on an HTTP server, not in an S3 bucket.

Uncertain: when the index trees ended. BTCUSD ends in March 2020, but public code has downloaded ADAUSD of 2022-03-24.
"""

from __future__ import annotations

import re
from datetime import date

from lakehouse_assets.archive.exchanges.grammar import Exchange, TermsOfUse, UnrecognizedRule
from lakehouse_assets.archive.exchanges.layout import SYMBOL_WITH_DASHES, Layout, Publication
from lakehouse_assets.archive.exchanges.spelling import DATED, DOLLARS, PAIR, QUARTER, Contract, form
from lakehouse_assets.archive.period import Cadence

_CONTRACTS_BEGAN = date(2019, 10, 1)
_SPOT_BEGAN = date(2022, 11, 1)
_INDEX_ENDED = date(2022, 3, 24)

_TEMPLATES = {
    Publication("derivatives", "trades", Cadence.DAILY, _CONTRACTS_BEGAN): "trading/{symbol}/{symbol}{period}.csv.gz",
    Publication("spot", "trades", Cadence.DAILY, _SPOT_BEGAN): "spot/{symbol}/{symbol}_{period}.csv.gz",
    Publication("spot", "trades", Cadence.MONTHLY, _SPOT_BEGAN): "spot/{symbol}/{symbol}-{period}.csv.gz",
    Publication("derivatives", "premium_index", Cadence.DAILY, _CONTRACTS_BEGAN, ended=_INDEX_ENDED): (
        "premium_index/{symbol}/{symbol}{period}_premium_index.csv.gz"
    ),
    Publication("derivatives", "spot_index", Cadence.DAILY, _CONTRACTS_BEGAN, ended=_INDEX_ENDED): (
        "spot_index/{symbol}/{symbol}{period}_index_price.csv.gz"
    ),
}
_SPOT_QUOTES = (
    "BRL", "BRZ", "BTC", "DAI", "ETH", "EUR", "MNT", "PLN", "SOL", "TRY", "USD1", "USDC", "USDE", "USDT",
)  # fmt: skip

_SYMBOL_FORMS = {
    "derivatives": (
        # BTCUSDT-29DEC23; BTC-29DEC23 and BTCPERP are quoted in USDC; BTCUSDH23
        form(f"(?P<base>[^-]+){DOLLARS}{DATED}", Contract.DELIVERY),
        form(f"(?P<base>[^-]+){DATED}", Contract.DELIVERY, quote="USDC"),
        form(f"(?P<base>.+?){DOLLARS}{QUARTER}", Contract.DELIVERY),
        form("(?P<base>.+)PERP", Contract.PERPETUAL, quote="USDC"),
        form(PAIR, Contract.PERPETUAL),
    ),
    "spot": (form(PAIR, Contract.SPOT),),
}

BYBIT = Exchange(
    name="bybit",
    bucket="public.bybit.com",
    region="ap-southeast-1",
    homepage="https://public.bybit.com",
    documentation="https://www.bybit.com/derivatives/en/history-data",
    terms=TermsOfUse("https://www.bybit.com/en/terms-service"),
    max_requests=64,
    publications=tuple(_TEMPLATES),
    layouts={
        publication.id: Layout(template, publication.cadence, symbol=SYMBOL_WITH_DASHES)
        for publication, template in _TEMPLATES.items()
    },
    canaries={"derivatives": ("BTCUSDT", "ETHUSDT", "BTCUSD"), "spot": ("BTCUSDT", "ETHUSDT")},
    quote_assets={"derivatives": ("USD", "USDC", "USDT"), "spot": _SPOT_QUOTES},
    # A delivery date (BTC-29DEC23, BTCUSDH23); no spot symbol ends like that.
    pair_suffix=re.compile(r"(?:-.*|[HMUZ][0-9]{2})\Z"),
    symbol_forms=_SYMBOL_FORMS,
    unrecognized_rules=(
        UnrecognizedRule(
            re.compile(r"^kline_for_metatrader4/"), "its days are those of UTC+3 (candles for MetaTrader)"
        ),
        UnrecognizedRule(re.compile(r"^(trade|mark_kline)/option/"), "it is of an unannounced tree of options"),
        UnrecognizedRule(re.compile(r"(^|/)index\.html\Z"), "it is an index page"),
        UnrecognizedRule(re.compile(r"/\Z"), "it is a folder marker"),
    ),
    caveats={
        "trades": "Some files start with the newest trade; columns were added over the years.",
        "premium_index": "No longer published; few symbols.",
        "spot_index": "No longer published; few symbols.",
    },
)
