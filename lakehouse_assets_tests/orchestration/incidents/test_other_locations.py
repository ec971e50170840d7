"""Runs, records and sensors of other code locations and other lakes are no incidents of ours."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

import dagster as dg
import pytest

from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.definitions import defs
from lakehouse_assets.errors import Side
from lakehouse_assets.observability.incidents.causes import Cause
from lakehouse_assets.orchestration.dagster_tags import ASSET_JOB, PARTITION_TAG
from lakehouse_assets.orchestration.discovery.cursor import DiscoveryCursor
from lakehouse_assets.orchestration.discovery.give_up import gave_up
from lakehouse_assets.orchestration.incidents import sensor, signals
from lakehouse_assets.orchestration.location import LAKE
from lakehouse_assets.orchestration.run_requests import Target
from lakehouse_assets_tests.dagster_internals import (
    AssetMaterializationPlannedData,
    create_run_for_test,
    job_origin,
    record_tick,
)
from lakehouse_assets_tests.orchestration.incidents.conftest import Watch

DAY = "2024-03-01"
HERE = "__repository__@lakehouse"


@pytest.fixture
def lakehouse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sensor is evaluated in the code location ``lakehouse``."""
    monkeypatch.setattr(sensor, "location_of_sensor", lambda _context: HERE)


def planned_run(instance: dg.DagsterInstance, key: dg.AssetKey, location: str | None) -> dg.DagsterRun:
    """A run that is to materialize a day of an asset, in a code location or in process."""
    planned = dg.DagsterEvent(
        dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value,
        ASSET_JOB,
        event_specific_data=AssetMaterializationPlannedData(key, partition=DAY),
    )
    origin = job_origin(location) if location else None
    run = create_run_for_test(instance, ASSET_JOB, remote_job_origin=origin, tags={PARTITION_TAG: DAY})
    instance.report_dagster_event(planned, run.run_id)
    return run


def succeed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    instance.report_dagster_event(dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name), run.run_id)


def test_a_failed_run_of_another_code_location_is_no_incident(watch: Callable[..., Watch]) -> None:
    harness = watch()
    instance = harness.runner.instance
    for job in ("my_job", "pay_salaries"):
        run = create_run_for_test(instance, job, remote_job_origin=job_origin("payroll", job))
        instance.report_run_failed(run, "salary file missing")
    stranger = create_run_for_test(instance, "pay_salaries")
    instance.report_run_failed(stranger, "a job of this location that is not this project's")
    harness.tick()
    assert harness.live() == {}
    own = create_run_for_test(instance, "my_job")
    instance.report_run_failed(own, "broken")
    harness.tick()
    assert harness.live() == {Cause.RUN_FAILS: {("my_job", None)}}


def test_a_failed_run_of_each_job_that_the_definitions_have_is_an_incident(watch: Callable[..., Watch]) -> None:
    harness = watch()
    made = defs()
    harness.sensor = made.resolve_sensor_def("incidents")
    jobs = {job.name for job in made.get_repository_def().get_all_jobs()}
    assert {ASSET_JOB, "retention"} < jobs
    for job in (*sorted(jobs), "pay_salaries"):
        run = create_run_for_test(harness.runner.instance, job)
        harness.runner.instance.report_run_failed(run, "broken")
    harness.tick()
    assert harness.live() == {Cause.RUN_FAILS: {(job, None) for job in jobs}}


def test_a_failed_run_of_the_same_assets_in_another_code_location_is_no_incident(watch: Callable[..., Watch]) -> None:
    harness = watch()
    instance, key = harness.runner.instance, dg.AssetKey(harness.entry.dataset.asset_key)
    for location, expected in (("other", {}), (None, {Cause.RUN_FAILS: {(harness.entry.dataset.name, DAY)}})):
        instance.report_run_failed(planned_run(instance, key, location), "refused")
        harness.tick()
        assert harness.live() == expected


@pytest.mark.usefixtures("lakehouse")
def test_a_successful_run_in_another_code_location_is_no_recovery(watch: Callable[..., Watch]) -> None:
    harness = watch()
    instance, key = harness.runner.instance, dg.AssetKey(harness.entry.dataset.asset_key)
    instance.report_run_failed(planned_run(instance, key, "lakehouse"), "refused")
    fails = {Cause.RUN_FAILS: {(harness.entry.dataset.name, DAY)}}
    for location, expected in (("other", fails), ("lakehouse", {})):
        succeed(instance, planned_run(instance, key, location))
        harness.tick()
        harness.tick(later=timedelta(minutes=6))
        assert harness.live() == expected


@pytest.mark.usefixtures("lakehouse")
@pytest.mark.parametrize(("pages", "ticks"), [(10, 1), (3, 2)])
@pytest.mark.parametrize("job", ["my_job", "pay_salaries"])
def test_many_failed_runs_of_others_delay_no_incident_of_ours(
    watch: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch, pages: int, ticks: int, job: str
) -> None:
    for name, value in (("FAILURES_PER_SCAN", 2), ("RUNS_PER_PAGE", 2), ("PAGES_PER_SCAN", pages)):
        monkeypatch.setattr(signals, name, value)
    harness = watch()
    instance = harness.runner.instance
    others = job_origin("payroll" if job == "my_job" else "lakehouse", job)
    for _ in range(7):
        instance.report_run_failed(create_run_for_test(instance, job, remote_job_origin=others), "no money")
    own = create_run_for_test(instance, "my_job", remote_job_origin=job_origin("lakehouse", "my_job"))
    instance.report_run_failed(own, "broken")
    for number in range(1, ticks + 1):
        assert harness.live() == {}
        harness.tick()
        assert set(harness.live()) == ({Cause.RUN_FAILS} if number == ticks else set())
    [member] = harness.state.live()[0].firing
    assert member.signal.run_id == own.run_id


