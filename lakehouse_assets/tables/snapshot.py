"""Snapshots: a table at a version, with a name that a backtest can cite and anybody can read again.

A snapshot's id is ``<table>@<version>.<first 8 digits of the Delta table's id>``: a table that was
made anew counts its versions from 0, so the number alone would name two contents.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import obstore
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse_assets.archive.store_errors import CLIENT_ERRORS, fault_of, store_error
from lakehouse_assets.errors import InputError, StoreError
from lakehouse_assets.sync.lake import Lake
from lakehouse_assets.tables.delta import RETENTION, RETENTION_DAYS, open_table
from lakehouse_assets.tables.table import Table

AsOf = int | str | date | datetime
"""A version, a snapshot's id, or a time (ISO text too; without a zone it is UTC, a date means its midnight)."""

_ID = re.compile(r"(?P<table>[^@]+)@(?P<version>[0-9]+)\.(?P<id>[0-9a-f]{8})")
_INTERVAL = re.compile(r"interval (?P<days>[0-9]+) days")


@dataclass(frozen=True)
class Snapshot:
    """A table at a version; ``committed_at`` is UTC, ``retention_days`` for how long it stays readable once
    a newer version replaced it."""

    id: str
    table: str
    version: int
    committed_at: datetime
    retention_days: int
    delta: DeltaTable = field(repr=False, compare=False)


def open_snapshot(lake: Lake, table: Table, as_of: AsOf | None = None) -> Snapshot:
    """The newest version, or the one of ``as_of``. Raises InputError where there is none, or no longer."""
    found = open_table(lake, table.place)
    if found is None:
        raise InputError(
            f"The table {table} is not in the lake {lake.url()}: materialize {'/'.join(table.asset_key)} in Dagster."
        )
    newest = found.version()
    retention = _retention_days(found)
    if as_of is not None:
        version = _version_of(found, lake, table, as_of)
        if version != newest:
            _require_kept(lake, table, version, retention)
            found = _at(lake, table, version)
    return Snapshot(
        id=snapshot_id(table, found),
        table=table.name,
        version=found.version(),
        committed_at=_committed_at(lake, table, found.version()) or datetime.fromtimestamp(0, UTC),
        retention_days=retention,
        delta=found,
    )


def snapshot_id(table: Table, found: DeltaTable) -> str:
    """The id of a table as it was opened."""
    return f"{table.name}@{found.version()}.{str(found.metadata().id)[:8]}"


def _version_of(newest: DeltaTable, lake: Lake, table: Table, as_of: AsOf) -> int:
    if isinstance(as_of, str) and (named := _ID.fullmatch(as_of)):
        table_id = str(newest.metadata().id)[:8]
        if named["table"] != table.name:
            raise InputError(f"The snapshot {as_of} is of the table {named['table']}, not of {table}.")
        if named["id"] != table_id:
            raise InputError(f"The snapshot {as_of} is of a former table {table}; the present one is {table_id}.")
        as_of = int(named["version"])
    if isinstance(as_of, int):
        if not 0 <= as_of <= newest.version():
            raise InputError(f"The table {table} has no version {as_of}; it has 0 to {newest.version()}.")
        return as_of
    when = moment(as_of, "as_of")
    try:
        at_time = DeltaTable(lake.url(table.place), storage_options=lake.delta_options)
        at_time.load_as_version(when)
    except (DeltaError, OSError) as error:
        raise StoreError(f"Reading {lake.url(table.place)} as of {when} failed: {fault_of(error)}.") from error
    first = _committed_at(lake, table, at_time.version())
    if first is not None and first > when:
        raise InputError(f"The table {table} was made at {first:%Y-%m-%d %H:%M:%S} UTC; it has nothing as of {when}.")
    return at_time.version()


def moment(value: str | date | datetime, name: str) -> datetime:
    """A time in UTC. Raises InputError."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InputError(f"{name} {value!r} is not a time; write it as 2024-01-31 or 2024-01-31T12:00.") from None
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _at(lake: Lake, table: Table, version: int) -> DeltaTable:
    found = open_table(lake, table.place, version=version)
    if found is None:
        raise InputError(f"The table {table} has no version {version} any more.")
    return found


def _require_kept(lake: Lake, table: Table, version: int, retention_days: int) -> None:
    """Files that version + 1 took out are kept for the retention from its commit on."""
    replaced_at = _committed_at(lake, table, version + 1)
    if replaced_at is None or replaced_at < datetime.now(UTC) - timedelta(days=retention_days):
        raise InputError(
            f"Version {version} of the table {table} was replaced more than {retention_days} days ago, so its files "
            "may be gone; a longer LAKEHOUSE_TABLES_RETENTION_DAYS keeps new versions for longer."
        )


def _retention_days(found: DeltaTable) -> int:
    written = _INTERVAL.fullmatch(found.metadata().configuration.get(RETENTION, ""))
    return int(written["days"]) if written else RETENTION_DAYS


def _committed_at(lake: Lake, table: Table, version: int) -> datetime | None:
    """When a version was committed, UTC; None where its log entry is gone."""
    key = lake.key(f"{table.place}/_delta_log/{version:020}.json")
    try:
        text = bytes(obstore.get(lake.bucket.object_store(), key).bytes()).decode()
    except FileNotFoundError:
        return None
    except CLIENT_ERRORS as error:
        raise store_error(f"Reading {lake.url(key)}", error) from error
    for line in text.splitlines():
        info = json.loads(line).get("commitInfo")
        if info is not None:
            return datetime.fromtimestamp(info["timestamp"] / 1000, UTC)
    return None
