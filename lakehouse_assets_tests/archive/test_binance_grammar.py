"""The grammar of Binance's keys: its publications, and how its keys are parsed."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from datetime import date
from typing import TypeAlias

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse_assets.archive.exchanges.binance import BINANCE
from lakehouse_assets.archive.exchanges.grammar import ParsedKey, UnrecognizedKey
from lakehouse_assets.archive.exchanges.layout import SYMBOL, Publication, compiled
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.errors import InputError

DAY_AND_SHORTER = "1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d"
LONGER = "3d 1w 1mo"
KLINES = ("klines", "markPriceKlines", "indexPriceKlines", "premiumIndexKlines")

# Publications as (markets, data types, daily, monthly): None if not published, "" if without
# intervals.
PUBLISHED = [
    (("spot",), ("klines",), f"1s {DAY_AND_SHORTER}", f"1s {DAY_AND_SHORTER} {LONGER}"),
    (("spot", "um", "cm"), ("aggTrades", "trades"), "", ""),
    (("um", "cm"), KLINES, DAY_AND_SHORTER, f"{DAY_AND_SHORTER} {LONGER}"),
    (("um", "cm"), ("fundingRate",), None, ""),
    (("um", "cm"), ("metrics", "bookDepth"), "", None),
    (("um", "cm"), ("bookTicker",), "", ""),
    (("cm",), ("liquidationSnapshot",), "", None),
    (("option",), ("BVOLIndex", "EOHSummary"), "", None),
]
ENDED = {
    ("um", "bookTicker", Cadence.DAILY): "2024-03-30",
    ("um", "bookTicker", Cadence.MONTHLY): "2024-04",
    ("cm", "bookTicker", Cadence.DAILY): "2024-10-15",
    ("cm", "bookTicker", Cadence.MONTHLY): "2024-10",
    ("cm", "liquidationSnapshot", Cadence.DAILY): "2024-10-14",
    ("option", "EOHSummary", Cadence.DAILY): "2023-10-23",
}
UM_1M = "data/futures/um/daily/klines/BTCUSDT/1m/"

KeySample: TypeAlias = tuple[str, tuple[str, ...]]

symbols = st.one_of(
    st.from_regex(SYMBOL, fullmatch=True),
    st.sampled_from(["BTCUSDT", "BTCUSDT_210326", "0GUSDT", "币安人生USDT", "BTCUSD_PERP_SETTLED2", "klines", "1m"]),
)
dates = st.dates(min_value=date(1000, 1, 1), max_value=date(2999, 12, 31))


@st.composite
def objects(draw: st.DrawFn) -> tuple[Publication, str, str | None, Period]:
    """An object that Binance could publish."""
    publication = draw(st.sampled_from(BINANCE.publications))
    interval = draw(st.sampled_from(publication.intervals)) if publication.intervals else None
    return publication, draw(symbols), interval, Period.containing(publication.cadence, draw(dates))


def key_of(publication: Publication, symbol: str, interval: str | None, period: Period) -> str:
    layout = BINANCE.layouts[publication.id]
    return layout.key_of(symbol=symbol, interval=interval, period=period)


def polars_groups(pattern: str, keys: list[str]) -> list[dict[str, str | None]]:
    """The groups of each key as Polars extracts them for listings."""
    return pl.Series("key", keys, pl.String).str.extract_groups(f"^(?:{pattern})$").to_list()


def python_groups(pattern: str, keys: list[str]) -> list[dict[str, str | None]]:
    empty: dict[str, str | None] = dict.fromkeys(compiled(pattern).groupindex)
    matches = (compiled(pattern).fullmatch(key) for key in keys)
    return [match.groupdict() if match else empty for match in matches]


def published_ids() -> set[tuple[str, str, Cadence]]:
    return {
        (market, data_type, cadence)
        for markets, data_types, *intervals in PUBLISHED
        for market in markets
        for data_type in data_types
        for cadence, known in zip(Cadence, intervals, strict=True)
        if known is not None
    }


# Publications


@pytest.mark.parametrize("cadence", Cadence)
@pytest.mark.parametrize(
    ("market", "data_type", "daily", "monthly"),
    [
        (market, data_type, daily, monthly)
        for markets, data_types, daily, monthly in PUBLISHED
        for market in markets
        for data_type in data_types
    ],
)
def test_each_data_type_is_published_as_documented(
    market: str, data_type: str, daily: str | None, monthly: str | None, cadence: Cadence
) -> None:
    expected = daily if cadence is Cadence.DAILY else monthly
    if expected is None:
        with pytest.raises(InputError, match=f"not published {cadence}"):
            BINANCE.publication(market, data_type, cadence)
    else:
        assert BINANCE.publication(market, data_type, cadence).intervals == tuple(expected.split())


def test_nothing_else_is_published() -> None:
    assert {publication.id for publication in BINANCE.publications} == published_ids()
    assert set(BINANCE.layouts) == published_ids()
    assert len(BINANCE.publications) == len(published_ids())


def test_only_discontinued_datasets_have_an_end() -> None:
    ended = {p.id: str(Period.containing(p.cadence, p.ended)) for p in BINANCE.publications if p.ended}
    assert ended == ENDED


@pytest.mark.parametrize("publication", BINANCE.publications, ids=lambda p: "/".join(p.id))
def test_every_publication_begins_before_it_ends_and_its_market_has_canaries(
    publication: Publication,
) -> None:
    assert date(2017, 7, 14) <= publication.first <= (publication.ended or date(2024, 1, 1))
    assert BINANCE.canaries[publication.market]
    assert BINANCE.quote_assets[publication.market]


# Keys that parse


@given(objects(), st.booleans())
def test_a_key_parses_to_the_object_it_was_made_from(
    made: tuple[Publication, str, str | None, Period], sidecar: bool
) -> None:
    publication, symbol, interval, period = made
    key = key_of(*made) + (".CHECKSUM" if sidecar else "")
    assert BINANCE.parse(key) == ParsedKey(*publication.id, symbol, interval, period, sidecar)


@given(objects())
def test_a_folder_begins_and_ends_at_the_keys_of_its_range(
    made: tuple[Publication, str, str | None, Period],
) -> None:
    publication, symbol, interval, period = made
    later = Period.containing(period.cadence, date(3000, 1, 1)).shifted(-1)
    folder = BINANCE.layouts[publication.id].folder_of(symbol=symbol, interval=interval, first=period, last=later)
    first_key, last_key = key_of(*made), key_of(publication, symbol, interval, later)
    assert first_key.startswith(folder.first)
    assert last_key.startswith(folder.last)
    assert folder.first.startswith(folder.prefix)
    assert folder.prefix.endswith("/")


def test_every_listed_key_parses(listed_keys: KeySample, record_property: Callable[[str, object], None]) -> None:
    origin, keys = listed_keys
    record_property("keys", f"{len(keys)} {origin}")
    print(f"{len(keys)} {origin} keys")
    assert len(keys) == (18_988 if origin == "real" else 300)
    parsed = [BINANCE.parse(key) for key in keys]
    assert [unrecognized for unrecognized in parsed if isinstance(unrecognized, UnrecognizedKey)] == []
    assert {(p.market, p.data_type, p.cadence, p.interval) for p in parsed if isinstance(p, ParsedKey)} == {
        ("um", "klines", Cadence.MONTHLY, "1m")
    }


def test_every_archive_file_parses_to_its_place(
    verbatim_keys: KeySample, record_property: Callable[[str, object], None]
) -> None:
    origin, keys = verbatim_keys
    record_property("keys", f"{len(keys)} {origin}")
    print(f"{len(keys)} {origin} keys")
    assert keys
    for key in keys:
        parsed = BINANCE.parse(key)
        assert isinstance(parsed, ParsedKey), parsed
        layout = BINANCE.layout(parsed.market, parsed.data_type, parsed.cadence)
        made = layout.key_of(symbol=parsed.symbol, interval=parsed.interval, period=parsed.period)
        assert key == made + (".CHECKSUM" if parsed.is_sidecar else "")


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2020-01-01.zip", "spot klines daily BTCUSDT 1m 2020-01-01"),
        (
            "spot/monthly/klines/BTCUSDT/1mo/BTCUSDT-1mo-2020-01.zip",
            "spot klines monthly BTCUSDT 1mo 2020-01",
        ),
        (
            "futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2026-04.zip",
            "um fundingRate monthly BTCUSDT None 2026-04",
        ),
        (
            "futures/cm/daily/markPriceKlines/BTCUSD_PERP/1h/BTCUSD_PERP-1h-2026-05-08.zip",
            "cm markPriceKlines daily BTCUSD_PERP 1h 2026-05-08",
        ),
        (
            "futures/um/daily/klines/BTCUSDT_210326/1m/BTCUSDT_210326-1m-2021-01-01.zip",
            "um klines daily BTCUSDT_210326 1m 2021-01-01",
        ),
        (
            "option/daily/EOHSummary/BTCUSDT/BTCUSDT-EOHSummary-2023-09-19.zip",
            "option EOHSummary daily BTCUSDT None 2023-09-19",
        ),
    ],
)
def test_known_keys_parse_as_written_by_hand(key: str, place: str) -> None:
    parsed = BINANCE.parse(f"data/{key}")
    assert isinstance(parsed, ParsedKey)
    assert (
        f"{parsed.market} {parsed.data_type} {parsed.cadence} {parsed.symbol} {parsed.interval} {parsed.period}"
        == place
    )


# Siblings


def test_the_folder_of_1m_never_contains_1mo() -> None:
    layout = BINANCE.layout("spot", "klines", Cadence.MONTHLY)
    period = Period.parse("2024-01", Cadence.MONTHLY)
    minute, month = (
        layout.folder_of(symbol="BTCUSDT", interval=interval, first=period, last=period) for interval in ("1m", "1mo")
    )
    key = layout.key_of(symbol="BTCUSDT", interval="1mo", period=period)
    assert key.startswith(month.prefix)
    assert not key.startswith(minute.prefix)


@pytest.mark.parametrize("sibling", ["BTCUSDT_210326", "BTCUSDTSETTLED", "BTCUSDT1"])
@pytest.mark.parametrize("publication", BINANCE.publications, ids=lambda p: "/".join(p.id))
def test_the_folder_of_a_symbol_never_contains_its_siblings(publication: Publication, sibling: str) -> None:
    layout = BINANCE.layouts[publication.id]
    interval = publication.intervals[0] if publication.intervals else None
    period = Period.containing(publication.cadence, date(2024, 1, 1))
    folder = layout.folder_of(symbol="BTCUSDT", interval=interval, first=period, last=period)
    assert not key_of(publication, sibling, interval, period).startswith(folder.prefix)


# Unrecognized keys


UNRECOGNIZED = [
    ("/data/spot/klines/BTCUSDT/1m/BTCUSDT-1m-2020-01-01.zip", "begins with a slash"),
    ("data2/klines/BTCUSDT.csv", "staging tree"),
    ("data3/liquidationSnapshot/BTCUSDT/BTCUSDT-liquidationSnapshot-2024-01-01.zip", "unannounced tree"),
    (
        "data/futures/um/monthly/aggTrades/BTCUSDT/part-00000-0fae7358-a956-4804-a6d4-1682c07a5127-c000.zip",
        "Spark part file",
    ),
    ("data/spot/monthly/klines/ADABKRW/1d/ADABKRW-1d-2020-8.zip", "not zero-padded"),
    (f"{UM_1M}BTCUSDT-1m-2024-1-01.zip", "not zero-padded"),
    (f"{UM_1M}BTCUSDT-1m-2024-01-1.zip.CHECKSUM", "not zero-padded"),
    (UM_1M, "folder marker"),
    ("data/", "folder marker"),
    (f"{UM_1M}.DS_Store", "file manager"),
    ("index.html", "web assets"),
    ("", "web assets"),
    ("data/futures/um/daily/liquidationSnapshot/BTCUSDT/a.zip", "outside every known data set"),
    ("data/spot/daily/klines2/BTCUSDT/1m/BTCUSDT-1m-2024-01-01.zip", "outside every known data set"),
    (f"{UM_1M}ETHUSDT-1m-2024-01-01.zip", "folder is of another symbol"),
    (f"{UM_1M}BTCUSDT-1h-2024-01-01.zip", "folder is of another interval"),
    (
        "data/futures/um/daily/markPriceKlines/BTCUSDT/1w/BTCUSDT-1w-2026-06-29.zip",
        "interval 1w is not published daily",
    ),
    (
        "data/futures/um/daily/klines/BTCUSDT/7m/BTCUSDT-7m-2024-01-01.zip",
        "interval 7m is not published daily",
    ),
    (f"{UM_1M}BTCUSDT-1m-2023-02-29.zip", "2023-02-29 is not a date"),
    (f"{UM_1M}BTCUSDT-1m-2023-13-01.zip", "2023-13-01 is not a date"),
    (f"{UM_1M}BTCUSDT-1m-2024-01.zip", "not of the data set's form"),
    (f"{UM_1M}BTCUSDT-1m-9999-12-31.zip", "not of the data set's form"),
    (f"{UM_1M}BTCUSDT-1m-2024-01-01.csv", "not of the data set's form"),
    (f"{UM_1M}BTCUSDT-1m-2024-01-01.zip.CHECKSUM.CHECKSUM", "not of the data set's form"),
    (f"{UM_1M}BTCUSDT-1m-2024-01-01.zip\n", "not of the data set's form"),
    (f"{UM_1M}../1m/BTCUSDT-1m-2024-01-01.zip", "not of the data set's form"),
    ("data/futures/um/daily/klines/BTC USDT/1m/BTC USDT-1m-2024-01-01.zip", "not of the data set's form"),
    (
        "data/futures/um/daily/klines/BTC\u200bUSDT/1m/BTC\u200bUSDT-1m-2024-01-01.zip",
        "not of the data set's",
    ),
]


@pytest.mark.parametrize(("key", "reason"), UNRECOGNIZED)
def test_a_key_that_is_not_an_archive_object_is_unrecognized_with_its_reason(key: str, reason: str) -> None:
    unrecognized = BINANCE.parse(key)
    assert isinstance(unrecognized, UnrecognizedKey), unrecognized
    assert unrecognized.key == key
    assert reason in unrecognized.reason


def test_every_rule_for_unrecognized_keys_matches_a_key_of_the_table_above() -> None:
    reasons = {
        unrecognized.reason
        for key, _ in UNRECOGNIZED
        if isinstance(unrecognized := BINANCE.parse(key), UnrecognizedKey)
    }
    assert {rule.reason for rule in BINANCE.unrecognized_rules} <= reasons


@given(st.text())
@example("\ud800")
def test_no_text_makes_the_parser_raise(text: str) -> None:
    for key in (text, f"data/{text}", UM_1M + text, f"{UM_1M}BTCUSDT-1m-{text}.zip"):
        assert isinstance(BINANCE.parse(key), ParsedKey | UnrecognizedKey)


# Symbols


@pytest.mark.parametrize("symbol", ["ก้อยUSDT", "这是测试币456", "ÉCUUSDT", "ビットUSDT", "𠮷USDT", "१२USDT"])
def test_a_symbol_may_be_of_any_script(symbol: str) -> None:
    assert compiled(SYMBOL).fullmatch(symbol)


def test_a_symbol_has_no_invisible_character_and_no_ascii_punctuation() -> None:
    allowed = [chr(code) for code in range(sys.maxunicode + 1) if compiled(SYMBOL).fullmatch(chr(code))]
    unseen = [c for c in allowed if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zs", "Zl", "Zp"}]
    assert unseen == []
    assert [c for c in allowed if c.isascii() and not (c.isalnum() or c == "_")] == []


# One expression, two engines


def test_python_and_polars_agree_on_every_character_of_a_symbol() -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    matched = pl.Series(characters).str.contains(f"^(?:{SYMBOL})$").to_list()
    differing = [
        c for c, by_polars in zip(characters, matched, strict=True) if by_polars != bool(compiled(SYMBOL).fullmatch(c))
    ]
    assert differing == []


def test_python_and_polars_parse_listed_keys_alike(
    listed_keys: KeySample, verbatim_keys: KeySample, record_property: Callable[[str, object], None]
) -> None:
    record_property("keys", listed_keys[0])
    keys = [*listed_keys[1], *verbatim_keys[1]]
    for layout in BINANCE.layouts.values():
        assert polars_groups(layout.pattern, keys) == python_groups(layout.pattern, keys)


@given(
    objects(),
    st.sampled_from(["", ".CHECKSUM", "\n", ".CHECKSUM\n", " ", "/"]),
    st.sampled_from(["", "\n", "x"]),
)
def test_python_and_polars_parse_any_key_alike(
    made: tuple[Publication, str, str | None, Period], after: str, before: str
) -> None:
    pattern = BINANCE.layouts[made[0].id].pattern
    keys = [before + key_of(*made) + after]
    groups = polars_groups(pattern, keys)
    assert groups == python_groups(pattern, keys)
    assert (groups[0]["symbol"] is not None) == (before == "" and after in {"", ".CHECKSUM"})


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_python_and_polars_parse_any_text_alike(folder: str, name: str) -> None:
    keys = [f"data/spot/daily/trades/{folder}/{name}-trades-2024-01-01.zip", folder, UM_1M + name]
    for publication_id in (("spot", "trades", Cadence.DAILY), ("um", "klines", Cadence.DAILY)):
        pattern = BINANCE.layouts[publication_id].pattern
        assert polars_groups(pattern, keys) == python_groups(pattern, keys)


# Quote assets


@pytest.mark.parametrize(
    ("market", "symbol", "quote"),
    [
        ("spot", "BTCUSDT", "USDT"),
        ("spot", "BTCUSD1", "USD1"),
        ("spot", "BTCFDUSD", "FDUSD"),
        ("spot", "BTCTUSD", "TUSD"),
        ("spot", "BTCU", "U"),
        ("spot", "ETHBTC", "BTC"),
        ("spot", "ADABKRW", "BKRW"),
        ("spot", "币安人生USDT", "USDT"),
        ("spot", "这是测试币456", None),
        ("spot", "BTCUSDSOLD", None),
        ("spot", "USDT", None),
        ("um", "BTCUSDT_210326", "USDT"),
        ("um", "AERGOUSDTSETTLED", "USDT"),
        ("um", "ICPUSDT_SETTLED1", "USDT"),
        ("um", "BTCBUSD_210129", "BUSD"),
        ("cm", "BTCUSD_PERP", "USD"),
        ("cm", "BTCUSD", "USD"),
        ("cm", "BTCUSD_PERP_SETTLED2", "USD"),
        ("cm", "BNBUSD_PERP", "USD"),
        ("cm", "DOTUSD", "USD"),
        ("option", "BTCBVOLUSDT", "USDT"),
        ("moon", "BTCUSDT", None),
    ],
)
def test_a_symbol_is_quoted_in_the_longest_quote_asset_of_its_market(
    market: str, symbol: str, quote: str | None
) -> None:
    assert BINANCE.quote_asset(symbol, market) == quote
