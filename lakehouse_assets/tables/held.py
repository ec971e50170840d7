"""What a table holds of what its lineage says: its files in Delta's log, not a record's word for them.

A lineage row names the table (Delta's id), the version whose commit brought its rows, and the time that this commit
gave to its files. A period is held when the files that may hold rows of it have as many rows as the lineage says, and
the newest of them is the newest that the lineage names. So it is not where the table was moved away, made anew or
restored to an older version, where anybody else deleted rows or rewrote files, where a commit was lost, or where a
run died between its commit and its lineage. That takes no request beyond the table's log and the lineage; whether the
files themselves are there, the builder lists (`still_there`).

Lineage from before these columns is judged by its rows alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.archive.period import month_expr, month_of
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.delta import files_of, id_of, open_table
from lakehouse_assets.tables.lineage import LINEAGE_SCHEMA, lineage_of
from lakehouse_assets.tables.table import MONTH, PERIOD, Table

WITNESS = (PERIOD, "interval", "rows", "table_id", "version", "committed_at")
"""Columns of the lineage that say what the table should hold."""

_BLOCKS = pl.Schema(
    {
        MONTH: pl.String,
        "interval": pl.String,
        "first": pl.String,
        "last": pl.String,
        "num_records": pl.Int64,
        "written": pl.Int64,
    }
)
"""Files of an interval whose periods overlap: how many rows they have, and when the newest was written."""


def held_lineage(lake: Lake, table: Table, *, columns: Sequence[str], since: str = "") -> pl.DataFrame:
    """Lineage of the periods (from ``since`` on) that the table holds, ``columns`` of it. Raises StoreError."""
    found = open_table(lake, table.place)
    if found is None:
        return LINEAGE_SCHEMA.to_frame().select(columns)
    # Of whole months, since files may hold several periods of one.
    names = list(dict.fromkeys((*columns, *WITNESS)))
    lineage = lineage_of(lake, table).read(since=month_of(since), columns=names)
    files = files_of(found).filter(pl.col(MONTH) >= month_of(since))
    held = held_periods(found, files, lineage)
    return lineage.filter(pl.col(PERIOD).is_in(held), pl.col(PERIOD) >= since).select(columns)


def shared_span(files: pl.DataFrame, periods: Collection[str]) -> tuple[str, str] | None:
    """The first and the last period of those that share files (of `files_of`) with any of ``periods``; None where
    each of these has its files for itself."""
    spans = [
        (first, last)
        for first, last in _blocks(files).select("first", "last").iter_rows()
        if first < last and any(first <= period <= last for period in periods)
    ]
    return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None


def held_periods(found: DeltaTable, files: pl.DataFrame, lineage: pl.DataFrame) -> set[str]:
    """The periods of ``lineage`` (WITNESS) of which the table ``found`` holds what it says.

    ``files`` are those of `files_of`, of some months or all. Of a period that shares files, the lineage of all that
    do is needed: see `shared_span`.
    """
    stated = _stated(found, lineage)
    blocks = _blocks(files)
    placed = stated.join_asof(
        blocks.sort("first"),
        left_on=PERIOD,
        right_on="first",
        by=[MONTH, "interval"],
        strategy="backward",
        check_sortedness=False,
    ).with_columns(is_placed=(pl.col(PERIOD) <= pl.col("last")).fill_null(value=False))
    lost = pl.col("of_another") | ((pl.col("rows") > 0) & ~pl.col("is_placed"))
    wrong = set(placed.filter(lost)[PERIOD])
    for month, first, last in _wrong_blocks(blocks, placed.filter("is_placed")).iter_rows():
        wrong |= set(stated.filter(pl.col(MONTH) == month, pl.col(PERIOD) >= first, pl.col(PERIOD) <= last)[PERIOD])
    return set(stated[PERIOD]) - wrong


def _stated(found: DeltaTable, lineage: pl.DataFrame) -> pl.DataFrame:
    """What the lineage says of each period and interval, sorted by period."""
    of_another = (pl.col("table_id") != id_of(found)) | (pl.col("version") > found.version())
    return (
        lineage.group_by(PERIOD, pl.col("interval").fill_null(""))
        .agg(
            pl.col("rows").sum(),
            pl.col("committed_at").filter(pl.col("rows") > 0).dt.epoch("ms").max().alias("newest"),
            is_old=pl.col("table_id").is_null().any(),
            of_another=of_another.fill_null(value=False).any(),
        )
        .with_columns(month_expr(pl.col(PERIOD)).alias(MONTH))
        .sort(PERIOD)
    )


def _wrong_blocks(blocks: pl.DataFrame, placed: pl.DataFrame) -> pl.DataFrame:
    """Month, first and last period of the blocks that are not as the lineage says."""
    stated = placed.group_by(MONTH, "interval", "first").agg(
        pl.col("rows").sum(), pl.col("newest").max(), pl.col("is_old").any()
    )
    written, newest = pl.col("written"), pl.col("newest")
    is_newest = pl.when("is_old").then(written >= newest.fill_null(0)).otherwise(written == newest)
    is_right = (pl.col("rows") == pl.col("num_records")) & is_newest
    return (
        blocks.join(stated, on=[MONTH, "interval", "first"], how="left")
        .filter(~is_right.fill_null(value=False))
        .select(MONTH, "first", "last")
    )


def _blocks(files: pl.DataFrame) -> pl.DataFrame:
    known = files.select(
        MONTH,
        pl.col("interval").fill_null(""),
        # A file that does not say what it holds may hold anything of its month, and any number of rows.
        pl.col("first_period").fill_null(pl.col(MONTH)),
        pl.col("last_period").fill_null(pl.col(MONTH) + "~"),
        pl.col("num_records").fill_null(-1),
        "written",
    ).sort(MONTH, "interval", "first_period")
    rows = []
    for (month, interval), of_place in groupby(known.iter_rows(), key=lambda row: row[:2]):
        rows += [(month, interval, *block) for block in _merged(row[2:] for row in of_place)]
    return pl.DataFrame(rows, schema=_BLOCKS, orient="row")


def _merged(files: Iterable[tuple[str, str, int, int]]) -> list[tuple[str, str, int, int]]:
    """Files by their first period, those that overlap as one."""
    blocks: list[tuple[str, str, int, int]] = []
    for first, last, rows, written in files:
        if blocks and first <= blocks[-1][1]:
            begin, end, before, newest = blocks.pop()
            blocks.append((begin, max(end, last), before + rows, max(newest, written)))
        else:
            blocks.append((first, last, rows, written))
    return blocks
