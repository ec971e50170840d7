"""Rows of neighbouring periods with the same key: a file contains the beginning of the next or the end of the last one.

Only a row whose time is outside its own period can have the key of a row in another period. These rows are read, and
their keys are looked up in the adjacent periods. The files' statistics exclude files without such rows, as a rule all.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import polars as pl

from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.period import Period
from lakehouse_assets.lake.delta.errors import READ_ERRORS, table_error
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.delta import REMEDY, files_of, may_contain, open_table
from lakehouse_assets.tables.table import PERIOD, Table

MAX_OUTSIDE_ROWS = 1_000_000
"""Rows outside their period that are looked up; more of them are an error anyway (measure ``outside``)."""

_SHARED = pl.Schema({PERIOD: pl.String(), "symbol": pl.String(), "interval": pl.String(), "shared": pl.Int64()})
_OTHER = "other"


def shared_keys(lake: Lake, table: Table, periods: Collection[str]) -> pl.DataFrame:
    """``period symbol interval shared``: how many rows of ``periods`` have a key of the previous or next period.

    Raises StoreError.
    """
    delta = open_table(lake, table.place)
    if delta is None or not table.schema.key:
        return _SHARED.to_frame()
    try:
        by_interval = [
            _shared_in_interval(lake, table, files, interval, set(periods))
            for (interval,), files in files_of(delta).group_by("interval")
        ]
    except READ_ERRORS as error:
        raise table_error("Reading", lake, table.place, error, remedy=REMEDY) from error
    return pl.concat([_SHARED.to_frame(), *by_interval])


def _shared_in_interval(
    lake: Lake, table: Table, files: pl.DataFrame, interval: object, periods: set[str]
) -> pl.DataFrame:
    outside = _outside_rows(lake, table, files, periods.union(*(_adjacent(table, period) for period in periods)))
    if outside.is_empty():
        return _SHARED.to_frame()
    adjacent = pl.DataFrame(
        [(period, other) for period in outside[PERIOD].unique() for other in _adjacent(table, period)],
        schema={PERIOD: pl.String, _OTHER: pl.String},
        orient="row",
    )
    key = [name for name in table.schema.key if name != "interval"]
    wanted = outside.select(*key, PERIOD).unique().join(adjacent, on=PERIOD)
    others = set(adjacent[_OTHER])
    paths = files.filter(may_contain(files, others))["path"].to_list()
    times = pl.col("time").is_between(outside["time"].min(), outside["time"].max())
    candidates = _rows(lake, table, paths).filter(pl.col(PERIOD).is_in(others), times)
    pairs = (
        candidates.rename({PERIOD: _OTHER}).join(wanted.lazy(), on=[*key, _OTHER]).select(*key, PERIOD, _OTHER).unique()
    ).collect(engine="streaming")
    both = pl.concat([pairs.select(*key, PERIOD), pairs.select(*key, pl.col(_OTHER).alias(PERIOD))]).unique()
    return (
        both.filter(pl.col(PERIOD).is_in(periods))
        .group_by(PERIOD, "symbol")
        .agg(shared=pl.len())
        .with_columns(interval=pl.lit(interval, pl.String))
        .select(_SHARED.names())
        .cast(dict(_SHARED))
    )


def _outside_rows(lake: Lake, table: Table, files: pl.DataFrame, periods: set[str]) -> pl.DataFrame:
    """Rows of the periods whose time is outside their own period."""
    candidates = files.filter(may_contain(files, periods))
    columns = candidates.select("path", "first_period", "last_period", "earliest", "latest")
    paths = [path for path, *bounds in columns.iter_rows() if not _is_within(table, *bounds)]
    if not paths:
        return pl.DataFrame()
    outside = _rows(lake, table, paths).filter(pl.col(PERIOD).is_in(periods), _is_outside(table))
    return outside.head(MAX_OUTSIDE_ROWS).collect(engine="streaming")


def _is_within(
    table: Table, first: str | None, last: str | None, earliest: datetime | None, latest: datetime | None
) -> bool:
    """Whether all rows of a file are of one period, with times inside it."""
    if first is None or first != last or earliest is None or latest is None:
        return False
    start, end = exchange_named(table.exchange).bounds(Period.parse(first, table.cadence))
    if table.schema.labels_end:
        return start < earliest and latest <= end
    return start <= earliest and latest < end


def _is_outside(table: Table) -> pl.Expr:
    time = pl.col("time") - (timedelta.resolution if table.schema.labels_end else timedelta(0))
    local = time.dt.convert_time_zone(exchange_named(table.exchange).timezone)
    return local.dt.to_string(table.cadence.key_format) != pl.col(PERIOD)


def _adjacent(table: Table, period: str) -> list[str]:
    parsed = Period.parse(period, table.cadence)
    return [str(parsed.shifted(-1)), str(parsed.next())]


def _rows(lake: Lake, table: Table, paths: list[str]) -> pl.LazyFrame:
    """The key, time and period of the files' rows, without the partition columns."""
    names = dict.fromkeys([*table.schema.key, "symbol", "time", PERIOD])
    stored = {**table.schema.polars, PERIOD: pl.String()}
    return pl.scan_parquet(
        [lake.url(f"{table.place}/{path}") for path in paths],
        schema={name: dtype for name, dtype in stored.items() if name not in table.partition_by},
        storage_options=lake.delta_options,
        missing_columns="insert",
        hive_partitioning=False,
    ).select(name for name in names if name != "interval")
