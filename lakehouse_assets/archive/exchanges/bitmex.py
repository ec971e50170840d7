"""BitMEX: every trade and quote, one file a day with all symbols.

``data/{trade|quote}/YYYYMMDD.csv.gz`` since 2014-11-22, about 50 GB of trades and 330 GB of quotes. No checksums. A day
without trades is a file with only a header, not a missing file. The folder ``data/trade/`` also exists as a key.
"""

from __future__ import annotations

import re
from datetime import date

from lakehouse_assets.archive.exchanges.grammar import Exchange, TermsOfUse, UnrecognizedRule
from lakehouse_assets.archive.exchanges.layout import ALL_SYMBOLS, Layout, Publication
from lakehouse_assets.archive.period import Cadence

_PUBLICATIONS = tuple(
    Publication("derivatives", data_type, Cadence.DAILY, date(2014, 11, 22)) for data_type in ("trade", "quote")
)

BITMEX = Exchange(
    name="bitmex",
    bucket="public.bitmex.com",
    region="eu-west-1",
    homepage="https://public.bitmex.com",
    documentation="https://public.bitmex.com",
    terms=TermsOfUse("https://www.bitmex.com/app/terms"),
    max_requests=32,
    publications=_PUBLICATIONS,
    layouts={
        publication.id: Layout(
            f"data/{publication.data_type}/{{period}}.csv.gz", publication.cadence, period_format="%Y%m%d"
        )
        for publication in _PUBLICATIONS
    },
    canaries={"derivatives": (ALL_SYMBOLS,)},
    unrecognized_rules=(
        UnrecognizedRule(
            re.compile(r"^(?!data/)"), "it is no archive file (web assets of the listing site)", last_resort=True
        ),
        UnrecognizedRule(re.compile(r"/\Z"), "it is a folder marker"),
    ),
    caveats=dict.fromkeys(
        ("trade", "quote"),
        "One file a day contains all symbols. The file of a day without activity has only a header.",
    ),
)
