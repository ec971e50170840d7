"""Snapshots: a table at a version, with an id that a backtest can cite and that reads the same rows again.

The id is ``<table>@<version>.<first 8 digits of the Delta table's id>``. A table that is created anew counts its
versions from 0 again, so the version number alone is ambiguous.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from deltalake import DeltaTable

from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.commit_times import VersionAtTime, commit_time, version_at
from lakehouse_assets.tables.delta import RETENTION, RETENTION_DAYS, open_table, table_id_of
from lakehouse_assets.tables.table import Table

AsOf = int | str | date | datetime
"""A version number, a snapshot id or a time. A time selects the newest version that was committed at or before it, by
the commit's own timestamp (tables/commit_times.py). A text is ISO 8601; a time without a zone is UTC, and a date means
its midnight in UTC."""

_ID = re.compile(r"(?P<table>[^@]+)@(?P<version>[0-9]+)\.(?P<id>[0-9a-f]{8})")
_INTERVAL = re.compile(r"interval (?P<days>[0-9]+) days")


@dataclass(frozen=True)
class Snapshot:
    """A table at a version. ``committed_at`` is UTC (1970-01-01 when the log no longer has the commit);
    ``retention_days`` is how long it stays readable after a newer version replaced it."""

    id: str
    table: str
    version: int
    committed_at: datetime
    retention_days: int
    delta: DeltaTable = field(repr=False, compare=False)


def open_snapshot(lake: Lake, table: Table, as_of: AsOf | None = None) -> Snapshot:
    """The newest version, or the version of ``as_of``.

    Raises InputError when the table or version does not exist or is no longer kept, StoreError when the lake cannot
    be read.
    """
    delta = open_table(lake, table.place)
    if delta is None:
        raise InputError(
            f"The table {table} is not in the lake {lake.url()}: materialize {'/'.join(table.asset_key)} in Dagster."
        )
    newest = delta.version()
    retention = _retention_days(delta)
    if as_of is not None:
        version = _version_of(delta, lake, table, as_of)
        if version != newest:
            _require_retained(lake, table, version, retention)
            delta = _open_version(lake, table, version)
    return Snapshot(
        id=snapshot_id(table, delta),
        table=table.name,
        version=delta.version(),
        committed_at=commit_time(lake, table.place, delta.version()) or datetime.fromtimestamp(0, UTC),
        retention_days=retention,
        delta=delta,
    )


def snapshot_id(table: Table, delta: DeltaTable) -> str:
    """The snapshot id of an opened table."""
    return f"{table.name}@{delta.version()}.{table_id_of(delta)[:8]}"


def _version_of(newest: DeltaTable, lake: Lake, table: Table, as_of: AsOf) -> int:
    if isinstance(as_of, str) and (named := _ID.fullmatch(as_of)):
        table_id = table_id_of(newest)[:8]
        if named["table"] != table.name:
            raise InputError(f"The snapshot {as_of} is of the table {named['table']}, not of {table}.")
        if named["id"] != table_id:
            raise InputError(
                f"The snapshot {as_of} is of an earlier table {table}, which was replaced; "
                f"snapshots of the current table end with .{table_id}."
            )
        as_of = int(named["version"])
    if isinstance(as_of, int):
        if not 0 <= as_of <= newest.version():
            raise InputError(f"The table {table} has no version {as_of}; it has 0 to {newest.version()}.")
        return as_of
    when = utc_time(as_of, "as_of")
    match = version_at(lake, table.place, when)
    if match.version is None:
        raise InputError(_too_early(table, when, match))
    return min(match.version, newest.version())


def _too_early(table: Table, when: datetime, match: VersionAtTime) -> str:
    since = "an unknown time" if match.since is None else f"{match.since:%Y-%m-%d %H:%M:%S.%f} UTC"
    if match.oldest == 0:
        return f"The table {table} was created at {since}; it did not exist at {when}."
    return (
        f"The version of the table {table} at {when} is unknown: the log no longer has its versions before "
        f"{match.oldest}. The oldest possible as_of is {since}."
    )


def utc_time(value: str | date | datetime, name: str) -> datetime:
    """The time in UTC; a date means its midnight. Raises InputError, which names the parameter ``name``."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InputError(f"{name} {value!r} is not a time; write it as 2024-01-31 or 2024-01-31T12:00.") from None
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _open_version(lake: Lake, table: Table, version: int) -> DeltaTable:
    delta = open_table(lake, table.place, version=version)
    if delta is None:
        raise InputError(f"The table {table} no longer has version {version}.")
    return delta


def _require_retained(lake: Lake, table: Table, version: int, retention_days: int) -> None:
    """Raise InputError when the retention has passed since the next version's commit removed files."""
    replaced_at = commit_time(lake, table.place, version + 1)
    if replaced_at is None or replaced_at < datetime.now(UTC) - timedelta(days=retention_days):
        raise InputError(
            f"Version {version} of the table {table} was replaced more than {retention_days} days ago, so its files "
            "may be deleted; a higher LAKEHOUSE_TABLES_RETENTION_DAYS keeps future versions for longer."
        )


def _retention_days(delta: DeltaTable) -> int:
    interval = _INTERVAL.fullmatch(delta.metadata().configuration.get(RETENTION, ""))
    return int(interval["days"]) if interval else RETENTION_DAYS
