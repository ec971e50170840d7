"""In every deployment a backfill leaves room in the queue, and in the pools, for the run of a newly published day."""

from __future__ import annotations

import pytest
import yaml

from lakehouse_assets_tests.paths import ROOT

INSTANCES = (
    "deploy/local/dagster.yaml",
    "lakehouse_assets/cli/up/dagster.yaml",
    "deploy/docker/dagster.yaml",
    "deploy/kubernetes/base/dagster.yaml",
)


@pytest.mark.parametrize("path", INSTANCES)
def test_a_backfill_has_fewer_runs_at_a_time_than_a_pool_and_the_queue(path: str) -> None:
    concurrency = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))["concurrency"]
    [backfill] = [
        limit for limit in concurrency["runs"]["tag_concurrency_limits"] if limit["key"] == "dagster/backfill"
    ]
    assert backfill["value"] == {"applyLimitPerUniqueValue": True}
    assert concurrency["pools"]["granularity"] == "run"
    assert backfill["limit"] < concurrency["pools"]["default_limit"] <= concurrency["runs"]["max_concurrent_runs"]
