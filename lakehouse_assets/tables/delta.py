"""Opening a table and committing files to it.

Files are written by us (tables/write/files.py) and enter and leave the table in one commit: a reader sees
a period as it was or as it is. Each commit carries the month that it replaces as a Delta application
transaction, so two writers of one month conflict even where neither removes a file of the other.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.transaction import AddAction, RemoveAction

from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.commit import DELETES_NOTHING
from lakehouse_assets.lake.delta.errors import READ_ERRORS, table_error
from lakehouse_assets.lake.delta.table import open_delta
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.store.conditional_writes import require_conditional_writes
from lakehouse_assets.tables.schemas.readers import UTC_MICROSECONDS
from lakehouse_assets.tables.table import MONTH, PERIOD, Table

RETENTION_DAYS = 30
"""Days for which a replaced version stays readable, unless the table was made with another number."""

RETENTION = "delta.deletedFileRetentionDuration"
"""Table property: how long vacuum keeps files that are no longer part of the table."""
_LOG_RETENTION = "delta.logRetentionDuration"

REMEDY = "Restore its files from the bucket's versions, or move it away and materialize it anew."
"""What mends a damaged table, or its records."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit to a table. ``file_time`` is what it gave to its new files as their modification time in the log
    (epoch milliseconds): later than that of any file of the month before."""

    table_id: str
    version: int
    file_time: int

    @property
    def columns(self) -> dict[str, pl.Expr]:
        """By which a record says of which table at which version it is."""
        return {"table_id": pl.lit(self.table_id), "version": pl.lit(self.version, pl.Int64)}


def kept_for(days: int) -> dict[str, str]:
    """Table properties that keep files and log for so long after they left the table."""
    return dict.fromkeys((RETENTION, _LOG_RETENTION), f"interval {days} days")


def stored_schema(table: Table) -> pl.Schema:
    """Columns as stored: the schema's, and month and period."""
    return pl.Schema({**table.schema.polars, MONTH: pl.String(), PERIOD: pl.String()})


def open_table(lake: Lake, place: str, *, version: int | None = None) -> DeltaTable | None:
    """The Delta table at a place of the lake; None where there is none. Raises StoreError."""
    try:
        return open_delta(lake, place, version=version)
    except READ_ERRORS as error:
        raise table_error("Reading", lake, place, error, remedy=REMEDY) from error


def open_or_create(lake: Lake, table: Table, *, retention_days: int = RETENTION_DAYS) -> DeltaTable:
    """The table, made empty where there is none; columns that the schema has gained are added.

    Raises InputError where a column has become another type: such a table is made anew.
    """
    require_conditional_writes(lake)
    wanted = Schema.from_arrow(stored_schema(table))
    found = open_table(lake, table.place)
    if found is None:
        return DeltaTable.create(
            lake.url(table.place),
            schema=wanted,
            mode="ignore",
            partition_by=table.partition_by,
            name=table.name,
            description=table.schema.description,
            configuration=kept_for(retention_days),
            storage_options=lake.delta_options,
        )
    there = {field.name: field for field in found.schema().fields}
    changed = [field.name for field in wanted.fields if field.name in there and there[field.name].type != field.type]
    if changed or set(there) - {field.name for field in wanted.fields}:
        raise InputError(
            f"The table {lake.url(table.place)} was written with other columns "
            f"({', '.join(changed) or 'some are gone'}); move it away and materialize it anew."
        )
    added = [field for field in wanted.fields if field.name not in there]
    if added:
        found.alter.add_columns(added, post_commithook_properties=DELETES_NOTHING)
    return found


def id_of(found: DeltaTable) -> str:
    """Delta's id of a table: one that is made anew in its place has another."""
    return str(found.metadata().id)


def files_of(found: DeltaTable, *, month: str | None = None) -> pl.DataFrame:
    """Files of the table (of one month of it): path, size_bytes, num_records, interval (null without), month,
    first_period, last_period, earliest, latest (of the column time, UTC; null where the log does not say), written
    (epoch milliseconds)."""
    actions = pl.DataFrame(found.get_add_actions(flatten=True))
    columns = {
        "path": ("path", pl.String()),
        "size_bytes": ("size_bytes", pl.Int64()),
        "num_records": ("num_records", pl.Int64()),
        "interval": ("partition.interval", pl.String()),
        MONTH: (f"partition.{MONTH}", pl.String()),
        "first_period": (f"min.{PERIOD}", pl.String()),
        "last_period": (f"max.{PERIOD}", pl.String()),
        "earliest": ("min.time", UTC_MICROSECONDS),
        "latest": ("max.time", UTC_MICROSECONDS),
        "written": ("modification_time", pl.Int64()),
    }
    files = actions.select(
        (pl.col(name) if name in actions.columns else pl.lit(None)).cast(dtype).alias(alias)
        for alias, (name, dtype) in columns.items()
    )
    return files if month is None else files.filter(pl.col(MONTH) == month)


def still_there(lake: Lake, table: Table, files: pl.DataFrame) -> pl.DataFrame:
    """Those of ``files`` (of `files_of`) whose objects the lake has; one listing per folder. Raises StoreError."""
    folders = {path.rpartition("/")[0] for path in files["path"]}
    there = [f"{folder}/{name}" for folder in folders for name in lake.objects_below(f"{table.place}/{folder}")["key"]]
    return files.filter(pl.col("path").is_in(there))


def may_hold(files: pl.DataFrame, periods: Collection[str]) -> pl.Series:
    """Which of ``files`` (of `files_of`) may hold rows of any of the periods; of an unknown span: it may."""
    spans = files.select("first_period", "last_period").iter_rows()
    return pl.Series(
        [first is None or last is None or any(first <= each <= last for each in periods) for first, last in spans],
        dtype=pl.Boolean,
    )


def next_file_time(files: pl.DataFrame) -> int:
    """For the new files of a commit: now, and later than any of ``files`` (of `files_of`), whatever the clock says."""
    newest = files["written"].max()
    return max(int(time.time() * 1000), newest + 1 if isinstance(newest, int) else 0)


def dated(actions: Iterable[AddAction], file_time: int) -> list[AddAction]:
    """The actions with that modification time."""
    return [replace(action, modification_time=file_time) for action in actions]


def commit(
    found: DeltaTable,
    table: Table,
    *,
    month: str,
    add: Sequence[AddAction],
    remove: pl.DataFrame,
    data_change: bool = True,
    metadata: Mapping[str, Any],
) -> int:
    """Put files in and take files (rows of `files_of`) out of a month in one commit; returns the version.

    Raises CommitFailedError when another writer changed the month since ``found`` was opened.
    """
    now = int(time.time() * 1000)
    removals = [
        RemoveAction(
            path,
            data_change,
            now,
            size,
            {MONTH: in_month} if interval is None else {"interval": interval, MONTH: in_month},
        )
        for path, size, interval, in_month in remove.select("path", "size_bytes", "interval", MONTH).iter_rows()
    ]
    found.create_write_transaction(
        [*removals, *add],
        "append",
        Schema.from_arrow(stored_schema(table)),
        table.partition_by,
        commit_properties=CommitProperties(
            custom_metadata=dict(metadata), app_transactions=[Transaction(f"lakehouse/{month}", found.version() + 1)]
        ),
        post_commithook_properties=DELETES_NOTHING,
    )
    found.update_incremental()
    return found.version()
