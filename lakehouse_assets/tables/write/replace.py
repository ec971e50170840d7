"""Replaces periods of a table in one commit that adds their new files and removes the old ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from lakehouse_assets.archive.errors import StoreFault
from lakehouse_assets.archive.period import Period, months_of, period_range
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.delta import Commit, commit, may_contain, next_file_time, table_id_of, with_file_time
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
        delta: DeltaTable,
        files: pl.DataFrame,
        periods: Sequence[str],
        actions: Sequence[AddAction],
        *,
        month: str,
        metadata: Mapping[str, Any],
    ) -> tuple[Commit, list[AddAction]]:
        """Replace the rows of ``periods`` in ``files`` (of `files_of`, of the month) by the new files ``actions``.

        Returns the commit, and all added files. Raises CommitFailedError when another writer changed the month since
        ``delta`` was opened.
        """
        replaced = files.filter(may_contain(files, periods))
        file_time = next_file_time(files)
        added = with_file_time(actions, file_time)
        for row in replaced.iter_rows(named=True):
            if not self._contains_only(row, periods):
                # The file's other rows keep their age.
                added += with_file_time(self._rewrite_without(row, periods), row["written"])
        version = commit(delta, self._table, month=month, add=added, remove=replaced, metadata=metadata)
        return Commit(table_id_of(delta), version, file_time), added

    def _contains_only(self, file: Mapping[str, Any], periods: Collection[str]) -> bool:
        if file["first_period"] is None or file["last_period"] is None:
            return False
        first, last = (Period.parse(file[name], self._table.cadence) for name in ("first_period", "last_period"))
        return {str(period) for period in period_range(first, last)} <= set(periods)

    def _rewrite_without(self, file: Mapping[str, Any], periods: Sequence[str]) -> list[AddAction]:
        """Write the rows of a file's other periods to new files. Raises StoreError."""
        place = f"{self._table.place}/{file['path']}"
        url = self._lake.url(place)
        rows = pl.scan_parquet(url, storage_options=self._lake.delta_options, hive_partitioning=False)
        try:
            rows = rows.filter(~pl.col(PERIOD).is_in(periods)).collect()
        except FileNotFoundError:
            first, last = (file[name] or file[MONTH] for name in ("first_period", "last_period"))
            gone = f"the file is gone; it had rows of {first} to {last}: materialize these in one run"
            raise self._lake.error("Reading", place, StoreFault("NotFound", gone)) from None
        missing = [
            pl.lit(file.get(name) if name == "interval" else None, dtype).alias(name)
            for name, dtype in self._table.schema.polars.items()
            if name not in rows.columns
        ]
        return self._writer.write([rows.with_columns(missing)], interval=file["interval"], month=file[MONTH])


def count_rows(delta: DeltaTable, periods: Collection[str]) -> dict[str, int]:
    """Count the rows of periods in the table itself, when their lineage is not reliable."""
    if not periods:
        return {}
    months = months_of(periods)
    rows = pl.scan_delta(delta).filter(pl.col(MONTH).is_in(months), pl.col(PERIOD).is_in(sorted(periods)))
    return dict(rows.group_by(PERIOD).agg(pl.len()).collect().iter_rows())
