"""The Dagster instances of the three deployments: how long they wait for runs that cannot start yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from lakehouse_assets_tests.deploy.rendered import DEPLOY

INSTANCES = ("local", "docker", "kubernetes/base")

ROLLOUT_SECONDS = 600
"""Seconds for which a code server may be away: few on one machine, minutes where a node has to start first."""


@pytest.fixture(params=INSTANCES)
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    config = yaml.safe_load((DEPLOY / request.param / "dagster.yaml").read_text(encoding="utf-8"))
    # Only these sections: the others need Postgres, the bucket and the cluster.
    run_sections = {name: config[name] for name in ("run_coordinator", "concurrency", "run_monitoring", "run_retries")}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(run_sections), encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def test_a_run_waits_in_the_queue_while_the_code_server_restarts(instance: dg.DagsterInstance) -> None:
    queue = instance.get_concurrency_config().run_queue_config
    assert queue.max_user_code_failure_retries * queue.user_code_failure_retry_delay >= ROLLOUT_SECONDS
    assert queue.user_code_failure_retry_delay <= 15, "a restart takes seconds; the run should not wait for long after"


def test_a_run_worker_on_a_busy_machine_has_minutes_to_start(instance: dg.DagsterInstance) -> None:
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_start_timeout_seconds >= 600
