"""Reading tables: rows of symbols, an interval and a span of time, as a lazy Polars frame.

Nothing is read before the frame is collected; then only the files, row groups and columns that the
question needs. Months and periods of a row follow from its time, so asking for a span of time rules
out folders and files before any of them is opened.
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
from lakehouse_assets.tables.held import held_lineage
from lakehouse_assets.tables.lineage import ObjectUsage
from lakehouse_assets.tables.snapshot import AsOf, Snapshot, moment, open_snapshot
from lakehouse_assets.tables.table import MONTH, PERIOD, Table

MARGIN = timedelta(days=1)
"""A period's rows lie within a day of it: some exchanges cut days at UTC+8, some files hold the next midnight."""


def read_table(  # noqa: PLR0917 - what is asked for most comes first
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
    """Rows of a table such as ``binance/um/klines``, from ``start`` to before ``end`` (UTC).

    ``symbols`` and ``interval`` are the exchange's words (``BTCUSDT``, ``1m``); None means all.
    ``columns`` are names of the table's schema, also ``month`` and ``period``; all of the schema by
    default. ``as_of`` is a version, a time, or a snapshot's id (see `snapshot`). The lake is that of the
    LAKEHOUSE_LAKE_* variables unless one is given; temporary credentials must live until the frame
    is collected. Rows are not sorted across files. Raises InputError for what does not exist.

    >>> read_table("binance/um/klines", symbols=["BTCUSDT"], interval="1h", start="2024-01-01").collect()
    """
    table = Table.parse(dataset)
    filters = _filters(table, symbols, interval, start, end)
    chosen = _columns(table, columns)
    found = open_snapshot(lake or default_lake(), table, as_of)
    return scan_snapshot(found).filter(*filters).select(chosen)


def snapshot(dataset: str, as_of: AsOf | None = None, *, lake: Lake | None = None) -> Snapshot:
    """The table's newest version, or that of ``as_of``. Its ``id`` is what to cite, and to pass as ``as_of``."""
    return open_snapshot(lake or default_lake(), Table.parse(dataset), as_of)


def scan(table: Table, *, lake: Lake, as_of: AsOf | None = None) -> pl.LazyFrame:
    """All rows and columns, month and period included."""
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
    """What a table holds, per symbol and interval: COVERAGE_SCHEMA, sorted. Empty where there is no table.

    ``periods`` are those with rows, ``from_monthly`` those of them that a monthly archive filled;
    ``quarantined`` and ``missing`` count archive objects. Read from the lineage and the table's log, without its
    rows: periods that the table no longer holds as they were written do not count.
    """
    table = Table.parse(dataset)
    parts = held_lineage(
        lake or default_lake(),
        table,
        columns=["period", "symbol", "interval", "state", "cadence", "rows", "first_time", "last_time"],
    )
    written = pl.col("state") == ObjectUsage.WRITTEN
    has_rows = pl.col("rows") > 0
    return (
        parts.group_by("symbol", "interval")
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
    """The lake of the environment's settings. Raises InputError when none is configured."""
    return load_settings().lake.lake()


def scan_snapshot(found: Snapshot) -> pl.LazyFrame:
    """All rows and columns of a snapshot."""
    return pl.scan_delta(found.delta)


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
            raise InputError(f"The table {table} has no intervals; leave out interval.")
        filters.append(pl.col("interval") == interval)
    time = pl.col(table.schema.time_column)
    if start is not None:
        begin = moment(start, "start")
        first = (begin - MARGIN).date().isoformat()
        filters += [pl.col(MONTH) >= month_of(first), pl.col(PERIOD) >= first[: table.period_length], time >= begin]
    if end is not None:
        stop = moment(end, "end")
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
        raise InputError(f"The table {table} has no column {unknown[0]!r}; it has {', '.join(known)}.")
    return wanted
