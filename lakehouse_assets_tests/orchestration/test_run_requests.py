"""Requested runs: how periods are grouped, and which runs of an instance are looked up."""

from __future__ import annotations

import dagster as dg

from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.orchestration.dagster_tags import PARTITION_TAG, range_tags
from lakehouse_assets.orchestration.run_requests import (
    LAKE_TAG,
    PeriodRequest,
    Priority,
    Runs,
    Target,
    build_request,
    grouped,
)
from lakehouse_assets_tests.dagster_internals import create_run_for_test, job_origin

TARGET = Target(("binance", "um", "klines", "daily"), Cadence.DAILY, 31)
DAY = "2024-03-05"


def request(day: str, *, attempt: int = 1, priority: Priority = Priority.NEW_PERIOD) -> PeriodRequest:
    return PeriodRequest(Period.parse(day, Cadence.DAILY), "abc", attempt, 2, priority)


def test_a_run_has_contiguous_periods_of_one_priority_and_attempt_and_the_newest_come_first() -> None:
    requests = [
        request("2024-03-01", priority=Priority.HISTORY),
        request("2024-03-02", priority=Priority.HISTORY),
        request("2024-03-03"),
        request("2024-03-04", attempt=2),
        request("2024-03-06"),
    ]
    groups = [[str(one.period)[-2:] for one in group] for group in grouped(requests, 31)]
    assert groups == [["06"], ["04"], ["03"], ["01", "02"]]
    assert [len(group) for group in grouped([request(f"2024-03-{day:02}") for day in range(1, 6)], 2)] == [1, 2, 2]


def test_a_lake_s_runs_are_found_and_no_other_s(instance: dg.DagsterInstance) -> None:
    asked = build_request(TARGET, [request(DAY, attempt=3)], lake="lake/prod")
    assert asked.tags[LAKE_TAG] == "lake/prod"
    tags = {**asked.tags, PARTITION_TAG: DAY}
    create_run_for_test(instance, tags=tags, status=dg.DagsterRunStatus.STARTED)
    create_run_for_test(instance, tags=tags, status=dg.DagsterRunStatus.FAILURE)
    ours, theirs = (Runs(instance, [TARGET.name], lake=lake) for lake in ("lake/prod", "lake/dev"))
    assert set(ours.in_progress_of(TARGET.name)) == {DAY}
    assert ours.unfinished == 1
    last = ours.last_attempt(TARGET.name, DAY, "abc")
    assert last is not None
    assert (last.number, last.succeeded) == (3, False)
    assert theirs.in_progress_of(TARGET.name) == {}
    assert theirs.unfinished == 0
    assert theirs.last_attempt(TARGET.name, DAY, "abc") is None


def test_runs_that_people_started_are_those_of_the_own_code_location(instance: dg.DagsterInstance) -> None:
    create_run_for_test(
        instance,
        tags=range_tags("2024-03-01", "2024-03-03"),
        status=dg.DagsterRunStatus.QUEUED,
        asset_selection=frozenset({dg.AssetKey(TARGET.asset_key)}),
        remote_job_origin=job_origin("lakehouse"),
    )
    runs = Runs(instance, [TARGET.name], lake="lake", location="__repository__@lakehouse")
    assert runs.others_in_progress_of(TARGET.name) == {"2024-03-01", "2024-03-02", "2024-03-03"}
    assert runs.others_in_progress_of("binance/um/klines/table") == frozenset()
    other = Runs(instance, [TARGET.name], lake="lake", location="__repository__@other")
    assert other.others_in_progress_of(TARGET.name) == frozenset()
