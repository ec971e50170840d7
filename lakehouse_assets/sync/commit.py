"""Committing to the lake's Delta tables: tried again when another writer was first, deleting nothing."""

from __future__ import annotations

from typing import Literal

import polars as pl
from deltalake import DeltaTable, PostCommitHookProperties, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from lakehouse_assets.archive.store_errors import fault_of
from lakehouse_assets.errors import StoreError
from lakehouse_assets.sync.lake import Lake

DELETES_NOTHING = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
"""The sync identity may not delete; maintenance tidies the log."""


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
    mode: Literal["append", "overwrite"] = "append",
    partition_by: list[str] | None = None,
) -> None:
    """Append rows to one of the lake's tables, or put them in place of all; the table is made when it is not there."""
    attempts = commit_attempts(60.0)
    try:
        attempts(
            write_deltalake,
            lake.url(table),
            rows,
            mode=mode,
            # A table from before a column was added gets it.
            schema_mode="merge" if mode == "append" else None,
            partition_by=partition_by,
            storage_options=lake.delta_options,
            writer_properties=WriterProperties(compression="ZSTD"),
            post_commithook_properties=DELETES_NOTHING,
        )
    except (DeltaError, OSError) as error:
        raise StoreError(f"Writing {lake.url(table)} failed: {fault_of(error)}.") from error


def read_rows(lake: Lake, table: str, schema: pl.Schema, where: pl.Expr | None = None) -> pl.DataFrame:
    """Rows of one of the lake's tables, all or some; empty where there is no table, null where no column."""
    try:
        found = pl.scan_delta(DeltaTable(lake.url(table), storage_options=lake.delta_options))
        chosen = found if where is None else found.filter(where)
        return with_all(chosen, schema).collect().select(schema.names()).cast(schema)
    except TableNotFoundError:
        return schema.to_frame()
    except (DeltaError, OSError) as error:
        raise StoreError(f"Reading {lake.url(table)} failed: {fault_of(error)}.") from error


def with_all(rows: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    """The rows with every column of the schema: null where their table is from before a column was added."""
    there = rows.collect_schema()
    return rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in there)
