"""Retention on real instances (SQLite, Postgres): what is deleted, what is kept, and what the UI then shows."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context`.

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from lakehouse_assets.errors import InputError
from lakehouse_assets.orchestration.dagster_internals import SqlEventLogStorage
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets.orchestration.instance import retention
from lakehouse_assets.orchestration.instance.retention import (
    Deletion,
    build_retention_job,
    build_retention_schedule,
    delete_old_runs,
)
from lakehouse_assets.orchestration.location import LABEL_TAG
from lakehouse_assets.settings import RetentionSettings
from lakehouse_assets_tests.dagster_internals import (
    PartitionKeyFilter,
    create_run_for_test,
    get_and_update_asset_status_cache_value,
    job_origin,
)
from lakehouse_assets_tests.postgres import Postgres, running_postgres

SCHEME = "postgresql+psycopg2"
DAYS = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-01-06")
KEY = dg.AssetKey(["binance", "um", "klines", "daily"])
CHECK = dg.AssetCheckKey(KEY, "complete")


@dataclass(frozen=True)
class Initialized:
    """A Postgres with a database in which Dagster has made its tables."""

    server: Postgres
    database: str


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Initialized]:
    with running_postgres() as server:
        database = server.new_database()
        with _on_postgres(server, database, tmp_path_factory.mktemp("instance")):
            pass
        yield Initialized(server, database)


@pytest.fixture(params=["sqlite", "postgres"])
def instance(request: pytest.FixtureRequest, new_home: Path, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "instance"
    if request.param == "sqlite":
        shutil.copytree(new_home, home)
        with dg.DagsterInstance.from_config(str(home)) as made:
            yield made
    else:
        home.mkdir()
        of: Initialized = request.getfixturevalue("postgres")
        with _on_postgres(of.server, of.server.new_database(template=of.database), home) as made:
            yield made


@contextmanager
def _on_postgres(server: Postgres, database: str, home: Path) -> Iterator[dg.DagsterInstance]:
    variables = server.variables(database)
    names = {"hostname": "HOST", "username": "USERNAME", "password": "PASSWORD", "db_name": "DB"}
    settings: dict[str, object] = {name: variables[f"DAGSTER_PG_{end}"] for name, end in names.items()}
    config = {
        "telemetry": {"enabled": False},
        "storage": {"postgres": {"postgres_db": {**settings, "port": server.port, "scheme": SCHEME}}},
    }
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with dg.DagsterInstance.from_config(str(home)) as made:
        yield made


def _asset(*, fail: bool = False, checked: bool = True) -> dg.AssetsDefinition:
    """An asset that logs each partition separately, with its own evaluation, as archive assets do."""

    @dg.multi_asset(
        name="archive",
        specs=[dg.AssetSpec(KEY, partitions_def=DAYS)],
        check_specs=[dg.AssetCheckSpec("complete", asset=KEY, partitions_def=DAYS)],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def archive(context: dg.AssetExecutionContext):
        for day in context.partition_keys:
            if not fail:
                context.log_event(dg.AssetMaterialization(KEY, partition=day))
            if checked:
                context.log_event(
                    dg.AssetCheckEvaluation(
                        asset_key=KEY, check_name="complete", partition=day, passed=not fail, metadata={}
                    )
                )
        if fail:
            raise dg.Failure("refused", allow_retries=False)
        yield from ()

    return archive


def _run(instance: dg.DagsterInstance, first: str, last: str, **options: bool) -> str:
    done = dg.materialize(
        [_asset(**options)],
        instance=instance,
        tags=range_tags(first, last),
        raise_on_error=False,
    )
    return done.run_id


def _delete(instance: dg.DagsterInstance, **options: Any) -> list[str]:
    """Delete runs that have ended; returns the runs that are left."""
    delete_old_runs(instance, datetime.now(UTC) + timedelta(hours=1), batch_runs=2, **options)
    return sorted(instance.get_run_ids())


def _shown(instance: dg.DagsterInstance) -> tuple[object, ...]:
    """The partitions, and the latest runs of partitions and check, that the asset's page shows."""
    status = get_and_update_asset_status_cache_value(instance, KEY, DAYS)
    latest = {
        day: record.run_id
        for day in DAYS.get_partition_keys()
        for record in instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=KEY, asset_partitions=[day]), limit=1
        ).records
    }
    assert status is not None
    checks = {
        day: execution.run_id
        for day in DAYS.get_partition_keys()
        for execution in instance.event_log_storage.get_asset_check_execution_history(
            CHECK, limit=1, partition_filter=PartitionKeyFilter(key=day)
        )
    }
    return sorted(instance.get_materialized_partitions(KEY)), latest, checks


def test_runs_of_other_code_locations_are_kept_unless_all_are_asked_for(instance: dg.DagsterInstance) -> None:
    own, other = (
        create_run_for_test(instance, remote_job_origin=job_origin(location), status=dg.DagsterRunStatus.SUCCESS).run_id
        for location in ("lakehouse", "payroll")
    )
    none = _run(instance, "2024-01-01", "2024-01-01", checked=False)
    later = _run(instance, "2024-01-01", "2024-01-01", checked=False)
    assert _delete(instance) == sorted([own, other, later])
    assert none not in instance.get_run_ids()
    assert _delete(instance, location="__repository__@lakehouse") == sorted([other, later])
    assert _delete(instance, location="__repository__@lakehouse", all_locations=True) == [later]


