"""Errors of the lake's Delta tables: what was tried, on which table, and what helps where it is damaged.

A table is damaged when the store answers and what it holds is no whole table: a file of its log or of its
rows is missing, or is not what it has to be. That never passes by itself, and what mends it differs
from table to table, so whoever owns a table says it.
"""

from __future__ import annotations

import polars as pl
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError

from lakehouse_assets.archive.errors import UNKNOWN, fault_of, one_line
from lakehouse_assets.errors import DamagedError, StoreError
from lakehouse_assets.lake.lake import Lake

READ_ERRORS = (DeltaError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What reading or writing a Delta table raises. Polars panics at a Parquet file of a few bytes."""

_SHOWN = 100
"""Characters of what a reader of Delta says: it lists every file of the log."""

_GONE = {"NoSuchKey", "NotFound", "404"}


def is_damage(error: BaseException) -> bool:
    """Whether it tells of the table's files, not of the store, another writer or the rows to be written."""
    if isinstance(error, CommitFailedError | SchemaMismatchError):
        return False
    return isinstance(error, FileNotFoundError) or fault_of(error).code in {UNKNOWN, *_GONE}


def table_error(operation: str, lake: Lake, place: str, error: BaseException, *, remedy: str) -> StoreError:
    """The error of a table at ``place``; ``remedy`` says what repairs it where it is damaged."""
    fault = fault_of(error)
    if not is_damage(error):
        return lake.error(operation, place, fault)
    shown = one_line(fault.message, _SHOWN)
    return DamagedError(
        operation, f"the table is damaged ({shown})", bucket=lake.bucket.name, key=lake.key(place), remedy=remedy
    )
