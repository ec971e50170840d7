"""Writes dashboards (also OpenObserve's), rules and the page of metrics: python deploy/grafana/generate.py [--check]"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueGraphMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from openobserve import openobserve  # noqa: E402
from panels import DASHBOARDS, DashboardPlan, Panel  # noqa: E402
from rules import rules  # noqa: E402

from lakehouse_assets.observability.telemetry.metrics import METRICS  # noqa: E402

SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
_BUILDERS = {"stat": stat.Panel, "timeseries": timeseries.Panel, "table": table.Panel, "bars": bargauge.Panel}
_HEIGHTS = {"stat": 4}


def documents() -> dict[str, str]:
    """The text of every generated file, by its path relative to this folder."""
    files = {f"dashboards/{plan.uid}.json": _dashboard(plan) for plan in DASHBOARDS}
    files |= {f"../openobserve/dashboards/{plan.uid}.json": openobserve(plan) for plan in DASHBOARDS}
    head = "# Generated from rules.py by generate.py.\n"
    return files | {
        "rules.yaml": head + yaml.safe_dump(rules(), sort_keys=False, width=120),
        "../docs/metrics.md": _metrics_page(),
    }


def _metrics_page() -> str:
    lines = [
        "# Metrics",
        "",
        "Written by `deploy/grafana/generate.py` from `lakehouse_assets/observability/telemetry/metrics.py`.",
        "Each run, sensor and command sends metrics of its own *process*. `lakehouse exporter` sends metrics of the",
        "*records*, which it reads from manifests and the sync log: these stay right across restarts, so use them for",
        "totals.",
        "",
        "| metric | in Prometheus | kind | unit | of | attributes | meaning |",
        "|---|---|---|---|---|---|---|",
    ]
    for metric in METRICS:
        attributes = ", ".join(metric.attributes)
        lines.append(
            f"| `{metric.name}` | `{metric.prometheus_name}` | {metric.kind} | `{metric.unit}` | {metric.origin} "
            f"| {attributes} | {metric.meaning} |"
        )
    return "\n".join(lines) + "\n"


def _dashboard(plan: DashboardPlan) -> str:
    built = (
        dashboard.Dashboard(plan.title)
        .uid(plan.uid)
        .description(plan.description)
        .tags(["lakehouse"])
        .refresh("1m")
        .time("now-7d", "now")
        .timezone("utc")
        .readonly()
        .with_variable(dashboard.DatasourceVariable("source").label("Data source").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("exchange")
            .label("Exchange")
            .datasource(SOURCE)
            .query("label_values(lakehouse_completeness_ratio, exchange)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    )
    for heading, panels in plan.rows.items():
        built = built.with_row(dashboard.Row(heading))
        for panel in panels:
            built = built.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _panel(panel: Panel) -> object:
    built = (
        _BUILDERS[panel.shape]()
        .title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .height(_HEIGHTS.get(panel.shape, 8))
        .span(panel.width)
    )
    for letter, (legend, expression) in zip("ABCDEF", panel.queries.items(), strict=False):
        query = prometheus.Dataquery().ref_id(letter).expr(expression).legend_format(legend)
        built = built.with_target(query.range() if panel.shape == "timeseries" else query.instant())
    if panel.shape == "stat":
        built = built.graph_mode(BigValueGraphMode.NONE).reduce_options(
            common.ReduceDataOptions().calcs(["lastNotNull"])
        )
    return built


def main(arguments: list[str]) -> int:
    stale = []
    for path, text in documents().items():
        file = HERE / path
        if file.exists() and file.read_text() == text:
            continue
        stale.append(path)
        if "--check" not in arguments:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    verb = "out of date" if "--check" in arguments else "written"
    print("\n".join(f"{verb}: {path}" for path in stale) or "All files are current.")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
