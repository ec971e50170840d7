"""What the tests alone use of Dagster beyond its public API; the package's share is in its own module of this name."""

from collections import Counter

import dagster as dg
import sqlalchemy as sa
from dagster._config import process_config, resolve_to_config_type
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.automation_tick_evaluation_context import build_run_requests_with_backfill_policies
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.events import AssetMaterializationPlannedData
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
from dagster._core.test_utils import create_run_for_test
from dagster._core.utils import make_new_run_id
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._grpc.types import ExecuteRunArgs

from lakehouse_assets.orchestration.dagster_internals import CheckExecutionsTable, SqlEventLogStorage

__all__ = [
    "AssetKeyPartitionKey",
    "AssetMaterializationPlannedData",
    "CachingStaleStatusResolver",
    "DagsterRun",
    "ExecuteRunArgs",
    "InstanceRef",
    "InstigatorState",
    "InstigatorStatus",
    "JobPythonOrigin",
    "LoadingContextForTest",
    "ModuleCodePointer",
    "PartitionKeyFilter",
    "QueuedRunCoordinatorDaemon",
    "RegisteredCodeLocationOrigin",
    "RemoteInstigatorOrigin",
    "RemoteRepositoryOrigin",
    "RepositoryPythonOrigin",
    "RepositorySnap",
    "RunOpConcurrency",
    "SensorInstigatorData",
    "TickData",
    "build_run_requests_with_backfill_policies",
    "check_rows",
    "create_run_for_test",
    "dagster_instance_config",
    "get_and_update_asset_status_cache_value",
    "job_origin",
    "make_new_run_id",
    "process_config",
    "resolve_to_config_type",
]


def check_rows(instance: dg.DagsterInstance, run_id: str) -> dict[tuple[str, str], int]:
    """Number of a run's rows in the table of check executions, by name and status of the check."""
    storage, rows = instance.event_log_storage, CheckExecutionsTable.c
    assert isinstance(storage, SqlEventLogStorage)
    with storage.index_connection() as connection:
        found = connection.execute(sa.select(rows.check_name, rows.execution_status).where(rows.run_id == run_id))
        return dict(Counter((name, status) for name, status in found))


def job_origin(location: str, job: str = "__ASSET_JOB") -> RemoteJobOrigin:
    """The origin of a run of another code location, which Dagster labels ``__repository__@<location>``."""
    server = GrpcServerCodeLocationOrigin("localhost", 1, location_name=location)
    return RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), job)
