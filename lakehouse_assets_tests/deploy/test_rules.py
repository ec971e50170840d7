"""The alert rules over realistic series, by promtool's unit tests: each fires on time, not earlier, and not for
healthy data."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse_assets_tests.observability.servers import program
from lakehouse_assets_tests.paths import DEPLOY

RULES = DEPLOY / "grafana/rules.yaml"
LABELS = 'exchange="binance",market="um",data_type="klines",cadence="daily"'
OTHER = 'exchange="binance",market="um",data_type="metrics",cadence="daily"'
DAY = 86400

# Per alert: series in promtool's notation (a value per minute), last silent minute, minute by which it fires.
CASES: dict[str, tuple[dict[str, str], int, int]] = {
    "LakehouseExporterSilent": ({}, 14, 16),
    "LakehouseDatasetLate": (
        {
            f"lakehouse_discovery_lag_seconds{{{LABELS}}}": f"{3 * DAY + 60}+60x200",
            f"lakehouse_discovery_lag_seconds{{{OTHER}}}": f"{DAY}+0x200",
        },
        59,
        62,
    ),
    "LakehouseExchangeStalled": (
        {
            f"lakehouse_discovery_lag_seconds{{{LABELS}}}": f"{4 * DAY + 60}+60x200",
            f"lakehouse_discovery_lag_seconds{{{OTHER}}}": f"{4 * DAY + 60}+60x200",
        },
        59,
        62,
    ),
    "LakehousePeriodsIncomplete": ({f'lakehouse_periods{{{LABELS},state="incomplete"}}': "1+0x2000"}, 1439, 1441),
    "LakehouseQuarantined": ({f"lakehouse_quarantined{{{LABELS}}}": "2+0x2000"}, 1439, 1441),
    "LakehouseIncidentCritical": ({'lakehouse_incidents_open{severity="critical"}': "0 0 0 1+0x10"}, 2, 4),
}

IN_ORDER = {
    f"lakehouse_completeness_ratio{{{LABELS}}}": "1+0x3000",
    f"lakehouse_discovery_lag_seconds{{{LABELS}}}": f"{DAY}+0x3000",
    f'lakehouse_periods{{{LABELS},state="incomplete"}}': "0+0x3000",
    f'lakehouse_periods{{{LABELS},state="complete"}}': "30+0x3000",
    f"lakehouse_quarantined{{{LABELS}}}": "0+0x3000",
    'lakehouse_incidents_open{severity="critical"}': "0+0x3000",
    'lakehouse_incidents_open{severity="error"}': "3+0x3000",
}


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def promtool(folder: Path, series: dict[str, str], checks: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """Run promtool's unit test of the rules; it fails if the alerts at a time are not the expected ones."""
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": checks,
            }
        ],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(document))
    return subprocess.run(
        [program("promtool"), "test", "rules", str(file)], capture_output=True, text=True, timeout=120, check=False
    )


def firing(name: str, minute: int, *, count: int) -> dict[str, Any]:
    return {
        "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": "{}", "value": count}],
    }


def test_there_is_a_case_for_every_alert() -> None:
    assert set(CASES) == set(alerts())


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_on_time_and_not_earlier(name: str, tmp_path: Path) -> None:
    series, silent, fires = CASES[name]
    done = promtool(tmp_path, series, [firing(name, silent, count=0), firing(name, fires, count=1)])
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = promtool(tmp_path, series, [firing(name, fires, count=0)])
    assert wrong.returncode != 0


def test_no_alert_fires_for_healthy_data(tmp_path: Path) -> None:
    quiet = [firing(name, minute, count=0) for name in alerts() for minute in (60, 2880)]
    done = promtool(tmp_path, IN_ORDER, quiet)
    assert done.returncode == 0, done.stdout + done.stderr
