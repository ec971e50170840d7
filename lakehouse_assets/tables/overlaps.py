"""Rows of neighbouring periods that have one key: a file holds the beginning of the next one, or the end of the last.

Only a row outside its own period can have the key of a row in another one, so these are looked for, and for what they
are equal to in the periods beside. The files' statistics tell which files can have any: as a rule none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.period import Period
from lakehouse_assets.archive.store_errors import fault_of
from lakehouse_assets.errors import StoreError
from lakehouse_assets.sync.lake import Lake
from lakehouse_assets.tables.delta import READ_ERRORS, open_table
from lakehouse_assets.tables.schemas.readers import UTC_MICROSECONDS
from lakehouse_assets.tables.table import PERIOD, Table

AT_MOST = 1_000_000
"""Rows outside their period that are looked at; where there are more, they are an error without this."""

_FOUND = pl.Schema({PERIOD: pl.String(), "symbol": pl.String(), "interval": pl.String(), "found": pl.Int64()})
_OTHER = "other"


class _File(NamedTuple):
    """A file of the table, and the least and greatest of its periods and times; None where they are unknown."""

    path: str
    interval: str | None
    first: str | None
    last: str | None
    earliest: datetime | None
    latest: datetime | None

    def holds(self, periods: set[str]) -> bool:
        """Whether it may have rows of any of the periods."""
        first, last = self.first, self.last
        return first is None or last is None or any(first <= period <= last for period in periods)


def shared_keys(lake: Lake, table: Table, periods: Collection[str]) -> pl.DataFrame:
    """``period symbol interval found``: how many rows of ``periods`` have a key of the period before or after.

    Raises StoreError.
    """
    found = open_table(lake, table.place)
    if found is None or not table.schema.key:
        return _FOUND.to_frame()
    files = _files(found)
    try:
        parts = [
            _shared(lake, table, [file for file in files if file.interval == interval], interval, set(periods))
            for interval in {file.interval for file in files}
        ]
    except READ_ERRORS as error:
        raise StoreError(f"Reading {lake.url(table.place)} failed: {fault_of(error)}.") from error
    return pl.concat([_FOUND.to_frame(), *parts])


def _shared(lake: Lake, table: Table, files: Sequence[_File], interval: str | None, periods: set[str]) -> pl.DataFrame:
    beside = {period: _beside(table, period) for period in periods}
    reach = periods.union(*beside.values())
    suspects = [file.path for file in files if _may_leave(table, file, reach)]
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
    paths = [file.path for file in files if file.holds(others)]
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


def _files(found: DeltaTable) -> list[_File]:
    actions = pl.DataFrame(found.get_add_actions(flatten=True))
    sources = {
        "path": pl.String,
        "partition.interval": pl.String,
        f"min.{PERIOD}": pl.String,
        f"max.{PERIOD}": pl.String,
        "min.time": UTC_MICROSECONDS,
        "max.time": UTC_MICROSECONDS,
    }
    columns = [
        (pl.col(name) if name in actions.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in sources.items()
    ]
    return [_File(*row) for row in actions.select(columns).iter_rows()]


def _may_leave(table: Table, file: _File, periods: set[str]) -> bool:
    """Whether a file may have rows of the periods that lie outside of their own."""
    if not file.holds(periods):
        return False
    if file.first is None or file.first != file.last or file.earliest is None or file.latest is None:
        return True
    start, end = exchange_named(table.exchange).bounds(Period.parse(file.first, table.cadence))
    if table.schema.labels_end:
        return not (start < file.earliest and file.latest <= end)
    return not (start <= file.earliest and file.latest < end)


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
