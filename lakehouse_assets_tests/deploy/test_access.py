"""Network policies and RBAC: exactly the flows and calls that the components need, and no more."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from itertools import product

import pytest
from dagster_k8s import client

from lakehouse_assets_tests.deploy.rendered import OVERLAYS, Object, Pod, Rendered, matches, rendered

BASE_FLOWS = {
    ("webserver", "code", 4000),
    ("viewer", "code", 4000),
    ("daemon", "code", 4000),
    ("code", "agent", 8429),
    ("run", "agent", 8429),
    ("exporter", "agent", 8429),
}
FLOWS = {
    "prod": BASE_FLOWS | {("login", "webserver", 3000), ("login-viewer", "viewer", 3000)},
    "dev": BASE_FLOWS
    | {(part, "postgres", 5432) for part in ("webserver", "viewer", "daemon", "code", "run")}
    | {(part, "store", 8333) for part in ("webserver", "viewer", "code", "run", "exporter")}
    | {(part, "openobserve", 5080) for part in ("code", "run", "exporter")}
    | {
        ("agent", "prometheus", 9090),
        ("grafana", "prometheus", 9090),
        ("prometheus", "alertmanager", 9093),
        ("prometheus", "agent", 8429),
    },
}
"""Every flow between two components of the namespace (from, to, port). Nothing else may pass."""

WITH_DATABASE = {"webserver", "viewer", "daemon", "code", "run"}
TO_THE_PUBLIC = {"webserver", "viewer", "code", "run", "exporter"}
PRIVATE = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"}

CALLS = {
    "create_namespaced_job": ("create", "jobs"),
    "delete_namespaced_job": ("delete", "jobs"),
    "list_namespaced_job": ("list", "jobs"),
    "read_namespaced_job_status": ("get", "jobs/status"),
    "list_namespaced_event": ("list", "events"),
    "list_namespaced_pod": ("list", "pods"),
    "read_namespaced_pod": ("get", "pods"),
    "read_namespaced_pod_log": ("get", "pods/log"),
    "delete_namespaced_pod": None,  # of executors that make pods; the run launcher does not
}
"""The calls that dagster-k8s makes to Kubernetes, and the right that each requires."""


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Rendered:
    return rendered(request.param)


@pytest.fixture(scope="module")
def pods(overlay: Rendered) -> list[Pod]:
    return [*overlay.services, overlay.run_pod("binance/um/klines/daily")]


def test_every_pod_is_denied_by_default_and_selected_by_ingress_and_egress_policies(
    overlay: Rendered, pods: list[Pod]
) -> None:
    deny = overlay.one("NetworkPolicy", "deny-all")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for pod in pods:
        assert matches(deny["podSelector"], pod.labels)


def test_exactly_the_required_flows_pass(overlay: Rendered, pods: list[Pod]) -> None:
    ports = {port for _, _, port in FLOWS[overlay.name]} | {22, 80, 443, 3000, 4180}
    passing = {
        (source.part, target.part, port)
        for source, target, port in product(pods, pods, sorted(ports))
        if source.part != target.part and _passes(overlay, source, target, port)
    }
    assert passing == FLOWS[overlay.name]


def test_only_the_listed_pods_reach_addresses_outside_the_namespace(overlay: Rendered, pods: list[Pod]) -> None:
    public = {pod.part for pod in pods if any(block["cidr"] == "0.0.0.0/0" for block in _blocks(overlay, pod, 443))}
    assert public == TO_THE_PUBLIC | ({"login", "login-viewer"} if overlay.name == "prod" else set())
    for pod in pods:
        for block in _blocks(overlay, pod, 443):
            if block["cidr"] == "0.0.0.0/0":
                assert set(block["except"]) == PRIVATE, "a node's metadata and other networks stay out of reach"
    kubernetes = {pod.part for pod in pods if any("except" not in each for each in _blocks(overlay, pod, 6443))}
    assert kubernetes == {"webserver", "daemon"}
    database = {pod.part for pod in pods if list(_blocks(overlay, pod, 5432))}
    assert database == (WITH_DATABASE if overlay.name == "prod" else set())
    for pod in pods:
        assert "192.0.2.0/32" not in str(list(_blocks(overlay, pod, 5432))), "the overlay says where it is"


def test_people_reach_a_ui_only_through_the_login() -> None:
    overlay = rendered("prod")
    backends = {
        path["backend"]["service"]["name"]
        for ingress in overlay.of("Ingress")
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    }
    assert backends == {"lakehouse-login", "lakehouse-login-viewer"}
    for ingress in overlay.of("Ingress"):
        hosts = {rule["host"] for rule in ingress["spec"]["rules"]}
        assert {host for tls in ingress["spec"]["tls"] for host in tls["hosts"]} == hosts
    logins = {pod.part: pod for pod in overlay.services if pod.part.startswith("login")}
    for part, upstream in (("login", "lakehouse-webserver"), ("login-viewer", "lakehouse-viewer")):
        assert logins[part].environment["OAUTH2_PROXY_UPSTREAMS"] == f"http://{upstream}"
        assert logins[part].environment["OAUTH2_PROXY_ALLOWED_GROUPS"]
        assert logins[part].environment["OAUTH2_PROXY_COOKIE_SECURE"] == "true"
    viewer = next(pod for pod in overlay.services if pod.part == "viewer")
    assert "--read-only" in viewer.container["args"]
    entrances = {
        pod.part
        for pod in overlay.services
        for rule in _rules(overlay, pod, "ingress", 4180)
        for peer in rule["from"]
        if "namespaceSelector" in peer
    }
    assert entrances == {"login", "login-viewer"}


def test_no_role_has_a_wildcard_or_covers_the_whole_cluster(overlay: Rendered) -> None:
    assert not overlay.of("ClusterRole")
    assert not overlay.of("ClusterRoleBinding")
    for role in overlay.of("Role"):
        for rule in role["rules"]:
            assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}, role["metadata"]["name"]
            assert "secrets" not in rule["resources"]


def test_the_daemon_has_exactly_the_rights_that_dagster_k8s_uses(overlay: Rendered) -> None:
    used = set(re.findall(r"self\.(?:batch|core)_api\.(\w+)", inspect.getsource(client)))
    assert used == CALLS.keys(), "dagster-k8s asks something else of Kubernetes now"
    needed = {right for right in CALLS.values() if right is not None}
    granted = set(_rights(overlay, "lakehouse-daemon"))
    assert needed <= granted
    assert granted - needed <= {("get", "jobs"), ("get", "events")}, "get beside list, for whoever looks"


def test_the_webserver_may_only_cancel_runs_and_other_pods_have_no_rights(overlay: Rendered, pods: list[Pod]) -> None:
    webserver = set(_rights(overlay, "lakehouse-webserver"))
    assert {verb for verb, _ in webserver} == {"get", "list", "delete"}
    assert {("delete", "jobs")} == {right for right in webserver if right[0] == "delete"}
    for account in {pod.spec["serviceAccountName"] for pod in pods} - {"lakehouse-daemon", "lakehouse-webserver"}:
        assert not list(_rights(overlay, account)), account


def _passes(overlay: Rendered, source: Pod, target: Pod, port: int) -> bool:
    """Whether an egress rule of the source and an ingress rule of the target both allow it, as in a cluster."""
    out = any(_names(rule, "to", target.labels) for rule in _rules(overlay, source, "egress", port))
    return out and any(_names(rule, "from", source.labels) for rule in _rules(overlay, target, "ingress", port))


def _rules(overlay: Rendered, pod: Pod, direction: str, port: int) -> Iterator[Object]:
    for policy in overlay.of("NetworkPolicy"):
        spec = policy["spec"]
        if not matches(spec["podSelector"], pod.labels):
            continue
        for rule in spec.get(direction, ()):
            assert rule["ports"], policy["metadata"]["name"]
            if any(each["port"] == port and each["protocol"] == "TCP" for each in rule["ports"]):
                yield rule


def _names(rule: Object, side: str, labels: Mapping[str, str]) -> bool:
    """Whether a rule selects a pod of the same namespace."""
    return any(
        "podSelector" in peer and "namespaceSelector" not in peer and matches(peer["podSelector"], labels)
        for peer in rule[side]
    )


def _blocks(overlay: Rendered, pod: Pod, port: int) -> Iterator[Object]:
    for rule in _rules(overlay, pod, "egress", port):
        for peer in rule["to"]:
            if "ipBlock" in peer:
                yield peer["ipBlock"]


def _rights(overlay: Rendered, account: str) -> Iterator[tuple[str, str]]:
    roles = {role["metadata"]["name"]: role for role in overlay.of("Role")}
    for binding in overlay.of("RoleBinding"):
        if any(subject["name"] == account for subject in binding["subjects"]):
            for rule in roles[binding["roleRef"]["name"]]["rules"]:
                yield from product(rule["verbs"], rule["resources"])
