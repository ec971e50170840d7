"""Real lines of every exchange's files, mirrored from their real keys and built into tables: the rows have the
values of the lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.exchanges.grammar import ParsedKey
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.embedded.samples.objects import contained
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.sync.scope import Scope
from lakehouse_assets.tables.query import read_table
from lakehouse_assets.tables.report import BuildState
from lakehouse_assets.tables.table import tables_of
from lakehouse_assets.tables.write.build import TableBuilder
from lakehouse_assets_tests.orchestration.tables.publications import Exchanges
from lakehouse_assets_tests.orchestration.tables.real_rows import FIRST_ROWS
from lakehouse_assets_tests.tables.read.test_excerpts import EXCERPTS, SAMPLES, parse

OF_STRUCTURE = ("outside", "duplicates", "shared_keys", "impossible_prices", "negative_sizes")
"""Errors that cannot come from cutting a file short."""


@dataclass(frozen=True)
class Excerpt:
    """An archive of real lines, and some columns of its first row. ``place`` is exchange and key."""

    place: str
    body: bytes
    row: dict[str, Any]

    @property
    def key(self) -> str:
        return self.place.partition("/")[2]

    @cached_property
    def parsed(self) -> ParsedKey:
        return parse(self.place)[0]

    @property
    def dataset(self) -> str:
        _, table = parse(self.place)
        return f"{table}/{self.parsed.cadence}"

    @property
    def first_row(self) -> dict[str, Any]:
        interval = {} if self.parsed.interval is None else {"interval": self.parsed.interval}
        return {"symbol": self.parsed.symbol} | interval | self.row


def longer_sample(path: str, row: dict[str, Any]) -> Excerpt:
    """A file of the folder of samples, used in place; extracted text is packed into an archive again."""
    data = (SAMPLES / path).read_bytes()
    exchange, _, key = path.replace(".head20000", "").partition("/")
    key = key.removeprefix("verbatim/").removeprefix("extracted/")
    if key.startswith("excerpts/FXSUSDT"):
        key = f"trading/FXSUSDT/{path.rsplit('/', 1)[1]}.gz"
    elif key.endswith(".csv"):
        key = f"{key.removesuffix('.csv')}.zip"
    return Excerpt(f"{exchange}/{key}", contained(key, data.decode()) if path.endswith(".csv") else data, row)


ALL = [Excerpt(place, contained(place, text), row) for place, (text, row) in EXCERPTS.items()]
if SAMPLES.is_dir():
    ALL += [longer_sample(path, row) for path, row in FIRST_ROWS.items()]
BY_DATASET = {
    name: list(group) for name, group in groupby(sorted(ALL, key=lambda one: one.dataset), lambda one: one.dataset)
}


@pytest.fixture(scope="module")
def exchanges() -> Iterator[Exchanges]:
    """The exchanges' own keys need buckets of their own."""
    with EmbeddedStore(source_buckets=[exchange.bucket for exchange in EXCHANGES.values()]) as store:
        yield Exchanges(store)


@pytest.mark.parametrize("name", BY_DATASET)
def test_real_lines_become_rows_with_the_same_values(exchanges: Exchanges, name: str) -> None:
    excerpts, dataset = BY_DATASET[name], Dataset.parse(name)
    world = exchanges.world(dataset)
    exchanges.publish(dataset, {excerpt.key: excerpt.body for excerpt in excerpts})
    intervals = list(dict.fromkeys(filter(None, (excerpt.parsed.interval for excerpt in excerpts))))
    entry = DatasetEntry.model_validate({"dataset": name} | ({"intervals": intervals} if intervals else {}))
    periods = sorted({excerpt.parsed.period for excerpt in excerpts})
    report = exchanges.engine(dataset).sync(Scope(entry=entry, periods=tuple(periods)))
    assert (report.unrecognized, [period.state for period in report.periods]) == ((), ["complete"] * len(periods))

    [table] = tables_of([entry])
    length = table.table.period_length
    fills_days = table.table.cadence is not dataset.cadence
    starts = {excerpt.row["time"].date() if fills_days else excerpt.parsed.period.start for excerpt in excerpts}
    days = sorted(start.isoformat()[:length] for start in starts)
    built = TableBuilder(world.source, world.lake, table).build(days)
    assert {period.state for period in built.periods} == {BuildState.WRITTEN}
    assert [problem for period in built.periods for problem in period.problems] == []
    faults = built.quality.select(OF_STRUCTURE).fill_null(0).sum()
    assert faults.row(0, named=True) == dict.fromkeys(OF_STRUCTURE, 0)
    rows = read_table(table.table.name, lake=world.lake).collect()
    for excerpt in excerpts:
        same = rows.filter(pl.col(column).eq_missing(pl.lit(value)) for column, value in excerpt.first_row.items())
        assert same.height == 1, (
            excerpt.place,
            rows.filter(pl.col("symbol") == excerpt.parsed.symbol).head(2).to_dicts(),
        )


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the folder of the exchanges' own files")
def test_every_longer_sample_has_its_first_row_in_this_package() -> None:
    folders = ("binance/verbatim", "binance/extracted", "bybit/excerpts")
    samples = {
        path.relative_to(SAMPLES).as_posix()
        for folder in folders
        for path in (SAMPLES / folder).rglob("*")
        if path.suffix in {".zip", ".csv"}
    }
    assert samples == set(FIRST_ROWS)
