"""The efficiency report: the cost of syncs per day and month, compared with downloading and uploading."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl

from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.lake.sync_log import compact_sync_log, efficiency, read_sync_log
from lakehouse_assets.orchestration.markdown import table
from lakehouse_assets.orchestration.reports.asset import report_asset
from lakehouse_assets.orchestration.reports.timetable import Timetable
from lakehouse_assets.orchestration.resources import LakeResource

EFFICIENCY = dg.AssetKey(["reports", "efficiency"])
TIMETABLE = Timetable("20 0 * * *", every=timedelta(days=1))
DAYS, MONTHS = 31, 24

_COLUMNS = (
    "when",
    "periods",
    "objects",
    "direct / relay / staged files",
    "bytes",
    "bytes/s",
    "operations (saved)",
    "network bytes (saved)",
    "local bytes",
)


def build_efficiency_report() -> dg.AssetsDefinition:
    """An unpartitioned asset whose metadata sum up the sync log."""

    @report_asset(
        EFFICIENCY,
        "Objects, bytes, seconds and operations of all syncs per day and month (UTC), and the savings "
        "compared with downloading and uploading one object at a time (5 operations per file, every byte twice over "
        "our network).",
        TIMETABLE,
    )
    def efficiency_report(lake: LakeResource) -> dg.MaterializeResult[None]:
        compact_sync_log(lake.lake())
        history = read_sync_log(lake.lake(), since=_months_ago(datetime.now(UTC).date()))
        months = efficiency(history, by="month")
        newest = months.head(1)
        return dg.MaterializeResult(
            metadata={
                "by_day": dg.MetadataValue.md(_table(efficiency(history, by="day").head(DAYS))),
                "by_month": dg.MetadataValue.md(_table(months.head(MONTHS))),
                **{
                    f"{name}_this_month": dg.MetadataValue.int(int(newest[name].sum()))
                    for name in ("objects", "bytes_copied", "operations_saved", "network_bytes_saved")
                },
            }
        )

    return efficiency_report


def build_efficiency_schedule() -> dg.ScheduleDefinition:
    """Daily after midnight UTC."""
    return TIMETABLE.schedule("report_efficiency_daily", job="report_efficiency", asset=EFFICIENCY)


def _months_ago(today: date) -> date:
    """The first day of the MONTHS that the report shows."""
    return Period.containing(Cadence.MONTHLY, today).shifted(1 - MONTHS).start


def _table(sums: pl.DataFrame) -> str:
    rows = [
        (
            row["when"],
            f"{row['periods']:,}",
            f"{row['objects']:,}",
            f"{row['files_direct']:,} / {row['files_relay']:,} / {row['files_staged']:,}",
            f"{row['bytes_copied']:,}",
            f"{row['bytes_per_second'] or 0:,.0f}",
            f"{row['operations']:,} ({row['operations_saved']:,})",
            f"{row['network_bytes']:,} ({row['network_bytes_saved']:,})",
            f"{row['local_bytes_written']:,}",
        )
        for row in sums.to_dicts()
    ]
    return table(_COLUMNS, rows, empty="Nothing was synced yet.")
