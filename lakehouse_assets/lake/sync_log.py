"""The sync log: one Delta table, with a row per period that a run changed or failed.

The manifest records the state of the lake; the sync log records what each sync cost. The efficiency report sums it
up, and thresholds learn from it. Dagster's event log cannot serve for this, since runs may be deleted. The log is
best-effort: a sync waits for it for seconds at most, and rows that cannot be written are logged and dropped.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import polars as pl

from lakehouse_assets.errors import DamagedError, StoreError
from lakehouse_assets.lake.commit import FAIL_FAST_OPTIONS, compact, read_months, read_rows, write_rows
from lakehouse_assets.lake.delta.repair import restart_log, row_files, rows_of
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.report import SyncReport
from lakehouse_assets.observability.telemetry.metrics import RECORDS_LOST, count

SYNC_LOG_TABLE = "_manifest/_syncs"

SYNC_LOG_REMEDY = "Rebuild it: lakehouse rebuild-manifests _syncs. Syncs go on without it."

RECORD_SECONDS = 10.0
"""How long a sync retries a commit of its row. If a write took longer than this, the sync writes no further rows."""

_log = logging.getLogger(__name__)

SYNC_LOG_SCHEMA = pl.Schema(
    {
        "month": pl.String,
        "synced_at": pl.Datetime("us", "UTC"),
        "run_id": pl.String,
        "dataset": pl.String,
        "period": pl.String,
        "state": pl.String,
        "objects_expected": pl.Int64,
        "objects_copied": pl.Int64,
        "objects_failed": pl.Int64,
        "files_direct": pl.Int64,
        "files_relay": pl.Int64,
        "files_staged": pl.Int64,
        "bytes_copied": pl.Int64,
        "seconds": pl.Float64,
        "operations": pl.Int64,
        "operations_saved": pl.Int64,
        "network_bytes": pl.Int64,
        "network_bytes_saved": pl.Int64,
        "local_bytes_written": pl.Int64,
        "retries": pl.Int64,
    }
)
"""``month`` (of ``synced_at``, UTC) is the table's partition; ``seconds`` is the period's share of its run;
``retries`` is null in rows written before the column existed."""


@dataclass
class SyncLogWriter:
    """Appends the windows of one sync to the log. It never fails the sync, and stops after the first failure."""

    lake: Lake
    run_id: str | None
    _given_up: bool = False

    def record(self, report: SyncReport) -> None:
        if self._given_up:
            count(RECORDS_LOST, 1, record=SYNC_LOG_TABLE)
            return
        started = time.monotonic()
        try:
            append_sync_log(self.lake, report, run_id=self.run_id)
        except StoreError as error:
            self._given_up = True
            count(RECORDS_LOST, 1, record=SYNC_LOG_TABLE)
            _log.warning("The sync of %s is not in the sync log: %s", report.dataset, error)
            return
        if (seconds := time.monotonic() - started) > RECORD_SECONDS:
            self._given_up = True
            _log.warning("Writing the sync log took %.0f s; the rest of this sync is not logged.", seconds)


def append_sync_log(lake: Lake, report: SyncReport, *, run_id: str | None) -> int:
    """Append the periods in which objects were copied or failed; returns their number. Raises StoreError."""
    now = datetime.now(UTC)
    rows = [
        (
            now.strftime("%Y-%m"),
            now,
            run_id,
            report.dataset,
            period.period,
            period.state.value,
            period.expected,
            period.copied,
            period.failed,
            *(period.files_by_mode.get(mode, 0) for mode in ("direct", "relay", "staged")),
            period.bytes_copied,
            period.seconds,
            period.operations,
            period.operations_saved,
            period.network_bytes,
            period.network_bytes_saved,
            period.local_bytes_written,
            period.retries,
        )
        for period in report.periods
        if period.files_by_mode or period.failed
    ]
    if not rows:
        return 0
    frame = pl.DataFrame(rows, schema=SYNC_LOG_SCHEMA, orient="row")
    write_rows(
        lake,
        SYNC_LOG_TABLE,
        frame,
        remedy=SYNC_LOG_REMEDY,
        partition_by=["month"],
        seconds=RECORD_SECONDS,
        options=FAIL_FAST_OPTIONS,
    )
    return frame.height


def read_sync_log(
    lake: Lake, *, since: date | None = None, dataset: str | None = None, options: dict[str, str] | None = None
) -> pl.DataFrame:
    """The rows of the log, SYNC_LOG_SCHEMA, oldest first; empty before the first sync. ``since`` and ``dataset`` select
    the rows from the month of a date on, and of one dataset. ``options`` are further storage options of delta-rs.
    Raises StoreError."""
    where = pl.lit(value=True)
    if since is not None:
        where &= pl.col("month") >= f"{since:%Y-%m}"
    if dataset is not None:
        where &= pl.col("dataset") == dataset
    rows = read_rows(lake, SYNC_LOG_TABLE, SYNC_LOG_SCHEMA, where, remedy=SYNC_LOG_REMEDY, options=options)
    return rows.sort("synced_at")


def read_sync_log_or_empty(lake: Lake, *, since: date, dataset: str | None = None) -> pl.DataFrame:
    """As :func:`read_sync_log`; empty, with a warning, if the log cannot be read within seconds."""
    try:
        return read_sync_log(lake, since=since, dataset=dataset, options=FAIL_FAST_OPTIONS)
    except StoreError as error:
        count(RECORDS_LOST, 1, record=SYNC_LOG_TABLE)
        _log.warning("The sync log cannot be read: %s", error)
        return SYNC_LOG_SCHEMA.to_frame()


def rebuild_sync_log(lake: Lake) -> int:
    """Restart a damaged sync log in place, with the rows that its files still have. Returns the number of rows
    recovered, 0 if the log is intact. Raises StoreError."""
    try:
        read_sync_log(lake)
    except DamagedError:
        restart_log(lake, SYNC_LOG_TABLE, SYNC_LOG_SCHEMA)
    else:
        return 0
    files = row_files(lake, SYNC_LOG_TABLE)
    recovered = 0
    for month in sorted({file.month for file in files}):
        rows = SYNC_LOG_SCHEMA.to_frame()
        for file_rows in rows_of(lake, [file for file in files if file.month == month], SYNC_LOG_SCHEMA):
            # A compaction leaves the old files, so a row may be in several.
            rows = pl.concat([rows, file_rows]).unique()
        write_rows(lake, SYNC_LOG_TABLE, rows.sort("synced_at"), remedy=SYNC_LOG_REMEDY, partition_by=["month"])
        recovered += rows.height
    return recovered


def compact_sync_log(lake: Lake) -> None:
    """Compact the files of every month, however many; a writer compacts only a bounded number in passing."""
    compact(lake, SYNC_LOG_TABLE)


@dataclass
class SyncTotals:
    """Sums over all syncs, cached between calls: only months whose files changed are read again."""

    lake: Lake
    _months: dict[str, tuple[frozenset[str], pl.DataFrame]] = field(default_factory=dict)

    def read(self) -> pl.DataFrame:
        """One row per month, ``dataset`` and ``state``: ``periods``, and the sums of the numbers of SYNC_LOG_SCHEMA.
        Raises StoreError."""
        files, rows = read_months(
            self.lake,
            SYNC_LOG_TABLE,
            SYNC_LOG_SCHEMA,
            lambda month, names: month not in self._months or self._months[month][0] != names,
            remedy=SYNC_LOG_REMEDY,
        )
        totals = _totals(rows)
        changed = set(rows["month"])
        self._months = {
            month: (names, totals.filter(pl.col("month") == month) if month in changed else self._months[month][1])
            for month, names in files.items()
        }
        return pl.concat([totals.clear(), *(sums for _, sums in self._months.values())])


def _totals(rows: pl.DataFrame) -> pl.DataFrame:
    numbers = [name for name, dtype in SYNC_LOG_SCHEMA.items() if dtype.is_numeric()]
    return rows.group_by("month", "dataset", "state").agg(
        pl.len().cast(pl.Int64).alias("periods"), pl.col(numbers).sum()
    )


def efficiency(history: pl.DataFrame, *, by: str) -> pl.DataFrame:
    """Sums per ``day`` or ``month`` of ``synced_at`` (UTC), newest first.

    Columns: ``when``, periods, objects, files by mode, bytes, seconds, ``bytes_per_second``, operations and network
    bytes, and how many more of both a download and upload of every object would have taken.
    """
    when = pl.col("synced_at").dt.strftime("%Y-%m-%d" if by == "day" else "%Y-%m")
    return (
        history.group_by(when.alias("when"))
        .agg(
            pl.len().alias("periods"),
            pl.col("objects_copied").sum().alias("objects"),
            *(
                pl.col(name).sum()
                for name in (
                    "files_direct",
                    "files_relay",
                    "files_staged",
                    "bytes_copied",
                    "seconds",
                    "operations",
                    "operations_saved",
                    "network_bytes",
                    "network_bytes_saved",
                    "local_bytes_written",
                )
            ),
        )
        .with_columns(bytes_per_second=pl.when(pl.col("seconds") > 0).then(pl.col("bytes_copied") / pl.col("seconds")))
        .sort("when", descending=True)
    )
