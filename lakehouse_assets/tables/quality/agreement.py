"""Whether a table agrees with itself: short candles with long ones, daily archives with monthly ones.

It reads a month again, so it is a step of its own. The comparisons are tables/quality/comparison.py's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations

import polars as pl

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.sync.integrity.verify import Verifier
from lakehouse_assets.tables.delta import id_of
from lakehouse_assets.tables.held import held_lineage
from lakehouse_assets.tables.inputs import inputs_of
from lakehouse_assets.tables.lineage import ObjectUsage
from lakehouse_assets.tables.quality.comparison import COMPARISON_SCHEMA, compare_cadences, compare_intervals
from lakehouse_assets.tables.query import scan_snapshot
from lakehouse_assets.tables.read.fetch import AT_ONCE_BYTES, Fetched, Fetcher, Item
from lakehouse_assets.tables.records import RECORD_OF, PeriodRecords
from lakehouse_assets.tables.schemas.interval import duration
from lakehouse_assets.tables.snapshot import open_snapshot
from lakehouse_assets.tables.table import MONTH, PERIOD, Table, TableEntry

AGREEMENT_SCHEMA = pl.Schema(
    {
        "month": pl.String,
        "period": pl.String,
        **COMPARISON_SCHEMA,
        "run_id": pl.String,
        "measured_at": pl.Datetime("us", "UTC"),
        **RECORD_OF,
    }
)
"""COMPARISON_SCHEMA per month; ``period`` is the month, and ``measured_at`` is UTC. Of which table it
tells is recorded with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What comparing one month found: AGREEMENT_SCHEMA, and ``skipped`` monthly archives that were too large
    to be held, quarantined, or could not be fetched, each with the reason."""

    month: str
    rows: pl.DataFrame
    skipped: dict[str, str]
    seconds: float

    @property
    def compared(self) -> int:
        return int(self.rows["compared"].sum())

    @property
    def wrong(self) -> pl.DataFrame:
        """Parts that differ or have rows on one side only, the worst first."""
        bad = pl.sum_horizontal("differing", "only_left", "only_right")
        return self.rows.filter(bad > 0).sort(bad, descending=True)


def can_be_compared(entry: TableEntry) -> bool:
    """Whether there is anything to compare in a table: two intervals that divide one another, or both cadences."""
    return len(entry.entries) > 1 or bool(_pairs(entry.table, _intervals(entry)))


def compare_month(source: Bucket, lake: Lake, entry: TableEntry, month: str, *, run_id: str | None) -> Agreement:
    """Compare a month of a table with itself and with its monthly archives, and record what was found.

    Raises InputError where there is no such table, StoreError where the lake cannot be read.
    """
    started = time.monotonic()
    table = entry.table
    compared = open_snapshot(lake, table)
    rows = scan_snapshot(compared).filter(pl.col(MONTH) == month)
    found = [COMPARISON_SCHEMA.to_frame(), *_across_intervals(table, rows, _intervals(entry))]
    skipped: dict[str, str] = {}
    if len(entry.entries) > 1:
        for key, result in _across_cadences(source, lake, entry, month, rows):
            if isinstance(result, str):
                skipped[key] = result
            else:
                found.append(result)
    results = pl.concat(found).with_columns(
        month=pl.lit(month),
        period=pl.lit(month),
        run_id=pl.lit(run_id, pl.String),
        measured_at=pl.lit(datetime.now(UTC), AGREEMENT_SCHEMA["measured_at"]),
        table_id=pl.lit(id_of(compared.delta)),
        version=pl.lit(compared.version, AGREEMENT_SCHEMA["version"]),
    )
    results = results.select(AGREEMENT_SCHEMA.names())
    PeriodRecords(lake, table.agreement_place, AGREEMENT_SCHEMA).replace([month], results, run_id=run_id)
    return Agreement(month=month, rows=results, skipped=skipped, seconds=time.monotonic() - started)


def _intervals(entry: TableEntry) -> list[str]:
    return list(dict.fromkeys(interval for each in entry.entries.values() for interval in each.intervals))


def _pairs(table: Table, intervals: list[str]) -> list[tuple[str, str]]:
    """Each interval with the next longer one that it divides; volumes tell whether rows can be summed up. None is
    longer than a day, since of one day not all is read that such a candle holds."""
    if "volume" not in table.schema.polars:
        return []
    lengths = {
        interval: length
        for interval in intervals
        if (length := duration(interval)) is not None and length <= timedelta(days=1)
    }
    ordered = sorted(lengths, key=lambda interval: lengths[interval])
    pairs = [(short, long) for short, long in combinations(ordered, 2) if not lengths[long] % lengths[short]]
    return list({short: (short, long) for short, long in reversed(pairs)}.values())


def _across_intervals(table: Table, rows: pl.LazyFrame, intervals: list[str]) -> Iterator[pl.DataFrame]:
    """Day by day, so that a day of the shortest interval is all that is held."""
    for short, long in _pairs(table, intervals):
        days = rows.filter(pl.col("interval") == long).select(pl.col(PERIOD).unique().sort()).collect()[PERIOD]
        parts = []
        for day in days:
            of_day = rows.filter(pl.col(PERIOD) == day)
            fine, coarse = (of_day.filter(pl.col("interval") == each).collect() for each in (short, long))
            # Symbols that have both; whole files that are missing are the check of files.
            fine = fine.join(coarse, on="symbol", how="semi")
            coarse = coarse.join(fine, on="symbol", how="semi")
            if fine.height:
                parts.append(compare_intervals(fine, coarse, schema=table.schema))
        if parts:
            yield _summed(pl.concat(parts))


def _across_cadences(
    source: Bucket, lake: Lake, entry: TableEntry, month: str, rows: pl.LazyFrame
) -> Iterator[tuple[str, pl.DataFrame | str]]:
    """Monthly archives with the rows of the days that daily archives filled: by key, or why they were not compared."""
    table = entry.table
    if not table.schema.key:
        return
    dataset = entry.entries[Cadence.MONTHLY].dataset
    columns = [MONTH, PERIOD, "symbol", "interval", "state", "cadence"]
    lineage = held_lineage(lake, table, columns=columns, since=month)
    daily = (
        lineage.filter(
            pl.col(MONTH) == month, pl.col("cadence") == Cadence.DAILY, pl.col("state") == ObjectUsage.WRITTEN
        )
        .group_by("symbol", "interval")
        .agg(days=pl.col(PERIOD))
    )
    monthly = inputs_of(table, {Cadence.MONTHLY: Manifest(lake, dataset).read([month])}, [f"{month}-01"], {}).used
    both = monthly.join(daily, on=["symbol", "interval"], nulls_equal=True)
    large = both.filter(pl.col("size") > AT_ONCE_BYTES)
    for key in large["key"]:
        yield key, f"it has more than {AT_ONCE_BYTES} bytes"
    both = both.filter(pl.col("size") <= AT_ONCE_BYTES).sort("interval", "symbol")
    days = dict(both.select("key", "days").iter_rows())
    fetcher = Fetcher(lake, table.schema, Verifier(source, lake))
    for fetched in fetcher.in_order((dataset, Item(row)) for row in both.drop("days").iter_rows(named=True)):
        yield fetched.item.key, _with_monthly(table, rows, fetched, days[fetched.item.key])


def _with_monthly(table: Table, rows: pl.LazyFrame, fetched: Fetched, days: list[str]) -> pl.DataFrame | str:
    if fetched.error is not None:
        return str(fetched.error)
    of_file = pl.col("symbol") == fetched.item.row["symbol"]
    if table.schema.has_interval:
        of_file &= pl.col("interval") == fetched.item.row["interval"]
    names = table.schema.polars.names()
    daily = rows.filter(of_file, pl.col(PERIOD).is_in(days)).select(names).collect()
    frames = list(fetched.frames)
    monthly = pl.concat(frames) if frames else table.schema.polars.to_frame()
    local = pl.col(table.schema.time_column).dt.convert_time_zone(exchange_named(table.exchange).timezone)
    in_days = local.dt.to_string(Cadence.DAILY.key_format).is_in(days)
    return compare_cadences(daily, monthly.filter(in_days), schema=table.schema)


def _summed(parts: pl.DataFrame) -> pl.DataFrame:
    counts = ("compared", "differing", "only_left", "only_right")
    return (
        parts.group_by("symbol", "interval", "comparison", maintain_order=True)
        .agg(
            pl.col(*counts).sum(),
            pl.col("differing_columns").explode().unique().sort(),
            pl.col("worst").max(),
            pl.col("first_difference").min(),
        )
        .select(COMPARISON_SCHEMA.names())
        .cast(dict(COMPARISON_SCHEMA))
    )
