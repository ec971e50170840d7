"""Reading tables: rows of some symbols, an interval and a time window, as a lazy Polars frame.

Rows are read when the frame is collected, and then only the files, row groups and columns that the query
needs. The month and period of a row follow from its time, so a time window excludes folders and files
before any file is opened.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta

import polars as pl

from lakehouse_assets.archive.period import month_of
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.settings import load_settings
from lakehouse_assets.tables.delta import stored_schema
from lakehouse_assets.tables.lineage import ObjectUsage
from lakehouse_assets.tables.lineage_check import intact_lineage
from lakehouse_assets.tables.snapshot import AsOf, Snapshot, open_snapshot, utc_time
from lakehouse_assets.tables.table import MONTH, PERIOD, Table

MARGIN = timedelta(days=1)
"""A row's time is at most a day outside its period: some exchanges cut days at UTC+8, and some files contain
the next midnight."""


def read_table(  # noqa: PLR0917 - ordered by how often a parameter is used
    dataset: str,
    symbols: str | Iterable[str] | None = None,
    interval: str | None = None,
    start: str | date | datetime | None = None,
    end: str | date | datetime | None = None,
    columns: Iterable[str] | None = None,
    as_of: AsOf | None = None,
    *,
    lake: Lake | None = None,
) -> pl.LazyFrame:
    """Rows of a table such as ``binance/um/klines`` as a lazy frame.

    ``symbols`` and ``interval`` are spelled as the exchange spells them (``BTCUSDT``, ``1m``); None selects all.
    ``start`` is included and ``end`` is not; a text is ISO 8601, a time without a zone is UTC, and a date means its
    midnight in UTC. Times in the result are UTC with microseconds. ``columns`` are names of the table's schema, or
    ``month`` and ``period`` of the archive; the default is all columns of the schema, without these two. ``as_of``
    is a version, a time or a snapshot id (see `snapshot`); the default is the newest version. The lake is the one of
    the LAKEHOUSE_LAKE_* variables unless ``lake`` is given; temporary credentials must stay valid until the
    frame is collected. Rows of several files come in no order.

    Raises InputError when the table, column, interval or version does not exist, or a time cannot be parsed;
    StoreError when the lake cannot be read. A symbol that the table does not have gives no rows.

    >>> read_table("binance/um/klines", symbols=["BTCUSDT"], interval="1h", start="2024-01-01").collect()
    """
    table = Table.parse(dataset)
    filters = _filters(table, symbols, interval, start, end)
    selected = _columns(table, columns)
    opened = open_snapshot(lake or default_lake(), table, as_of)
    return scan_snapshot(opened).filter(*filters).select(selected)


def snapshot(dataset: str, as_of: AsOf | None = None, *, lake: Lake | None = None) -> Snapshot:
    """The table's newest version, or the version of ``as_of``.

    Cite its ``id``, and pass it as ``as_of`` to read the same rows again. Raises InputError when the table or version
    does not exist or is no longer kept, StoreError when the lake cannot be read.
    """
    return open_snapshot(lake or default_lake(), Table.parse(dataset), as_of)


def scan(table: Table, *, lake: Lake, as_of: AsOf | None = None) -> pl.LazyFrame:
    """All rows and columns of a table, including month and period. Raises as `snapshot` does."""
    return scan_snapshot(open_snapshot(lake, table, as_of))


COVERAGE_SCHEMA = pl.Schema(
    {
        "symbol": pl.String,
        "interval": pl.String,
        "first_period": pl.String,
        "last_period": pl.String,
        "periods": pl.Int64,
        "rows": pl.Int64,
        "first_time": pl.Datetime("us", "UTC"),
        "last_time": pl.Datetime("us", "UTC"),
        "from_monthly": pl.Int64,
        "quarantined": pl.Int64,
        "missing": pl.Int64,
    }
)


def coverage(dataset: str, *, lake: Lake | None = None) -> pl.DataFrame:
    """What a table contains, a row per symbol and interval (COVERAGE_SCHEMA), sorted by interval and symbol.

    ``periods`` counts the periods with rows, ``from_monthly`` those of a daily table whose rows come from a monthly
    archive; ``quarantined`` and ``missing`` count archive objects. ``first_time`` and ``last_time`` are UTC. The frame
    is empty when the lake does not have the table. It is read from the lineage and the table's log, not from its rows:
    periods whose rows were changed or removed since they were written do not count. Raises InputError for a table
    without a schema, StoreError when the lake cannot be read.
    """
    table = Table.parse(dataset)
    lineage = intact_lineage(
        lake or default_lake(),
        table,
        columns=["period", "symbol", "interval", "state", "cadence", "rows", "first_time", "last_time"],
    )
    written = pl.col("state") == ObjectUsage.WRITTEN
    has_rows = pl.col("rows") > 0
    return (
        lineage.group_by("symbol", "interval")
        .agg(
            first_period=pl.col("period").filter(has_rows).min(),
            last_period=pl.col("period").filter(has_rows).max(),
            periods=pl.col("period").filter(has_rows).n_unique(),
            rows=pl.col("rows").sum(),
            first_time=pl.col("first_time").min(),
            last_time=pl.col("last_time").max(),
            from_monthly=(written & has_rows & (pl.col("cadence") != table.cadence.value)).sum(),
            quarantined=(pl.col("state") == ObjectUsage.QUARANTINED).sum(),
            missing=(pl.col("state") == ObjectUsage.MISSING).sum(),
        )
        .cast(COVERAGE_SCHEMA)
        .sort("interval", "symbol")
    )


def default_lake() -> Lake:
    """The lake that the environment configures. Raises InputError without one."""
    return load_settings().lake.lake()


def scan_snapshot(opened: Snapshot) -> pl.LazyFrame:
    """All rows and columns of a snapshot."""
    return pl.scan_delta(opened.delta)


def _filters(
    table: Table,
    symbols: str | Iterable[str] | None,
    interval: str | None,
    start: str | date | datetime | None,
    end: str | date | datetime | None,
) -> list[pl.Expr]:
    filters = []
    if symbols is not None:
        wanted = [symbols] if isinstance(symbols, str) else list(symbols)
        filters.append(pl.col("symbol").is_in(wanted) if len(wanted) != 1 else pl.col("symbol") == wanted[0])
    if interval is not None:
        if not table.schema.has_interval:
            raise InputError(f"The table {table} has no intervals; omit interval.")
        filters.append(pl.col("interval") == interval)
    time = pl.col(table.schema.time_column)
    if start is not None:
        begin = utc_time(start, "start")
        first = (begin - MARGIN).date().isoformat()
        filters += [pl.col(MONTH) >= month_of(first), pl.col(PERIOD) >= first[: table.period_length], time >= begin]
    if end is not None:
        stop = utc_time(end, "end")
        last = (stop - timedelta.resolution + MARGIN).date().isoformat()
        filters += [pl.col(MONTH) <= month_of(last), pl.col(PERIOD) <= last[: table.period_length], time < stop]
    return filters


def _columns(table: Table, columns: Iterable[str] | None) -> list[str]:
    if columns is None:
        return table.schema.polars.names()
    wanted = [columns] if isinstance(columns, str) else list(columns)
    known = stored_schema(table)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(f"The table {table} has no column {unknown[0]!r}; its columns are {', '.join(known)}.")
    return wanted
