"""The history of syncs: one row per period that a run changed or failed, in one Delta table.

The manifest says what is; this says what it took. The efficiency report sums it up, and
thresholds learn from it; Dagster's event log would not do, since runs may be deleted. It is a statistic:
a sync waits for it for seconds at most, and what cannot be recorded is told and forgotten.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import polars as pl

from lakehouse_assets.errors import DamagedError, StoreError
from lakehouse_assets.lake.commit import HURRIED, compact, read_months, read_rows, write_rows
from lakehouse_assets.lake.delta.repair import restart_log, row_files, rows_of
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.report import SyncReport
from lakehouse_assets.observability.telemetry.metrics import RECORDS_LOST, count

HISTORY_TABLE = "_manifest/_syncs"

HISTORY_REMEDY = "Rebuild it: lakehouse rebuild-manifests _syncs. Syncs go on without it."

RECORD_SECONDS = 10.0
"""How long a sync tries to be first with its row, and the longest that it lets one take and still writes the next."""

_log = logging.getLogger(__name__)

HISTORY_SCHEMA = pl.Schema(
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
``retries`` is null in rows from before it was recorded."""


@dataclass
class SyncLogWriter:
    """Records what the parts of a sync took. Never fails it, and after a failure tries nothing more."""

    lake: Lake
    run_id: str | None
    _given_up: bool = False

    def record(self, report: SyncReport) -> None:
        if self._given_up:
            count(RECORDS_LOST, 1, record=HISTORY_TABLE)
            return
        started = time.monotonic()
        try:
            record_history(self.lake, report, run_id=self.run_id)
        except StoreError as error:
            self._given_up = True
            count(RECORDS_LOST, 1, record=HISTORY_TABLE)
            _log.warning("What the sync of %s took is not recorded: %s", report.dataset, error)
            return
        if (seconds := time.monotonic() - started) > RECORD_SECONDS:
            self._given_up = True
            _log.warning("Recording a part took %.0f s; of the rest of this sync nothing is recorded.", seconds)


def record_history(lake: Lake, report: SyncReport, *, run_id: str | None) -> int:
    """Append the periods of which anything was copied or failed; returns how many. Raises StoreError."""
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
    frame = pl.DataFrame(rows, schema=HISTORY_SCHEMA, orient="row")
    write_rows(
        lake,
        HISTORY_TABLE,
        frame,
        remedy=HISTORY_REMEDY,
        partition_by=["month"],
        seconds=RECORD_SECONDS,
        options=HURRIED,
    )
    return frame.height


def read_history(
    lake: Lake, *, since: date | None = None, dataset: str | None = None, options: dict[str, str] | None = None
) -> pl.DataFrame:
    """HISTORY_SCHEMA, oldest first, of all syncs, or those from the month of ``since`` on, or those of a dataset;
    empty where nothing was ever synced. ``options`` are further ones of delta-rs. Raises StoreError."""
    where = pl.lit(value=True)
    if since is not None:
        where &= pl.col("month") >= f"{since:%Y-%m}"
    if dataset is not None:
        where &= pl.col("dataset") == dataset
    rows = read_rows(lake, HISTORY_TABLE, HISTORY_SCHEMA, where, remedy=HISTORY_REMEDY, options=options)
    return rows.sort("synced_at")


def read_history_if_any(lake: Lake, *, since: date, dataset: str | None = None) -> pl.DataFrame:
    """As :func:`read_history`; empty, with a warning, where it cannot be read soon."""
    try:
        return read_history(lake, since=since, dataset=dataset, options=HURRIED)
    except StoreError as error:
        count(RECORDS_LOST, 1, record=HISTORY_TABLE)
        _log.warning("What syncs took is not known: %s", error)
        return HISTORY_SCHEMA.to_frame()


def rebuild_history(lake: Lake) -> int:
    """Begin a damaged history anew in its place, with the rows that its files still have; returns how many, 0 for one
    that is whole. Raises StoreError."""
    try:
        read_history(lake)
    except DamagedError:
        restart_log(lake, HISTORY_TABLE, HISTORY_SCHEMA)
    else:
        return 0
    files = row_files(lake, HISTORY_TABLE)
    recovered = 0
    for month in sorted({file.month for file in files}):
        rows = HISTORY_SCHEMA.to_frame()
        for more in rows_of(lake, [file for file in files if file.month == month], HISTORY_SCHEMA):
            # Rows are in as many files as they were compacted into.
            rows = pl.concat([rows, more]).unique()
        write_rows(lake, HISTORY_TABLE, rows.sort("synced_at"), remedy=HISTORY_REMEDY, partition_by=["month"])
        recovered += rows.height
    return recovered


def compact_history(lake: Lake) -> None:
    """Put the files of all months together; writers do it for the months that they find small."""
    compact(lake, HISTORY_TABLE)


@dataclass
class SyncTotals:
    """Sums over all syncs, remembered between calls: only months whose files changed are read again."""

    lake: Lake
    _months: dict[str, tuple[frozenset[str], pl.DataFrame]] = field(default_factory=dict)

    def read(self) -> pl.DataFrame:
        """One row per month, ``dataset`` and ``state``: ``periods``, and the sums of the numbers of HISTORY_SCHEMA.
        Raises StoreError."""
        files, rows = read_months(
            self.lake,
            HISTORY_TABLE,
            HISTORY_SCHEMA,
            lambda month, names: month not in self._months or self._months[month][0] != names,
            remedy=HISTORY_REMEDY,
        )
        totals = _totals(rows)
        changed = set(rows["month"])
        self._months = {
            month: (names, totals.filter(pl.col("month") == month) if month in changed else self._months[month][1])
            for month, names in files.items()
        }
        return pl.concat([totals.clear(), *(kept for _, kept in self._months.values())])


def _totals(rows: pl.DataFrame) -> pl.DataFrame:
    numbers = [name for name, dtype in HISTORY_SCHEMA.items() if dtype.is_numeric()]
    return rows.group_by("month", "dataset", "state").agg(
        pl.len().cast(pl.Int64).alias("periods"), pl.col(numbers).sum()
    )


def efficiency(history: pl.DataFrame, *, by: str) -> pl.DataFrame:
    """Sums per ``day`` or ``month`` of ``synced_at`` (UTC), newest first.

    Columns: ``when``, periods, objects, files by mode, bytes, seconds, ``bytes_per_second``,
    operations and bytes over our network with what the traditional way would have taken beyond.
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
