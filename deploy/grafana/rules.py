"""Recording and alert rules for Prometheus, built from the table of metrics."""

from __future__ import annotations

from typing import Any

from lakehouse_assets.observability.telemetry import metrics as m

_DATASET = "exchange, market, data_type, cadence"


def _alert(name: str, expression: str, lasting: str, severity: str, *texts: str) -> dict[str, Any]:
    """An alert rule; ``texts`` are what is wrong and what to do about it."""
    summary, what_to_do = texts
    return {
        "alert": name,
        "expr": expression,
        "for": lasting,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": what_to_do},
    }


def rules() -> dict[str, Any]:
    """The content of a Prometheus rule file."""
    present, expected = m.OBJECTS_PRESENT.prometheus_name, m.OBJECTS_EXPECTED.prometheus_name
    lag, dataset = (
        m.DISCOVERY_LAG.prometheus_name,
        "{{ $labels.exchange }}/{{ $labels.market }}/{{ $labels.data_type }}/{{ $labels.cadence }}",
    )
    return {
        "groups": [
            {
                "name": "lakehouse-records",
                "rules": [
                    {
                        "record": "exchange:lakehouse_completeness:ratio",
                        "expr": f"sum by (exchange) ({present}) / (sum by (exchange) ({expected}) > 0)",
                    },
                    {
                        "record": "exchange:lakehouse_bytes_copied:rate1h",
                        "expr": f"sum by (exchange) (rate({m.BYTES_COPIED.prometheus_name}[1h]))",
                    },
                ],
            },
            {
                "name": "lakehouse-alerts",
                "rules": [
                    _alert(
                        "LakehouseExporterSilent",
                        f"absent({m.COMPLETENESS.prometheus_name})",
                        "15m",
                        "critical",
                        "No metrics of the lake's records arrive.",
                        "See the exporter's log. No other rule works without its metrics.",
                    ),
                    _alert(
                        "LakehouseDatasetLate",
                        f'max by ({_DATASET}) ({lag}{{cadence="daily"}}) > 3 * 86400',
                        "1h",
                        "warning",
                        f"{dataset} is {{{{ $value | humanizeDuration }}}} behind.",
                        "See the asset's check `published`: the exchange may be late. If not, see the sensor's ticks.",
                    ),
                    _alert(
                        "LakehouseExchangeStalled",
                        f'min by (exchange) ({lag}{{cadence="daily"}}) > 4 * 86400',
                        "1h",
                        "critical",
                        "{{ $labels.exchange }}: no daily dataset has had a complete day for 4 days.",
                        "One cause for all its datasets: the exchange has stalled, or its archive cannot be listed.",
                    ),
                    _alert(
                        "LakehousePeriodsIncomplete",
                        f'sum by ({_DATASET}) ({m.PERIODS.prometheus_name}{{state="incomplete"}}) > 0',
                        "1d",
                        "warning",
                        f"{dataset}: {{{{ $value }}}} synced periods lack an object.",
                        "Materialize them again; the run names what fails.",
                    ),
                    _alert(
                        "LakehouseQuarantined",
                        f"sum by ({_DATASET}) ({m.QUARANTINED.prometheus_name}) > 0",
                        "1d",
                        "info",
                        f"{dataset}: {{{{ $value }}}} objects contradict their checksum.",
                        "They are kept out of tables, and checked again when the exchange changes them.",
                    ),
                    _alert(
                        "LakehouseIncidentCritical",
                        f'sum({m.INCIDENTS_OPEN.prometheus_name}{{severity="critical"}}) > 0',
                        "0m",
                        "critical",
                        "{{ $value }} critical incidents are open.",
                        "lakehouse incidents list",
                    ),
                ],
            },
        ]
    }
