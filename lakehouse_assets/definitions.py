"""The code location: Dagster definitions built from the archive matrix and the settings."""

import dagster as dg

from lakehouse_assets.archive.matrix import load_matrix
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.archives.ops import build_jobs
from lakehouse_assets.orchestration.archives.source import build_source_assets
from lakehouse_assets.orchestration.archives.verification import build_verification_asset
from lakehouse_assets.orchestration.code_references import with_code_references
from lakehouse_assets.orchestration.dagster_tags import ASSET_JOB
from lakehouse_assets.orchestration.discovery.sensors import build_discovery_sensors
from lakehouse_assets.orchestration.following.sensors import build_follow_sensors
from lakehouse_assets.orchestration.incidents.sensor import build_incident_report, build_incident_sensor
from lakehouse_assets.orchestration.instance.executor import steps_executor
from lakehouse_assets.orchestration.instance.retention import build_retention_schedule
from lakehouse_assets.orchestration.pools import Pools
from lakehouse_assets.orchestration.reports.catalog import build_catalog_assets, build_catalog_schedules
from lakehouse_assets.orchestration.reports.coverage import build_coverage_report, build_coverage_schedule
from lakehouse_assets.orchestration.reports.efficiency import build_efficiency_report, build_efficiency_schedule
from lakehouse_assets.orchestration.reports.outlook import build_outlook_report, build_outlook_schedule
from lakehouse_assets.orchestration.resources import build_resources
from lakehouse_assets.orchestration.tables.agreement import build_agreement_assets
from lakehouse_assets.orchestration.tables.assets import build_table_asset
from lakehouse_assets.orchestration.tables.maintenance import build_maintenance_assets, build_maintenance_schedules
from lakehouse_assets.settings import load_settings
from lakehouse_assets.tables.table import tables_of


@dg.definitions
def defs() -> dg.Definitions:
    """All definitions of the code location. Needs no credentials and no network."""
    settings = load_settings()
    matrix = load_matrix(settings.matrix)
    tables = tables_of(matrix.entries)
    lake_url = settings.lake.url
    pools = Pools(settings.lake.label)
    is_running = settings.sensors.running
    sensor_status = dg.DefaultSensorStatus.RUNNING if is_running else dg.DefaultSensorStatus.STOPPED
    jobs = build_jobs()
    schedules = [
        build_efficiency_schedule(),
        build_outlook_schedule(),
        build_coverage_schedule(),
        *build_catalog_schedules(),
        *build_maintenance_schedules(),
        build_retention_schedule(settings.retention),
    ]
    own_jobs = {ASSET_JOB, *(job.name for job in jobs), *(schedule.job_name for schedule in schedules)}
    assets = (
        build_source_assets()
        + [
            asset
            for entry in matrix.entries
            for asset in (build_archive_asset(entry, lake_url, pools), build_verification_asset(entry, pools))
        ]
        + [build_table_asset(table, lake_url, pools, is_followed=is_running) for table in tables]
        + build_agreement_assets(tables, pools)
        + [build_efficiency_report(), build_incident_report(), build_outlook_report(matrix.entries)]
        + [build_coverage_report(matrix.entries)]
        + [*build_catalog_assets(matrix, pools), *build_maintenance_assets(tables, pools)]
    )
    return dg.Definitions(
        assets=with_code_references(assets, settings.code_url),
        jobs=jobs,
        schedules=schedules,
        sensors=[
            *build_discovery_sensors(matrix, settings.discovery, default_status=sensor_status),
            *build_follow_sensors(tables, matrix.entries, settings.discovery, default_status=sensor_status),
            build_incident_sensor(settings.incidents, jobs=own_jobs),
        ],
        resources=build_resources(settings),
        executor=steps_executor,
    )
