"""The history of syncs: one row per period that a run changed or failed, in one Delta table.

The manifest says what is; this says what it took. The efficiency report sums it up, and
thresholds learn from it; Dagster's event log would not do, since runs may be deleted.
"""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from lakehouse_assets.sync.commit import read_rows, write_rows
from lakehouse_assets.sync.lake import Lake
from lakehouse_assets.sync.report import SyncReport

HISTORY_TABLE = "_manifest/_syncs"

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


def record_history(lake: Lake, report: SyncReport, *, run_id: str | None) -> int:
    """Append the periods of which anything was copied or failed; returns how many."""
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
    write_rows(lake, HISTORY_TABLE, frame, partition_by=["month"])
    return frame.height


def read_history(lake: Lake) -> pl.DataFrame:
    """All rows, HISTORY_SCHEMA, oldest first; empty where nothing was ever synced."""
    return read_rows(lake, HISTORY_TABLE, HISTORY_SCHEMA).sort("synced_at")


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
