"""Commits to the lake's Delta tables: retried after a conflict with another writer, deleting nothing.

Every append adds a file to its table. So every few versions the writer compacts the small files and writes a
checkpoint, and the number of a reader's requests does not grow with the table's age. Compacted files stay in the
bucket, since the sync identity may not delete.
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
from lakehouse_assets.lake.delta.latest import month_files
from lakehouse_assets.lake.delta.table import open_delta
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.store.conditional_writes import require_conditional_writes

KEEP_LOG_FILES = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
"""The sync identity may not delete; maintenance cleans up the log."""

COMPACT_EVERY = 10
"""Versions between two compactions. A reader requests each version since the last compaction twice, and each of its
files; a compaction makes as many requests. With ten, an append takes about 15 requests and a read about 50."""

COMMIT_SECONDS = 60.0

FAIL_FAST_OPTIONS = {"timeout": "5s", "connect_timeout": "3s", "max_retries": "1", "retry_timeout": "10s"}
"""Storage options for best-effort records. By default, delta-rs retries a request for three minutes."""

DEFAULT_REMEDY = "Restore its files from the bucket's versions, or move the table away: the next run creates a new one."
"""The remedy for a damaged table that has none of its own."""

_MAX_FILES = 200
"""Small files that a writer compacts in passing; more would delay it."""

_WRITTEN_WITH = WriterProperties(compression="ZSTD")

_log = logging.getLogger(__name__)


def commit_attempts(seconds: float) -> Retrying:
    """Retries a commit for at most ``seconds``, then raises the last CommitFailedError."""
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
    remedy: str = DEFAULT_REMEDY,
    mode: Literal["append", "overwrite"] = "append",
    partition_by: list[str] | None = None,
    seconds: float = COMMIT_SECONDS,
    options: dict[str, str] | None = None,
) -> None:
    """Append rows to one of the lake's tables, or replace all its rows. The table is created if it does not exist.

    ``remedy`` is the advice for a damaged table; ``options`` are further storage options of delta-rs. Raises
    StoreError.
    """
    require_conditional_writes(lake)
    storage = lake.delta_options | (options or {})

    def write() -> DeltaTable | None:
        opened = open_delta(lake, table, options=options)
        write_deltalake(
            lake.url(table) if opened is None else opened,
            rows,
            mode=mode,
            # Adds columns that are newer than the table.
            schema_mode="merge" if mode == "append" else None,
            partition_by=partition_by,
            storage_options=storage,
            writer_properties=_WRITTEN_WITH,
            post_commithook_properties=KEEP_LOG_FILES,
        )
        return opened

    try:
        written = commit_attempts(seconds)(write)
    except READ_ERRORS as error:
        raise table_error("Writing", lake, table, error, remedy=remedy) from error
    if written is not None and mode == "append" and written.version() % COMPACT_EVERY == 0:
        _compact(written, max_files=_MAX_FILES)


def read_rows(
    lake: Lake,
    table: str,
    schema: pl.Schema,
    where: pl.Expr | None = None,
    *,
    remedy: str = DEFAULT_REMEDY,
    options: dict[str, str] | None = None,
) -> pl.DataFrame:
    """Rows of one of the lake's tables, filtered by ``where``. A missing table is empty, a missing column is null."""
    try:
        opened = open_delta(lake, table, options=options)
        if opened is None:
            return schema.to_frame()
        # Polars inherits the table's options, but accepts this one as a number only.
        scan = pl.scan_delta(opened, storage_options={"max_retries": int(options["max_retries"])} if options else None)
        selected = scan if where is None else scan.filter(where)
        return with_missing_columns(selected, schema).collect().select(schema.names()).cast(schema)
    except READ_ERRORS as error:
        raise table_error("Reading", lake, table, error, remedy=remedy) from error


def read_months(
    lake: Lake,
    table: str,
    schema: pl.Schema,
    wanted: Callable[[str, frozenset[str]], bool],
    *,
    remedy: str = DEFAULT_REMEDY,
) -> tuple[dict[str, frozenset[str]], pl.DataFrame]:
    """The data files of each month, and the rows of the months that ``wanted`` selects by name and files. Raises
    StoreError."""
    try:
        opened = open_delta(lake, table)
        if opened is None:
            return {}, schema.to_frame()
        files = files_by_month(opened)
        months = [month for month, names in files.items() if wanted(month, names)]
        if not months:
            return files, schema.to_frame()
        rows = with_missing_columns(pl.scan_delta(opened).filter(pl.col("month").is_in(months)), schema)
        return files, rows.select(schema.names()).collect().cast(schema)
    except READ_ERRORS as error:
        raise table_error("Reading", lake, table, error, remedy=remedy) from error


def with_missing_columns(rows: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    """The rows with every column of the schema: columns that the table lacks, since it is older, are null."""
    existing = rows.collect_schema()
    return rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in existing)


def compact(lake: Lake, table: str) -> None:
    """Compact the small files of all months, however many. A failure is only logged."""
    try:
        opened = open_delta(lake, table)
    except (*READ_ERRORS, StoreError) as error:
        _log_not_compacted(lake.url(table), error)
        return
    if opened is not None:
        _compact(opened, max_files=None)


def files_by_month(table: DeltaTable) -> dict[str, frozenset[str]]:
    """The data files of each month of a table that is partitioned by ``month``. Equal files mean equal rows."""
    return {month: files.names for month, files in month_files(table).items()}


def _compact(table: DeltaTable, *, max_files: int | None) -> None:
    """Compact the files of each month, the newest month first, at most ``max_files`` in all."""
    try:
        months, files = [], 0
        for month, names in sorted(files_by_month(table).items(), reverse=True):
            if len(names) > 1 and (max_files is None or files + len(names) <= max_files):
                months.append(month)
                files += len(names)
        if months:
            table.optimize.compact(
                [("month", "in", months)],
                writer_properties=_WRITTEN_WITH,
                post_commithook_properties=KEEP_LOG_FILES,
            )
        table.create_checkpoint()
    except READ_ERRORS as error:
        _log_not_compacted(table.table_uri, error)


def _log_not_compacted(url: str, error: Exception) -> None:
    # Another writer may be compacting; the next writer does what is left.
    _log.info("The small files of %s were not compacted: %s", url, fault_of(error))
