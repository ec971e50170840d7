"""Properties of the keys of every exchange: formatted and parsed alike, by Python and by Polars."""

from __future__ import annotations

import re
from datetime import date
from typing import TypeAlias

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.exchanges.grammar import Exchange, ParsedKey, UnrecognizedKey
from lakehouse_assets.archive.exchanges.layout import ALL_SYMBOLS, Layout, Publication, SymbolLocation, compiled
from lakehouse_assets.archive.listing import KEY_SCHEMA, _parse
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.archive.unrecognized import UnrecognizedKeys

Made: TypeAlias = tuple[Exchange, Publication, str, str | None, Period, str | None]

EACH = [(exchange, publication) for exchange in EXCHANGES.values() for publication in exchange.publications]
dates = st.dates(min_value=date(1000, 1, 1), max_value=date(2999, 12, 31))
endings = st.sampled_from(["", ".CHECKSUM", ".CHECKSUM.CHECKSUM", "\n", ".CHECKSUM\n", " ", "/", ".gz"])


@st.composite
def objects(draw: st.DrawFn) -> Made:
    """An object that some exchange could publish."""
    exchange, publication = draw(st.sampled_from(EACH))
    layout = exchange.layouts[publication.id]
    symbol = ALL_SYMBOLS
    if layout.symbol_location is not SymbolLocation.NOWHERE:
        known = ["BTCUSDT", "0GUSDT", "币安人生USDT", "trades", "1m", "20240101", "BTC_USDT_20230512"]
        symbol = draw(st.one_of(st.from_regex(layout.symbol, fullmatch=True), st.sampled_from(known)))
    interval = draw(st.sampled_from(publication.intervals)) if publication.intervals else None
    part = draw(st.sampled_from(layout.parts)) if layout.parts else None
    return exchange, publication, symbol, interval, Period.containing(publication.cadence, draw(dates)), part


def layout_of(made: Made) -> Layout:
    return made[0].layouts[made[1].id]


def key_of(made: Made) -> str:
    _, _, symbol, interval, period, part = made
    return layout_of(made).key_of(symbol=symbol, interval=interval, period=period, part=part)


def groups_of(pattern: str, keys: list[str]) -> tuple[list[dict], list[dict]]:
    """The groups of each key as extracted by Polars, and by Python."""
    empty = dict.fromkeys(compiled(pattern).groupindex)
    matches = (compiled(pattern).fullmatch(key) for key in keys)
    return (
        pl.Series("key", keys, pl.String).str.extract_groups(f"^(?:{pattern})$").to_list(),
        [match.groupdict() if match else empty for match in matches],
    )


def listed(dataset: Dataset, keys: list[str]) -> tuple[pl.DataFrame, dict[str, str]]:
    """Keys as the listing reads them: objects, and unrecognized keys with their reasons."""
    frame = pl.DataFrame({"key": keys, "size": 1, "etag": "e", "last_modified": None}, schema=KEY_SCHEMA)
    unrecognized = UnrecognizedKeys()
    parsed = _parse(dataset, frame, unrecognized, lone_sidecars=True)
    return parsed, {unrecognized.key: unrecognized.reason for unrecognized in unrecognized.named}


@given(objects(), st.booleans())
def test_a_key_parses_to_the_object_it_was_made_from(made: Made, with_sidecar: bool) -> None:
    exchange, publication, symbol, interval, period, part = made
    sidecar = exchange.sidecar_of(key_of(made)) if with_sidecar else None
    assert exchange.parse(sidecar or key_of(made)) == ParsedKey(
        *publication.id, symbol, interval, period, sidecar is not None, part
    )


@given(objects())
def test_a_listing_parses_a_key_like_the_parser(made: Made) -> None:
    exchange, publication, symbol, interval, period, part = made
    [row] = listed(Dataset(exchange.name, *publication.id), [key_of(made)])[0].to_dicts()
    assert (row["symbol"], row["interval"], row["period"], row["part"]) == (symbol, interval, str(period), part)


@given(objects(), endings, st.sampled_from(["", "\n", "x", "/"]))
def test_python_and_polars_parse_hostile_keys_alike(made: Made, after: str, before: str) -> None:
    key = before + key_of(made) + after
    pattern = layout_of(made).pattern
    in_frames, in_python = groups_of(pattern, [key, key.replace("-", "_"), key.upper(), key[:-1]])
    assert in_frames == in_python


