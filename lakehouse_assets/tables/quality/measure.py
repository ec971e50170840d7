"""Runs the quality checks on rows while they are written to the table's files, and stores the results.

The checks (tables/quality/rows.py) need all rows of a period, symbol and interval together, so frames are buffered
until enough symbols are complete. Only the columns that the checks need are buffered.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime

import polars as pl

from lakehouse_assets.archive.period import Cadence, Period, month_expr
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.delta import Commit
from lakehouse_assets.tables.quality.rows import QUALITY_SCHEMA, check_rows
from lakehouse_assets.tables.records import TABLE_VERSION, PeriodRecords
from lakehouse_assets.tables.schemas.model import TableSchema
from lakehouse_assets.tables.table import PERIOD, Table

BUFFERED_ROWS = 512 * 1024
"""The buffer is measured when it has this many rows and the current symbol is complete."""

QUALITY_TABLE_SCHEMA = pl.Schema(
    {
        "month": pl.String,
        **QUALITY_SCHEMA,
        "run_id": pl.String,
        "measured_at": pl.Datetime("us", "UTC"),
        **TABLE_VERSION,
    }
)
"""QUALITY_SCHEMA, the run and time (UTC) of the check, and the checked table version."""


def quality_of(lake: Lake, table: Table) -> PeriodRecords:
    """The table's quality records in a lake."""
    return PeriodRecords(lake, table.quality_place, QUALITY_TABLE_SCHEMA)


def quality_records(results: pl.DataFrame, committed: Commit, run_id: str | None) -> pl.DataFrame:
    """Results of the checks as rows of QUALITY_TABLE_SCHEMA."""
    return results.with_columns(
        month=month_expr(pl.col(PERIOD)),
        run_id=pl.lit(run_id, pl.String),
        measured_at=pl.lit(datetime.now(UTC), QUALITY_TABLE_SCHEMA["measured_at"]),
        **committed.columns,
    )


class Measurer:
    """Measures the rows of some periods. Every symbol is taken to exist all the time."""

    def __init__(self, schema: TableSchema) -> None:
        self._schema = schema
        needed = {"symbol", "interval", schema.time_column, "close_time", *schema.key, schema.id_column}
        needed.update(name for relation in schema.relations for name in relation.columns)
        self._columns = [
            name for name, dtype in schema.polars.items() if name in needed or dtype.is_float() or dtype.is_integer()
        ]
        self._buffer: list[pl.DataFrame] = []
        self._rows = 0
        self._results: list[pl.DataFrame] = []

    def observe(self, frames: Iterable[tuple[str, pl.DataFrame]]) -> Iterator[tuple[str, pl.DataFrame]]:
        """Pass on (symbol, frame) pairs, which come symbol by symbol, and measure them."""
        last = None
        for symbol, frame in frames:
            if symbol != last and self._rows >= BUFFERED_ROWS:
                self._measure()
            last = symbol
            self._buffer.append(frame.select(*self._columns, PERIOD))
            self._rows += frame.height
            yield symbol, frame
        self._measure()

    def results(self, empty: Iterable[tuple[str, str, str | None]]) -> pl.DataFrame:
        """All results. ``empty`` are the (period, symbol, interval) of archives without rows."""
        by_period: dict[str, list[tuple[str, str | None]]] = {}
        for period, symbol, interval in empty:
            by_period.setdefault(period, []).append((symbol, interval))
        no_rows = pl.Schema({name: self._schema.polars[name] for name in self._columns}).to_frame()
        of_empty = [self._check(no_rows, period, files) for period, files in by_period.items()]
        return pl.concat([QUALITY_SCHEMA.to_frame(), *self._results, *of_empty])

    def _measure(self) -> None:
        if not self._buffer:
            return
        frame = pl.concat(self._buffer)
        self._buffer, self._rows = [], 0
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
