"""Restarts the log of a damaged Delta table in place, with an identity that may write but not delete.

Readers of Delta start at the newest checkpoint and need no earlier file. So an empty table is committed at a version
after all others in the log: one commit, its checkpoint, and the hint that names the checkpoint. Older files stay; rows
are recovered from the data files that are still readable.
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import obstore
import polars as pl
from deltalake import DeltaTable, Schema
from obstore.exceptions import AlreadyExistsError

from lakehouse_assets.archive.errors import CLIENT_ERRORS, StoreFault, one_line
from lakehouse_assets.lake.delta.errors import READ_ERRORS, table_error
from lakehouse_assets.lake.delta.table import LOG, open_delta
from lakehouse_assets.lake.lake import Lake

_HINT = "_last_checkpoint"
_VERSION = re.compile(r"(\d{20})\.(?:json|checkpoint\..*parquet|checkpoint\.parquet)")
_ROW_FILE = re.compile(r"month=(\d{4}-\d{2})/[^/]+\.parquet")
_ATTEMPTS = 5
"""Attempts at a commit. One fails only if another run restarts the same log at the same time."""

_log = logging.getLogger(__name__)


def restart_log(lake: Lake, place: str, schema: pl.Schema) -> int:
    """Commit an empty table, partitioned by month, after the log at ``place``; returns its version. Raises
    StoreError."""
    with TemporaryDirectory(prefix="lakehouse-log-") as folder:
        DeltaTable.create(folder, schema=Schema.from_arrow(schema), partition_by=["month"]).create_checkpoint()
        log = Path(folder) / LOG
        commit = (log / f"{0:020}.json").read_bytes()
        checkpoint = (log / f"{0:020}.checkpoint.parquet").read_bytes()
        hint = json.loads((log / _HINT).read_bytes())
    hint.pop("checksum", None)  # it covers the version, which changes
    store, root = lake.bucket.object_store(), lake.key(f"{place}/{LOG}")
    try:
        version = _commit_after_all(lake, place, commit)
        obstore.put(store, f"{root}/{version:020}.checkpoint.parquet", checkpoint)
        obstore.put(store, f"{root}/{_HINT}", json.dumps(hint | {"version": version}).encode())
    except CLIENT_ERRORS as error:
        raise lake.error("Restarting the log of", place, error) from error
    return version


def _commit_after_all(lake: Lake, place: str, commit: bytes) -> int:
    store = lake.bucket.object_store()
    for _ in range(_ATTEMPTS):
        names = lake.objects_below(f"{place}/{LOG}")["key"]
        version = 1 + max((int(match[1]) for name in names if (match := _VERSION.fullmatch(name))), default=-1)
        try:
            key = lake.key(f"{place}/{LOG}/{version:020}.json")
            obstore.put(store, key, commit, mode="create", use_multipart=False)
        except AlreadyExistsError:
            continue
        return version
    fault = StoreFault("Overtaken", "other runs restart it at the same time; try again", of_lake=True)
    raise lake.error("Restarting the log of", place, fault)


@dataclass(frozen=True, slots=True)
class RowFile:
    """A data file below a table, whether or not the table's log still names it. ``key`` is the bucket key."""

    key: str
    month: str
    written: datetime


def row_files(lake: Lake, place: str) -> list[RowFile]:
    """The data files of a table that is partitioned by month, the newest first. Raises StoreError."""
    listed = lake.objects_below(place).select("key", "last_modified")
    files = [
        RowFile(lake.key(f"{place}/{name}"), match[1], written)
        for name, written in listed.iter_rows()
        if (match := _ROW_FILE.fullmatch(name))
    ]
    return sorted(files, key=lambda file: (file.written, file.key), reverse=True)


def rows_of(lake: Lake, files: list[RowFile], schema: pl.Schema) -> Iterator[pl.DataFrame]:
    """The rows of each file, cast to ``schema``; unreadable files are skipped. Raises StoreError."""
    store = lake.bucket.object_store()
    for file in files:
        try:
            rows = pl.read_parquet(io.BytesIO(bytes(obstore.get(store, file.key).bytes())))
            rows = rows.with_columns(pl.lit(file.month).alias("month"))  # only the folder's name has it
            lacking = [pl.lit(None).alias(name) for name in schema if name not in rows.columns]
            rows = rows.with_columns(lacking).select(schema.names()).cast(schema)
        except (FileNotFoundError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            _log.warning("%s cannot be read: %s", file.key, one_line(str(error)))
        except CLIENT_ERRORS as error:
            raise lake.error("Reading", file.key.removeprefix(lake.prefix), error) from error
        else:
            yield rows


def check_table(lake: Lake, place: str, *, remedy: str) -> None:
    """Check that the log of a table is readable and that every file it names exists; no row is read.

    Raises DamagedError, and StoreError if the lake does not answer.
    """
    try:
        table = open_delta(lake, place)
        named = set(table.file_uris()) if table is not None else set()
    except READ_ERRORS as error:
        raise table_error("Reading", lake, place, error, remedy=remedy) from error
    gone = named - {f"{lake.bucket.url}/{file.key}" for file in row_files(lake, place)}
    if gone:
        missing = FileNotFoundError(f"{len(gone)} of {len(named)} files are missing")
        raise table_error("Reading", lake, place, missing, remedy=remedy)
