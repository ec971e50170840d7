"""The CI workflow: valid by GitHub's schema, with the least permissions, and with no logic beyond ``.ci/run``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse_assets_tests.deploy.schemas import schema_errors
from lakehouse_assets_tests.paths import ROOT

WORKFLOW = ROOT / ".github/workflows/ci.yml"


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    return yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))


def test_the_workflow_is_valid_and_the_schema_rejects_a_misspelled_field(tmp_path: Path) -> None:
    assert schema_errors("vendor.github-workflows", WORKFLOW) == ""
    broken = tmp_path / "ci.yml"
    broken.write_text(WORKFLOW.read_text(encoding="utf-8").replace("timeout-minutes:", "timeout_minutes:", 1))
    assert "timeout_minutes" in schema_errors("vendor.github-workflows", broken)


def test_every_job_runs_as_root_on_debian_with_a_timeout_and_read_only_permissions(workflow: dict[Any, Any]) -> None:
    """``.ci/run`` calls apt-get without sudo, and ``.ci/servers`` reads Debian's own keyring and mirror."""
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is True
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 60
        assert re.fullmatch(r"python:3\.\d+-bookworm", job["container"]["image"])
        assert "--user" not in job["container"]["options"]


def test_pushes_and_pull_requests_run_the_ci_script_and_pinned_actions_only(workflow: dict[Any, Any]) -> None:
    triggers = workflow[True]  # YAML 1.1 reads the key `on` as a truth value
    assert set(triggers) == {"push", "pull_request"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert [step["run"] for step in steps if "run" in step][-1] == ".ci/run"
    actions = [step["uses"] for step in steps if "uses" in step]
    assert all(re.fullmatch(r"actions/(checkout|cache)@v\d+", action) for action in actions), actions
