"""Measuring the quality of rows as they pass to the table's files, and keeping the results.

The checks themselves are tables/quality/rows.py's. They look at all rows of a period, symbol and interval
together, so frames are held until enough symbols are whole; columns that no check looks at are not held.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime

import polars as pl

from lakehouse_assets.archive.period import Cadence, Period, month_expr
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.delta import Commit
from lakehouse_assets.tables.quality.rows import QUALITY_SCHEMA, check_rows
from lakehouse_assets.tables.records import RECORD_OF, PeriodRecords
from lakehouse_assets.tables.schema import TableSchema
from lakehouse_assets.tables.table import PERIOD, Table

HELD_ROWS = 512 * 1024
"""Rows that are held for measuring, and a symbol's rows beyond."""

QUALITY_TABLE_SCHEMA = pl.Schema(
    {
        "month": pl.String,
        **QUALITY_SCHEMA,
        "run_id": pl.String,
        "measured_at": pl.Datetime("us", "UTC"),
        **RECORD_OF,
    }
)
"""QUALITY_SCHEMA, which run measured when (UTC), and of which table."""


def quality_of(lake: Lake, table: Table) -> PeriodRecords:
    """The table's quality records in a lake."""
    return PeriodRecords(lake, table.quality_place, QUALITY_TABLE_SCHEMA)


def quality_records(results: pl.DataFrame, committed: Commit, run_id: str | None) -> pl.DataFrame:
    """Results of the checks as they are kept."""
    return results.with_columns(
        month=month_expr(pl.col(PERIOD)),
        run_id=pl.lit(run_id, pl.String),
        measured_at=pl.lit(datetime.now(UTC), QUALITY_TABLE_SCHEMA["measured_at"]),
        **committed.columns,
    )


class Measurer:
    """Measures the rows of some periods, every symbol as if it were there all the time."""

    def __init__(self, schema: TableSchema) -> None:
        self._schema = schema
        looked_at = {"symbol", "interval", schema.time_column, "close_time", *schema.key, schema.id_column}
        looked_at.update(name for relation in schema.relations for name in relation.columns)
        self._columns = [
            name for name, dtype in schema.polars.items() if name in looked_at or dtype.is_float() or dtype.is_integer()
        ]
        self._held: list[pl.DataFrame] = []
        self._rows = 0
        self._results: list[pl.DataFrame] = []

    def watch(self, frames: Iterable[tuple[str, pl.DataFrame]]) -> Iterator[tuple[str, pl.DataFrame]]:
        """Pass frames on, symbol by symbol, and measure them."""
        last = None
        for symbol, frame in frames:
            if symbol != last and self._rows >= HELD_ROWS:
                self._measure()
            last = symbol
            self._held.append(frame.select(*self._columns, PERIOD))
            self._rows += frame.height
            yield symbol, frame
        self._measure()

    def results(self, empty: Iterable[tuple[str, str, str | None]]) -> pl.DataFrame:
        """Everything measured, and the periods, symbols and intervals of archives that have no rows."""
        by_period: dict[str, list[tuple[str, str | None]]] = {}
        for period, symbol, interval in empty:
            by_period.setdefault(period, []).append((symbol, interval))
        nothing = pl.Schema({name: self._schema.polars[name] for name in self._columns}).to_frame()
        more = [self._check(nothing, period, files) for period, files in by_period.items()]
        return pl.concat([QUALITY_SCHEMA.to_frame(), *self._results, *more])

    def _measure(self) -> None:
        if not self._held:
            return
        frame = pl.concat(self._held)
        self._held, self._rows = [], 0
        for (period,), rows in frame.group_by(PERIOD):
            self._results.append(self._check(rows.drop(PERIOD), str(period)))

    def _check(self, rows: pl.DataFrame, period: str, files: Collection[tuple[str, str | None]] = ()) -> pl.DataFrame:
        cadence = Cadence.MONTHLY if len(period) == len("2024-01") else Cadence.DAILY
        return check_rows(
            rows,
            schema=self._schema,
            period=Period.parse(period, cadence),
            files=files,
        )
