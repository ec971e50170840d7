"""A damaged Delta table of ours, begun anew in its place by who may write and not delete.

Readers of Delta begin at the newest checkpoint and need nothing from before it. So a table goes on, empty,
as of a version after all that its log has: one commit and its checkpoint, and the hint that names it. All
older files stay where they are; rows are taken from those that can still be read.
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
"""At a version: each fails only when another run has just begun the same log anew."""

_log = logging.getLogger(__name__)


def restart_log(lake: Lake, place: str, schema: pl.Schema) -> int:
    """Let the table at ``place`` go on empty, partitioned by month; returns its version. Raises StoreError."""
    with TemporaryDirectory(prefix="lakehouse-log-") as folder:
        DeltaTable.create(folder, schema=Schema.from_arrow(schema), partition_by=["month"]).create_checkpoint()
        made = Path(folder) / LOG
        commit = (made / f"{0:020}.json").read_bytes()
        checkpoint = (made / f"{0:020}.checkpoint.parquet").read_bytes()
        hint = json.loads((made / _HINT).read_bytes())
    hint.pop("checksum", None)  # it is of the version that is named, too
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
        version = 1 + max((int(found[1]) for name in names if (found := _VERSION.fullmatch(name))), default=-1)
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
    """A file of rows below a table, whether or not its log still has it. ``key`` is the bucket's."""

    key: str
    month: str
    written: datetime


def row_files(lake: Lake, place: str) -> list[RowFile]:
    """The files of rows of a table that is partitioned by month, the newest first. Raises StoreError."""
    listed = lake.objects_below(place).select("key", "last_modified")
    files = [
        RowFile(lake.key(f"{place}/{name}"), found[1], written)
        for name, written in listed.iter_rows()
        if (found := _ROW_FILE.fullmatch(name))
    ]
    return sorted(files, key=lambda file: (file.written, file.key), reverse=True)


def rows_of(lake: Lake, files: list[RowFile], schema: pl.Schema) -> Iterator[pl.DataFrame]:
    """The rows of each file as ``schema`` has them; files that cannot be read are left out. Raises StoreError."""
    store = lake.bucket.object_store()
    for file in files:
        try:
            rows = pl.read_parquet(io.BytesIO(bytes(obstore.get(store, file.key).bytes())))
            rows = rows.with_columns(pl.lit(file.month).alias("month"))  # it is the folder's name, not the file's
            lacking = [pl.lit(None).alias(name) for name in schema if name not in rows.columns]
            rows = rows.with_columns(lacking).select(schema.names()).cast(schema)
        except (FileNotFoundError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            _log.warning("%s cannot be read: %s", file.key, one_line(str(error)))
        except CLIENT_ERRORS as error:
            raise lake.error("Reading", file.key.removeprefix(lake.prefix), error) from error
        else:
            yield rows


def check_table(lake: Lake, place: str, *, remedy: str) -> None:
    """Whether the log of a table can be read and all files that it names are there; no row is read.

    Raises DamagedError, and StoreError where the lake does not say.
    """
    try:
        found = open_delta(lake, place)
        named = set(found.file_uris()) if found is not None else set()
    except READ_ERRORS as error:
        raise table_error("Reading", lake, place, error, remedy=remedy) from error
    gone = named - {f"{lake.bucket.url}/{file.key}" for file in row_files(lake, place)}
    if gone:
        missing = FileNotFoundError(f"{len(gone)} files of {len(named)} are gone")
        raise table_error("Reading", lake, place, missing, remedy=remedy)
