"""Rows of neighbouring periods that have one key: a file holds the beginning of the next one, or the end of the last.

Only a row outside its own period can have the key of a row in another one, so these are looked for, and for what they
are equal to in the periods beside. The files' statistics tell which files can have any: as a rule none.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import polars as pl

from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.period import Period
from lakehouse_assets.lake.delta.errors import READ_ERRORS, table_error
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.delta import REMEDY, files_of, may_hold, open_table
from lakehouse_assets.tables.table import PERIOD, Table

AT_MOST = 1_000_000
"""Rows outside their period that are looked at; where there are more, they are an error without this."""

_FOUND = pl.Schema({PERIOD: pl.String(), "symbol": pl.String(), "interval": pl.String(), "found": pl.Int64()})
_OTHER = "other"


def shared_keys(lake: Lake, table: Table, periods: Collection[str]) -> pl.DataFrame:
    """``period symbol interval found``: how many rows of ``periods`` have a key of the period before or after.

    Raises StoreError.
    """
    found = open_table(lake, table.place)
    if found is None or not table.schema.key:
        return _FOUND.to_frame()
    files = files_of(found)
    try:
        parts = [
            _shared(lake, table, of_interval, interval, set(periods))
            for (interval,), of_interval in files.group_by("interval")
        ]
    except READ_ERRORS as error:
        raise table_error("Reading", lake, table.place, error, remedy=REMEDY) from error
    return pl.concat([_FOUND.to_frame(), *parts])


def _shared(lake: Lake, table: Table, files: pl.DataFrame, interval: object, periods: set[str]) -> pl.DataFrame:
    beside = {period: _beside(table, period) for period in periods}
    reach = periods.union(*beside.values())
    suspects = _may_leave(table, files, reach)
    if not suspects:
        return _FOUND.to_frame()
    outside = _rows(lake, table, suspects).filter(pl.col(PERIOD).is_in(reach), _is_outside(table))
    strays = outside.head(AT_MOST).collect(engine="streaming")
    if strays.is_empty():
        return _FOUND.to_frame()
    places = pl.DataFrame(
        [(period, other) for period in strays[PERIOD].unique() for other in _beside(table, period)],
        schema={PERIOD: pl.String, _OTHER: pl.String},
        orient="row",
    )
    key = [name for name in table.schema.key if name != "interval"]
    wanted = strays.select(*key, PERIOD).unique().join(places, on=PERIOD)
    others = set(places[_OTHER])
    paths = files.filter(may_hold(files, others))["path"].to_list()
    times = pl.col("time").is_between(strays["time"].min(), strays["time"].max())
    twins = _rows(lake, table, paths).filter(pl.col(PERIOD).is_in(others), times)
    pairs = (
        twins.rename({PERIOD: _OTHER}).join(wanted.lazy(), on=[*key, _OTHER]).select(*key, PERIOD, _OTHER).unique()
    ).collect(engine="streaming")
    both = pl.concat([pairs.select(*key, PERIOD), pairs.select(*key, pl.col(_OTHER).alias(PERIOD))]).unique()
    return (
        both.filter(pl.col(PERIOD).is_in(periods))
        .group_by(PERIOD, "symbol")
        .agg(found=pl.len())
        .with_columns(interval=pl.lit(interval, pl.String))
        .select(_FOUND.names())
        .cast(dict(_FOUND))
    )


def _may_leave(table: Table, files: pl.DataFrame, periods: set[str]) -> list[str]:
    """Paths of the files that may have rows of the periods outside of their own."""
    columns = files.filter(may_hold(files, periods)).select("path", "first_period", "last_period", "earliest", "latest")
    return [path for path, *span in columns.iter_rows() if not _is_within(table, *span)]


def _is_within(
    table: Table, first: str | None, last: str | None, earliest: datetime | None, latest: datetime | None
) -> bool:
    """Whether all rows of a file are of one period, and lie in it."""
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


def _beside(table: Table, period: str) -> list[str]:
    here = Period.parse(period, table.cadence)
    return [str(here.shifted(-1)), str(here.next())]


def _rows(lake: Lake, table: Table, paths: list[str]) -> pl.LazyFrame:
    """The key, time and period of the files' rows, without their folders' names."""
    names = dict.fromkeys([*table.schema.key, "symbol", "time", PERIOD])
    stored = {**table.schema.polars, PERIOD: pl.String()}
    return pl.scan_parquet(
        [lake.url(f"{table.place}/{path}") for path in paths],
        schema={name: dtype for name, dtype in stored.items() if name not in table.partition_by},
        storage_options=lake.delta_options,
        missing_columns="insert",
        hive_partitioning=False,
    ).select(name for name in names if name != "interval")
