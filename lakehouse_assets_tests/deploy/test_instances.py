"""What the instances of the three deployments say about runs that cannot start yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from lakehouse_assets_tests.deploy.rendered import DEPLOY

INSTANCES = ("local", "docker", "kubernetes/base")

ROLLOUT_SECONDS = 600
"""A code server is away for so long at most: seconds on one machine, minutes where a node has to come first."""


@pytest.fixture(params=INSTANCES)
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    given = yaml.safe_load((DEPLOY / request.param / "dagster.yaml").read_text(encoding="utf-8"))
    # Without Postgres, the bucket and the cluster.
    of_runs = {name: given[name] for name in ("run_coordinator", "concurrency", "run_monitoring", "run_retries")}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(of_runs), encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as found:
        yield found


def test_a_run_that_meets_a_code_server_in_restart_waits_in_the_queue(instance: dg.DagsterInstance) -> None:
    queue = instance.get_concurrency_config().run_queue_config
    assert queue.max_user_code_failure_retries * queue.user_code_failure_retry_delay >= ROLLOUT_SECONDS
    assert queue.user_code_failure_retry_delay <= 15, "a restart takes seconds; the run should not wait for long after"


def test_a_run_worker_on_a_busy_machine_is_given_minutes_to_start(instance: dg.DagsterInstance) -> None:
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_start_timeout_seconds >= 600
