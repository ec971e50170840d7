"""Errors of the lake's Delta tables: the operation, the table, and the remedy if the table is damaged.

A table is damaged if the store answers, but a file of the table's log or data is missing or invalid. Retrying does not
help. The remedy differs from table to table, so the owner of a table provides it.
"""

from __future__ import annotations

import polars as pl
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError

from lakehouse_assets.archive.errors import UNKNOWN, fault_of, one_line
from lakehouse_assets.errors import DamagedError, StoreError
from lakehouse_assets.lake.lake import Lake

READ_ERRORS = (DeltaError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""Exceptions of reading or writing a Delta table. Polars panics on a Parquet file of a few bytes."""

_SHOWN = 100
"""Characters shown of a Delta reader's message, which lists every file of the log."""

_GONE = {"NoSuchKey", "NotFound", "404"}


def is_damage(error: BaseException) -> bool:
    """Whether the error concerns the table's files, not the store, another writer or the rows to be written."""
    if isinstance(error, CommitFailedError | SchemaMismatchError):
        return False
    return isinstance(error, FileNotFoundError) or fault_of(error).code in {UNKNOWN, *_GONE}


def table_error(operation: str, lake: Lake, place: str, error: BaseException, *, remedy: str) -> StoreError:
    """The error for the table at ``place``; ``remedy`` is the advice if it is damaged."""
    fault = fault_of(error)
    if not is_damage(error):
        return lake.error(operation, place, fault)
    shown = one_line(fault.message, _SHOWN)
    return DamagedError(
        operation, f"the table is damaged ({shown})", bucket=lake.bucket.name, key=lake.key(place), remedy=remedy
    )
