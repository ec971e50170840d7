"""What the tests alone use of Dagster beyond its public API; the package's share is in its own module of this name."""

from dagster._config import process_config, resolve_to_config_type
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData, TickData
from dagster._core.storage.event_log.base import PartitionKeyFilter
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster._core.test_utils import create_run_for_test
from dagster._core.utils import make_new_run_id
from dagster._grpc.types import ExecuteRunArgs

__all__ = [
    "ExecuteRunArgs",
    "InstanceRef",
    "InstigatorState",
    "InstigatorStatus",
    "JobPythonOrigin",
    "ModuleCodePointer",
    "PartitionKeyFilter",
    "RegisteredCodeLocationOrigin",
    "RemoteInstigatorOrigin",
    "RemoteRepositoryOrigin",
    "RepositoryPythonOrigin",
    "RepositorySnap",
    "SensorInstigatorData",
    "TickData",
    "create_run_for_test",
    "dagster_instance_config",
    "get_and_update_asset_status_cache_value",
    "make_new_run_id",
    "process_config",
    "resolve_to_config_type",
]
