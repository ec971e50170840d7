"""compose.yaml, read by Docker Compose itself (its parser and its schema; no engine is asked)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

from lakehouse_assets.settings import load_settings
from lakehouse_assets_tests.deploy.rendered import DEPLOY

FOLDER = DEPLOY / "docker"
OURS = {"lakehouse-code", "webserver", "daemon", "exporter"}
OTHERS = {"postgres", "store", "lakehouse-agent", "prometheus", "alertmanager", "openobserve", "grafana"}


def compose(*argv: str, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "docker-compose"
    environment = ["--env-file", str(FOLDER / ".env.example")]
    return subprocess.run(
        [str(program), "-f", str(folder / "compose.yaml"), *environment, *argv],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    done = compose("config", "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["services"]


def test_compose_itself_finds_it_valid_and_would_tell(services: dict[str, Any], tmp_path: Path) -> None:
    assert services.keys() == OURS | OTHERS
    shutil.copy(FOLDER / "compose.yaml", tmp_path)
    broken = (tmp_path / "compose.yaml").read_text().replace("read_only: true", "readonly: true", 1)
    (tmp_path / "compose.yaml").write_text(broken)
    assert "readonly" in compose("config", "-q", folder=tmp_path).stderr


def test_every_container_is_hardened_and_listens_on_loopback_alone(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ())), name
        assert "privileged" not in service
        assert not service.get("image", "").endswith(":latest")


def test_every_mounted_file_is_there(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            if volume["type"] == "bind":
                source = Path(volume["source"])
                example = source.with_name(f"{source.name}.example")
                assert source.exists() or example.exists(), f"{name}: {source}"
                assert volume["read_only"] is True, f"{name}: {source}"


def test_our_containers_have_settings_that_load_and_what_dagster_asks_for(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copy(FOLDER / "dagster.yaml", tmp_path)
    config, _ = dagster_instance_config(str(tmp_path))
    asked = {
        source["env"]
        for each in (config["storage"]["postgres"]["postgres_db"], config["compute_logs"]["config"])
        for source in each.values()
        if isinstance(source, dict)
    }
    assert "DAGSTER_PG_PASSWORD" in asked
    for name in OURS:
        environment = services[name]["environment"]
        assert asked <= environment.keys(), name
        with monkeypatch.context() as patch:
            for variable, value in environment.items():
                patch.setenv(variable, value)
            settings = load_settings()
        assert settings.lake.lake().bucket.endpoint_url == "http://store:8333"
        assert settings.retention.days == 90


def test_the_agent_gets_the_aggregation_and_the_stores_arguments_are_those_of_the_cluster(
    services: dict[str, Any],
) -> None:
    dev = DEPLOY / "kubernetes/overlays/dev/store.yaml"
    store = next(each for each in yaml.safe_load_all(dev.read_text()) if each["kind"] == "StatefulSet")
    [container] = store["spec"]["template"]["spec"]["containers"]
    assert services["store"]["command"] == container["args"]
    base = DEPLOY / "kubernetes/base/agent.yaml"
    agent = next(each for each in yaml.safe_load_all(base.read_text()) if each["kind"] == "Deployment")
    [container] = agent["spec"]["template"]["spec"]["containers"]
    inside = [each.replace("$(REMOTE_WRITE_URL)", "http://prometheus:9090/api/v1/write") for each in container["args"]]
    assert sorted(services["lakehouse-agent"]["command"]) == sorted(inside)
