"""Steps of a run: one in the run's process; several side by side, each in a process of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path

import dagster as dg
import pytest

from lakehouse_assets.orchestration.instance.executor import steps_executor

FOLDER = "LAKEHOUSE_TEST_FOLDER"
SECONDS = 60.0


@dg.asset
def first() -> None:
    _meet("first", "second")


@dg.asset
def second() -> None:
    _meet("second", "first")


@dg.asset
def failing() -> None:
    raise dg.Failure("refused", allow_retries=False)


def _meet(name: str, other: str) -> None:
    """Say that the step runs, and wait until the other one does. Raises TimeoutError."""
    (Path(os.environ[FOLDER]) / name).write_text(str(os.getpid()), encoding="utf-8")
    _wait_for(Path(os.environ[FOLDER]) / other)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path.name} does not run at the same time")
        time.sleep(0.05)


def alone() -> dg.JobDefinition:
    return _job([failing])


def together() -> dg.JobDefinition:
    return _job([first, second, failing])


def _job(assets: list[dg.AssetsDefinition]) -> dg.JobDefinition:
    return dg.Definitions(
        assets,
        jobs=[dg.define_asset_job("job", selection="*")],
        executor=steps_executor,
    ).resolve_job_def("job")


def test_a_single_step_runs_in_the_run_s_process(stored_instance: dg.DagsterInstance) -> None:
    with dg.execute_job(dg.reconstructable(alone), stored_instance, raise_on_error=False) as result:
        assert not result.success
        assert [event.step_key for event in result.all_events if event.is_step_failure] == ["failing"]
    assert list(stored_instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED)) == []


def test_several_steps_run_side_by_side_and_one_that_fails_leaves_the_others(
    stored_instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    options = {"execution": {"config": {"max_concurrent": 3}}}
    with dg.execute_job(dg.reconstructable(together), stored_instance, run_config=options) as result:
        assert not result.success
        assert [event.step_key for event in result.all_events if event.is_step_failure] == ["failing"]
    pids = {(tmp_path / name).read_text(encoding="utf-8") for name in ("first", "second")}
    assert len(pids - {str(os.getpid())}) == 2
    assert all(stored_instance.get_latest_materialization_event(asset.key) for asset in (first, second))
