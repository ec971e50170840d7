"""Committing to the lake's Delta tables: tried again when another writer was first, deleting nothing.

A table that is appended to gets a file with every append, so every so often the writer puts the small
ones together and writes a checkpoint: what a reader asks for does not grow with all that was ever written.
The files that are put together stay in the bucket, since who writes here may not delete.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

import polars as pl
from deltalake import DeltaTable, PostCommitHookProperties, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from lakehouse_assets.archive.errors import fault_of
from lakehouse_assets.errors import StoreError
from lakehouse_assets.lake.delta.errors import READ_ERRORS, table_error
from lakehouse_assets.lake.delta.table import open_delta
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.store.conditional_writes import require_conditional_writes

DELETES_NOTHING = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
"""The sync identity may not delete; maintenance tidies the log."""

COMPACT_EVERY = 10
"""Versions between two compactions. A reader asks for each version since the last one twice and for each of its
files, a compaction for as many: ten keep an append at about 15 requests, and a reader's at about 50."""

COMMIT_SECONDS = 60.0

HURRIED = {"timeout": "5s", "connect_timeout": "3s", "max_retries": "1", "retry_timeout": "10s"}
"""Storage options for what nobody may wait for long; without, a request is tried for three minutes."""

MOVE_AWAY = "Restore its files from the bucket's versions, or move it away: it is begun anew."
"""What mends a damaged table of which nothing else is known."""

_MOST_FILES = 200
"""Small files that a writer puts together in passing; more would keep it waiting."""

_WRITTEN_WITH = WriterProperties(compression="ZSTD")

_log = logging.getLogger(__name__)


def commit_attempts(seconds: float) -> Retrying:
    """Attempts at a commit for at most ``seconds``; the last CommitFailedError is raised."""
    return Retrying(
        retry=retry_if_exception_type(CommitFailedError),
        wait=wait_random_exponential(multiplier=0.05, max=2.0),
        stop=stop_after_delay(seconds),
        reraise=True,
    )


def write_rows(
    lake: Lake,
    table: str,
    rows: pl.DataFrame,
    *,
    remedy: str = MOVE_AWAY,
    mode: Literal["append", "overwrite"] = "append",
    partition_by: list[str] | None = None,
    seconds: float = COMMIT_SECONDS,
    options: dict[str, str] | None = None,
) -> None:
    """Append rows to one of the lake's tables, or put them in place of all; the table is made when it is not there.

    ``remedy`` is what mends a damaged one, ``options`` are further ones of delta-rs. Raises StoreError.
    """
    require_conditional_writes(lake)
    storage = lake.delta_options | (options or {})

    def write() -> DeltaTable | None:
        found = open_delta(lake, table, options=options)
        write_deltalake(
            lake.url(table) if found is None else found,
            rows,
            mode=mode,
            # A table from before a column was added gets it.
            schema_mode="merge" if mode == "append" else None,
            partition_by=partition_by,
            storage_options=storage,
            writer_properties=_WRITTEN_WITH,
            post_commithook_properties=DELETES_NOTHING,
        )
        return found

    try:
        written = commit_attempts(seconds)(write)
    except READ_ERRORS as error:
        raise table_error("Writing", lake, table, error, remedy=remedy) from error
    if written is not None and mode == "append" and written.version() % COMPACT_EVERY == 0:
        _compact(written, most=_MOST_FILES)


def read_rows(
    lake: Lake,
    table: str,
    schema: pl.Schema,
    where: pl.Expr | None = None,
    *,
    remedy: str = MOVE_AWAY,
    options: dict[str, str] | None = None,
) -> pl.DataFrame:
    """Rows of one of the lake's tables, all or some; empty where there is no table, null where no column."""
    try:
        opened = open_delta(lake, table, options=options)
        if opened is None:
            return schema.to_frame()
        # Polars takes over the table's options, and this one only as a number.
        found = pl.scan_delta(opened, storage_options={"max_retries": int(options["max_retries"])} if options else None)
        chosen = found if where is None else found.filter(where)
        return with_all(chosen, schema).collect().select(schema.names()).cast(schema)
    except READ_ERRORS as error:
        raise table_error("Reading", lake, table, error, remedy=remedy) from error


def read_months(
    lake: Lake,
    table: str,
    schema: pl.Schema,
    wanted: Callable[[str, frozenset[str]], bool],
    *,
    remedy: str = MOVE_AWAY,
) -> tuple[dict[str, frozenset[str]], pl.DataFrame]:
    """The data files of each month, and the rows of the months whose files are ``wanted``. Raises StoreError."""
    try:
        opened = open_delta(lake, table)
        if opened is None:
            return {}, schema.to_frame()
        files = files_by_month(opened)
        months = [month for month, names in files.items() if wanted(month, names)]
        if not months:
            return files, schema.to_frame()
        rows = with_all(pl.scan_delta(opened).filter(pl.col("month").is_in(months)), schema)
        return files, rows.select(schema.names()).collect().cast(schema)
    except READ_ERRORS as error:
        raise table_error("Reading", lake, table, error, remedy=remedy) from error


def with_all(rows: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    """The rows with every column of the schema: null where their table is from before a column was added."""
    there = rows.collect_schema()
    return rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in there)


def compact(lake: Lake, table: str) -> None:
    """Put the small files of all months together, however many. A failure is only told."""
    try:
        found = open_delta(lake, table)
    except (*READ_ERRORS, StoreError) as error:
        _tell_uncompacted(lake.url(table), error)
        return
    if found is not None:
        _compact(found, most=None)


def files_by_month(table: DeltaTable) -> dict[str, frozenset[str]]:
    """The data files of each month of a table that is partitioned by ``month``. Where they are the same, so are
    the rows."""
    files: dict[str, set[str]] = {}
    for path, month in pl.DataFrame(table.get_add_actions(flatten=True)).select("path", "partition.month").iter_rows():
        files.setdefault(month, set()).add(path)
    return {month: frozenset(paths) for month, paths in files.items()}


def _compact(table: DeltaTable, *, most: int | None) -> None:
    """Put together the files of each month, the newest first, of ``most`` in all."""
    try:
        months, files = [], 0
        for month, names in sorted(files_by_month(table).items(), reverse=True):
            if len(names) > 1 and (most is None or files + len(names) <= most):
                months.append(month)
                files += len(names)
        if months:
            table.optimize.compact(
                [("month", "in", months)],
                writer_properties=_WRITTEN_WITH,
                post_commithook_properties=DELETES_NOTHING,
            )
        table.create_checkpoint()
    except READ_ERRORS as error:
        _tell_uncompacted(table.table_uri, error)


def _tell_uncompacted(url: str, error: Exception) -> None:
    # Another writer may be at it; what is left, the next one does.
    _log.info("The small files of %s were not put together: %s", url, fault_of(error))
