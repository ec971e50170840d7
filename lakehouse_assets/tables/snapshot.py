"""Snapshots: a table at a version, with a name that a backtest can cite and anybody can read again.

A snapshot's id is ``<table>@<version>.<first 8 digits of the Delta table's id>``: a table that was
made anew counts its versions from 0, so the number alone would name two contents.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from deltalake import DeltaTable

from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.commit_times import Found, commit_time, version_at
from lakehouse_assets.tables.delta import RETENTION, RETENTION_DAYS, id_of, open_table
from lakehouse_assets.tables.table import Table

AsOf = int | str | date | datetime
"""A version, a snapshot's id, or a time (ISO text too; without a zone it is UTC, a date means its midnight), which
means the newest version that was committed by then, as its commit says (tables/commit_times.py)."""

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
        committed_at=commit_time(lake, table.place, found.version()) or datetime.fromtimestamp(0, UTC),
        retention_days=retention,
        delta=found,
    )


def snapshot_id(table: Table, found: DeltaTable) -> str:
    """The id of a table as it was opened."""
    return f"{table.name}@{found.version()}.{id_of(found)[:8]}"


def _version_of(newest: DeltaTable, lake: Lake, table: Table, as_of: AsOf) -> int:
    if isinstance(as_of, str) and (named := _ID.fullmatch(as_of)):
        table_id = id_of(newest)[:8]
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
    found = version_at(lake, table.place, when)
    if found.version is None:
        raise InputError(_too_early(table, when, found))
    return min(found.version, newest.version())


def _too_early(table: Table, when: datetime, found: Found) -> str:
    since = "an unknown time" if found.since is None else f"{found.since:%Y-%m-%d %H:%M:%S.%f} UTC"
    if found.oldest == 0:
        return f"The table {table} was made at {since}; it has nothing as of {when}."
    return (
        f"What the table {table} was as of {when} cannot be told: the log of its versions before {found.oldest} is "
        f"gone. The oldest time that can be asked for is {since}."
    )


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
    replaced_at = commit_time(lake, table.place, version + 1)
    if replaced_at is None or replaced_at < datetime.now(UTC) - timedelta(days=retention_days):
        raise InputError(
            f"Version {version} of the table {table} was replaced more than {retention_days} days ago, so its files "
            "may be gone; a longer LAKEHOUSE_TABLES_RETENTION_DAYS keeps new versions for longer."
        )


def _retention_days(found: DeltaTable) -> int:
    written = _INTERVAL.fullmatch(found.metadata().configuration.get(RETENTION, ""))
    return int(written["days"]) if written else RETENTION_DAYS
