"""During a long backfill the run of a newly published day starts next, in the queue of every deployment.

The queue is Dagster's own daemon on a real instance, with the limits of the deployment's file. Runs are recorded as
started instead of launched.
"""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
import yaml

from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.orchestration.dagster_tags import BACKFILL_TAG, PRIORITY_TAG
from lakehouse_assets.orchestration.run_requests import PeriodRequest, Priority, Target, build_request
from lakehouse_assets_tests.dagster_internals import (
    DagsterRun,
    QueuedRunCoordinatorDaemon,
    RunOpConcurrency,
    job_origin,
    make_new_run_id,
)
from lakehouse_assets_tests.deploy.test_queue_limits import INSTANCES
from lakehouse_assets_tests.paths import ROOT

POOL = "archive_binance"
TARGET = Target(("binance", "um", "klines", "daily"), Cadence.DAILY, 31)


class Queue:
    """The queue of one deployment. ``started`` has the runs in the order in which they were started."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.started: list[str] = []
        self._daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)

    def add(self, tags: dict[str, str]) -> str:
        run = DagsterRun(
            job_name="__ASSET_JOB",
            run_id=make_new_run_id(),
            status=dg.DagsterRunStatus.QUEUED,
            tags=tags,
            run_op_concurrency=RunOpConcurrency(
                root_key_counts={POOL: 1}, has_unconstrained_root_nodes=False, all_pools={POOL}
            ),
            remote_job_origin=job_origin("lakehouse"),
        )
        self.instance.run_storage.add_run(run)
        return run.run_id

    def add_backfills(self, count: int) -> int:
        """Queue 30 runs of this number of backfills, and start what may start; returns how many runs were started."""
        for number in range(30):
            self.add({BACKFILL_TAG: f"history {number % count}"})
        self.step()
        return len(self.started)

    def step(self) -> None:
        """One iteration of the daemon."""
        config = self.instance.get_concurrency_config()
        for run in self._daemon._get_runs_to_dequeue(self.instance, config, fixed_iteration_time=None):
            self._report(run.run_id, dg.DagsterEventType.PIPELINE_START)
            self.started.append(run.run_id)

    def finish_one(self) -> None:
        [run] = self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]), limit=1)
        self._report(run.run_id, dg.DagsterEventType.PIPELINE_SUCCESS)

    def _report(self, run_id: str, kind: dg.DagsterEventType) -> None:
        self.instance.run_storage.handle_run_event(run_id, dg.DagsterEvent(kind.value, job_name="__ASSET_JOB"))


@pytest.fixture(params=INSTANCES)
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Queue:
    deployed = yaml.safe_load((ROOT / request.param).read_text(encoding="utf-8"))
    config = {
        "telemetry": {"enabled": False},
        "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"},
        "concurrency": deployed["concurrency"],
    }
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    instance = dg.DagsterInstance.from_config(str(tmp_path))
    instance.event_log_storage.initialize_concurrency_limit_to_default(POOL)
    return Queue(instance)


def day_tags() -> dict[str, str]:
    """The tags with which discovery requests a new day."""
    period = Period.parse("2024-03-01", Cadence.DAILY)
    request = build_request(TARGET, [PeriodRequest(period, "content", 1, 10, Priority.NEW_PERIOD)], lake="lake")
    return dict(request.tags)


def test_beside_a_backfill_a_new_day_starts_at_once(queue: Queue) -> None:
    before = queue.add_backfills(1)
    day = queue.add(day_tags())
    queue.step()
    assert queue.started[before:] == [day]


def test_beside_several_backfills_a_new_day_is_the_next_run(queue: Queue) -> None:
    before = queue.add_backfills(3)
    day = queue.add(day_tags())
    queue.step()
    assert queue.started[before:] == []
    queue.finish_one()
    queue.step()
    assert queue.started[before:] == [day]


def test_without_its_priority_the_day_would_wait_for_the_backfills(queue: Queue) -> None:
    before = queue.add_backfills(3)
    day = queue.add({name: value for name, value in day_tags().items() if name != PRIORITY_TAG})
    queue.finish_one()
    queue.step()
    assert day not in queue.started[before:]
    assert len(queue.started) == before + 1
