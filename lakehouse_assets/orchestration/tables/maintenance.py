"""Maintenance of tables: compacting and vacuuming as scheduled assets, under the maintenance identity."""

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.orchestration.resources import MaintenanceResource
from lakehouse_assets.settings import TablesSettings, read_group
from lakehouse_assets.tables.table import Table, TableEntry
from lakehouse_assets.tables.write.maintenance import compact, vacuum

# No `from __future__ import annotations` here: Dagster reads the annotation of `context`.

GROUP = "maintenance"
COMPACT = dg.AssetKey([GROUP, "compact_tables"])
VACUUM = dg.AssetKey([GROUP, "vacuum_tables"])


def build_maintenance_assets(entries: Sequence[TableEntry]) -> list[dg.AssetsDefinition]:
    """Two unpartitioned assets that go through all tables. One table's failure does not keep the others waiting."""
    tables = [entry.table for entry in entries]

    @dg.asset(
        key=COMPACT,
        group_name=GROUP,
        kinds={"deltalake"},
        owners=["team:market-data"],
        pool=GROUP,
        description="Puts small files of closed months together, sorted by symbol and time.",
    )
    def compact_tables(
        context: dg.AssetExecutionContext, maintenance: MaintenanceResource
    ) -> dg.MaterializeResult[None]:
        rows = _each(context, maintenance.lake(), tables, compact)
        done = [row for _, row in rows]
        return dg.MaterializeResult(
            metadata={
                "months": dg.MetadataValue.int(sum(each.months for each in done)),
                "files_before": dg.MetadataValue.int(sum(each.files_before for each in done)),
                "files_after": dg.MetadataValue.int(sum(each.files_after for each in done)),
                "bytes_after": dg.MetadataValue.int(sum(each.bytes_after for each in done)),
            }
        )

    @dg.asset(
        key=VACUUM,
        group_name=GROUP,
        kinds={"deltalake"},
        owners=["team:market-data"],
        pool=GROUP,
        description="Removes files that tables gave up longer ago than LAKEHOUSE_TABLES_RETENTION_DAYS. What was "
        "replaced since can still be read with as_of.",
    )
    def vacuum_tables(
        context: dg.AssetExecutionContext, maintenance: MaintenanceResource
    ) -> dg.MaterializeResult[None]:
        days = read_group(TablesSettings).retention_days
        rows = _each(context, maintenance.lake(), tables, lambda lake, table: vacuum(lake, table, retention_days=days))
        return dg.MaterializeResult(
            metadata={
                "files_removed": dg.MetadataValue.int(sum(each.files_removed for _, each in rows)),
                "retention_days": dg.MetadataValue.int(days),
            }
        )

    return [compact_tables, vacuum_tables]


def build_maintenance_schedules() -> list[dg.ScheduleDefinition]:
    """Compacting daily, vacuuming weekly, in the hours before archives are published (UTC)."""
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


def _each(
    context: dg.AssetExecutionContext, lake: Lake, tables: Sequence[Table], work: Callable[[Lake, Table], Any]
) -> list[tuple[Table, Any]]:
    done, failed = [], []
    for table in tables:
        try:
            done.append((table, work(lake, table)))
        except LakehouseError as error:
            failed.append(table.name)
            context.log.warning("%s", error)
        else:
            context.log.info("%s", done[-1][1])
    if failed:
        raise dg.Failure(f"{len(failed)} of {len(tables)} tables failed: {', '.join(failed)}.", allow_retries=False)
    return done
