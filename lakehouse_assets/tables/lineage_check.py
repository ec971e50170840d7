"""Checks the lineage against the table: which periods still have the rows that the lineage recorded.

A lineage row names the table (Delta's id), the version whose commit added its rows, and the modification time of that
commit's files. A period is intact when the files that may contain its rows have, in Delta's log, as many rows as the
lineage recorded, and the newest of them has the newest recorded time. A period is not intact after the table was moved
away, created anew or restored to an older version, after another program deleted rows or rewrote files, after a commit
was lost, or after a run died between its commit and its lineage. The check reads only the table's log and the lineage;
the builder also lists whether the files exist (`existing_files`).

Lineage rows older than these columns are checked by their row counts alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.archive.period import month_expr, month_of
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.delta import files_of, open_table, table_id_of
from lakehouse_assets.tables.lineage import LINEAGE_SCHEMA, lineage_of
from lakehouse_assets.tables.table import MONTH, PERIOD, Table

CHECK_COLUMNS = (PERIOD, "interval", "rows", "table_id", "version", "committed_at")
"""Columns of the lineage that the check needs."""

_FILE_GROUPS = pl.Schema(
    {
        MONTH: pl.String,
        "interval": pl.String,
        "first": pl.String,
        "last": pl.String,
        "num_records": pl.Int64,
        "written": pl.Int64,
    }
)
"""Files of an interval whose periods overlap: their row count, and when the newest was written."""


def intact_lineage(lake: Lake, table: Table, *, columns: Sequence[str], since: str = "") -> pl.DataFrame:
    """The lineage of intact periods from ``since`` on, ``columns`` of it. Raises StoreError."""
    delta = open_table(lake, table.place)
    if delta is None:
        return LINEAGE_SCHEMA.to_frame().select(columns)
    # Complete months, since a file may have several periods of one month.
    names = list(dict.fromkeys((*columns, *CHECK_COLUMNS)))
    lineage = lineage_of(lake, table).read(since=month_of(since), columns=names)
    files = files_of(delta).filter(pl.col(MONTH) >= month_of(since))
    intact = intact_periods(delta, files, lineage)
    return lineage.filter(pl.col(PERIOD).is_in(intact), pl.col(PERIOD) >= since).select(columns)


def window_sharing_files(files: pl.DataFrame, periods: Collection[str]) -> tuple[str, str] | None:
    """The first and the last of the periods that share files (of `files_of`) with any of ``periods``; None if every
    file contains one period only."""
    windows = [
        (first, last)
        for first, last in _file_groups(files).select("first", "last").iter_rows()
        if first < last and any(first <= period <= last for period in periods)
    ]
    return (min(first for first, _ in windows), max(last for _, last in windows)) if windows else None


def intact_periods(delta: DeltaTable, files: pl.DataFrame, lineage: pl.DataFrame) -> set[str]:
    """The periods of ``lineage`` (CHECK_COLUMNS) whose recorded rows the table ``delta`` has.

    ``files`` are those of `files_of`, of some months or all. For a period that shares files with others, the lineage
    of all of them is needed: see `window_sharing_files`.
    """
    recorded = _recorded(delta, lineage)
    groups = _file_groups(files)
    matched = recorded.join_asof(
        groups.sort("first"),
        left_on=PERIOD,
        right_on="first",
        by=[MONTH, "interval"],
        strategy="backward",
        check_sortedness=False,
    ).with_columns(has_files=(pl.col(PERIOD) <= pl.col("last")).fill_null(value=False))
    is_lost = pl.col("is_stale") | ((pl.col("rows") > 0) & ~pl.col("has_files"))
    wrong = set(matched.filter(is_lost)[PERIOD])
    for month, first, last in _mismatched_groups(groups, matched.filter("has_files")).iter_rows():
        in_group = (pl.col(MONTH) == month) & (pl.col(PERIOD) >= first) & (pl.col(PERIOD) <= last)
        wrong |= set(recorded.filter(in_group)[PERIOD])
    return set(recorded[PERIOD]) - wrong


def _recorded(delta: DeltaTable, lineage: pl.DataFrame) -> pl.DataFrame:
    """What the lineage records per period and interval, sorted by period."""
    is_stale = (pl.col("table_id") != table_id_of(delta)) | (pl.col("version") > delta.version())
    return (
        lineage.group_by(PERIOD, pl.col("interval").fill_null(""))
        .agg(
            pl.col("rows").sum(),
            pl.col("committed_at").filter(pl.col("rows") > 0).dt.epoch("ms").max().alias("newest"),
            is_old=pl.col("table_id").is_null().any(),
            is_stale=is_stale.fill_null(value=False).any(),
        )
        .with_columns(month_expr(pl.col(PERIOD)).alias(MONTH))
        .sort(PERIOD)
    )


def _mismatched_groups(groups: pl.DataFrame, matched: pl.DataFrame) -> pl.DataFrame:
    """Month, first and last period of the file groups that differ from the lineage."""
    recorded = matched.group_by(MONTH, "interval", "first").agg(
        pl.col("rows").sum(), pl.col("newest").max(), pl.col("is_old").any()
    )
    written, newest = pl.col("written"), pl.col("newest")
    is_newest = pl.when("is_old").then(written >= newest.fill_null(0)).otherwise(written == newest)
    is_intact = (pl.col("rows") == pl.col("num_records")) & is_newest
    return (
        groups.join(recorded, on=[MONTH, "interval", "first"], how="left")
        .filter(~is_intact.fill_null(value=False))
        .select(MONTH, "first", "last")
    )


def _file_groups(files: pl.DataFrame) -> pl.DataFrame:
    windows = files.select(
        MONTH,
        pl.col("interval").fill_null(""),
        # A file without statistics may contain any period of its month, and any number of rows.
        pl.col("first_period").fill_null(pl.col(MONTH)),
        pl.col("last_period").fill_null(pl.col(MONTH) + "~"),
        pl.col("num_records").fill_null(-1),
        "written",
    ).sort(MONTH, "interval", "first_period")
    rows = []
    for (month, interval), same_folder in groupby(windows.iter_rows(), key=lambda row: row[:2]):
        rows += [(month, interval, *group) for group in _merged(row[2:] for row in same_folder)]
    return pl.DataFrame(rows, schema=_FILE_GROUPS, orient="row")


def _merged(files: Iterable[tuple[str, str, int, int]]) -> list[tuple[str, str, int, int]]:
    """Merge files that overlap; they come sorted by first period."""
    groups: list[tuple[str, str, int, int]] = []
    for first, last, rows, written in files:
        if groups and first <= groups[-1][1]:
            group_first, group_last, group_rows, newest = groups.pop()
            groups.append((group_first, max(group_last, last), group_rows + rows, max(newest, written)))
        else:
            groups.append((first, last, rows, written))
    return groups
