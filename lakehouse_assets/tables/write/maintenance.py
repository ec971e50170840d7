"""Keeping tables tidy: closed months put together and sorted, files that nothing refers to removed.

It runs under an identity of its own, the only one that may delete, and only below ``tables/``. Compacting
is a commit like any other: whoever writes the month meanwhile wins, and it is done again.
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
    dated,
    files_of,
    kept_for,
    may_hold,
    open_table,
)
from lakehouse_assets.tables.held import WITNESS, held_periods
from lakehouse_assets.tables.lineage import lineage_of
from lakehouse_assets.tables.table import MONTH, PERIOD, Table
from lakehouse_assets.tables.write.files import ROWS_PER_FILE, FileWriter

SMALL_FILE = 32 * 1024**2
"""Files below are put together, until a file has ROWS_PER_FILE rows."""

_TIDIES_THE_LOG = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=True)
_DEADLINE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Compacted:
    """What compacting a table did."""

    table: str
    months: int
    files_before: int
    files_after: int
    bytes_after: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What vacuuming a table and its records did."""

    table: str
    files_removed: int
    seconds: float


def compact(lake: Lake, table: Table, *, today: date | None = None) -> Compacted:
    """Put small files of closed months together, sorted by symbol and time. Raises StoreError."""
    started = time.monotonic()
    open_month = Period.containing(Cadence.MONTHLY, today or datetime.now(UTC).date()).month
    months = before = after = size = 0
    found = open_table(lake, table.place)
    if found is not None:
        work = _small_files(files_of(found).filter(pl.col(MONTH) < open_month))
        for (month,), _files in work.group_by(MONTH, maintain_order=True):
            try:
                done = commit_attempts(_DEADLINE_SECONDS)(_compact_month, lake, table, str(month))
            except (DeltaError, OSError, pl.exceptions.PolarsError) as error:
                raise lake.error(f"Compacting {month} of", table.place, error) from error
            months, before, after, size = months + 1, before + done[0], after + done[1], size + done[2]
    return Compacted(table.name, months, before, after, size, time.monotonic() - started)


def vacuum(lake: Lake, table: Table, *, retention_days: int = RETENTION_DAYS) -> Vacuumed:
    """Remove files that left the table or its records more than ``retention_days`` ago,
    and files that no commit ever took in. Raises StoreError.

    Versions that were replaced since stay readable: that is the promise of ``as_of``.
    """
    started = time.monotonic()
    removed = 0
    for place in (table.place, table.lineage_place, table.quality_place, table.agreement_place):
        found = open_table(lake, place)
        if found is None:
            continue
        try:
            if (
                place == table.place
                and found.metadata().configuration.get(RETENTION) != kept_for(retention_days)[RETENTION]
            ):
                # What snapshots promise follows the settings.
                found.alter.set_table_properties(kept_for(retention_days))
            removed += len(
                found.vacuum(
                    retention_hours=retention_days * 24,
                    dry_run=False,
                    # Records have no property, and the week that Delta assumes is not ours.
                    enforce_retention_duration=False,
                    full=True,
                    post_commithook_properties=_TIDIES_THE_LOG,
                )
            )
        except (DeltaError, OSError) as error:
            raise lake.error("Vacuuming", place, error) from error
    return Vacuumed(table.name, removed, time.monotonic() - started)


def _small_files(files: pl.DataFrame) -> pl.DataFrame:
    """Files that it is worth putting together: at least two small ones of an interval and month."""
    small = files.filter(pl.col("size_bytes") < SMALL_FILE, pl.col("num_records") < ROWS_PER_FILE)
    return small.filter(pl.len().over("interval", MONTH) > 1).sort(MONTH, "interval", "first_period", "path")


def _compact_month(lake: Lake, table: Table, month: str) -> tuple[int, int, int]:
    found = open_table(lake, table.place)
    if found is None:
        return 0, 0, 0
    files = FileWriter(lake, table)
    actions = []
    taken = []
    of_month = files_of(found, month=month)
    lineage = lineage_of(lake, table).read(months=[month], columns=WITNESS)
    lost = set(lineage[PERIOD]) - held_periods(found, of_month, lineage)
    # Files that are to be built again are left alone: put together, they would look as new as the newest.
    work = _small_files(of_month.filter(~may_hold(of_month, lost)))
    for (interval,), small in work.group_by("interval", maintain_order=True):
        for batch in _batches(small):
            rows = _rows(lake, table, batch)
            written = files.write([rows], interval=interval, month=month, data_change=False)
            actions += dated(written, max(batch["written"]))
            taken.append(batch)
    if not taken:
        return 0, 0, 0
    removed = pl.concat(taken)
    commit(
        found,
        table,
        month=month,
        add=actions,
        remove=removed,
        data_change=False,
        metadata={"lakehouse": "compact"},
    )
    return removed.height, len(actions), sum(action.size for action in actions)


def _batches(files: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Neighbouring files of together at most ROWS_PER_FILE rows, two at least."""
    total = files["num_records"].cum_sum() // ROWS_PER_FILE
    for (_,), batch in files.with_columns(total.alias("batch")).group_by("batch", maintain_order=True):
        if batch.height > 1:
            yield batch.drop("batch")


def _rows(lake: Lake, table: Table, files: pl.DataFrame) -> pl.DataFrame:
    """Rows of some files, sorted as the table's files are."""
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
