"""compose.yaml: valid by the Compose specification's schema, hardened, and consistent with its files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse_assets.settings import load_settings
from lakehouse_assets_tests.dagster_internals import dagster_instance_config
from lakehouse_assets_tests.deploy.rendered import DEPLOY
from lakehouse_assets_tests.deploy.schemas import schema_errors

FOLDER = DEPLOY / "docker"
OURS = {"lakehouse-code", "webserver", "daemon", "exporter"}
OTHERS = {"postgres", "store", "lakehouse-agent", "prometheus", "alertmanager", "openobserve", "grafana"}
SCHEMA = "vendor.compose-spec"
VARIABLE = re.compile(r"\$\{(\w+):\?[^}]+\}")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The file as Compose reads it: anchors merged, variables from .env.example."""
    lines = (FOLDER / ".env.example").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    text = VARIABLE.sub(lambda found: values[found[1]], (FOLDER / "compose.yaml").read_text())
    assert "$" not in text, "a variable without an error message for when it is unset"
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def services(document: dict[str, Any]) -> dict[str, Any]:
    return document["services"]


def test_the_file_is_valid_and_the_schema_rejects_a_misspelled_field(services: dict[str, Any], tmp_path: Path) -> None:
    assert services.keys() == OURS | OTHERS
    assert schema_errors(SCHEMA, FOLDER / "compose.yaml") == ""
    broken = tmp_path / "compose.yaml"
    broken.write_text((FOLDER / "compose.yaml").read_text().replace("read_only: true", "readonly: true", 1))
    assert "'readonly' was unexpected" in schema_errors(SCHEMA, broken)


def test_every_name_that_a_service_refers_to_is_declared(document: dict[str, Any]) -> None:
    for name, service in document["services"].items():
        assert set(service["networks"]) <= document["networks"].keys(), name
        assert service.get("depends_on", {}).keys() <= document["services"].keys(), name
        for other, condition in service.get("depends_on", {}).items():
            assert condition != {"condition": "service_healthy"} or "healthcheck" in document["services"][other], name
        named = {source for source, _ in mounts(service) if not source.startswith(".")}
        assert named <= document["volumes"].keys(), name


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    """Sources of volumes (names or relative paths), and the rest of each line."""
    return [(source, rest) for source, _, rest in (each.partition(":") for each in service.get("volumes", ()))]


def test_every_container_is_hardened_and_listens_on_loopback_only(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert "privileged" not in service
        assert not service.get("image", "").endswith(":latest")


def test_every_mounted_file_exists(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for relative, rest in mounts(service):
            if relative.startswith("."):
                source = FOLDER / relative
                example = source.with_name(f"{source.name}.example")
                assert source.exists() or example.exists(), f"{name}: {source}"
                assert rest.endswith(":ro"), f"{name}: {source}"


def test_our_containers_have_valid_settings_and_every_variable_of_dagster_yaml(
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


def test_agent_and_store_have_the_same_arguments_as_in_the_cluster(
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