@pytest.mark.usefixtures("lakehouse")
@pytest.mark.parametrize(
    ("location", "expected"), [("lakehouse", {Cause.UNUSUAL}), ("other", set()), (None, {Cause.UNUSUAL})]
)
def test_a_check_that_another_code_location_evaluated_is_no_incident(
    watch: Callable[..., Watch], location: str | None, expected: set[Cause]
) -> None:
    harness = watch()
    instance, key = harness.runner.instance, dg.AssetKey(harness.entry.dataset.asset_key)
    evaluation = dg.AssetCheckEvaluation(asset_key=key, check_name="expected", passed=False)
    event = dg.DagsterEvent(dg.DagsterEventType.ASSET_CHECK_EVALUATION.value, ASSET_JOB, event_specific_data=evaluation)
    instance.report_dagster_event(event, planned_run(instance, key, location).run_id)
    harness.tick()
    assert set(harness.live()) == expected


@pytest.mark.usefixtures("lakehouse")
def test_a_failed_run_in_process_of_our_assets_is_an_incident_in_a_code_location(
    watch: Callable[..., Watch],
) -> None:
    harness = watch()
    [key] = harness.world.publish(["BTCUSDT"], [DAY])
    with harness.world.refused_writes(key):
        assert not harness.runner.run(harness.entry, DAY).success
    harness.tick()
    assert harness.live() == {Cause.TRANSFER_FAILS: {(harness.entry.dataset.name, DAY)}}


def test_a_give_up_of_a_table_is_a_run_that_fails_and_of_an_asset_of_others_nothing(
    watch: Callable[..., Watch],
) -> None:
    harness = watch()
    table = "binance/um/klines/table"
    harness.extra = [dg.AssetSpec(dg.AssetKey(table.split("/")))]
    for name in (table, "payroll/table"):
        target = Target(tuple(name.split("/")), Cadence.DAILY, 1)
        observation = gave_up(
            logging.getLogger(), target, DAY, attempts=8, fingerprint="abc", lake=harness.world.lake.label
        )
        harness.runner.instance.report_runless_asset_event(observation)
    harness.tick()
    assert harness.live() == {Cause.RUN_FAILS: {(table, DAY)}}


@pytest.mark.parametrize(("lake", "count"), [("own", 1), (None, 1), ("another/lake", 0)])
def test_a_period_that_another_lake_s_discovery_gave_up_is_no_incident(
    watch: Callable[..., Watch], lake: str | None, count: int
) -> None:
    harness = watch()
    label = harness.world.lake.label if lake == "own" else lake or ""
    observation = gave_up(logging.getLogger(), Target.of(harness.entry), DAY, attempts=8, fingerprint="abc", lake=label)
    if lake is None:  # recorded by an earlier version
        metadata = {name: value for name, value in observation.metadata.items() if name != LAKE}
        observation = dg.AssetObservation(observation.asset_key, partition=DAY, metadata=metadata)
    harness.runner.instance.report_runless_asset_event(observation)
    harness.tick()
    expected = {Cause.TRANSFER_FAILS: {(harness.entry.dataset.name, DAY)}}
    assert harness.live() == (expected if count else {})


def test_an_evaluation_that_another_lake_s_sensor_recorded_is_no_incident(watch: Callable[..., Watch]) -> None:
    harness = watch()
    for lake, expected in (("another/lake", set()), (harness.world.lake.label, {Cause.DATASET_LATE})):
        harness.runner.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(harness.entry.dataset.asset_key),
                check_name="published",
                passed=False,
                metadata={LAKE: dg.MetadataValue.text(lake)},
            )
        )
        harness.tick()
        assert set(harness.live()) == expected


@pytest.mark.usefixtures("lakehouse")
@pytest.mark.parametrize("location", ["lakehouse", "other"])
def test_a_follow_sensor_that_cannot_read_the_lake_is_an_incident_of_its_location(
    watch: Callable[..., Watch], location: str
) -> None:
    harness = watch()
    cursor = DiscoveryCursor()
    cursor.of("binance/um/klines/table").problem = Side.LAKE.value
    reason = "binance/um/klines/table: AccessDenied"
    record_tick(harness.runner.instance, "tables_follow", cursor=cursor.write(), location=location, reason=reason)
    harness.tick()
    assert set(harness.live()) == ({Cause.LAKE_REFUSES} if location == "lakehouse" else set())


@pytest.mark.parametrize(("exchange", "expected"), [("binance", {Cause.LISTING_FAILS}), ("weather", set())])
def test_a_discovery_sensor_of_no_exchange_of_ours_is_somebody_else_s(
    watch: Callable[..., Watch], exchange: str, expected: set[Cause]
) -> None:
    harness = watch()
    harness.extra = [dg.AssetSpec(dg.AssetKey(["weather", "source"]))]
    record_tick(harness.runner.instance, f"{exchange}_discovery", error="the thermometer is broken")
    harness.tick()
    assert set(harness.live()) == expected
