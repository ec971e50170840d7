"""Syncing and verifying as ops of a user's own job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from lakehouse_assets.orchestration.archives.ops import build_jobs, sync_archive, verify_archive
from lakehouse_assets.orchestration.check_names import COMPLETE
from lakehouse_assets_tests.orchestration.watcher import resources_of
from lakehouse_assets_tests.world import KLINES, World

DAYS = {"dataset": KLINES, "first": "2024-03-01", "last": "2024-03-02"}


@pytest.fixture(autouse=True)
def matrix(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "matrix.yaml"
    dataset = {"dataset": KLINES, "intervals": ["1m"], "symbols": {"include": [f"{world.tag}*"]}}
    path.write_text(yaml.safe_dump({"datasets": [dataset]}))
    monkeypatch.setenv("LAKEHOUSE_MATRIX", str(path))


def run(world: World, instance: dg.DagsterInstance, op: dg.OpDefinition, **config: Any) -> dg.ExecuteInProcessResult:
    @dg.job(name="of_a_user")
    def job() -> None:
        op()

    return job.execute_in_process(
        instance=instance,
        resources=resources_of(world),
        run_config={"ops": {op.name: {"config": config}}},
        raise_on_error=False,
    )


def failure(result: dg.ExecuteInProcessResult) -> str:
    [event] = [event for event in result.all_events if event.is_step_failure]
    return str(event.step_failure_data.user_failure_data.description)


def test_a_synced_range_shows_as_materialized_and_complete(world: World, instance: dg.DagsterInstance) -> None:
    world.publish(["BTCUSDT", "ETHUSDT"], ["2024-03-01", "2024-03-02"])
    done = run(world, instance, sync_archive, **DAYS)
    assert done.success
    assert done.output_for_node("sync_archive")["copied"] == 4
    key = dg.AssetKey(KLINES.split("/"))
    assert instance.get_materialized_partitions(key) == {"2024-03-01", "2024-03-02"}
    checked = [
        event.asset_check_evaluation_data
        for event in done.all_events
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    assert [(evaluation.check_name, evaluation.partition, evaluation.passed) for evaluation in checked] == [
        (COMPLETE, None, True)
    ]
    verified = run(world, instance, verify_archive, **DAYS)
    assert verified.output_for_node("verify_archive")["objects_read"] == 4


def test_invalid_input_and_refused_writes_fail_with_one_line(world: World, instance: dg.DagsterInstance) -> None:
    unknown = run(world, instance, sync_archive, **DAYS | {"dataset": "binance/um/kline/daily"})
    assert "did you mean" in failure(unknown)
    before = run(world, instance, sync_archive, **DAYS | {"first": "2010-01-01"})
    assert "begins with" in failure(before)
    world.publish(["BTCUSDT"], ["2024-03-01"])
    with world.refused_writes(world.key("BTCUSDT", "2024-03-01")):
        refused = run(world, instance, sync_archive, **DAYS)
    assert "1 of 2 periods" in failure(refused)
    assert run(world, instance, sync_archive, **DAYS).success


@pytest.mark.parametrize("name", ["force", "again"])
def test_a_copy_that_differs_fails_the_verification(world: World, instance: dg.DagsterInstance, name: str) -> None:
    world.publish(["BTCUSDT"], ["2024-03-01"])
    assert run(world, instance, sync_archive, **DAYS).success
    lake_key = f"archive/binance/{world.key('BTCUSDT', '2024-03-01')}"
    body = world.lake_body(lake_key)
    world.overwrite_in_lake(lake_key, body[::-1])
    differs = run(world, instance, verify_archive, **DAYS | {name: True})
    assert "could not be read" in failure(differs)


def test_there_is_a_job_for_each_op() -> None:
    assert [job.name for job in build_jobs()] == ["sync", "verify"]
