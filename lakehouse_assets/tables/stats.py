"""Statistics of a lake's tables: rows, bytes and results of the quality checks.

They are read from Delta logs and quality records, incrementally: the files of a table are read again only when its
version changed, its quality records only for the months that changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.delta import files_of, open_table, table_id_of
from lakehouse_assets.tables.quality.measure import quality_of
from lakehouse_assets.tables.quality.rows import Level
from lakehouse_assets.tables.records import TABLE_VERSION
from lakehouse_assets.tables.table import MONTH, Table


@dataclass(frozen=True, slots=True)
class TableSummary:
    """Statistics of one table. ``levels`` counts quality results (one per period, symbol and interval) by level;
    ``missing`` counts rows that were due, are not there, and that no known outage explains."""

    rows: int
    bytes: int
    levels: Mapping[Level, int]
    missing: int


@dataclass(slots=True)
class _CachedMonth:
    files: frozenset[str]
    levels: dict[str, int]
    missing: int


@dataclass(slots=True)
class _CachedTable:
    table_id: str = ""
    version: int = -1
    rows: int = 0
    bytes: int = 0
    months: dict[str, _CachedMonth] = field(default_factory=dict)


class TableStats:
    """Statistics of one lake's tables, cached between calls."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._cache: dict[Table, _CachedTable] = {}

    def of(self, table: Table) -> TableSummary | None:
        """The statistics of one table; None when the lake does not have it. Raises StoreError."""
        delta = open_table(self._lake, table.place)
        if delta is None:
            return None
        table_id = table_id_of(delta)
        cached = self._cache.get(table)
        if cached is None or cached.table_id != table_id or cached.version > delta.version():
            cached = self._cache[table] = _CachedTable(table_id)
        if delta.version() != cached.version:
            files = files_of(delta)
            cached.rows, cached.bytes = int(files["num_records"].sum()), int(files["size_bytes"].sum())
            cached.version = delta.version()
        cached.months = self._quality(table, cached)
        months = cached.months.values()
        levels = {level: sum(month.levels.get(level, 0) for month in months) for level in Level}
        return TableSummary(cached.rows, cached.bytes, levels, sum(month.missing for month in months))

    def _quality(self, table: Table, cached: _CachedTable) -> dict[str, _CachedMonth]:
        records = quality_of(self._lake, table)
        files = records.months()
        unchanged = {
            month: cached.months[month]
            for month, names in files.items()
            if month in cached.months and cached.months[month].files == names
        }
        changed = [month for month in files if month not in unchanged]
        if not changed:
            return unchanged
        rows = records.read(months=changed, columns=[MONTH, "level", "missing", *TABLE_VERSION])
        # Records may describe an earlier table of this name, or versions that a restore undid.
        is_stale = (pl.col("table_id") != cached.table_id) | (pl.col("version") > cached.version)
        rows = rows.filter(~is_stale.fill_null(value=False))
        by_month = {month: rows.filter(pl.col(MONTH) == month) for month in changed}
        return unchanged | {
            month: _CachedMonth(
                files[month], dict(results["level"].value_counts().iter_rows()), int(results["missing"].sum())
            )
            for month, results in by_month.items()
        }
