"""Both overlays, rendered: what every pod must have, and that every reference resolves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic_settings import BaseSettings

from lakehouse_assets.archive.matrix import ArchiveMatrix, load_matrix
from lakehouse_assets.definitions import defs
from lakehouse_assets.settings import Settings
from lakehouse_assets_tests.dagster_internals import dagster_instance_config
from lakehouse_assets_tests.deploy.rendered import (
    DEPLOY,
    OVERLAYS,
    Pod,
    Rendered,
    matches,
    quantity,
    rendered,
    requested,
)

KUBERNETES = "1.34"
UNKNOWN_KINDS = {
    "ExternalSecret": "of the External Secrets Operator",
    "PrometheusRule": "of the Prometheus Operator",
    "ServiceMonitor": "of the Prometheus Operator",
}
"""Kinds without a schema of Kubernetes."""

OTHERS_VARIABLES = ("DAGSTER_", "AWS_", "PG", "OTEL_", "OAUTH2_PROXY_", "POSTGRES_", "ZO_", "GF_")
OTHERS_NAMES = {"HOME", "GOMEMLIMIT", "REMOTE_WRITE_URL"}
"""Variables of Dagster, libpq, the AWS chain and other programs, which are not checked."""

WITHOUT_PROBES = {"exporter": {"livenessProbe", "readinessProbe"}, "daemon": {"readinessProbe"}}
"""Probes that a component does without, since it has no port or gets no traffic; see its checkov annotations."""

SPEAK_TO_KUBERNETES = {"webserver", "viewer", "daemon"}


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Rendered:
    return rendered(request.param)


@pytest.fixture(scope="module")
def pods(overlay: Rendered) -> list[Pod]:
    return [*overlay.services, overlay.run_pod("binance/um/klines/daily")]


def test_every_object_and_every_run_is_valid_kubernetes(overlay: Rendered) -> None:
    runs = [overlay.run_job("binance/um/klines/daily", retry=retry) for retry in range(2)]
    unknown = set()
    for each in (*overlay.objects, *runs):
        try:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            unknown.add(each["kind"])
    assert unknown <= UNKNOWN_KINDS.keys()
    assert (overlay.name == "dev") == (not unknown)


def test_every_pod_meets_pod_security_restricted(pods: list[Pod]) -> None:
    for pod in pods:
        context, container = pod.spec["securityContext"], pod.container["securityContext"]
        assert context["runAsNonRoot"] is True, pod.name
        assert context["runAsUser"] >= 10_000, pod.name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name
        assert container["allowPrivilegeEscalation"] is False, pod.name
        assert container["readOnlyRootFilesystem"] is True, pod.name
        assert container["capabilities"] == {"drop": ["ALL"]}, pod.name
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.spec.keys(), pod.name
        assert not any("hostPath" in volume for volume in pod.spec.get("volumes", ())), pod.name
        assert pod.spec["enableServiceLinks"] is False, pod.name


def test_the_namespace_enforces_pod_security(overlay: Rendered) -> None:
    [namespace] = overlay.of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {each["metadata"].get("namespace") for each in overlay.objects} == {"lakehouse", None}
    without = {each["kind"] for each in overlay.objects if "namespace" not in each["metadata"]}
    assert without == {"Namespace", "PriorityClass"}


def test_only_pods_that_call_kubernetes_have_a_token(pods: list[Pod]) -> None:
    holders = {pod.part for pod in pods if pod.spec.get("automountServiceAccountToken") is not False}
    assert holders == SPEAK_TO_KUBERNETES


def test_every_service_pod_has_a_disruption_budget_that_never_blocks_a_drain(overlay: Rendered) -> None:
    budgets = overlay.of("PodDisruptionBudget")
    for pod in overlay.services:
        [budget] = [each for each in budgets if matches(each["spec"]["selector"], pod.labels)]
        assert budget["spec"]["maxUnavailable"] == 1, pod.name
    # A run has none: when its node is drained, the run is retried and copies only what is missing.
    run = overlay.run_pod("binance/um/klines/daily")
    assert not [each for each in budgets if matches(each["spec"]["selector"], run.labels)]


def test_selectors_match_only_their_own_pods(overlay: Rendered) -> None:
    pods = [*overlay.services, overlay.run_pod("reports/efficiency")]
    for owner in (*overlay.of("Deployment"), *overlay.of("StatefulSet")):
        [pod] = [pod for pod in pods if matches(owner["spec"]["selector"], pod.labels)]
        assert pod.name == owner["metadata"]["name"]
        for spread in pod.spec.get("topologySpreadConstraints", ()):
            assert matches(spread["labelSelector"], pod.labels)
    for service in overlay.of("Service"):
        [pod] = [pod for pod in pods if matches({"matchLabels": service["spec"]["selector"]}, pod.labels)]
        ports = {port["name"] for port in pod.container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for scaler in overlay.of("HorizontalPodAutoscaler"):
        target = overlay.one(scaler["spec"]["scaleTargetRef"]["kind"], scaler["spec"]["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"], "the autoscaler owns it"


def test_every_container_has_probes_requests_and_a_memory_limit(overlay: Rendered, pods: list[Pod]) -> None:
    for pod in pods:
        resources = pod.container["resources"]
        assert {"cpu", "memory", "ephemeral-storage"} <= resources["requests"].keys(), pod.name
        assert {"memory", "ephemeral-storage"} <= resources["limits"].keys(), pod.name
        assert "cpu" not in resources["limits"], f"{pod.name}: a limit throttles what could use an idle core"
        for name, asked in resources["requests"].items():
            assert quantity(asked) <= quantity(resources["limits"].get(name, asked)), pod.name
        assert pod.spec["priorityClassName"] == ("lakehouse-run" if pod.part == "run" else "lakehouse-service")
    for pod in overlay.services:
        missing = {"livenessProbe", "readinessProbe"} - pod.container.keys()
        assert missing == WITHOUT_PROBES.get(pod.part, set()), pod.name


def test_every_variable_of_ours_is_a_setting(pods: list[Pod]) -> None:
    known = set(_settings(Settings))
    # Names of generated ConfigMaps, which dagster.yaml reads.
    known |= {"LAKEHOUSE_SETTINGS_CONFIG_MAP"}
    for pod in pods:
        for name in pod.environment:
            if name.startswith("LAKEHOUSE_"):
                assert name in known, f"{pod.name}: {name}"
            else:
                assert name.startswith(OTHERS_VARIABLES) or name in OTHERS_NAMES, f"{pod.name}: {name}"


def test_every_pod_with_the_instance_has_every_variable_of_dagster_yaml(overlay: Rendered, pods: list[Pod]) -> None:
    asked = set(_asked_for(overlay.dagster_yaml))
    assert "DAGSTER_PG_PASSWORD" in asked
    holders = [pod for pod in pods if pod.part in {"webserver", "viewer", "daemon", "code", "run"}]
    assert len(holders) == 5
    for pod in holders:
        assert asked <= pod.environment.keys(), pod.name
        if pod.part != "run":
            [mount] = [each for each in pod.container["volumeMounts"] if each["name"] == "instance"]
            assert mount["mountPath"] == "/opt/dagster/dagster_home/dagster.yaml"


def test_dagster_yaml_passes_dagsters_own_validator(overlay: Rendered, tmp_path: Path) -> None:
    text = yaml.safe_dump(overlay.dagster_yaml)
    (tmp_path / "dagster.yaml").write_text(text, encoding="utf-8")
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["run_coordinator"]["class"] == "SizedRunCoordinator"
    (tmp_path / "dagster.yaml").write_text(text.replace("run_retries", "run_retry"), encoding="utf-8")
    with pytest.raises(Exception, match="run_retry"):
        dagster_instance_config(str(tmp_path))


def test_every_config_map_and_secret_is_used_and_every_used_one_exists(overlay: Rendered, pods: list[Pod]) -> None:
    there = {(each["kind"], each["metadata"]["name"]): each for each in overlay.objects}
    used: set[tuple[str, str]] = set()
    for pod in pods:
        for kind, name, keys, optional in _references(pod):
            used.add((kind, name))
            target = there.get((kind, name)) or there.get(("ExternalSecret", name))
            assert target is not None or optional, f"{pod.name}: {kind} {name}"
            if target is not None and target["kind"] != "ExternalSecret":
                assert keys <= target.get("data", {}).keys(), f"{pod.name}: {kind} {name}"
    for (kind, name), each in there.items():
        labels = each["metadata"].get("labels", {})
        if kind in {"ConfigMap", "Secret"} and "grafana_dashboard" not in labels:
            assert (kind, name) in used, f"{kind} {name} is not used"
        if kind == "ExternalSecret":
            assert ("Secret", name) in used, name


def test_production_manifests_contain_no_secret() -> None:
    assert rendered("prod").of("Secret") == []
    text = "\n".join(path.read_text(encoding="utf-8") for path in DEPLOY.rglob("*") if path.suffix in {".yaml", ".env"})
    assert "PASSWORD=" not in text
    assert "SECRET_ACCESS_KEY=" not in text


def test_production_images_are_pinned_by_digest_and_runs_use_the_code_servers_image(overlay: Rendered) -> None:
    code = next(pod for pod in overlay.services if pod.part == "code")
    assert code.environment["DAGSTER_CURRENT_IMAGE"] == code.container["image"] != "lakehouse-assets"
    for pod in overlay.services:
        assert ("@sha256:" in pod.container["image"]) == (overlay.name == "prod"), pod.name
        assert ":latest" not in pod.container["image"]


def test_the_autoscaler_does_not_evict_runs(overlay: Rendered) -> None:
    job = overlay.run_job("binance/um/klines/daily")
    annotations = job["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    assert job["spec"]["backoffLimit"] == 0, "Dagster repeats runs, not Kubernetes"


def test_a_run_tag_cannot_make_a_run_privileged(overlay: Rendered) -> None:
    sizes = overlay.sizes
    for size in sizes.sizes:
        assert size.k8s.keys() == {"container_config"}
        assert size.k8s["container_config"].keys() == {"resources"}
    allowed = overlay.dagster_yaml["run_launcher"]["config"]["only_allow_user_defined_k8s_config_fields"]
    assert allowed == {
        "container_config": {"resources": True},
        "pod_spec_config": {"service_account_name": True, "node_selector": True},
    }


def test_larger_data_gets_a_larger_pod_and_only_maintenance_gets_the_maintenance_identity(overlay: Rendered) -> None:
    memory = {
        asset: quantity(overlay.run_pod(asset).container["resources"]["limits"]["memory"]) / 2**30
        for asset in ("reports/efficiency", "binance/um/klines/daily", "binance/um/aggTrades/table")
    }
    assert list(memory.values()) == [1, 2, 8]
    retried = overlay.run_pod("binance/um/klines/daily", retry=1)
    assert retried.container["resources"]["limits"]["memory"] == "8Gi"
    accounts = {each["metadata"]["name"] for each in overlay.of("ServiceAccount")}
    asked = {
        overlay.run_pod(asset).spec["serviceAccountName"] for asset in ("binance/um/klines/daily", "maintenance/x")
    }
    assert asked == {"lakehouse-run", "lakehouse-maintenance"}
    assert {pod.spec["serviceAccountName"] for pod in overlay.services} | asked <= accounts


def test_maintenance_runs_use_their_service_account_if_it_has_a_role() -> None:
    accounts = {each["metadata"]["name"]: each for each in rendered("prod").of("ServiceAccount")}
    assert "eks.amazonaws.com/role-arn" in accounts["lakehouse-maintenance"]["metadata"]["annotations"]
    [settings] = [each for each in rendered("prod").of("ConfigMap") if "LAKEHOUSE_LAKE_BUCKET" in each["data"]]
    assert settings["data"]["LAKEHOUSE_MAINTENANCE_DEFAULT_CHAIN"] == "true"


def test_the_run_coordinators_rules_name_jobs_and_maintenance_that_exist(overlay: Rendered) -> None:
    repository = defs().get_repository_def()
    jobs = {job.name for job in repository.get_all_jobs()}
    assets = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
    sizes = overlay.sizes
    for rule in (*sizes.rules, *sizes.service_accounts):
        assert rule.job is None or any(rule.matches_job(job) for job in jobs), rule
    maintenance = {asset for asset in assets if asset.startswith("maintenance/")}
    assert maintenance
    for asset in assets:
        account = sizes.service_account_of("__ASSET_JOB", [asset])
        assert (account == "lakehouse-maintenance") == (asset in maintenance), asset
    # The run of a schedule names a job and no assets.
    for asset in maintenance:
        assert sizes.service_account_of(asset.rpartition("/")[2], []) == "lakehouse-maintenance", asset


def test_the_run_coordinator_has_rules_for_the_workspaces_code_location_only(overlay: Rendered) -> None:
    [workspace] = [
        yaml.safe_load(text)
        for each in overlay.of("ConfigMap")
        for name, text in each["data"].items()
        if name == "workspace.yaml"
    ]
    names = [origin["location_name"] for entry in workspace["load_from"] for origin in entry.values()]
    assert overlay.dagster_yaml["run_coordinator"]["config"]["locations"] == names


def test_the_quota_fits_the_services_and_as_many_runs_as_the_queue_starts(overlay: Rendered) -> None:
    limits = overlay.dagster_yaml["concurrency"]["runs"]
    [large] = [each["limit"] for each in limits["tag_concurrency_limits"] if each["value"] == "large"]
    medium = overlay.run_pod("binance/um/klines/daily")
    largest = overlay.run_pod("binance/um/aggTrades/table")
    runs = [medium] * (limits["max_concurrent_runs"] - large) + [largest] * large
    [quota] = overlay.of("ResourceQuota")
    hard = quota["spec"]["hard"]
    ours = [pod for pod in overlay.services if pod.part in {part.part for part in rendered("prod").services}]
    for kind, resource in (
        ("requests", "cpu"),
        ("requests", "memory"),
        ("limits", "memory"),
        ("requests", "ephemeral-storage"),
    ):
        needed = requested([*ours, *runs], kind, resource)
        granted = quantity(hard[f"{kind}.{resource}"])
        assert needed <= granted, f"{kind}.{resource}: {needed} of {granted}"
        assert needed >= 0.6 * granted, f"{kind}.{resource}: the quota is far above what is needed ({needed})"


def test_every_dashboard_and_rule_of_the_folder_is_deployed() -> None:
    folder = DEPLOY / "grafana"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    [listed] = [each["files"] for each in kustomization["configMapGenerator"] if each["name"] == "grafana-dashboards"]
    there = sorted(f"dashboards/{path.name}" for path in (folder / "dashboards").glob("*.json"))
    assert sorted(listed) == there, "list every file of deploy/grafana/dashboards in deploy/grafana/kustomization.yaml"
    rules = yaml.safe_load((folder / "rules.yaml").read_text(encoding="utf-8"))
    path = DEPLOY / "kubernetes/parts/monitoring/prometheus-rule.yaml"
    rule = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert rule["spec"] == rules, f"make `spec` of {path.name} the content of deploy/grafana/rules.yaml"


def test_the_production_matrix_loads() -> None:
    matrix = load_matrix(DEPLOY / "kubernetes/overlays/prod/matrix.yaml")
    assert isinstance(matrix, ArchiveMatrix)
    assert matrix.entries


def _settings(group: type[BaseSettings]) -> Iterator[str]:
    for name, field in group.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseSettings):
            yield from _settings(inner)
        else:
            yield f"{group.model_config.get('env_prefix')}{name}".upper()


def _asked_for(config: Any) -> Iterator[str]:
    """The name in every ``{env: NAME}`` of a configuration."""
    if isinstance(config, dict):
        if config.keys() == {"env"} and isinstance(config["env"], str):
            yield config["env"]
        else:
            for value in config.values():
                yield from _asked_for(value)
    elif isinstance(config, list):
        for value in config:
            yield from _asked_for(value)


def _references(pod: Pod) -> Iterator[tuple[str, str, set[str], bool]]:
    """Every ConfigMap and Secret that a pod references: kind, name, keys, and whether it is optional."""
    container = pod.container
    for source in container.get("envFrom", ()):
        [(kind, reference)] = source.items()
        yield _KINDS[kind], reference["name"], set(), reference.get("optional", False)
    for variable in container.get("env", ()):
        for kind, reference in variable.get("valueFrom", {}).items():
            if kind in _KINDS:
                yield _KINDS[kind], reference["name"], {reference["key"]}, False
    mounts = {}
    for mount in container.get("volumeMounts", ()):
        mounts.setdefault(mount["name"], []).append(mount)
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", ())}
    for name, volume in volumes.items():
        assert name in mounts, f"{pod.name}: volume {name} is not mounted"
        keys = {mount["subPath"] for mount in mounts[name] if "subPath" in mount}
        if "configMap" in volume:
            keys |= {item["key"] for item in volume["configMap"].get("items", ())}
            yield "ConfigMap", volume["configMap"]["name"], keys, volume["configMap"].get("optional", False)
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"], keys, False


_KINDS = {
    "configMapRef": "ConfigMap",
    "secretRef": "Secret",
    "configMapKeyRef": "ConfigMap",
    "secretKeyRef": "Secret",
}
