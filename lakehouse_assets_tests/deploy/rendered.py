"""The deployment as a cluster gets it: overlays rendered by kubectl, run pods made by dagster-k8s."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import kubernetes
import pytest
import yaml
from dagster import DagsterRun
from dagster_k8s import K8sRunLauncher
from dagster_k8s.job import construct_dagster_k8s_job

from lakehouse_assets.orchestration.dagster_internals import ConfigurableClassData
from lakehouse_assets.orchestration.instance.run_coordinator import RunSizes, SizedRunCoordinator
from lakehouse_assets_tests.dagster_internals import (
    JobPythonOrigin,
    ModuleCodePointer,
    RepositoryPythonOrigin,
    process_config,
    resolve_to_config_type,
)
from lakehouse_assets_tests.paths import DEPLOY

OVERLAYS = ("dev", "prod")
PART = "lakehouse/part"

Object = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod template of a workload or a run, with the ConfigMaps of its environment resolved."""

    name: str
    labels: Mapping[str, str]
    spec: Object
    replicas: int = 1
    environment: Mapping[str, str | None] = field(default_factory=dict)
    """None: the value is not in the rendered objects (from a Secret or a field)."""

    @property
    def part(self) -> str:
        return self.labels[PART]

    @property
    def container(self) -> Object:
        [container] = self.spec["containers"]
        return container


@dataclass(frozen=True)
class Rendered:
    """The objects of a rendered overlay."""

    name: str
    objects: tuple[Object, ...]

    def of(self, kind: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        [found] = [each for each in self.of(kind) if each["metadata"]["name"].startswith(name)]
        return found

    @property
    def services(self) -> list[Pod]:
        """Pods of Deployments and StatefulSets, with their maximal number of replicas."""
        most = {
            scaler["spec"]["scaleTargetRef"]["name"]: scaler["spec"]["maxReplicas"]
            for scaler in self.of("HorizontalPodAutoscaler")
        }
        return [
            self._pod(each["metadata"]["name"], each["spec"]["template"], most.get(each["metadata"]["name"]), each)
            for each in (*self.of("Deployment"), *self.of("StatefulSet"))
        ]

    @property
    def dagster_yaml(self) -> Object:
        return yaml.safe_load(self.one("ConfigMap", "dagster-instance")["data"]["dagster.yaml"])

    def run_pod(self, *assets: str, job: str = "__ASSET_JOB", retry: int = 0) -> Pod:
        """The pod of a run, made by dagster-k8s' own code from the deployed dagster.yaml."""
        job_object = self.run_job(*assets, job=job, retry=retry)
        return self._pod("run", job_object["spec"]["template"], None, job_object)

    def run_job(self, *assets: str, job: str = "__ASSET_JOB", retry: int = 0) -> Object:
        daemon = next(pod for pod in self.services if pod.part == "daemon")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in daemon.environment.items():
                patch.setenv(name, value or "set")
            launcher = self._launcher()
            origin = RepositoryPythonOrigin(sys.executable, ModuleCodePointer("lakehouse_assets.definitions", "defs"))
            origin = origin._replace(container_image=self._code_image())
            run = DagsterRun(
                job_name=job,
                run_id=str(uuid.uuid4()),
                tags=self.sizes.tags_of(job, assets, retry),
                job_code_origin=JobPythonOrigin(job, origin),
            )
            context = launcher.get_container_context_for_run(run)
            made = construct_dagster_k8s_job(
                context.get_k8s_job_config(job_image=origin.container_image, run_launcher=launcher),
                args=["dagster", "api", "execute_run", "{}"],
                job_name=f"dagster-run-{run.run_id}",
                component="run_worker",
                user_defined_k8s_config=context.run_k8s_config,
            )
        return kubernetes.client.ApiClient().sanitize_for_serialization(made)

    @property
    def sizes(self) -> RunSizes:
        config = _processed(SizedRunCoordinator.config_type(), self.dagster_yaml["run_coordinator"]["config"])
        data = ConfigurableClassData(
            "lakehouse_assets.orchestration.instance.run_coordinator", "SizedRunCoordinator", "{}"
        )
        return SizedRunCoordinator.from_config_value(data, config).sizes

    def _launcher(self) -> K8sRunLauncher:
        with TemporaryDirectory() as folder:
            # Differs from a pod in the cluster only in how the API server is reached.
            kubeconfig = Path(folder) / "config"
            kubeconfig.write_text(yaml.safe_dump(_KUBECONFIG), encoding="utf-8")
            config = self.dagster_yaml["run_launcher"]["config"]
            config |= {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
            data = ConfigurableClassData("dagster_k8s", "K8sRunLauncher", "{}")
            return K8sRunLauncher.from_config_value(data, _processed(K8sRunLauncher.config_type(), config))

    def _code_image(self) -> str:
        return next(pod for pod in self.services if pod.part == "code").container["image"]

    def _pod(self, name: str, template: Object, replicas: int | None, owner: Object) -> Pod:
        container = template["spec"]["containers"][0]
        return Pod(
            name=name,
            labels=template["metadata"]["labels"],
            spec=template["spec"],
            replicas=replicas or owner["spec"].get("replicas", 1),
            environment=dict(self._environment_of(container)),
        )

    def _environment_of(self, container: Object) -> Iterator[tuple[str, str | None]]:
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                yield from self._data("ConfigMap", source["configMapRef"]["name"]).items()
            else:
                yield from dict.fromkeys(self._data("Secret", source["secretRef"]["name"])).items()
        for variable in container.get("env", ()):
            yield variable["name"], variable.get("value")

    def _data(self, kind: str, name: str) -> Mapping[str, str]:
        for each in self.objects:
            if each["metadata"]["name"] == name and each["kind"] == kind:
                return each["data"]
            if each["metadata"]["name"] == name and kind == "Secret" and each["kind"] == "ExternalSecret":
                return {item["secretKey"]: "" for item in each["spec"]["data"]}
        return {}


@cache
def rendered(overlay: str) -> Rendered:
    """Render a copy in which the examples of secret files are the files."""
    with TemporaryDirectory() as folder:
        tree = Path(folder) / "deploy"
        shutil.copytree(DEPLOY, tree)
        for example in tree.rglob("*.example"):
            shutil.copy(example, example.with_suffix(""))
        text = kubectl("kustomize", str(tree / "kubernetes/overlays" / overlay))
    return Rendered(overlay, tuple(yaml.safe_load_all(text)))


def kubectl(*argv: str) -> str:
    """Run the kubectl of the installed wheel, not one that happens to be on PATH."""
    program = Path(sys.executable).parent / "kubectl"
    done = subprocess.run([str(program), *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector (labels and `In` expressions) matches; an empty one matches everything."""
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In", "the only one that is used"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def quantity(text: str | int) -> float:
    """A quantity of Kubernetes (250m, 512Mi, 2) as a number."""
    units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    for unit, factor in units.items():
        if str(text).endswith(unit):
            return float(str(text).removesuffix(unit)) * factor
    return float(text)


def requested(pods: Iterable[Pod], kind: str, resource: str) -> float:
    """The sum of a resource over pods and their replicas; ``kind`` is requests or limits."""
    return sum(pod.replicas * quantity(pod.container["resources"][kind][resource]) for pod in pods)


_KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "nobody", "user": {}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "nobody"}}],
    "current-context": "none",
}


def _processed(config_type: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration as Dagster loads it: validated, with defaults, variables resolved."""
    done = process_config(resolve_to_config_type(config_type), config)
    assert done.success, done.errors
    assert done.value is not None
    return done.value
