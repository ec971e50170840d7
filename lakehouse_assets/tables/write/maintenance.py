"""Table maintenance: compacts the files of closed months, and removes unreferenced files.

It runs with an identity of its own, the only one that may delete, and only below ``tables/``. Compacting is a
normal commit: if another writer commits to the month first, compacting is repeated.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

import polars as pl
from deltalake import PostCommitHookProperties
from deltalake.exceptions import DeltaError

from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.lake.commit import commit_attempts
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.delta import (
    RETENTION,
    RETENTION_DAYS,
    commit,
    files_of,
    may_contain,
    open_table,
    retention_properties,
    with_file_time,
)
from lakehouse_assets.tables.lineage import lineage_of
from lakehouse_assets.tables.lineage_check import CHECK_COLUMNS, intact_periods
from lakehouse_assets.tables.table import MONTH, PERIOD, Table
from lakehouse_assets.tables.write.files import ROWS_PER_FILE, FileWriter

SMALL_FILE = 32 * 1024**2
"""Files below this size are merged, up to ROWS_PER_FILE rows per file."""

_CLEANS_LOG = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=True)
_DEADLINE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Compacted:
    """The result of compacting a table."""

    table: str
    months: int
    files_before: int
    files_after: int
    bytes_after: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """The result of vacuuming a table and its records."""

    table: str
    files_removed: int
    seconds: float


def compact(lake: Lake, table: Table, *, today: date | None = None) -> Compacted:
    """Merge small files of closed months, sorted by symbol and time. Raises StoreError."""
    started = time.monotonic()
    open_month = Period.containing(Cadence.MONTHLY, today or datetime.now(UTC).date()).month
    months = before = after = size = 0
    delta = open_table(lake, table.place)
    if delta is not None:
        small = _small_files(files_of(delta).filter(pl.col(MONTH) < open_month))
        for month in small[MONTH].unique(maintain_order=True):
            try:
                removed, added, bytes_added = commit_attempts(_DEADLINE_SECONDS)(_compact_month, lake, table, month)
            except (DeltaError, OSError, pl.exceptions.PolarsError) as error:
                raise lake.error(f"Compacting {month} of", table.place, error) from error
            months, before, after, size = months + 1, before + removed, after + added, size + bytes_added
    return Compacted(table.name, months, before, after, size, time.monotonic() - started)


def vacuum(lake: Lake, table: Table, *, retention_days: int = RETENTION_DAYS) -> Vacuumed:
    """Remove files that were removed from the table or its records more than ``retention_days`` ago, and files that
    were never committed. Raises StoreError.

    Versions that were replaced more recently stay readable, as ``as_of`` promises.
    """
    started = time.monotonic()
    removed = 0
    for place in (table.place, table.lineage_place, table.quality_place, table.agreement_place):
        delta = open_table(lake, place)
        if delta is None:
            continue
        try:
            properties = retention_properties(retention_days)
            if place == table.place and delta.metadata().configuration.get(RETENTION) != properties[RETENTION]:
                # Snapshots read their retention from the table, so it follows the settings.
                delta.alter.set_table_properties(properties)
            removed += len(
                delta.vacuum(
                    retention_hours=retention_days * 24,
                    dry_run=False,
                    # Records have no retention property, and Delta would enforce its default of a week.
                    enforce_retention_duration=False,
                    full=True,
                    post_commithook_properties=_CLEANS_LOG,
                )
            )
        except (DeltaError, OSError) as error:
            raise lake.error("Vacuuming", place, error) from error
    return Vacuumed(table.name, removed, time.monotonic() - started)


def _small_files(files: pl.DataFrame) -> pl.DataFrame:
    """The files worth merging: small ones, if an interval and month has at least two."""
    small = files.filter(pl.col("size_bytes") < SMALL_FILE, pl.col("num_records") < ROWS_PER_FILE)
    return small.filter(pl.len().over("interval", MONTH) > 1).sort(MONTH, "interval", "first_period", "path")


def _compact_month(lake: Lake, table: Table, month: str) -> tuple[int, int, int]:
    """Merge the small files of a month. Returns the number of removed and added files, and the bytes of these."""
    delta = open_table(lake, table.place)
    if delta is None:
        return 0, 0, 0
    writer = FileWriter(lake, table)
    actions = []
    merged = []
    files = files_of(delta, month=month)
    lineage = lineage_of(lake, table).read(months=[month], columns=CHECK_COLUMNS)
    lost = set(lineage[PERIOD]) - intact_periods(delta, files, lineage)
    # Files of periods that are not intact are left alone: merging would hide their age, and thus the fault.
    small = _small_files(files.filter(~may_contain(files, lost)))
    for (interval,), interval_files in small.group_by("interval", maintain_order=True):
        for batch in _batches(interval_files):
            rows = _rows(lake, table, batch)
            written = writer.write([rows], interval=interval, month=month, data_change=False)
            actions += with_file_time(written, max(batch["written"]))
            merged.append(batch)
    if not merged:
        return 0, 0, 0
    removed = pl.concat(merged)
    commit(
        delta,
        table,
        month=month,
        add=actions,
        remove=removed,
        data_change=False,
        metadata={"lakehouse": "compact"},
    )
    return removed.height, len(actions), sum(action.size for action in actions)


def _batches(files: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """At least two neighbouring files each, with about ROWS_PER_FILE rows in total."""
    total = files["num_records"].cum_sum() // ROWS_PER_FILE
    for (_,), batch in files.with_columns(total.alias("batch")).group_by("batch", maintain_order=True):
        if batch.height > 1:
            yield batch.drop("batch")


def _rows(lake: Lake, table: Table, files: pl.DataFrame) -> pl.DataFrame:
    """The rows of some files, sorted by symbol and time."""
    schema = {name: dtype for name, dtype in table.schema.polars.items() if name not in table.partition_by}
    rows = pl.scan_parquet(
        [lake.url(f"{table.place}/{path}") for path in files["path"]],
        schema={**schema, PERIOD: pl.String()},
        storage_options=lake.delta_options,
        missing_columns="insert",
        hive_partitioning=False,
    ).collect()
    constant = [
        pl.lit(files[name][0], dtype).alias(name)
        for name, dtype in table.schema.polars.items()
        if name in table.partition_by
    ]
    return rows.with_columns(constant).sort("symbol", table.schema.time_column, maintain_order=True)
