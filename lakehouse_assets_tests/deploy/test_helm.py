"""Values for the official chart. They are not rendered here, but must equal base/dagster.yaml."""

from __future__ import annotations

import kubernetes
import yaml
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict

from lakehouse_assets_tests.deploy.rendered import DEPLOY

VALUES = yaml.safe_load((DEPLOY / "kubernetes/helm/values.yaml").read_text(encoding="utf-8"))
INSTANCE = yaml.safe_load((DEPLOY / "kubernetes/base/dagster.yaml").read_text(encoding="utf-8"))
LAUNCHER = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
SECTIONS = {
    "containerConfig": ("container_config", kubernetes.client.V1Container),
    "podSpecConfig": ("pod_spec_config", kubernetes.client.V1PodSpec),
    "podTemplateSpecMetadata": ("pod_template_spec_metadata", kubernetes.client.V1ObjectMeta),
    "jobSpecConfig": ("job_spec_config", kubernetes.client.V1JobSpec),
}


def test_the_run_coordinator_is_ours_with_the_same_sizes() -> None:
    given = VALUES["dagsterDaemon"]["runCoordinator"]["config"]["customRunCoordinator"]
    assert given == INSTANCE["run_coordinator"]
    # The chart names a code location after its deployment.
    deployments = VALUES["dagster-user-deployments"]["deployments"]
    assert given["config"]["locations"] == [deployment["name"] for deployment in deployments]


def test_runs_have_the_same_kubernetes_configuration() -> None:
    launcher = INSTANCE["run_launcher"]["config"]
    given = {SECTIONS[name][0]: value for name, value in LAUNCHER["runK8sConfig"].items()}
    assert given == launcher["run_k8s_config"]
    assert LAUNCHER["volumes"] == launcher["volumes"]
    assert LAUNCHER["volumeMounts"] == launcher["volume_mounts"]
    assert LAUNCHER["securityContext"] == launcher["security_context"]
    assert LAUNCHER["labels"] == launcher["labels"]


def test_dagster_k8s_reads_every_section() -> None:
    needed = {"V1Container": {"name": "dagster"}, "V1PodSpec": {"containers": []}, "V1JobSpec": {"template": {}}}
    for name, (_, model) in SECTIONS.items():
        section = k8s_snake_case_dict(model, LAUNCHER["runK8sConfig"][name])
        assert k8s_model_from_dict(model, {**needed.get(model.__name__, {}), **section})


def test_limits_and_monitoring_are_the_same() -> None:
    runs, pools = (VALUES["concurrency"][name] for name in ("runs", "pools"))
    assert runs["maxConcurrentRuns"] == INSTANCE["concurrency"]["runs"]["max_concurrent_runs"]
    assert runs["tagConcurrencyLimits"] == INSTANCE["concurrency"]["runs"]["tag_concurrency_limits"]
    assert pools == {"granularity": "run", "defaultLimit": INSTANCE["concurrency"]["pools"]["default_limit"]}
    daemon, monitoring = VALUES["dagsterDaemon"]["runMonitoring"], INSTANCE["run_monitoring"]
    assert daemon["startTimeoutSeconds"] == monitoring["start_timeout_seconds"]
    assert daemon["maxRuntimeSeconds"] == monitoring["max_runtime_seconds"]
