"""Runs, records and sensors of other code locations and other lakes are no incidents of ours."""

from __future__ import annotations

import logging
from collections.abc import Callable

import dagster as dg
import pytest

from lakehouse_assets.errors import Side
from lakehouse_assets.observability.incidents.causes import Cause
from lakehouse_assets.orchestration.dagster_tags import ASSET_JOB, PARTITION_TAG
from lakehouse_assets.orchestration.discovery.cursor import DiscoveryCursor
from lakehouse_assets.orchestration.discovery.give_up import gave_up
from lakehouse_assets.orchestration.incidents import sensor
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


def test_a_failed_run_of_the_same_assets_in_another_code_location_is_no_incident(watch: Callable[..., Watch]) -> None:
    harness = watch()
    instance, key = harness.runner.instance, dg.AssetKey(harness.entry.dataset.asset_key)
    planned = dg.DagsterEvent(
        dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value,
        ASSET_JOB,
        event_specific_data=AssetMaterializationPlannedData(key, partition=DAY),
    )
    for location, expected in (("other", {}), (None, {Cause.RUN_FAILS: {(harness.entry.dataset.name, DAY)}})):
        origin = job_origin(location) if location else None
        run = create_run_for_test(instance, ASSET_JOB, remote_job_origin=origin, tags={PARTITION_TAG: DAY})
        instance.report_dagster_event(planned, run.run_id)
        instance.report_run_failed(run, "refused")
        harness.tick()
        assert harness.live() == expected


def test_a_failed_run_in_process_of_our_assets_is_an_incident_in_a_code_location(
    watch: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = watch()
    monkeypatch.setattr(sensor, "location_of_sensor", lambda _context: "__repository__@lakehouse")
    [key] = harness.world.publish(["BTCUSDT"], [DAY])
    with harness.world.refused_writes(key):
        assert not harness.runner.run(harness.entry, DAY).success
    harness.tick()
    assert harness.live() == {Cause.TRANSFER_FAILS: {(harness.entry.dataset.name, DAY)}}


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
    assert len(harness.live()) == count


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


@pytest.mark.parametrize("location", ["lakehouse", "other"])
def test_a_follow_sensor_that_cannot_read_the_lake_is_an_incident_of_its_location(
    watch: Callable[..., Watch], location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = watch()
    monkeypatch.setattr(sensor, "location_of_sensor", lambda _context: "__repository__@lakehouse")
    cursor = DiscoveryCursor()
    cursor.of("binance/um/klines/table").problem = Side.LAKE.value
    reason = "binance/um/klines/table: AccessDenied"
    record_tick(harness.runner.instance, "tables_follow", cursor=cursor.write(), location=location, reason=reason)
    harness.tick()
    assert set(harness.live()) == ({Cause.LAKE_REFUSES} if location == "lakehouse" else set())