@given(
    st.sampled_from(EACH),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_python_and_polars_parse_any_text_alike(
    published: tuple[Exchange, Publication], folder: str, name: str
) -> None:
    layout = published[0].layouts[published[1].id]
    fields = dict.fromkeys(("symbol", "interval", "part"), folder) | {"month": "202401", "period": name}
    keys = [layout.template.format(**fields), layout.root + folder, layout.root + name]
    in_frames, in_python = groups_of(layout.pattern, keys)
    assert in_frames == in_python
    for key in keys:
        assert isinstance(published[0].parse(key), ParsedKey | UnrecognizedKey)


@given(objects(), st.integers(0, 45))
def test_the_folders_of_a_range_contain_the_keys_of_the_range(made: Made, later: int) -> None:
    _, _, symbol, interval, first, part = made
    last = first.shifted(later) if first.start.year < 2990 else first
    folders = layout_of(made).folders(symbols=[symbol], intervals=[interval], first=first, last=last)
    assert len({folder.prefix for folder in folders}) == len(folders)
    for period in (first, last):
        key = layout_of(made).key_of(symbol=symbol, interval=interval, period=period, part=part)
        [holding] = [folder for folder in folders if key.startswith(folder.prefix)]
        assert holding.first <= key
        assert key <= holding.last or key.startswith(holding.last)
        assert holding.prefix.endswith("/")
    outside = layout_of(made).key_of(symbol=symbol, interval=interval, period=last.shifted(1), part=part)
    for folder in folders:
        assert not (outside.startswith(folder.prefix) and folder.first <= outside <= folder.last)


@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=lambda exchange: exchange.name)
def test_the_declaration_of_an_exchange_is_complete(exchange: Exchange) -> None:
    assert set(exchange.layouts) == {publication.id for publication in exchange.publications}
    assert len(exchange.publications) == len(exchange.layouts)
    assert exchange.terms.summary.endswith(".")
    for url in (exchange.homepage, exchange.documentation, exchange.terms.url):
        assert url.startswith("https://")
    assert set(exchange.caveats) <= {publication.data_type for publication in exchange.publications}
    assert set(exchange.canaries) | set(exchange.quote_assets) <= set(exchange.markets)
    for publication, layout in zip(exchange.publications, exchange.layouts.values(), strict=True):
        assert publication.first <= (publication.ended or date(2026, 6, 1))
        assert layout.sidecar_suffix == exchange.sidecar_suffix
        assert bool(publication.intervals) == ("{interval}" in layout.template)
        assert all(re.fullmatch(layout.interval, interval) for interval in publication.intervals)
        # Names become those of assets, operations and tables.
        assert re.fullmatch(r"[A-Za-z0-9_]+", publication.market + publication.data_type)


@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=lambda exchange: exchange.name)
def test_canaries_are_symbols_that_the_layouts_parse(exchange: Exchange) -> None:
    for market, symbols in exchange.canaries.items():
        layouts = [layout for (of, _, _), layout in exchange.layouts.items() if of == market]
        for symbol in symbols:
            assert any(
                layout.symbol_location is SymbolLocation.NOWHERE
                if symbol == ALL_SYMBOLS
                else compiled(layout.symbol).fullmatch(symbol)
                for layout in layouts
            )


def test_a_part_that_does_not_exist_is_unrecognized_by_both() -> None:
    dataset = Dataset("gate", "spot", "orderbooks", Cadence.DAILY)
    keys = [f"spot/orderbooks/202401/BTC_USDT-20240131{hour}.csv.gz" for hour in ("00", "23", "24", "3", "")]
    parsed, unrecognized = listed(dataset, keys)
    assert parsed["part"].to_list() == ["00", "23"]
    assert set(unrecognized) == set(keys[2:])


def test_an_impossible_day_and_another_month_s_folder_are_unrecognized_by_both() -> None:
    candles = Dataset("gate", "spot", "candlesticks", Cadence.DAILY)
    keys = [f"spot/candlesticks_1m/202402/BTC_USDT-{day}.csv.gz" for day in ("20240229", "20240230", "20240131")]
    parsed, unrecognized = listed(candles, keys)
    assert parsed["period"].to_list() == ["2024-02-29"]
    assert unrecognized == {keys[1]: "20240230 is not a date", keys[2]: "its folder is of another month"}
