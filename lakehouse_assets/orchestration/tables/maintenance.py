"""Maintenance of tables: scheduled assets that compact and vacuum them, with the maintenance identity."""

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.orchestration.pools import NO_LAKE, Pools
from lakehouse_assets.orchestration.resources import MaintenanceResource
from lakehouse_assets.settings import TablesSettings, read_group
from lakehouse_assets.tables.table import Table, TableEntry
from lakehouse_assets.tables.write.maintenance import compact, vacuum

# No `from __future__ import annotations` here: Dagster reads the annotation of `context`.

GROUP = "maintenance"
COMPACT = dg.AssetKey([GROUP, "compact_tables"])
VACUUM = dg.AssetKey([GROUP, "vacuum_tables"])


def build_maintenance_assets(entries: Sequence[TableEntry], pools: Pools = NO_LAKE) -> list[dg.AssetsDefinition]:
    """Two unpartitioned assets that process all tables. A table that fails does not stop the others."""
    tables = [entry.table for entry in entries]

    @dg.asset(
        key=COMPACT,
        group_name=GROUP,
        kinds={"deltalake"},
        owners=["team:market-data"],
        pool=pools.maintenance,
        description="Merges small files of past months into larger ones, sorted by symbol and time.",
    )
    def compact_tables(
        context: dg.AssetExecutionContext, maintenance: MaintenanceResource
    ) -> dg.MaterializeResult[None]:
        results = _for_each_table(context, maintenance.lake(), tables, compact)
        return dg.MaterializeResult(
            metadata={
                "months": dg.MetadataValue.int(sum(result.months for result in results)),
                "files_before": dg.MetadataValue.int(sum(result.files_before for result in results)),
                "files_after": dg.MetadataValue.int(sum(result.files_after for result in results)),
                "bytes_after": dg.MetadataValue.int(sum(result.bytes_after for result in results)),
            }
        )

    @dg.asset(
        key=VACUUM,
        group_name=GROUP,
        kinds={"deltalake"},
        owners=["team:market-data"],
        pool=pools.maintenance,
        description="Deletes files that tables have not used for LAKEHOUSE_TABLES_RETENTION_DAYS. Versions since then "
        "can still be read with as_of.",
    )
    def vacuum_tables(
        context: dg.AssetExecutionContext, maintenance: MaintenanceResource
    ) -> dg.MaterializeResult[None]:
        days = read_group(TablesSettings).retention_days
        results = _for_each_table(
            context, maintenance.lake(), tables, lambda lake, table: vacuum(lake, table, retention_days=days)
        )
        return dg.MaterializeResult(
            metadata={
                "files_removed": dg.MetadataValue.int(sum(result.files_removed for result in results)),
                "retention_days": dg.MetadataValue.int(days),
            }
        )

    return [compact_tables, vacuum_tables]


def build_maintenance_schedules() -> list[dg.ScheduleDefinition]:
    """Compact daily and vacuum weekly, in the hours before archives are published (UTC)."""
    return [
        dg.ScheduleDefinition(
            name=name,
            job=dg.define_asset_job(key.path[-1], selection=[key]),
            cron_schedule=cron,
            execution_timezone="UTC",
        )
        for name, key, cron in (
            ("compact_tables_daily", COMPACT, "40 3 * * *"),
            ("vacuum_tables_weekly", VACUUM, "40 4 * * 0"),
        )
    ]


def _for_each_table(
    context: dg.AssetExecutionContext, lake: Lake, tables: Sequence[Table], work: Callable[[Lake, Table], Any]
) -> list[Any]:
    results, failed = [], []
    for table in tables:
        try:
            results.append(work(lake, table))
        except LakehouseError as error:
            failed.append(table.name)
            context.log.warning("%s", error)
        else:
            context.log.info("%s", results[-1])
    if failed:
        raise dg.Failure(f"{len(failed)} of {len(tables)} tables failed: {', '.join(failed)}.", allow_retries=False)
    return results
