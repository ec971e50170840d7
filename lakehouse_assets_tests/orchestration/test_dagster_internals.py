"""The contract of every name in dagster_internals, on a real instance: an upgrade that breaks one fails here."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context`.

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from lakehouse_assets.orchestration import dagster_internals as internals
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets.orchestration.instance.run_coordinator import RunSize, RunSizes, SizedRunCoordinator
from lakehouse_assets_tests.dagster_internals import (
    check_rows,
    create_run_for_test,
    get_and_update_asset_status_cache_value,
    record_tick,
)
from lakehouse_assets_tests.paths import ROOT

DAYS = dg.DailyPartitionsDefinition("2024-03-01", end_date="2024-03-05")
KEY = dg.AssetKey(["binance", "um"])
CHECK = dg.AssetCheckKey(KEY, "complete")

PRIVATE = re.compile(r"\bdagster\._\w+")


@dg.multi_asset(
    specs=[dg.AssetSpec(KEY, partitions_def=DAYS)],
    check_specs=[dg.AssetCheckSpec("complete", asset=KEY)],
    can_subset=True,
)
def archive(context: dg.AssetExecutionContext) -> Any:
    """Materializes its partition, or fails if the run has the tag ``fail``."""
    if "fail" in context.run.tags:
        raise dg.Failure("refused", allow_retries=False)
    if "forget" in context.run.tags:
        internals.forget_planned_checks(context)
    for day in context.partition_keys:
        context.log_event(dg.AssetMaterialization(KEY, partition=day))
    context.log_event(dg.AssetCheckEvaluation(asset_key=KEY, check_name="complete", passed=True, metadata={}))
    yield from ()


def test_the_body_of_an_asset_is_the_function_under_its_decorators() -> None:
    @contextmanager
    def wrapper() -> Iterator[None]:
        yield

    def body() -> None: ...

    for asset in (dg.asset(body), dg.asset(wrapper()(body))):
        assert internals.body_of(asset) is body


def _run(instance: dg.DagsterInstance, day: str, **tags: str) -> str:
    return dg.materialize([archive], instance=instance, partition_key=day, tags=tags, raise_on_error=False).run_id


def _run_range(instance: dg.DagsterInstance, **tags: str) -> str:
    days = range_tags("2024-03-01", "2024-03-04")
    return dg.materialize([archive], instance=instance, tags=days | tags).run_id


def _add_backfill(instance: dg.DagsterInstance, graph: internals.AssetGraph, backfill_id: str) -> None:
    instance.add_backfill(
        internals.PartitionBackfill.from_asset_partitions(
            backfill_id, graph, ["2024-03-01", "2024-03-02"], [KEY], 1_720_000_000.0, {},
            instance, all_partitions=False, title=None, description=None, run_config=None,
        )
    )  # fmt: skip


@pytest.fixture
def graph() -> internals.AssetGraph:
    return dg.Definitions([archive]).resolve_asset_graph()


def test_no_other_module_mentions_a_private_module_of_dagster() -> None:
    modules = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "lakehouse_assets").rglob("*.py")
        if PRIVATE.search(path.read_text(encoding="utf-8"))
    }
    assert modules == {"lakehouse_assets/orchestration/dagster_internals.py"}


def test_every_exported_name_is_in_a_test_of_this_module() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in internals.__all__ if f"internals.{name}" not in text] == []


def test_rows_of_planned_checks_of_a_partitioned_run_are_deleted(instance: dg.DagsterInstance) -> None:
    """The deletion is needed as long as Dagster plans an unpartitioned check once per partition."""
    planned = check_rows(instance, _run_range(instance))
    assert planned == {("complete", "PLANNED"): 4, ("complete", "SUCCEEDED"): 1}
    # The run calls internals.forget_planned_checks.
    assert check_rows(instance, _run_range(instance, forget="yes")) == {("complete", "SUCCEEDED"): 1}


def test_a_forgotten_partition_status_is_computed_anew(instance: dg.DagsterInstance) -> None:
    _run(instance, "2024-03-01", fail="yes")
    status = get_and_update_asset_status_cache_value(instance, KEY, DAYS)
    assert set(status.deserialize_failed_partition_subsets(DAYS).get_partition_keys()) == {"2024-03-01"}
    internals.forget_partition_status(instance, KEY)
    [record] = instance.get_asset_records([KEY])
    assert record.asset_entry.cached_status is None


def test_the_last_evaluation_of_a_check_is_returned(instance: dg.DagsterInstance) -> None:
    assert internals.last_check_evaluation(instance, CHECK) is None
    _run(instance, "2024-03-01")
    evaluation = internals.last_check_evaluation(instance, CHECK)
    assert isinstance(evaluation, dg.AssetCheckEvaluation)
    assert evaluation.passed
    _run(instance, "2024-03-02", fail="yes")  # leaves the check planned and never evaluated
    assert internals.last_check_evaluation(instance, CHECK) == evaluation


def test_the_inputs_of_a_run_are_those_of_its_start(instance: dg.DagsterInstance) -> None:
    other, logged = dg.AssetKey("never_observed"), dg.AssetKey("logged")
    found: dict[dg.AssetKey, internals.InputVersion] = {}

    @dg.asset(key=logged, deps=[KEY, other], partitions_def=DAYS)
    def downstream(context: dg.AssetExecutionContext) -> None:
        found.update(internals.input_versions(context, logged))

    def latest(key: dg.AssetKey) -> dg.EventLogEntry | None:
        return instance.get_latest_materialization_event(key)

    for day in ("2024-03-01", "2024-03-02"):
        _run(instance, day)
    [record] = instance.get_asset_records([KEY])
    assert dg.materialize([archive, downstream], selection=[logged], instance=instance, partition_key="2024-03-01")
    assert found[other] == internals.InputVersion() == internals.InputVersion("INITIAL", None)
    assert found[KEY].storage_id == record.asset_entry.last_materialization_storage_id
    # Dagster's own materialization has the same tags.
    tags = latest(logged).asset_materialization.tags
    ours = internals.input_version_tags(KEY, found[KEY]) | internals.input_version_tags(other, found[other])
    assert ours.items() <= tags.items()
    assert {tag for tag in tags if "input" in tag} == set(ours)
    assert {internals.CODE_VERSION_TAG, internals.DATA_VERSION_TAG} <= set(tags)
    assert internals.DATA_VERSION_IS_USER_PROVIDED_TAG not in tags


# Dagster's own factory of backfills calls the deprecated function.
@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")
def test_a_running_backfill_of_assets_is_described(instance: dg.DagsterInstance, graph: internals.AssetGraph) -> None:
    assert list(internals.running_asset_backfills(instance, graph)) == []
    assert internals.active_backfill_ids(instance) == []
    _add_backfill(instance, graph, "running")
    assert list(internals.running_asset_backfills(instance, graph)) == [
        internals.AssetBackfill("running", 1_720_000_000.0, {"binance/um": 2})
    ]
    assert internals.active_backfill_ids(instance) == ["running"]
    other = dg.Definitions([dg.AssetSpec("ours")]).resolve_asset_graph()
    assert list(internals.running_asset_backfills(instance, other)) == []


def test_an_asset_graph_is_what_definitions_resolve_to(graph: internals.AssetGraph) -> None:
    assert isinstance(graph, internals.AssetGraph)
    assert graph.get(KEY).partitions_def == DAYS
    assert set(graph.asset_check_keys) == {CHECK}


def test_the_event_log_is_sql_with_these_tables(stored_instance: dg.DagsterInstance) -> None:
    events = stored_instance.event_log_storage
    assert isinstance(events, internals.SqlEventLogStorage)
    assert isinstance(events, internals.SqliteEventLogStorage)
    run_id = _run(stored_instance, "2024-03-01")
    log, checks, tags = internals.EventsTable.c, internals.CheckExecutionsTable.c, internals.EventTagsTable.c
    kinds = {kind.value for kind in internals.ASSET_EVENTS}
    assert dg.DagsterEventType.ASSET_MATERIALIZATION.value in kinds
    with events.index_connection() as connection:
        logged = connection.execute(
            sa.select(log.asset_key, log.partition, log.dagster_event_type).where(
                log.run_id == run_id, log.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value
            )
        ).all()
        executed = connection.execute(
            sa.select(checks.run_id, checks.check_name, checks.execution_status).where(checks.asset_key.is_not(None))
        ).all()
        connection.execute(sa.select(tags.event_id)).all()
    assert logged == [(KEY.to_string(), "2024-03-01", "ASSET_MATERIALIZATION")]
    statuses = (internals.CheckExecutionStatus.PLANNED, internals.CheckExecutionStatus.SUCCEEDED)
    assert executed == [(run_id, "complete", status.value) for status in statuses]


def test_ticks_of_a_sensor_are_read_by_its_state(stored_instance: dg.DagsterInstance) -> None:
    before = time.time()
    state = record_tick(stored_instance, "binance_discovery", reason="Nothing new.")
    assert (state.name, state.instigator_type) == ("binance_discovery", internals.InstigatorType.SENSOR)
    statuses = [getattr(internals.TickStatus, name) for name in ("SKIPPED", "SUCCESS", "FAILURE")]
    [tick] = stored_instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1, statuses=statuses)
    assert isinstance(tick, internals.InstigatorTick)
    assert (tick.skip_reason, tick.error) == ("Nothing new.", None)
    assert before <= tick.timestamp <= time.time()


def test_a_run_coordinator_knows_its_instance(instance: dg.DagsterInstance) -> None:
    sizes = RunSizes((RunSize("small", {}),), (), "small")
    coordinator = SizedRunCoordinator(sizes)
    coordinator.register_instance(instance)
    assert internals.instance_of(coordinator) is instance
    run = create_run_for_test(instance)
    internals.instance_of(coordinator).add_run_tags(run.run_id, {"lakehouse/size": "small"})
    assert instance.get_run_by_id(run.run_id).tags["lakehouse/size"] == "small"


def test_a_run_coordinator_is_loaded_with_its_class_data(tmp_path: Path) -> None:
    data = internals.ConfigurableClassData(
        "lakehouse_assets.orchestration.instance.run_coordinator",
        "SizedRunCoordinator",
        "sizes: [{name: small, k8s: {}}]\ndefault_size: small\nrules: []\nservice_accounts: []\n",
    )
    coordinator = data.rehydrate(as_type=dg.QueuedRunCoordinator)
    assert isinstance(coordinator, SizedRunCoordinator)
    assert coordinator.inst_data == data


def test_an_instance_captures_no_output_of_runs(tmp_path: Path) -> None:
    overrides = {"compute_logs": internals.NO_COMPUTE_LOGS, "telemetry": {"enabled": False}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides) as instance:
        assert type(instance.compute_log_manager).__name__ == internals.NO_COMPUTE_LOGS["class"]


def test_the_daemon_runs_as_a_module() -> None:
    argv = [sys.executable, "-P", "-m", internals.DAEMON_MODULE, "run", "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "--workspace" in done.stdout


def test_a_code_server_reports_when_it_is_serving(tmp_path: Path) -> None:
    code, socket = tmp_path / "served.py", tmp_path / "s.sock"
    code.write_text("import dagster as dg\ndefs = dg.Definitions()\n")
    assert not internals.is_code_server_serving(socket)
    argv = [sys.executable, "-m", "dagster", "code-server", "start", "-f", str(code), "--socket", str(socket)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "DAGSTER_HOME": ""}
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(argv, stdout=log, stderr=log, env=environment, cwd=tmp_path) as server,
    ):
        try:
            deadline = time.monotonic() + 60
            while not internals.is_code_server_serving(socket):
                assert server.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
