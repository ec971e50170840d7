"""The same panels as OpenObserve's own dashboards.

Format: version 8, as OpenObserve exports and imports dashboards (examples: github.com/openobserve/dashboards).
PromQL panels, 192 columns wide; ``$exchange`` is a text box for a regular expression.
"""

from __future__ import annotations

import json
import re
from typing import Any

from panels import DashboardPlan, Panel

_COLUMNS = 192 // 24
"""Columns of OpenObserve per column of Grafana."""

_TYPES = {"stat": "metric", "timeseries": "line", "table": "table", "bars": "h-bar"}
_HEIGHTS = {"stat": 9}
_HEIGHT = 18
_UNITS = {
    "short": "numbers",
    "bytes": "bytes",
    "Bps": "bps",
    "s": "seconds",
    "percentunit": "percent-1",
    "currencyUSD": "currency-dollar",
}
"""OpenObserve's names of Grafana's units."""


def openobserve(plan: DashboardPlan) -> str:
    """A dashboard's document, with a tab per row of panels."""
    document = {
        "version": 8,
        "dashboardId": "",
        "title": plan.title,
        "description": plan.description,
        "role": "",
        "owner": "",
        "created": "2026-01-01T00:00:00Z",
        "defaultDatetimeDuration": {"type": "relative", "relativeTimePeriod": "7d"},
        "variables": {
            "list": [
                {
                    "type": "textbox",
                    "name": "exchange",
                    "label": "Exchange (regular expression)",
                    "query_data": {},
                    "value": ".*",
                    "options": [],
                }
            ],
            "showDynamicFilters": False,
        },
        "tabs": [
            {
                "tabId": re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-"),
                "name": heading,
                "panels": _panels(plan.uid, heading, panels),
            }
            for heading, panels in plan.rows.items()
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _panels(uid: str, heading: str, panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    shown, x, y, height = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        width = panel.width * _COLUMNS
        if x + width > 24 * _COLUMNS:
            x, y, height = 0, y + height, 0
        tall = _HEIGHTS.get(panel.shape, _HEIGHT)
        identity = f"{uid}-{re.sub(r'[^a-z0-9]+', '-', heading.lower())}-{number}"
        shown.append(_panel(identity, panel, {"x": x, "y": y, "w": width, "h": tall, "i": number}))
        x, height = x + width, max(height, tall)
    return shown


def _panel(identity: str, panel: Panel, layout: dict[str, int]) -> dict[str, Any]:
    return {
        "id": identity,
        "type": _TYPES[panel.shape],
        "title": panel.title,
        "description": panel.description,
        "config": {
            "show_legends": panel.shape == "timeseries",
            "legends_position": "bottom",
            "unit": _UNITS[panel.unit],
            "decimals": 2,
            "axis_border_show": False,
            "connect_nulls": False,
            "top_results_others": False,
            "drilldown": [],
            "mark_line": [],
            "override_config": [],
        },
        "queryType": "promql",
        "queries": [_query(legend, expression) for legend, expression in panel.queries.items()],
        "layout": layout,
        "htmlContent": "",
        "markdownContent": "",
    }


def _query(legend: str, expression: str) -> dict[str, Any]:
    [stream] = re.findall(r"\b(?:lakehouse|exchange:lakehouse)_\w+", expression)[:1]
    return {
        "query": expression,
        "vrlFunctionQuery": "",
        "customQuery": True,
        "fields": {
            "stream": stream,
            "stream_type": "metrics",
            "x": [],
            "y": [],
            "z": [],
            "breakdown": [],
            "filter": {"filterType": "group", "logicalOperator": "AND", "conditions": []},
        },
        "config": {"promql_legend": _legend(legend), "layer_type": "scatter", "weight_fixed": 1},
    }


def _legend(text: str) -> str:
    """The legend with single braces around labels."""
    return text.replace("{{", "{").replace("}}", "}")
