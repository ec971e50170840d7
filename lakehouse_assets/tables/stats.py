"""What the tables of a lake hold: rows, bytes, and what the quality checks found.

Read from Delta logs and quality records, and incrementally: a table whose version is the same is not
read again, and of its quality records only the months that changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.delta import files_of, id_of, open_table
from lakehouse_assets.tables.quality.measure import quality_of
from lakehouse_assets.tables.quality.rows import Level
from lakehouse_assets.tables.records import RECORD_OF
from lakehouse_assets.tables.table import MONTH, Table


@dataclass(frozen=True, slots=True)
class TableStat:
    """One table. ``levels`` counts periods of a symbol and interval by what the checks found of them;
    ``missing`` are rows that were due and that no known outage explains."""

    rows: int
    bytes: int
    levels: Mapping[Level, int]
    missing: int


@dataclass(slots=True)
class _Month:
    files: frozenset[str]
    levels: dict[str, int]
    missing: int


@dataclass(slots=True)
class _Known:
    table_id: str = ""
    version: int = -1
    rows: int = 0
    bytes: int = 0
    months: dict[str, _Month] = field(default_factory=dict)


class TableStats:
    """Of one lake, remembered between calls."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._known: dict[Table, _Known] = {}

    def of(self, table: Table) -> TableStat | None:
        """None where the table was never written. Raises StoreError."""
        found = open_table(self._lake, table.place)
        if found is None:
            return None
        table_id = id_of(found)
        known = self._known.get(table)
        if known is None or known.table_id != table_id or known.version > found.version():
            known = self._known[table] = _Known(table_id)
        if found.version() != known.version:
            files = files_of(found)
            known.rows, known.bytes = int(files["num_records"].sum()), int(files["size_bytes"].sum())
            known.version = found.version()
        known.months = self._quality(table, known)
        months = known.months.values()
        levels = {level: sum(month.levels.get(level, 0) for month in months) for level in Level}
        return TableStat(known.rows, known.bytes, levels, sum(month.missing for month in months))

    def _quality(self, table: Table, of_table: _Known) -> dict[str, _Month]:
        known = of_table.months
        records = quality_of(self._lake, table)
        files = records.months()
        kept = {month: known[month] for month, names in files.items() if month in known and known[month].files == names}
        changed = [month for month in files if month not in kept]
        if not changed:
            return kept
        rows = records.read(months=changed, columns=[MONTH, "level", "missing", *RECORD_OF])
        # Of a former table of this name, or of versions that were taken back, nothing is true any more.
        is_of_another = (pl.col("table_id") != of_table.table_id) | (pl.col("version") > of_table.version)
        rows = rows.filter(~is_of_another.fill_null(value=False))
        for month in changed:
            part = rows.filter(pl.col(MONTH) == month)
            levels = dict(part["level"].value_counts().iter_rows())
            kept[month] = _Month(files[month], levels, int(part["missing"].sum()))
        return kept
