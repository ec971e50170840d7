"""What this package uses of Dagster beyond its public API.

This is the only module that imports Dagster's private packages (``dagster._core`` and the like), so an upgrade of
Dagster changes one file. Every name has a contract test in ``test_dagster_internals.py``. Written against 1.13.27.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import NamedTuple

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    DEFAULT_DATA_VERSION,
    NULL_EVENT_POINTER,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.definitions.decorators.op_decorator import DecoratedOpFunction
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.events import ASSET_EVENTS
from dagster._core.execution.backfill import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.run_coordinator import RunCoordinator
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as CheckExecutionStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable as CheckExecutionsTable
from dagster._core.storage.event_log.schema import AssetEventTagsTable as EventTagsTable
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable as EventsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData

__all__ = [
    "ASSET_EVENTS",
    "CODE_VERSION_TAG",
    "DAEMON_MODULE",
    "DATA_VERSION_IS_USER_PROVIDED_TAG",
    "DATA_VERSION_TAG",
    "NO_COMPUTE_LOGS",
    "AssetBackfill",
    "AssetGraph",
    "CheckExecutionStatus",
    "CheckExecutionsTable",
    "ConfigurableClassData",
    "EventTagsTable",
    "EventsTable",
    "InputVersion",
    "InstigatorTick",
    "InstigatorType",
    "PartitionBackfill",
    "SqlEventLogStorage",
    "SqliteEventLogStorage",
    "TickStatus",
    "active_backfill_ids",
    "body_of",
    "forget_partition_status",
    "forget_planned_checks",
    "input_version_tags",
    "input_versions",
    "instance_of",
    "is_code_server_serving",
    "last_check_evaluation",
    "running_asset_backfills",
]

# Aliases
#
# Retention needs the SQL tables, the two storages and ASSET_EVENTS: no public method tells which runs hold the newest
# event of a partition, and `delete_run` leaves check executions behind.
# The incident sensor reads sensors' ticks (InstigatorType, InstigatorTick, TickStatus), which have no public type.
# AssetGraph and ConfigurableClassData are types of public arguments, and are not exported by `dagster`.

DAEMON_MODULE = "dagster._daemon"
"""Module to run with ``python -m``. The public name is a console script, which is not found in every environment."""

NO_COMPUTE_LOGS = {
    "module": "dagster._core.storage.noop_compute_log_manager",
    "class": "NoOpComputeLogManager",
}
"""Value of ``compute_logs`` in dagster.yaml that captures no output of runs."""


# Definitions


def body_of(asset: dg.AssetsDefinition) -> FunctionType:
    """The function that was decorated as an asset, without wrappers.

    Dagster's `with_source_code_references` would name the file of a wrapper with the line of the wrapped function.
    """
    compute = asset.op.compute_fn
    return inspect.unwrap(compute.decorated_fn if isinstance(compute, DecoratedOpFunction) else compute)


# Partitions and checks


def forget_partition_status(instance: dg.DagsterInstance, key: dg.AssetKey) -> None:
    """Make Dagster compute the status of an asset's partitions anew.

    A partition that failed once and was neither materialized nor failed since stays failed in Dagster's cache. The
    public `wipe_asset_partitions` would delete materializations.
    """
    instance.wipe_asset_cached_status([key])


def forget_planned_checks(context: dg.AssetExecutionContext) -> None:
    """Delete the rows by which Dagster plans the unpartitioned checks of a step that runs over partitions.

    Dagster (1.13.27) writes one per check and partition, and never updates them: an evaluation of the check has no
    partition and gets a row of its own. Over years they would be most of the check's rows, all of them "planned".
    """
    storage = context.instance.event_log_storage
    checks = context.selected_asset_check_keys
    if not isinstance(storage, SqlEventLogStorage) or not checks:
        return
    rows = CheckExecutionsTable.c
    with storage.index_connection() as connection:
        connection.execute(
            CheckExecutionsTable.delete().where(
                rows.run_id == context.run.run_id,
                rows.asset_key.in_({check.asset_key.to_string() for check in checks}),
                rows.check_name.in_({check.name for check in checks}),
                rows.partition.is_not(None),
                rows.execution_status == CheckExecutionStatus.PLANNED.value,
            )
        )


def last_check_evaluation(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
    """The last evaluation of a check, None before the first. Executions without an evaluation are skipped.

    The public API returns a check's results only within the run that made them.
    """
    records = instance.event_log_storage.get_asset_check_execution_history(
        key, limit=1, status={CheckExecutionStatus.SUCCEEDED, CheckExecutionStatus.FAILED}
    )
    return records[0].evaluation if records else None


# Provenance: what a materialization was made from


class InputVersion(NamedTuple):
    """An upstream asset as a run read it.

    ``data_version`` is one digest of all partitions that the run reads, ``storage_id`` the asset's newest event then.
    For partitions, Dagster compares by the event only: the versions before it with those after it.
    """

    data_version: str = DEFAULT_DATA_VERSION.value
    storage_id: int | None = None


def input_versions(context: dg.AssetExecutionContext, key: dg.AssetKey) -> dict[dg.AssetKey, InputVersion]:
    """The assets upstream of ``key``, as they were when the step started. Reads nothing: Dagster has done so by then.

    Dagster records them only for materializations that it makes itself; it has no public method for others.
    """
    step = context.get_step_execution_context()
    versions = {}
    for dep in step.job_def.asset_layer.get(key).parent_keys:
        info = step.maybe_fetch_and_get_input_asset_version_info(dep)
        if info is None:
            versions[dep] = InputVersion()
        else:
            versions[dep] = InputVersion((info.data_version or DEFAULT_DATA_VERSION).value, info.storage_id)
    return versions


def input_version_tags(key: dg.AssetKey, version: InputVersion) -> dict[str, str]:
    """The tags of a materialization that name one of its inputs."""
    pointer = NULL_EVENT_POINTER if version.storage_id is None else str(version.storage_id)
    return {get_input_data_version_tag(key): version.data_version, get_input_event_pointer_tag(key): pointer}


# Backfills, which have no public type


class AssetBackfill(NamedTuple):
    """A backfill that is running. ``started`` is in epoch seconds; ``partitions`` are numbers, by asset."""

    id: str
    started: float
    partitions: Mapping[str, int]


def running_asset_backfills(instance: dg.DagsterInstance, graph: AssetGraph) -> Iterator[AssetBackfill]:
    """Backfills that are requested and not over, with their assets of ``graph``; those without any are left out."""
    for backfill in instance.get_backfills(status=BulkActionStatus.REQUESTED):
        data = backfill.asset_backfill_data
        subsets = data.target_subset.iterate_asset_subsets() if data else ()
        partitions = {subset.key.to_user_string(): subset.size for subset in subsets if graph.has(subset.key)}
        if partitions:
            yield AssetBackfill(backfill.backfill_id, backfill.backfill_timestamp, partitions)


def active_backfill_ids(instance: dg.DagsterInstance) -> list[str]:
    """Ids of the backfills, of assets and of jobs, that are not over."""
    active = [status for status in BulkActionStatus if status not in BULK_ACTION_TERMINAL_STATUSES]
    return [backfill.backfill_id for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=active))]


# Processes


def instance_of(coordinator: RunCoordinator) -> dg.DagsterInstance:
    """The instance that a run coordinator belongs to. A coordinator of one's own has no public way to it."""
    return coordinator._instance  # noqa: SLF001


def is_code_server_serving(socket: Path) -> bool:
    """Whether the code server that listens on a Unix socket answers. The public API has no client for it."""
    from dagster._grpc.client import DagsterGrpcClient  # noqa: PLC0415 - gRPC takes longer than most of this package

    return socket.exists() and DagsterGrpcClient(socket=str(socket)).health_check_query() == "SERVING"
