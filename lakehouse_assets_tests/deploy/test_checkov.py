"""Checkov on both overlays and on a run's job: every finding is fixed, or skipped with a reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse_assets_tests.conftest import CERTIFICATES
from lakehouse_assets_tests.deploy.rendered import DEPLOY, OVERLAYS, rendered

CHECKOV = "checkov==3.3.30"
IN_DEV = {
    "CKV_K8S_15": "an image of one's own is loaded into the node and cannot be pulled",
    "CKV_K8S_43": "tags; production names digests",
}

# Read on import, since no test sees variables of this project.
_REQUIRED = os.environ.get("LAKEHOUSE_TEST_REQUIRE_SERVERS") == "1"


def _checkov(*argv: str) -> Any:
    """Checkov's report. It runs in a separate environment, since it is large and pins other versions."""
    program = shutil.which("uv")
    how = f"checkov is not available; for this test: pip install uv && uv tool run {CHECKOV} --version"
    if program is not None:
        ours = {"VIRTUAL_ENV", "SSL_CERT_FILE"}
        environment = {name: value for name, value in os.environ.items() if name not in ours} | CERTIFICATES
        done = subprocess.run(
            [program, "tool", "run", CHECKOV, *argv],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.stdout.startswith("{"):
            return json.loads(done.stdout)
        there = subprocess.run(
            [program, "tool", "run", CHECKOV, "--version"], env=environment, capture_output=True, check=False
        )
        if there.returncode == 0:
            pytest.fail(f"checkov printed no report: {done.stdout}{done.stderr}")
    if _REQUIRED:
        pytest.fail(how)
    pytest.skip(how)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_checkov_finds_nothing_that_is_not_skipped_with_a_reason(overlay: str, tmp_path: Path) -> None:
    overlaid = rendered(overlay)
    job = overlaid.run_job("binance/um/klines/daily")
    job["metadata"]["namespace"] = "lakehouse"
    objects = tmp_path / "objects.yaml"
    objects.write_text(yaml.safe_dump_all([*overlaid.objects, job]), encoding="utf-8")
    config = yaml.safe_load((DEPLOY / "kubernetes/checkov.yaml").read_text(encoding="utf-8"))
    config["skip-check"] += IN_DEV if overlay == "dev" else ()
    settings = tmp_path / "checkov.yaml"
    settings.write_text(yaml.safe_dump(config), encoding="utf-8")
    report = _checkov("--config-file", str(settings), "-f", str(objects), "-o", "json")
    failed = [
        f"{each['check_id']} {each['resource']}: {each['check_name']}" for each in report["results"]["failed_checks"]
    ]
    assert not failed, "\n".join(failed)
    assert report["summary"]["passed"] > 500, "hardly anything was checked"
