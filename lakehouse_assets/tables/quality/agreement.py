"""Whether a table agrees with itself: candles of different intervals, and daily with monthly archives.

It reads a complete month again, so it is not part of a build. The comparisons are in tables/quality/comparison.py.
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
from lakehouse_assets.tables.delta import table_id_of
from lakehouse_assets.tables.inputs import inputs_of
from lakehouse_assets.tables.lineage import ObjectUsage
from lakehouse_assets.tables.lineage_check import intact_lineage
from lakehouse_assets.tables.quality.comparison import COMPARISON_SCHEMA, compare_cadences, compare_intervals
from lakehouse_assets.tables.query import scan_snapshot
from lakehouse_assets.tables.read.fetch import IN_MEMORY_BYTES, Fetcher, FetchResult, InputObject
from lakehouse_assets.tables.records import TABLE_VERSION, PeriodRecords
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
        **TABLE_VERSION,
    }
)
"""COMPARISON_SCHEMA per month; ``period`` is the month, and ``measured_at`` is UTC. The last columns name the
compared table version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The comparison of one month. ``rows`` has AGREEMENT_SCHEMA; ``skipped`` has the monthly archives that are too
    large for memory, are quarantined or could not be fetched, by key with the reason."""

    month: str
    rows: pl.DataFrame
    skipped: dict[str, str]
    seconds: float

    @property
    def compared(self) -> int:
        """The number of compared rows."""
        return int(self.rows["compared"].sum())

    @property
    def wrong(self) -> pl.DataFrame:
        """The rows of symbols that differ or have rows on one side only, the worst first."""
        disagreeing = pl.sum_horizontal("differing", "only_left", "only_right")
        return self.rows.filter(disagreeing > 0).sort(disagreeing, descending=True)


def can_be_compared(entry: TableEntry) -> bool:
    """Whether a table has data to compare: two intervals of which one divides the other, or both cadences."""
    return len(entry.entries) > 1 or bool(_pairs(entry.table, _intervals(entry)))


def compare_month(source: Bucket, lake: Lake, entry: TableEntry, month: str, *, run_id: str | None) -> Agreement:
    """Compare the intervals of a month with each other and its rows with monthly archives, and record the result.

    Raises InputError if the lake does not have the table, StoreError if the lake cannot be read or written.
    """
    started = time.monotonic()
    table = entry.table
    compared = open_snapshot(lake, table)
    rows = scan_snapshot(compared).filter(pl.col(MONTH) == month)
    comparisons = [COMPARISON_SCHEMA.to_frame(), *_across_intervals(table, rows, _intervals(entry))]
    skipped: dict[str, str] = {}
    if len(entry.entries) > 1:
        for key, result in _across_cadences(source, lake, entry, month, rows):
            if isinstance(result, str):
                skipped[key] = result
            else:
                comparisons.append(result)
    results = pl.concat(comparisons).with_columns(
        month=pl.lit(month),
        period=pl.lit(month),
        run_id=pl.lit(run_id, pl.String),
        measured_at=pl.lit(datetime.now(UTC), AGREEMENT_SCHEMA["measured_at"]),
        table_id=pl.lit(table_id_of(compared.delta)),
        version=pl.lit(compared.version, AGREEMENT_SCHEMA["version"]),
    )
    results = results.select(AGREEMENT_SCHEMA.names())
    PeriodRecords(lake, table.agreement_place, AGREEMENT_SCHEMA).replace([month], results, run_id=run_id)
    return Agreement(month=month, rows=results, skipped=skipped, seconds=time.monotonic() - started)


def _intervals(entry: TableEntry) -> list[str]:
    return list(
        dict.fromkeys(interval for dataset_entry in entry.entries.values() for interval in dataset_entry.intervals)
    )


def _pairs(table: Table, intervals: list[str]) -> list[tuple[str, str]]:
    """Each interval with the next longer one that it divides. Tables without volumes have no intervals to compare.
    Intervals longer than a day are left out, since the comparison reads one day at a time."""
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
    """Compare day by day, so that memory is bounded by a day of the shortest interval."""
    for short, long in _pairs(table, intervals):
        days = rows.filter(pl.col("interval") == long).select(pl.col(PERIOD).unique().sort()).collect()[PERIOD]
        comparisons = []
        for day in days:
            day_rows = rows.filter(pl.col(PERIOD) == day)
            fine, coarse = (day_rows.filter(pl.col("interval") == name).collect() for name in (short, long))
            # Only symbols with both intervals: the check of files reports missing files.
            fine = fine.join(coarse, on="symbol", how="semi")
            coarse = coarse.join(fine, on="symbol", how="semi")
            if fine.height:
                comparisons.append(compare_intervals(fine, coarse, schema=table.schema))
        if comparisons:
            yield _summed(pl.concat(comparisons))


def _across_cadences(
    source: Bucket, lake: Lake, entry: TableEntry, month: str, rows: pl.LazyFrame
) -> Iterator[tuple[str, pl.DataFrame | str]]:
    """Compare monthly archives with the table's rows from daily archives. Yields the key of each monthly archive, and
    its comparison or the reason why it was not compared."""
    table = entry.table
    if not table.schema.key:
        return
    dataset = entry.entries[Cadence.MONTHLY].dataset
    columns = [MONTH, PERIOD, "symbol", "interval", "state", "cadence"]
    lineage = intact_lineage(lake, table, columns=columns, since=month)
    daily = (
        lineage.filter(
            pl.col(MONTH) == month, pl.col("cadence") == Cadence.DAILY, pl.col("state") == ObjectUsage.WRITTEN
        )
        .group_by("symbol", "interval")
        .agg(days=pl.col(PERIOD))
    )
    monthly = inputs_of(table, {Cadence.MONTHLY: Manifest(lake, dataset).read([month])}, [f"{month}-01"], {}).used
    both = monthly.join(daily, on=["symbol", "interval"], nulls_equal=True)
    large = both.filter(pl.col("size") > IN_MEMORY_BYTES)
    for key in large["key"]:
        yield key, f"it is larger than {IN_MEMORY_BYTES:,} bytes"
    both = both.filter(pl.col("size") <= IN_MEMORY_BYTES).sort("interval", "symbol")
    days = dict(both.select("key", "days").iter_rows())
    fetcher = Fetcher(lake, table.schema, Verifier(source, lake))
    objects = ((dataset, InputObject(row)) for row in both.drop("days").iter_rows(named=True))
    for fetched in fetcher.in_order(objects):
        yield fetched.archive_object.key, _compared_with_monthly(table, rows, fetched, days[fetched.archive_object.key])


def _compared_with_monthly(
    table: Table, rows: pl.LazyFrame, fetched: FetchResult, days: list[str]
) -> pl.DataFrame | str:
    if fetched.error is not None:
        return str(fetched.error)
    same_symbol = pl.col("symbol") == fetched.archive_object.row["symbol"]
    if table.schema.has_interval:
        same_symbol &= pl.col("interval") == fetched.archive_object.row["interval"]
    names = table.schema.polars.names()
    daily = rows.filter(same_symbol, pl.col(PERIOD).is_in(days)).select(names).collect()
    frames = list(fetched.frames)
    monthly = pl.concat(frames) if frames else table.schema.polars.to_frame()
    local = pl.col(table.schema.time_column).dt.convert_time_zone(exchange_named(table.exchange).timezone)
    in_days = local.dt.to_string(Cadence.DAILY.key_format).is_in(days)
    return compare_cadences(daily, monthly.filter(in_days), schema=table.schema)


def _summed(comparisons: pl.DataFrame) -> pl.DataFrame:
    counts = ("compared", "differing", "only_left", "only_right")
    return (
        comparisons.group_by("symbol", "interval", "comparison", maintain_order=True)
        .agg(
            pl.col(*counts).sum(),
            pl.col("differing_columns").explode().unique().sort(),
            pl.col("worst").max(),
            pl.col("first_difference").min(),
        )
        .select(COMPARISON_SCHEMA.names())
        .cast(dict(COMPARISON_SCHEMA))
    )
