"""Dashboards and rules are up to date with their generator, and use existing metrics only."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import yaml

from lakehouse_assets.observability.telemetry.metrics import METRICS, Kind
from lakehouse_assets_tests.observability.servers import program
from lakehouse_assets_tests.paths import DEPLOY

GRAFANA = DEPLOY / "grafana"
KNOWN = {metric.prometheus_name for metric in METRICS} | {
    f"{metric.prometheus_name}_{part}"
    for metric in METRICS
    if metric.kind is Kind.HISTOGRAM
    for part in ("bucket", "sum", "count")
}


def expressions() -> list[str]:
    found = []
    for file in sorted((GRAFANA / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            found += [target["expr"] for target in panel.get("targets", ())]
    groups = yaml.safe_load((GRAFANA / "rules.yaml").read_text())["groups"]
    return found + [rule["expr"] for group in groups for rule in group["rules"]]


def test_committed_files_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(GRAFANA / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_expression_uses_metrics_of_the_table() -> None:
    asked = {name for text in expressions() for name in re.findall(r"\blakehouse_[a-z_]+", text)}
    assert len(asked) > 20
    assert asked <= KNOWN


def test_there_is_a_dashboard_per_role_and_every_panel_has_a_description() -> None:
    files = {file.stem for file in (GRAFANA / "dashboards").glob("*.json")}
    assert files == {f"lakehouse-{role}" for role in ("engineering", "operations", "research", "management")}
    for file in (GRAFANA / "dashboards").glob("*.json"):
        dashboard = json.loads(file.read_text())
        assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"source", "exchange"}
        for panel in dashboard["panels"]:
            assert panel["type"] == "row" or (panel["description"] and panel["targets"])


def test_openobserve_has_the_same_panels() -> None:
    for file in (GRAFANA / "dashboards").glob("*.json"):
        ours = [
            (panel["title"], [target["expr"] for target in panel["targets"]])
            for panel in json.loads(file.read_text())["panels"]
            if panel["type"] != "row"
        ]
        document = json.loads((GRAFANA.parent / "openobserve/dashboards" / file.name).read_text())
        panels = [panel for tab in document["tabs"] for panel in tab["panels"]]
        assert [(panel["title"], [query["query"] for query in panel["queries"]]) for panel in panels] == ours
        assert len({panel["id"] for panel in panels}) == len(panels)
        assert all(panel["layout"]["x"] + panel["layout"]["w"] <= 192 for panel in panels)


def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run(
        [program("promtool"), "check", "rules", "--lint-fatal", str(GRAFANA / "rules.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
