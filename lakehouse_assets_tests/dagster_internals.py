"""What the tests alone use of Dagster beyond its public API; the package's share is in its own module of this name."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import dagster as dg
import sqlalchemy as sa
from dagster._config import process_config, resolve_to_config_type
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetNode
from dagster._core.definitions.automation_tick_evaluation_context import build_run_requests_with_backfill_policies
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._core.loader import LoadingContextForTest
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData, TickData
from dagster._core.storage.dagster_run import DagsterRun, RunOpConcurrency
from dagster._core.storage.event_log.base import PartitionKeyFilter
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster._core.test_utils import create_run_for_test, freeze_time
from dagster._core.utils import make_new_run_id
from dagster._daemon.freshness import FreshnessDaemon
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._grpc.types import ExecuteRunArgs
from dagster._utils.error import SerializableErrorInfo

from lakehouse_assets.orchestration.dagster_internals import (
    CheckExecutionsTable,
    InstigatorType,
    SqlEventLogStorage,
    TickStatus,
)

__all__ = [
    "AssetBackfillData",
    "AssetKeyPartitionKey",
    "AssetMaterializationPlannedData",
    "CachingStaleStatusResolver",
    "DagsterRun",
    "ExecuteRunArgs",
    "InstanceRef",
    "JobPythonOrigin",
    "LoadingContextForTest",
    "ModuleCodePointer",
    "PartitionKeyFilter",
    "QueuedRunCoordinatorDaemon",
    "RepositoryPythonOrigin",
    "RepositorySnap",
    "RunOpConcurrency",
    "build_run_requests_with_backfill_policies",
    "check_rows",
    "create_run_for_test",
    "dagster_instance_config",
    "freeze_time",
    "freshness_state",
    "get_and_update_asset_status_cache_value",
    "job_origin",
    "make_new_run_id",
    "process_config",
    "record_tick",
    "resolve_to_config_type",
]


def check_rows(instance: dg.DagsterInstance, run_id: str) -> dict[tuple[str, str], int]:
    """Number of a run's rows in the table of check executions, by name and status of the check."""
    storage, rows = instance.event_log_storage, CheckExecutionsTable.c
    assert isinstance(storage, SqlEventLogStorage)
    with storage.index_connection() as connection:
        found = connection.execute(sa.select(rows.check_name, rows.execution_status).where(rows.run_id == run_id))
        return dict(Counter((name, status) for name, status in found))


def freshness_state(instance: dg.DagsterInstance, node: BaseAssetNode, now: datetime) -> str:
    """What the freshness daemon says of an asset at a time: PASS, WARN, FAIL, UNKNOWN or NOT_APPLICABLE."""
    with freeze_time(now):
        daemon, context = FreshnessDaemon(), LoadingContextForTest(instance)
        return asyncio.run(daemon._compute_asset_freshness_state(context, node)).value


def job_origin(location: str, job: str = "__ASSET_JOB") -> RemoteJobOrigin:
    """The origin of a run of another code location, which Dagster labels ``__repository__@<location>``."""
    server = GrpcServerCodeLocationOrigin("localhost", 1, location_name=location)
    return RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), job)


def record_tick(
    instance: dg.DagsterInstance,
    sensor: str,
    *,
    cursor: str | None = None,
    location: str = "lakehouse",
    reason: str | None = None,
    error: str | None = None,
    runs: Sequence[str] = (),
) -> InstigatorState:
    """Record a sensor that runs in a code location, and a tick of it; returns the sensor's state as it is stored.

    A tick that requested ``runs`` has no reason of its own.
    """
    kind = InstigatorType.SENSOR
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__")
    data = SensorInstigatorData(min_interval=30, sensor_type=None, cursor=cursor)
    origin = RemoteInstigatorOrigin(repository, sensor)
    instance.add_instigator_state(InstigatorState(origin, kind, InstigatorStatus.RUNNING, data))
    [state] = instance.all_instigator_state(instigator_type=kind)
    status = TickStatus.FAILURE if error else TickStatus.SUCCESS if runs else TickStatus.SKIPPED
    instance.create_tick(
        TickData(
            state.instigator_origin_id,
            state.name,
            kind,
            status,
            time.time(),
            run_ids=list(runs) or None,
            skip_reason=None if runs else reason,
            error=SerializableErrorInfo(error, [], None) if error else None,
            selector_id=state.selector_id,
        )
    )
    return state
