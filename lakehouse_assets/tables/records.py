"""Records about a table's periods, in a Delta table of their own. Rows are replaced period by period."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError

from lakehouse_assets.archive.period import month_of, months_of
from lakehouse_assets.errors import StoreError
from lakehouse_assets.lake.commit import KEEP_LOG_FILES, commit_attempts, files_by_month, with_missing_columns
from lakehouse_assets.lake.delta.errors import READ_ERRORS, table_error
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.delta import REMEDY, open_table
from lakehouse_assets.tables.table import MONTH, PERIOD

TABLE_VERSION = {"table_id": pl.String(), "version": pl.Int64()}
"""The table (Delta's id) and version that a record describes; null in records older than these columns."""

_COMMIT_DEADLINE_SECONDS = 120.0


class PeriodRecords:
    """Rows of ``schema`` at a path in the lake. The schema has the columns month (the partition column) and period."""

    def __init__(self, lake: Lake, place: str, schema: pl.Schema) -> None:
        self._lake = lake
        self._place = place
        self._schema = schema

    def months(self) -> dict[str, frozenset[str]]:
        """The data files of each month. The rows of a month change only when its files change."""
        table = open_table(self._lake, self._place)
        return {} if table is None else files_by_month(table)

    def read(
        self,
        periods: Sequence[str] = (),
        *,
        months: Sequence[str] = (),
        since: str = "",
        until: str = "",
        columns: Sequence[str] = (),
    ) -> pl.DataFrame:
        """Rows of the given periods or months, or of all periods from ``since`` to ``until`` (both included), unsorted.

        Columns that the stored table does not have are null. Raises StoreError.
        """
        names = list(columns) or self._schema.names()
        table = open_table(self._lake, self._place)
        if table is None:
            return self._schema.to_frame().select(names)
        scan = with_missing_columns(pl.scan_delta(table), self._schema)
        if periods:
            scan = scan.filter(_in_periods(periods))
        elif months:
            scan = scan.filter(pl.col(MONTH).is_in(list(months)))
        elif since or until:
            until = until or "~"
            scan = scan.filter(
                pl.col(MONTH) >= month_of(since),
                pl.col(MONTH) <= month_of(until),
                pl.col(PERIOD) >= since,
                pl.col(PERIOD) <= until,
            )
        try:
            return scan.select(names).collect()
        except READ_ERRORS as error:
            raise self._error("Reading", error) from error

    def revise(
        self, periods: Sequence[str], change: Callable[[pl.DataFrame], pl.DataFrame], *, run_id: str | None
    ) -> pl.DataFrame:
        """Replace the rows of ``periods`` by the result of ``change``, and return the rows that differ.

        ``change`` keeps number and order of the rows. Only periods with a changed row are written. After a commit
        conflict, the rows are read and changed again. Raises StoreError.
        """
        try:
            return commit_attempts(_COMMIT_DEADLINE_SECONDS)(self._revise_once, periods, change, run_id)
        except READ_ERRORS as error:
            raise self._error("Revising", error) from error

    def _revise_once(
        self, periods: Sequence[str], change: Callable[[pl.DataFrame], pl.DataFrame], run_id: str | None
    ) -> pl.DataFrame:
        table = open_table(self._lake, self._place)
        if table is None:
            return self._schema.to_frame()
        rows = with_missing_columns(pl.scan_delta(table).filter(_in_periods(periods)), self._schema)
        before = rows.select(self._schema.names()).collect()
        after = change(before).select(self._schema.names()).cast(dict(self._schema))
        flat = [name for name, dtype in self._schema.items() if not dtype.is_nested()]
        changed = after.filter(pl.any_horizontal(after[name].ne_missing(before[name]) for name in flat))
        if changed.height:
            touched = changed[PERIOD].unique().to_list()
            rewritten = after.filter(_in_periods(touched)).sort(PERIOD, maintain_order=True)
            self._write(table, rewritten, touched, run_id)
        return changed

    def replace(self, periods: Sequence[str], rows: pl.DataFrame, *, run_id: str | None) -> None:
        """Replace all rows of ``periods``, again after a commit conflict. Raises StoreError."""
        rows = rows.select(self._schema.names()).cast(self._schema).sort(PERIOD, maintain_order=True)
        try:
            commit_attempts(_COMMIT_DEADLINE_SECONDS)(self._replace_once, rows, periods, run_id)
        except (DeltaError, OSError) as error:
            raise self._error("Writing", error) from error

    def _replace_once(self, rows: pl.DataFrame, periods: Sequence[str], run_id: str | None) -> None:
        self._write(open_table(self._lake, self._place) or self._create(), rows, periods, run_id)

    def _write(self, table: DeltaTable, rows: pl.DataFrame, periods: Sequence[str], run_id: str | None) -> None:
        """Replace all rows of the periods. Columns that the stored table lacks are added to it."""
        months = ", ".join(f"'{month}'" for month in months_of(periods))
        quoted_periods = ", ".join(f"'{period}'" for period in sorted(periods))
        write_deltalake(
            table,
            rows,
            mode="overwrite",
            predicate=f"{MONTH} IN ({months}) AND {PERIOD} IN ({quoted_periods})",
            schema_mode="merge",
            writer_properties=WriterProperties(compression="ZSTD"),
            commit_properties=CommitProperties(custom_metadata={"run_id": run_id or ""}),
            post_commithook_properties=KEEP_LOG_FILES,
        )

    def _create(self) -> DeltaTable:
        return DeltaTable.create(
            self._lake.url(self._place),
            schema=Schema.from_arrow(self._schema),
            mode="ignore",
            partition_by=[MONTH],
            storage_options=self._lake.delta_options,
        )

    def _error(self, verb: str, error: Exception) -> StoreError:
        return table_error(verb, self._lake, self._place, error, remedy=REMEDY)


def _in_periods(periods: Sequence[str]) -> pl.Expr:
    months = months_of(periods)
    return pl.col(MONTH).is_in(months) & pl.col(PERIOD).is_in(list(periods))
