"""The sensors that keep tables and verifications up to date with the archives in the lake."""

from __future__ import annotations

import time
from collections.abc import Sequence

import dagster as dg

from lakehouse_assets.archive.matrix import DatasetEntry, Verify
from lakehouse_assets.lake.delta.latest import FilesByMonth
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.outdated import Comparison
from lakehouse_assets.observability.telemetry.setup import start_telemetry
from lakehouse_assets.orchestration.archives.verification import verification_key, verifications_per_run
from lakehouse_assets.orchestration.discovery.sensors import read_cursor
from lakehouse_assets.orchestration.following.asset import Follower, Memory
from lakehouse_assets.orchestration.following.tick import FollowTick
from lakehouse_assets.orchestration.location import location_of_sensor
from lakehouse_assets.orchestration.partitions import build_partitions
from lakehouse_assets.orchestration.resources import LakeResource
from lakehouse_assets.orchestration.run_requests import Target
from lakehouse_assets.orchestration.tables.assets import build_table_partitions, partitions_per_run
from lakehouse_assets.settings import DiscoverySettings
from lakehouse_assets.sync.integrity.due import VerificationComparison
from lakehouse_assets.tables.outdated import TableComparison
from lakehouse_assets.tables.table import TableEntry

TABLES_FOLLOW = "tables_follow"
VERIFICATIONS_FOLLOW = "verifications_follow"
FOLLOW_SENSORS = (TABLES_FOLLOW, VERIFICATIONS_FOLLOW)


def build_follow_sensors(
    tables: Sequence[TableEntry],
    entries: Sequence[DatasetEntry],
    settings: DiscoverySettings | None = None,
    *,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
) -> list[dg.SensorDefinition]:
    """One sensor for all tables, and one for the datasets whose ``verify`` is `full` or `sampled`, if there are any.

    Assets of which every archive is paused are not followed.
    """
    verified = [entry for entry in entries if entry.verify is not Verify.ON_READ and not entry.paused]
    followed = {
        TABLES_FOLLOW: [
            _table_follower(table) for table in tables if not all(entry.paused for entry in table.entries.values())
        ],
        VERIFICATIONS_FOLLOW: [_verification_follower(entry) for entry in verified],
    }
    return [
        _build_sensor(name, followers, settings or DiscoverySettings(), default_status)
        for name, followers in followed.items()
        if followers or name == TABLES_FOLLOW
    ]


def now() -> float:
    """Epoch seconds."""
    return time.time()


def _table_follower(entry: TableEntry) -> Follower:
    def compare(lake: Lake, files: FilesByMonth) -> Comparison:
        return TableComparison(lake, entry, files)

    target = Target(entry.table.asset_key, entry.table.cadence, partitions_per_run(entry))
    return Follower(target, build_table_partitions(entry), compare)


def _verification_follower(entry: DatasetEntry) -> Follower:
    def compare(lake: Lake, files: FilesByMonth) -> Comparison:
        return VerificationComparison(lake, entry.dataset, files, sampled=entry.verify is Verify.SAMPLED)

    key = verification_key(entry)
    target = Target(tuple(key.path), entry.dataset.cadence, verifications_per_run(entry))
    return Follower(target, build_partitions(entry), compare)


def _build_sensor(
    name: str,
    followers: Sequence[Follower],
    settings: DiscoverySettings,
    default_status: dg.DefaultSensorStatus,
) -> dg.SensorDefinition:
    memory = Memory()

    @dg.sensor(
        name=name,
        asset_selection=dg.AssetSelection.assets(*(follower.target.asset_key for follower in followers)),
        minimum_interval_seconds=settings.tick_seconds,
        default_status=default_status,
        description="Compares what the lake has with what was made from it, and requests a run of each partition that "
        "differs, however old it is: new periods first. A period whose runs fail is requested again after growing "
        "pauses, until it is given up.",
    )
    def follow_sensor(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
        at = now()
        tick = FollowTick(
            context.instance,
            read_cursor(context, at),
            followers,
            lake=lake.lake(),
            location=location_of_sensor(context),
            memory=memory,
            budget_seconds=settings.budget_seconds,
            first_retry_seconds=settings.first_retry_seconds,
            now=at,
            log=context.log,
        )
        start_telemetry()
        outcome = tick.run()
        return dg.SensorResult(
            run_requests=outcome.requests,
            skip_reason=None if outcome.requests else outcome.reason,
            cursor=tick.cursor.write(),
            asset_events=outcome.events,
        )

    return follow_sensor
