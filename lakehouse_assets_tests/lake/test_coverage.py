"""Coverage by symbol and period, and the page that shows it."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta

import hypothesis.strategies as st
import polars as pl
import pytest
from hypothesis import given

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.coverage import COVERAGE_SCHEMA, CoverageStatus, coverage
from lakehouse_assets.lake.coverage_page import MAX_DETAILED_CELLS, coverage_page
from lakehouse_assets_tests.world import KLINES, World, scope

DATASET = Dataset.parse(KLINES)
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def frame(rows: list[tuple[str, str, CoverageStatus]], note: str | None = None) -> pl.DataFrame:
    full = [(symbol, period, cover.value, 2, 1, 0, note) for symbol, period, cover in rows]
    return pl.DataFrame(full, schema=COVERAGE_SCHEMA, orient="row").sort("symbol", "period")


def document(page: str) -> dict:
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def decoded(page: str) -> dict[tuple[str, str], CoverageStatus]:
    """The cells as the page's own script decodes them."""
    content, cells = document(page), {}
    for symbol, runs in content["rows"]:
        at = 0
        assert re.fullmatch(r"([a-e.]\d*)+", runs)
        for letter, times in re.findall(r"([a-e.])(\d*)", runs):
            for period in content["periods"][at : at + int(times or 1)]:
                if letter != ".":
                    cells[symbol, period] = list(CoverageStatus)["abcde".index(letter)]
            at += int(times or 1)
    return cells


def test_states_of_a_real_lake(world: World) -> None:
    world.publish(["AAA", "BBB"], ["2024-03-01", "2024-03-02"], intervals=("1m", "1h"))
    entry = world.entry(intervals=["1m", "1h"])
    partly = world.key("BBB", "2024-03-01", interval="1h")
    gone = [world.key("BBB", "2024-03-02", interval=interval) for interval in ("1m", "1h")]
    wrong = world.key("AAA", "2024-03-02", interval="1m")
    world.put(wrong, b"others than the sidecar says", sidecar=False)
    with world.refused_writes(partly, *gone):
        world.engine(attempts=1).sync(scope(entry, "2024-03-01", "2024-03-02"), mode="relay")
    covered = coverage(world.lake, DATASET)
    assert covered.schema == COVERAGE_SCHEMA
    a, b = world.symbol("AAA"), world.symbol("BBB")
    assert covered.select("symbol", "period", "cover", "expected", "present").rows() == [
        (a, "2024-03-01", "complete", 2, 2),
        (a, "2024-03-02", "quarantined", 2, 2),
        (b, "2024-03-01", "partial", 2, 1),
        (b, "2024-03-02", "missing", 2, 0),
    ]
    notes = covered["note"].to_list()
    assert notes[0] is None
    assert "the sidecar says" in notes[1]
    assert "AccessDenied" in notes[2]
    assert coverage(world.lake, DATASET, symbol=a).height == 2
    with pytest.raises(InputError, match="'NOPE' was never synced"):
        coverage(world.lake, DATASET, symbol="NOPE")


def test_a_symbol_withdrawn_everywhere_is_not_published(world: World) -> None:
    [key] = world.publish(["AAA"], ["2024-03-01"])
    world.engine().sync(scope(world.entry(), "2024-03-01"))
    world.withdraw(key)
    world.engine().sync(scope(world.entry(), "2024-03-01"))
    assert coverage(world.lake, DATASET)["cover"].to_list() == [CoverageStatus.NOT_PUBLISHED.value]


periods = st.dates(date(2024, 1, 1), date(2024, 4, 1)).map(str)
symbols = st.sampled_from(["A", "BTCUSDT", "币安人生USDT", "a-b", "</script><b>", 'q"uo\\te', "\u2028"])


@given(st.dictionaries(st.tuples(symbols, periods), st.sampled_from(list(CoverageStatus)), max_size=60))
def test_the_page_contains_every_cell(cells: dict[tuple[str, str], CoverageStatus]) -> None:
    page = coverage_page(DATASET, frame([(*place, cover) for place, cover in cells.items()]), now=NOW)
    assert decoded(page) == cells


def test_hostile_names_and_notes_stay_text() -> None:
    page = coverage_page(
        DATASET, frame([("</script><script>alert(1)//", "2024-01-01", CoverageStatus.PARTIAL)], "<img src=x>")
    )
    assert page.count("<script") == 2
    assert "<img" not in page
    [told] = document(page)["exceptions"].values()
    assert told == [1, 2, "<img src=x>"]


def five_years(symbols: int, days: int) -> pl.DataFrame:
    """Symbols that begin one after the other, a fault here and there."""
    first = date(2020, 1, 1)
    names = pl.DataFrame({"number": range(symbols)}).with_columns(
        pl.format("S{}USDT", pl.col("number")).alias("symbol")
    )
    dates = pl.DataFrame({"day": range(days), "period": [str(first + timedelta(days=day)) for day in range(days)]})
    place = pl.col("number") * 7919 + pl.col("day") * 104729
    return (
        names.join(dates, how="cross")
        .filter(pl.col("day") >= pl.col("number") * 2)
        .with_columns(
            pl.when(place % 97 == 0).then(pl.lit("partial")).when(place % 89 == 0).then(pl.lit("missing"))
            .otherwise(pl.lit("complete")).alias("cover"),
            expected=pl.lit(1), present=pl.lit(1), quarantined=pl.lit(0), note=pl.lit(None, pl.String),
        )
        .sort("symbol", "period")
        .select(COVERAGE_SCHEMA.names())
        .cast(COVERAGE_SCHEMA)
    )  # fmt: skip


def test_five_years_of_700_symbols_stay_small() -> None:
    covered = five_years(700, 1826)
    page = coverage_page(DATASET, covered, now=NOW)
    assert len(page.encode()) < 5_000_000
    content = document(page)
    assert len(content["rows"]) == 700
    assert len(content["exceptions"]) <= MAX_DETAILED_CELLS
    assert sum(content["counts"].values()) == covered.height
    cells = decoded(page)
    assert len(cells) == covered.height
    assert cells["S1USDT", "2020-01-03"].value == covered.filter(symbol="S1USDT", period="2020-01-03").item(0, "cover")
