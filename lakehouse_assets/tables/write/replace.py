"""Replacing periods of a table in one commit: their new files go in, those that held them go out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from lakehouse_assets.archive.errors import StoreFault
from lakehouse_assets.archive.period import Period, months_of, period_range
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.delta import Commit, commit, dated, id_of, may_hold, next_file_time
from lakehouse_assets.tables.table import MONTH, PERIOD, Table
from lakehouse_assets.tables.write.files import FileWriter


class Replacer:
    """Replaces periods of one table; ``writer`` writes its files."""

    def __init__(self, lake: Lake, table: Table, writer: FileWriter) -> None:
        self._lake = lake
        self._table = table
        self._writer = writer

    def replace(
        self,
        found: DeltaTable,
        files: pl.DataFrame,
        periods: Sequence[str],
        actions: Sequence[AddAction],
        *,
        month: str,
        metadata: Mapping[str, Any],
    ) -> tuple[Commit, list[AddAction]]:
        """Put ``actions``, the new files of ``periods``, in place of what ``files`` (of `files_of`, of the month)
        hold of them. Returns all that was put in.

        Raises CommitFailedError when another writer changed the month since ``found`` was opened.
        """
        replaced = files.filter(may_hold(files, periods))
        file_time = next_file_time(files)
        added = dated(actions, file_time)
        for row in replaced.iter_rows(named=True):
            if not self._holds_only(row, periods):
                # Its other rows are as old as they were.
                added += dated(self._without(row, periods), row["written"])
        version = commit(found, self._table, month=month, add=added, remove=replaced, metadata=metadata)
        return Commit(id_of(found), version, file_time), added

    def _holds_only(self, file: Mapping[str, Any], periods: Collection[str]) -> bool:
        if file["first_period"] is None or file["last_period"] is None:
            return False
        first, last = (Period.parse(file[name], self._table.cadence) for name in ("first_period", "last_period"))
        return {str(period) for period in period_range(first, last)} <= set(periods)

    def _without(self, file: Mapping[str, Any], periods: Sequence[str]) -> list[AddAction]:
        """A file that also holds other periods is written again, with those alone. Raises StoreError."""
        place = f"{self._table.place}/{file['path']}"
        url = self._lake.url(place)
        rows = pl.scan_parquet(url, storage_options=self._lake.delta_options, hive_partitioning=False)
        try:
            rows = rows.filter(~pl.col(PERIOD).is_in(periods)).collect()
        except FileNotFoundError:
            first, last = (file[name] or file[MONTH] for name in ("first_period", "last_period"))
            gone = StoreFault("NotFound", f"it had rows of {first} to {last}: materialize these in one run")
            raise self._lake.error("Reading", place, gone) from None
        missing = [
            pl.lit(file.get(name) if name == "interval" else None, dtype).alias(name)
            for name, dtype in self._table.schema.polars.items()
            if name not in rows.columns
        ]
        return self._writer.write([rows.with_columns(missing)], interval=file["interval"], month=file[MONTH])


def counted(found: DeltaTable, periods: Collection[str]) -> dict[str, int]:
    """The rows of periods of which no record can be believed, counted in the table."""
    if not periods:
        return {}
    months = months_of(periods)
    rows = pl.scan_delta(found).filter(pl.col(MONTH).is_in(months), pl.col(PERIOD).is_in(sorted(periods)))
    return dict(rows.group_by(PERIOD).agg(pl.len()).collect().iter_rows())
