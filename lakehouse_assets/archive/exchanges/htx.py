"""HTX: two trees in one bucket, with days in UTC+8.

The announced tree, since 2026-02-01: ``historical_data/{spot|futures}/daily/{type}/{SYMBOL}/[{interval}/]{file}``. Its
"old version", which the exchange still links and which ended on 2026-08-04:
``data/{type}/{market}/daily/{SYMBOL}/[{interval}/]{file}``. Both contain the days in between, with different columns
and spellings (``BTC-USDT`` and ``BTCUSDT``, ``1h`` and ``60min``), so a day of one tree cannot replace a day of the
other. Hence the markets of the old tree are separate, with the prefix ``old_``. Data types and markets have underscores
instead of the folders' dashes, since they name assets and tables.

In both trees, a file's day begins at 16:00 UTC of the day before. Files have a SHA-256 sidecar: in the old tree with
``.CHECKSUM`` instead of ``.zip``, as the scripts of the exchange's own repository
(github.com/hbdmapi/huobi_public_data) download it; in the new tree with ``.CHECKSUM`` after ``.zip``, as public code
reads it. Files without a sidecar are accepted. The advertised www.htx.com/data/ is a CDN that refuses requests after a
few listings.

Uncertain: the old tree's first days (2018-11-09 is the first of futures trades, 2020-06-01 of spot), the file names of
its option klines, whether it has intervals beyond the seven, and the names of its order book sidecars.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from lakehouse_assets.archive.exchanges.grammar import Checksum, Exchange, TermsOfUse, UnrecognizedRule
from lakehouse_assets.archive.exchanges.layout import INTERVAL, SYMBOL_WITH_DASHES, Layout, Publication
from lakehouse_assets.archive.exchanges.spelling import DATED, PAIR, Contract, form
from lakehouse_assets.archive.period import Cadence

_CHECKSUM = Checksum(".CHECKSUM", "sha256")
_BEGAN = date(2026, 2, 1)
_BOOKS_BEGAN = date(2026, 5, 28)
_ENDED = date(2026, 8, 4)
_OPTIONS_ENDED = date(2021, 6, 25)

_INTERVALS = ("1m", "5m", "15m", "30m", "1h", "4h", "1d")
_OLD_INTERVALS = ("1min", "5min", "15min", "30min", "60min", "4hour", "1day")
_OLD_INTERVAL = r"[0-9]+(?:min|hour|day|week|mon|year)"

_SPOT_QUOTES = (
    "BRL", "BTC", "ETH", "EUR", "EUROC", "GBP", "HT", "HUSD", "RUB", "TRX", "TRY", "TUSD", "UAH", "USD", "USD1",
    "USDC", "USDD", "USDT",
)  # fmt: skip

# Market: the old tree's folder, its first day, its last day.
_OLD_MARKETS = {
    "old_spot": ("spot", date(2020, 6, 1), _ENDED),
    "old_future": ("future", date(2018, 11, 9), _ENDED),
    "old_swap": ("swap", date(2018, 11, 9), _ENDED),
    "old_linear_swap": ("linear-swap", date(2018, 11, 9), _ENDED),
    "old_option": ("option", date(2018, 11, 9), _OPTIONS_ENDED),
}


def _new_tree() -> Iterator[tuple[Publication, str]]:
    """The publications of ``historical_data/`` with the templates of their keys."""
    books = {"spot": 400, "futures": 150}
    klines = {"klines": ("klines", "klines")}
    index = {"index_klines": ("index-klines", "index-klines"), "mark_klines": ("mark-klines", "mark-price-klines")}
    for market, levels in books.items():
        root = f"historical_data/{market}/daily"
        yield (
            Publication(market, "trades", Cadence.DAILY, _BEGAN),
            f"{root}/trades/{{symbol}}/{{symbol}}-trades-{{period}}.zip",
        )
        for data_type, (folder, name) in (klines | (index if market == "futures" else {})).items():
            yield (
                Publication(market, data_type, Cadence.DAILY, _BEGAN, _INTERVALS),
                f"{root}/{folder}/{{symbol}}/{{interval}}/{{symbol}}-{name}-{{interval}}-{{period}}.zip",
            )
        yield (
            Publication(market, "orderbook", Cadence.DAILY, _BOOKS_BEGAN),
            f"{root}/orderbook/lv{levels}/{{symbol}}/{{symbol}}-l2orderbook-{levels}lv-{{period}}.tar.gz",
        )
    yield (
        Publication("futures", "funding_rates", Cadence.DAILY, _BEGAN),
        "historical_data/futures/daily/funding-rates/{symbol}/{symbol}-fundingRates-{period}.zip",
    )


def _old_tree() -> Iterator[tuple[Publication, str]]:
    """The publications of ``data/`` with the templates of their keys."""
    for market, (folder, first, ended) in _OLD_MARKETS.items():
        yield (
            Publication(market, "trades", Cadence.DAILY, first, ended=ended),
            f"data/trades/{folder}/daily/{{symbol}}/{{symbol}}-trades-{{period}}.zip",
        )
        priced = {} if market == "old_spot" else {"index_klines": "index-klines", "mark_klines": "mark-price-klines"}
        for data_type, type_folder in ({"klines": "klines"} | priced).items():
            yield (
                Publication(market, data_type, Cadence.DAILY, first, _OLD_INTERVALS, ended),
                f"data/{type_folder}/{folder}/daily/{{symbol}}/{{interval}}/{{symbol}}-{{interval}}-{{period}}.zip",
            )
    yield (
        Publication("old_spot", "orderbook", Cadence.DAILY, _BOOKS_BEGAN, ended=_ENDED),
        "data/orderbook/spot/daily/lv400/{symbol}/{symbol}-l2orderbook-400lv-{period}.tar.gz",
    )


def _layout(publication: Publication, template: str) -> Layout:
    return Layout(
        template,
        publication.cadence,
        symbol=SYMBOL_WITH_DASHES,
        interval=_OLD_INTERVAL if publication.market in _OLD_MARKETS else INTERVAL,
        sidecar_suffix=_CHECKSUM.suffix,
        sidecar_of_stem=template.startswith("data/") and template.endswith(".zip"),
    )


_TEMPLATES = dict((*_new_tree(), *_old_tree()))

_SYMBOL_FORMS = {
    "spot": (form(PAIR, Contract.SPOT),),
    "futures": (form(PAIR + DATED, Contract.DELIVERY), form(f"{PAIR}(?:-PERP)?", Contract.PERPETUAL)),
    "old_spot": (form(PAIR, Contract.SPOT),),
    "old_future": (form("(?P<base>[A-Z]+?)(?:-USD-)?(?P<delivery>[0-9]{6})", Contract.DELIVERY, quote="USD"),),
    "old_swap": (form(PAIR, Contract.PERPETUAL),),
    "old_linear_swap": (form(PAIR + DATED, Contract.DELIVERY), form(PAIR, Contract.PERPETUAL)),
    "old_option": (form(f"{PAIR}{DATED}-[CP]-[0-9]+", Contract.OPTION),),
}

HTX = Exchange(
    name="htx",
    bucket="huobi-service-data",
    region="ap-northeast-1",
    homepage="https://www.htx.com/futures/data/landing_page/",
    documentation="https://www.htx.com/support/25034776369944/",
    terms=TermsOfUse("https://www.htx.com/support/360000298561"),
    checksum=_CHECKSUM,
    timezone="Asia/Shanghai",
    max_requests=64,
    publications=tuple(_TEMPLATES),
    layouts={publication.id: _layout(publication, template) for publication, template in _TEMPLATES.items()},
    canaries={
        "spot": ("BTC-USDT", "ETH-USDT"),
        "futures": ("BTC-USDT-PERP", "ETH-USDT-PERP"),
        "old_spot": ("BTCUSDT", "ETHUSDT"),
        "old_swap": ("BTC-USD", "ETH-USD"),
        "old_linear_swap": ("BTC-USDT", "ETH-USDT"),
    },
    quote_assets={
        "spot": _SPOT_QUOTES,
        "futures": ("USD", "USDT"),
        "old_spot": _SPOT_QUOTES,
        "old_swap": ("USD",),
        "old_linear_swap": ("USDT",),
        "old_option": ("USDT",),
    },
    pair_suffix=re.compile(r"-(?:PERP|[0-9]{6}(?:-[CP]-[0-9]+)?)\Z"),
    symbol_forms=_SYMBOL_FORMS,
    unrecognized_rules=(
        UnrecognizedRule(re.compile(r"(^|/)remark\.txt\Z"), "it describes the columns of a data set"),
        UnrecognizedRule(re.compile(r"/\Z"), "it is a folder marker"),
        UnrecognizedRule(
            re.compile(r"^(?!data/|historical_data/)"),
            "it is no archive file (assets of the site, tests)",
            last_resort=True,
        ),
    ),
    caveats={
        "trades": "A day without trades has no file. Files of the old tree have no header until about 2026-03.",
        "klines": "Files of the old tree have no header until about 2026-03, and different columns from the new tree.",
    },
)
