"""What a process imports before it has any work: each run of Dagster is a process, and so is each command."""

from __future__ import annotations

import subprocess
import sys

import pytest

CLIENTS = ["boto3", "botocore.auth", "botocore.session", "requests", "urllib3", "apprise"]
"""Imported where a request is made."""

WORK = ["lakehouse_assets.sync.engine", "lakehouse_assets.sync.movers.executor", "lakehouse_assets.tables.write.build"]
"""Imported where an asset's body begins."""

DEPLOYMENT = ["dagster_aws", "dagster_k8s", "dagster_postgres", "dagster_webserver", "grpc", "kubernetes"]
"""Needed only by what an instance's configuration names, or by a service."""

UNUSED = ["duckdb", "opentelemetry.sdk", "pandas", "pyarrow"]


def imported(code: str) -> set[str]:
    """The modules that a new process has after it ran the code."""
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('modules', *sys.modules)"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return set(ended.stdout.rpartition("modules ")[2].split())


@pytest.mark.parametrize(
    ("code", "needed", "too_much"),
    [
        pytest.param(
            "from lakehouse_assets.definitions import defs\ndefs()",
            "lakehouse_assets.orchestration.archives.assets",
            [*CLIENTS, *WORK, *DEPLOYMENT, *UNUSED],
            id="definitions",
        ),
        pytest.param(
            "from lakehouse_assets.cli.main import app\ntry: app(['--help'])\nexcept SystemExit: pass",
            "typer",
            [*CLIENTS, "botocore", "dagster", "deltalake", "obstore", "polars", "pydantic", "lakehouse_assets.archive"],
            id="help",
        ),
        *(
            pytest.param(
                f"import {module}", module, [*CLIENTS, *DEPLOYMENT, *UNUSED, "dagster", "sqlalchemy"], id=module
            )
            for module in ("lakehouse_assets.cli.sync", "lakehouse_assets.cli.tables", "lakehouse_assets.cli.incidents")
        ),
    ],
)
def test_a_process_does_not_import_what_it_may_not_need(code: str, needed: str, too_much: list[str]) -> None:
    modules = imported(code)
    assert needed in modules
    assert sorted(modules.intersection(too_much)) == []
