"""Opening a table and committing files to it.

The files are written by tables/write/files.py. One commit adds and removes them, so a reader sees a period either
before or after its replacement. Each commit names the month that it replaces as a Delta application transaction, so
two writers of one month conflict even when neither removes a file of the other.
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
from lakehouse_assets.lake.commit import KEEP_LOG_FILES
from lakehouse_assets.lake.delta.errors import READ_ERRORS, table_error
from lakehouse_assets.lake.delta.table import open_delta
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.store.conditional_writes import require_conditional_writes
from lakehouse_assets.tables.schemas.readers import UTC_MICROSECONDS
from lakehouse_assets.tables.table import MONTH, PERIOD, Table

RETENTION_DAYS = 30
"""Days for which a replaced version stays readable, unless the table has another number as its property."""

RETENTION = "delta.deletedFileRetentionDuration"
"""Table property: how long vacuum keeps a file after it was removed from the table."""
_LOG_RETENTION = "delta.logRetentionDuration"

REMEDY = "Restore its files from the bucket's versions, or move it away and materialize it anew."
"""How to repair a damaged table or its records."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit to a table. ``file_time`` is the modification time of its new files in the log (epoch milliseconds),
    later than that of any earlier file of the month."""

    table_id: str
    version: int
    file_time: int

    @property
    def columns(self) -> dict[str, pl.Expr]:
        """The columns by which a record names the table and version that it describes."""
        return {"table_id": pl.lit(self.table_id), "version": pl.lit(self.version, pl.Int64)}


def retention_properties(days: int) -> dict[str, str]:
    """Table properties that keep removed files and log entries for a number of days."""
    return dict.fromkeys((RETENTION, _LOG_RETENTION), f"interval {days} days")


def stored_schema(table: Table) -> pl.Schema:
    """The stored columns: those of the schema, and month and period."""
    return pl.Schema({**table.schema.polars, MONTH: pl.String(), PERIOD: pl.String()})


def open_table(lake: Lake, place: str, *, version: int | None = None) -> DeltaTable | None:
    """The Delta table at a path in the lake; None if it does not exist. Raises StoreError."""
    try:
        return open_delta(lake, place, version=version)
    except READ_ERRORS as error:
        raise table_error("Reading", lake, place, error, remedy=REMEDY) from error


def open_or_create(lake: Lake, table: Table, *, retention_days: int = RETENTION_DAYS) -> DeltaTable:
    """The table. It is created empty if it does not exist; new columns of the schema are added to an existing one.

    Raises InputError when a stored column is not in the schema or has another type.
    """
    require_conditional_writes(lake)
    wanted = Schema.from_arrow(stored_schema(table))
    delta = open_table(lake, table.place)
    if delta is None:
        return DeltaTable.create(
            lake.url(table.place),
            schema=wanted,
            mode="ignore",
            partition_by=table.partition_by,
            name=table.name,
            description=table.schema.description,
            configuration=retention_properties(retention_days),
            storage_options=lake.delta_options,
        )
    stored = {field.name: field.type for field in delta.schema().fields}
    changed = [field.name for field in wanted.fields if stored.get(field.name, field.type) != field.type]
    removed = set(stored) - {field.name for field in wanted.fields}
    if changed or removed:
        raise InputError(
            f"The table {lake.url(table.place)} was written with other columns "
            f"({', '.join(changed or sorted(removed))}); move it away and materialize it anew."
        )
    added = [field for field in wanted.fields if field.name not in stored]
    if added:
        delta.alter.add_columns(added, post_commithook_properties=KEEP_LOG_FILES)
    return delta


def table_id_of(delta: DeltaTable) -> str:
    """Delta's id of a table. A table that is created anew at the same path has another id."""
    return str(delta.metadata().id)


def files_of(delta: DeltaTable, *, month: str | None = None) -> pl.DataFrame:
    """The files of the table, or of one month of it: ``path size_bytes num_records interval month``, ``first_period
    last_period``, ``earliest latest`` (values of the column time, UTC) and ``written`` (epoch milliseconds).

    ``interval`` is null for tables without intervals; statistics that the log lacks are null.
    """
    actions = pl.DataFrame(delta.get_add_actions(flatten=True))
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


def existing_files(lake: Lake, table: Table, files: pl.DataFrame) -> pl.DataFrame:
    """The ``files`` (of `files_of`) whose objects exist in the lake; one listing per folder. Raises StoreError."""
    folders = {path.rpartition("/")[0] for path in files["path"]}
    paths = [f"{folder}/{name}" for folder in folders for name in lake.objects_below(f"{table.place}/{folder}")["key"]]
    return files.filter(pl.col("path").is_in(paths))


def may_contain(files: pl.DataFrame, periods: Collection[str]) -> pl.Series:
    """Which of ``files`` (of `files_of`) may contain rows of any of the periods, by their first and last period."""
    windows = files.select("first_period", "last_period").iter_rows()
    return pl.Series(
        [
            first is None or last is None or any(first <= period <= last for period in periods)
            for first, last in windows
        ],
        dtype=pl.Boolean,
    )


def next_file_time(files: pl.DataFrame) -> int:
    """The modification time for a commit's new files: now, but later than that of any of ``files`` (of `files_of`)."""
    newest = files["written"].max()
    return max(int(time.time() * 1000), newest + 1 if isinstance(newest, int) else 0)


def with_file_time(actions: Iterable[AddAction], file_time: int) -> list[AddAction]:
    """The actions with ``file_time`` as their modification time."""
    return [replace(action, modification_time=file_time) for action in actions]


def commit(
    delta: DeltaTable,
    table: Table,
    *,
    month: str,
    add: Sequence[AddAction],
    remove: pl.DataFrame,
    data_change: bool = True,
    metadata: Mapping[str, Any],
) -> int:
    """Add files to a month and remove files (rows of `files_of`) from it in one commit. Returns the new version.

    Raises CommitFailedError when another writer changed the month since ``delta`` was opened.
    """
    now = int(time.time() * 1000)
    removals = [
        RemoveAction(
            path,
            data_change,
            now,
            size,
            {MONTH: file_month} if interval is None else {"interval": interval, MONTH: file_month},
        )
        for path, size, interval, file_month in remove.select("path", "size_bytes", "interval", MONTH).iter_rows()
    ]
    delta.create_write_transaction(
        [*removals, *add],
        "append",
        Schema.from_arrow(stored_schema(table)),
        table.partition_by,
        commit_properties=CommitProperties(
            custom_metadata=dict(metadata), app_transactions=[Transaction(f"lakehouse/{month}", delta.version() + 1)]
        ),
        post_commithook_properties=KEEP_LOG_FILES,
    )
    delta.update_incremental()
    return delta.version()
