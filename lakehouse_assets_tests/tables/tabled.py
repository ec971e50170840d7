"""A world with real zips of candles as archives, and the table that is built from them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.report import SyncReport
from lakehouse_assets.tables.delta import commit, files_of, open_or_create
from lakehouse_assets.tables.lineage import lineage_of
from lakehouse_assets.tables.query import read_table
from lakehouse_assets.tables.report import BuildReport
from lakehouse_assets.tables.table import Table, TableEntry, tables_of
from lakehouse_assets.tables.write.build import TableBuilder
from lakehouse_assets.tables.write.files import FileWriter
from lakehouse_assets_tests.world import KLINES, World, scope

MONTHLY = "binance/um/klines/monthly"
_STEP = {"1m": timedelta(minutes=1), "1h": timedelta(hours=1)}
_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)


def candles(period: str, interval: str, price: float, *, rows: int | None = None, flat: bool = False) -> str:
    """CSV of a day's or a month's candles, all at one price. With ``flat``, volumes are proportional to the interval,
    so that short candles add up to long ones."""
    monthly = len(period) == len("2024-01")
    start = datetime.fromisoformat(f"{period}-01" if monthly else period).replace(tzinfo=UTC)
    end = (start + timedelta(days=32)).replace(day=1) if monthly else start + timedelta(days=1)
    step = _STEP[interval]
    lines = [_HEADER]
    while start < end and (rows is None or len(lines) <= rows):
        opened, closed = (int(when.timestamp() * 1000) for when in (start, start + step))
        factor = step // timedelta(minutes=1) if flat else 1
        volumes = f"{10 * factor},{closed - 1},{10 * factor * price},{7 * factor},{5 * factor},{5 * factor * price}"
        lines.append(f"{opened},{price},{price + 1},{price - 1},{price},{volumes},0")
        start += step
    return "\n".join(lines) + "\n"


def zipped(name: str, text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}.csv", (2024, 1, 1, 0, 0, 0)), text)
    return buffer.getvalue()


class Tabled:
    """The table binance/um/klines of a world."""

    def __init__(
        self, world: World, *, intervals: Sequence[str] = ("1h",), monthly: bool = False, **fields: Any
    ) -> None:
        self.world = world
        self.published = False
        names = [KLINES, MONTHLY] if monthly else [KLINES]
        self.entries = [world.entry(name, intervals=list(intervals), **fields) for name in names]
        [self.entry] = tables_of(self.entries)

    @property
    def table(self) -> Table:
        return self.entry.table

    def publish(
        self,
        symbols: Iterable[str],
        periods: Iterable[str],
        *,
        interval: str = "1h",
        price: float = 100.0,
        flat: bool = False,
    ) -> list[str]:
        """Publish candles at one price. Returns the keys."""
        self.published = True
        keys = []
        for symbol in symbols:
            for period in periods:
                dataset = MONTHLY if len(period) == len("2024-01") else KLINES
                key = self.world.key(symbol, period, dataset=dataset, interval=interval)
                self.world.put(key, zipped(key.rsplit("/", 1)[1][:-4], candles(period, interval, price, flat=flat)))
                keys.append(key)
        return keys

    def publish_rows(self, symbol: str, period: str, *, rows: int) -> str:
        """Publish only the first rows of a period's candles."""
        key = self.world.key(symbol, period, interval="1h")
        self.world.put(key, zipped(key.rsplit("/", 1)[1][:-4], candles(period, "1h", 100.0, rows=rows)))
        return key

    def sync(self, first: str, last: str | None = None) -> SyncReport:
        """Sync days, or months if the texts are months."""
        cadence = Cadence.MONTHLY if len(first) == len("2024-01") else Cadence.DAILY
        entry = self._entry_of(cadence)
        return self.world.engine().sync(scope(entry, first, last))

    def builder(self, **options: Any) -> TableBuilder:
        return TableBuilder(self.world.source, self.world.lake, self.entry, **options)

    def build(self, *periods: str, **options: Any) -> BuildReport:
        return self.builder().build(periods, **options)

    def rows(self) -> pl.DataFrame:
        """All rows of the table, with symbols without the world's tag."""
        frame = read_table(self.table.name, lake=self.world.lake).collect()
        return frame.with_columns(pl.col("symbol").str.strip_prefix(self.world.tag))

    def prices(self) -> dict[tuple[str, str], set[float]]:
        """Prices by symbol and day."""
        days = pl.col("time").dt.date().dt.to_string("%Y-%m-%d").alias("day")
        grouped = self.rows().group_by("symbol", days).agg(pl.col("close").unique())
        return {(symbol, day): set(prices) for symbol, day, prices in grouped.iter_rows()}

    def lineage(self) -> pl.DataFrame:
        return lineage_of(self.world.lake, self.table).read().sort("period", "symbol", "interval", "key")

    def data_files(self) -> set[str]:
        """The table's Parquet files in the lake, committed or not."""
        return {name for name in self.world.lake_files(self.table.place) if name.endswith(".parquet")}

    def _entry_of(self, cadence: Cadence) -> DatasetEntry:
        return self.entry.entries[cadence]


def made_up_candles(symbols: Sequence[str], days: Sequence[date], interval: str = "1h") -> pl.DataFrame:
    """Rows of binance/um/klines with the column period, in the table's order."""
    step = _STEP[interval]
    times = pl.DataFrame({"day": days}).select(
        period=pl.col("day").dt.to_string("%Y-%m-%d"),
        time=pl.datetime_ranges(
            pl.col("day").cast(pl.Datetime("us", "UTC")),
            pl.col("day").cast(pl.Datetime("us", "UTC")) + timedelta(days=1),
            step,
            closed="left",
        ),
    )
    frame = pl.DataFrame({"symbol": sorted(symbols)}).join(times.explode("time"), how="cross")
    noise = (pl.int_range(pl.len()).hash(seed=1) % 100_003) / 100_003
    values = {name: (noise * 1000).round(2) for name, dtype in _KLINES_SCHEMA.items() if dtype.is_float()}
    return frame.with_columns(
        exchange=pl.lit("binance"),
        market=pl.lit("um"),
        interval=pl.lit(interval),
        close_time=pl.col("time") + step - timedelta(milliseconds=1),
        trade_count=pl.int_range(pl.len()) % 1000,
        **values,
    ).select(*_KLINES_SCHEMA.names(), "period")


def fill(lake: Lake, table: Table, frames: Iterable[pl.DataFrame]) -> None:
    """Commit rows as the builder would, one commit per frame, without archives."""
    for frame in frames:
        month, interval = frame["period"][0][:7], frame["interval"][0]
        delta = open_or_create(lake, table)
        actions = FileWriter(lake, table).write([frame], interval=interval, month=month)
        commit(delta, table, month=month, add=actions, remove=files_of(delta).clear(), metadata={})


_KLINES_SCHEMA = Table.parse("binance/um/klines").schema.polars

__all__ = ["MONTHLY", "Dataset", "TableEntry", "Tabled", "candles", "zipped"]