def test_the_job_asks_for_all_locations_by_its_setting_or_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def record(*_args: object, all_locations: bool, **_options: object) -> Deletion:
        asked.append(all_locations)
        return Deletion(0, 0, 0)

    monkeypatch.setattr(retention, "delete_old_runs", record)
    for setting, configured in ((False, None), (True, None), (False, True), (True, False)):
        job = build_retention_job(RetentionSettings(days=30, all_locations=setting))
        config = {} if configured is None else {"all_locations": configured}
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            job.execute_in_process(instance=instance, run_config={"ops": {"delete_old_runs": {"config": config}}})
    assert asked == [False, True, True, False]


def test_the_job_deletes_runs_of_the_code_location_that_it_runs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def record(*_args: object, location: str | None, **_options: object) -> Deletion:
        asked.append(location)
        return Deletion(0, 0, 0)

    monkeypatch.setattr(retention, "delete_old_runs", record)
    job = build_retention_job(RetentionSettings(days=30))
    for tags in ({LABEL_TAG: "__repository__@lakehouse"}, {}):
        assert job.execute_in_process(tags=tags).success
    assert asked == ["__repository__@lakehouse", None]


def test_a_run_is_deleted_when_later_runs_have_the_latest_events_of_all_its_partitions(
    instance: dg.DagsterInstance,
) -> None:
    first = _run(instance, "2024-01-01", "2024-01-03")
    second = _run(instance, "2024-01-01", "2024-01-02")
    shown = _shown(instance)
    assert _delete(instance) == sorted([first, second]), "the first run still has the latest event of the third day"
    assert _shown(instance) == shown
    third = _run(instance, "2024-01-03", "2024-01-03")
    shown = _shown(instance)
    assert _delete(instance) == sorted([second, third])
    assert _shown(instance) == shown
    assert instance.all_logs(first) == []


def test_a_run_with_the_latest_evaluation_is_kept(instance: dg.DagsterInstance) -> None:
    evaluated = _run(instance, "2024-01-01", "2024-01-01")
    unevaluated = _run(instance, "2024-01-01", "2024-01-01", checked=False)
    shown = _shown(instance)
    assert _delete(instance) == sorted([evaluated, unevaluated])
    assert _shown(instance) == shown


def test_a_failed_run_is_deleted_once_its_partition_is_materialized(instance: dg.DagsterInstance) -> None:
    failed = _run(instance, "2024-01-04", "2024-01-04", fail=True)
    assert _delete(instance) == [failed], "its log says why the day failed"
    good = _run(instance, "2024-01-04", "2024-01-04")
    assert _delete(instance) == [good]


def test_executions_of_checks_are_deleted_with_their_run(instance: dg.DagsterInstance) -> None:
    first = _run(instance, "2024-01-01", "2024-01-05")
    second = _run(instance, "2024-01-01", "2024-01-05")
    _delete(instance)
    assert [run.run_id for run in instance.get_runs()] == [second]
    executions = instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=100)
    assert {execution.run_id for execution in executions} == {second}
    assert first not in {event.run_id for event in executions}


def test_a_dry_run_counts_and_deletes_nothing(instance: dg.DagsterInstance) -> None:
    runs = [_run(instance, "2024-01-01", "2024-01-01") for _ in range(4)]
    lines: list[str] = []
    done = delete_old_runs(
        instance, datetime.now(UTC) + timedelta(hours=1), batch_runs=3, dry_run=True, log=lines.append
    )
    assert (done.old, done.deleted, done.kept) == (4, 3, 1)
    assert lines == ["Would delete 3 of 4 old runs so far"] * 2
    assert sorted(instance.get_run_ids()) == sorted(runs)


def test_only_finished_runs_that_are_old_enough_are_deleted(instance: dg.DagsterInstance) -> None:
    for _ in range(2):
        _run(instance, "2024-01-01", "2024-01-01")
    queued = instance.create_run_for_job(dg.GraphDefinition("waiting", node_defs=[]).to_job()).run_id
    before = datetime.now(UTC) - timedelta(days=1)
    assert delete_old_runs(instance, before).old == 0
    assert len(_delete(instance)) == 2
    assert queued in instance.get_run_ids()


def test_a_deletion_that_was_killed_halfway_is_finished_by_the_next(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _run(instance, "2024-01-01", "2024-01-01")
    second = _run(instance, "2024-01-01", "2024-01-01")

    def killed(_run_id: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(instance.run_storage, "delete_run", killed)
        with pytest.raises(KeyboardInterrupt):
            _delete(instance)
    assert sorted(instance.get_run_ids()) == sorted([first, second])
    assert _delete(instance) == [second]
    assert instance.all_logs(first) == []
    events = instance.event_log_storage
    assert isinstance(events, SqlEventLogStorage)
    assert events.get_records_for_run(first).records == []


def test_the_job_uses_the_setting_and_fails_without_it(instance: dg.DagsterInstance) -> None:
    _run(instance, "2024-01-01", "2024-01-01")
    done = build_retention_job(RetentionSettings(days=30)).execute_in_process(instance=instance)
    assert done.success
    with pytest.raises(InputError, match="LAKEHOUSE_RETENTION_DAYS"):
        build_retention_job(RetentionSettings()).execute_in_process(instance=instance)


def test_the_schedule_runs_only_if_the_setting_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_retention_schedule(RetentionSettings()).default_status is dg.DefaultScheduleStatus.STOPPED
    monkeypatch.setenv("LAKEHOUSE_RETENTION_DAYS", "90")
    assert build_retention_schedule(RetentionSettings()).default_status is dg.DefaultScheduleStatus.RUNNING
