"""The dashboards as data: panels, with expressions made from the table of metrics.

``$exchange`` is a variable of each dashboard (a regular expression); ``$__range`` and ``$__rate_interval``
are Grafana's. Totals come from metrics of the lake's records; metrics of processes show speed and problems.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lakehouse_assets.observability.telemetry import metrics as m
from lakehouse_assets.observability.telemetry.metrics import Metric

DOLLARS_PER_OPERATION = 0.005 / 1000
"""Per PUT, COPY or LIST request: S3 Standard, us-east-1, list price of 2026."""

DOLLARS_PER_BYTE = 0.09 / 1e9
"""Per byte from us-east-1 to the internet: list price of 2026, first 10 TB."""

Shape = Literal["stat", "timeseries", "table", "bars"]


@dataclass(frozen=True)
class Panel:
    """One panel. ``unit`` is a unit of Grafana's; ``queries`` maps legends to expressions."""

    title: str
    shape: Shape
    unit: str
    queries: dict[str, str]
    description: str
    width: int = 8


@dataclass(frozen=True)
class DashboardPlan:
    """A dashboard for one role: rows of panels under headings."""

    uid: str
    title: str
    description: str
    rows: dict[str, tuple[Panel, ...]] = field(default_factory=dict)


def name(metric: Metric, suffix: str = "", **labels: str) -> str:
    """A selector of the metric's series, limited to the chosen exchanges if the metric has that attribute."""
    chosen = {"exchange": '=~"$exchange"'} if "exchange" in metric.attributes else {}
    chosen |= {label: f'="{value}"' for label, value in labels.items()}
    matchers = ",".join(f"{label}{matcher}" for label, matcher in chosen.items())
    return f"{metric.prometheus_name}{suffix}" + (f"{{{matchers}}}" if matchers else "")


def total(metric: Metric, *by: str, **labels: str) -> str:
    """The total of a counter of the records."""
    return f"sum{_by(by)}({name(metric, **labels)})"


def grown(metric: Metric, *by: str, over: str = "$__range", **labels: str) -> str:
    """The increase of a counter over a window, by default the shown one."""
    return f"sum{_by(by)}(increase({name(metric, **labels)}[{over}]))"


def rate(metric: Metric, *by: str, **labels: str) -> str:
    return f"sum{_by(by)}(rate({name(metric, **labels)}[$__rate_interval]))"


def now(metric: Metric, *by: str, **labels: str) -> str:
    """The current value of a gauge, summed."""
    return f"sum{_by(by)}({name(metric, **labels)})"


def slowest(metric: Metric, share: float, *by: str) -> str:
    """The quantile of a histogram, in its unit."""
    groups = ", ".join(("le", *by))
    return f"histogram_quantile({share}, sum by ({groups}) (rate({name(metric, '_bucket')}[$__rate_interval])))"


def completeness(*by: str) -> str:
    """Share of published objects that are in the lake, of the synced periods."""
    return f"{now(m.OBJECTS_PRESENT, *by)} / ({now(m.OBJECTS_EXPECTED, *by)} > 0)"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""


DATASET = ("exchange", "market", "data_type", "cadence")
DATASET_LEGEND = "{{exchange}}/{{market}}/{{data_type}}/{{cadence}}"
TABLE = ("exchange", "market", "data_type")
TABLE_LEGEND = "{{exchange}}/{{market}}/{{data_type}}"

ENGINEERING = DashboardPlan(
    "lakehouse-engineering",
    "Lakehouse: data engineering",
    "What syncs did: transfers, modes, retries, fallbacks.",
    {
        "Totals": (
            Panel(
                "Files copied",
                "stat",
                "short",
                {"": total(m.OBJECTS_COPIED)},
                "Since records began, sidecars included.",
                4,
            ),
            Panel("Bytes copied", "stat", "bytes", {"": total(m.BYTES_COPIED)}, "Since records began.", 4),
            Panel(
                "Failed copies",
                "stat",
                "short",
                {"": total(m.OBJECTS_FAILED)},
                "Archive objects that a sync could not copy, each time it tried.",
                4,
            ),
            Panel(
                "Periods synced",
                "stat",
                "short",
                {"{{state}}": total(m.PERIODS_SYNCED, "state")},
                "Syncs of a period that copied something or failed to.",
                4,
            ),
            Panel(
                "Throughput of syncs",
                "stat",
                "Bps",
                {"": f"{total(m.BYTES_COPIED)} / ({total(m.SYNC_SECONDS)} > 0)"},
                "Bytes per second of sync time, listings and commits included.",
                4,
            ),
            Panel(
                "Files by mode",
                "stat",
                "short",
                {"{{mode}}": total(m.OBJECTS_COPIED, "mode")},
                "direct: server-side. relay: through memory. staged: through a disk.",
                4,
            ),
        ),
        "In the shown window": (
            Panel(
                "Files copied",
                "timeseries",
                "short",
                {DATASET_LEGEND: grown(m.OBJECTS_COPIED, *DATASET, over="$__rate_interval")},
                "By dataset.",
                12,
            ),
            Panel(
                "Bytes copied",
                "timeseries",
                "bytes",
                {DATASET_LEGEND: grown(m.BYTES_COPIED, *DATASET, over="$__rate_interval")},
                "By dataset.",
                12,
            ),
            Panel(
                "Files moved by processes",
                "timeseries",
                "short",
                {"{{mode}} {{outcome}}": rate(m.TRANSFERRED, "mode", "outcome")},
                "Per second, as the movers counted them.",
                8,
            ),
            Panel(
                "Retries",
                "timeseries",
                "short",
                {"retried": rate(m.RETRIES), "throttled": rate(m.THROTTLED)},
                "Files per second: retried after a transient failure, and answered with SlowDown by a store.",
            ),
            Panel(
                "Fallbacks",
                "timeseries",
                "short",
                {"to {{mode}}": rate(m.FALLBACKS, "mode")},
                "Files per second that were handed to another mode, since the first one failed.",
            ),
        ),
        "Time": (
            Panel(
                "Stages of a sync, 95 %",
                "timeseries",
                "s",
                {"{{stage}}": slowest(m.STAGE_SECONDS, 0.95, "stage")},
                "Listing, moving, listing the lake again, committing.",
            ),
            Panel(
                "Batches, 95 %",
                "timeseries",
                "s",
                {"{{mode}}": slowest(m.BATCH_SECONDS, 0.95, "mode")},
                "One batch of one mover.",
            ),
            Panel(
                "Listings",
                "timeseries",
                "short",
                {"requests {{side}}": rate(m.LISTING_REQUESTS, "side"), "keys {{side}}": rate(m.LISTING_KEYS, "side")},
                "Per second, of source and lake.",
            ),
        ),
    },
)

OPERATIONS_ROLE = DashboardPlan(
    "lakehouse-operations",
    "Lakehouse: operations",
    "Whether everything is healthy, and if not, where the problem is.",
    {
        "Now": (
            Panel(
                "Open incidents",
                "stat",
                "short",
                {"{{severity}}": now(m.INCIDENTS_OPEN, "severity")},
                "Incidents that are not resolved.",
                4,
            ),
            Panel(
                "Quarantined objects",
                "stat",
                "short",
                {"": now(m.QUARANTINED)},
                "Objects whose content contradicts their checksum.",
                4,
            ),
            Panel(
                "Incomplete periods",
                "stat",
                "short",
                {"": now(m.PERIODS, state="incomplete")},
                "Synced periods that lack an object.",
                4,
            ),
            Panel(
                "Furthest behind",
                "stat",
                "s",
                {"": f"max({name(m.DISCOVERY_LAG)})"},
                "Time since the end of the newest complete period, for the dataset that is furthest behind.",
                4,
            ),
            Panel(
                "Datasets watched",
                "stat",
                "short",
                {"": f"count({name(m.COMPLETENESS)})"},
                "Datasets of the matrix that the exporter reads.",
                4,
            ),
            Panel(
                "Throttled files",
                "stat",
                "short",
                {"": f"sum({name(m.THROTTLED)}) or vector(0)"},
                "Files that a store answered with SlowDown since vmagent started.",
                4,
            ),
        ),
        "Latency": (
            Panel(
                "Sensor ticks, 95 %",
                "timeseries",
                "s",
                {"{{exchange}}": slowest(m.TICK_SECONDS, 0.95, "exchange")},
                "Dagster ends a tick at 60 s.",
            ),
            Panel(
                "Listings, 95 %",
                "timeseries",
                "s",
                {"{{exchange}} {{side}}": slowest(m.LISTING_SECONDS, 0.95, "exchange", "side")},
                "One listing of a window of keys.",
            ),
            Panel(
                "Tables, 95 %",
                "timeseries",
                "s",
                {TABLE_LEGEND: slowest(m.TABLE_SECONDS, 0.95, *TABLE)},
                "Writing the periods of one commit.",
            ),
        ),
        "Problems": (
            Panel(
                "Failed copies",
                "timeseries",
                "short",
                {DATASET_LEGEND: grown(m.OBJECTS_FAILED, *DATASET, over="$__rate_interval")},
                "By dataset.",
                12,
            ),
            Panel(
                "Behind, by dataset",
                "bars",
                "s",
                {DATASET_LEGEND: f"max by ({', '.join(DATASET)}) ({name(m.DISCOVERY_LAG)})"},
                "Time since the end of the newest complete period.",
                12,
            ),
        ),
    },
)

RESEARCH = DashboardPlan(
    "lakehouse-research",
    "Lakehouse: research",
    "Which data exists, how fresh it is, and how far it can be trusted.",
    {
        "What the lake has": (
            Panel("Objects", "stat", "short", {"": now(m.OBJECTS_PRESENT)}, "Archive objects in the lake.", 6),
            Panel("Bytes", "stat", "bytes", {"": now(m.BYTES_PRESENT)}, "Bytes of these objects.", 6),
            Panel(
                "Completeness",
                "stat",
                "percentunit",
                {"": completeness()},
                "Share of published objects that are in the lake, of the synced periods.",
                6,
            ),
            Panel(
                "Complete periods",
                "stat",
                "short",
                {"": now(m.PERIODS, state="complete")},
                "Days and months without a missing object.",
                6,
            ),
        ),
        "By dataset": (
            Panel(
                "Completeness",
                "table",
                "percentunit",
                {DATASET_LEGEND: completeness(*DATASET)},
                "1: everything that the exchange published.",
                12,
            ),
            Panel(
                "Freshness",
                "table",
                "s",
                {DATASET_LEGEND: f"max by ({', '.join(DATASET)}) ({name(m.DISCOVERY_LAG)})"},
                "Time since the end of the newest complete period.",
                12,
            ),
            Panel(
                "Integrity",
                "bars",
                "short",
                {"{{exchange}} {{state}}": now(m.INTEGRITY, "exchange", "state")},
                "Objects by integrity state.",
                12,
            ),
            Panel(
                "Missing objects",
                "bars",
                "short",
                {DATASET_LEGEND: f"{now(m.OBJECTS_EXPECTED, *DATASET)} - {now(m.OBJECTS_PRESENT, *DATASET)}"},
                "Published, but not in the lake.",
                12,
            ),
        ),
        "Tables": (
            Panel(
                "Rows",
                "table",
                "short",
                {TABLE_LEGEND: now(m.TABLE_ROWS, *TABLE)},
                "Rows of each table.",
                12,
            ),
            Panel(
                "Bytes",
                "table",
                "bytes",
                {TABLE_LEGEND: now(m.TABLE_BYTES, *TABLE)},
                "Bytes of each table's current files.",
                12,
            ),
            Panel(
                "Missing rows",
                "bars",
                "short",
                {TABLE_LEGEND: now(m.TABLE_ROWS_MISSING, *TABLE)},
                "Rows that were due but are in no archive, except during known outages.",
                12,
            ),
            Panel(
                "Unusual numbers",
                "bars",
                "short",
                {"{{exchange}}/{{market}}/{{data_type}} {{quantity}}": now(m.UNUSUAL, *TABLE, "quantity")},
                "Periods among the newest seven that are unusual compared with the dataset's own past.",
                12,
            ),
            Panel(
                "Quality",
                "bars",
                "short",
                {"{{exchange}} {{level}}": now(m.TABLE_QUALITY, "exchange", "level")},
                "Periods of a symbol and interval, by result of the quality checks.",
                12,
            ),
        ),
    },
)

MANAGEMENT = DashboardPlan(
    "lakehouse-management",
    "Lakehouse: management",
    "Volume, service level, and what mirroring server-side avoided.",
    {
        "Volume": (
            Panel("Bytes in the lake", "stat", "bytes", {"": now(m.BYTES_PRESENT)}, "Archive objects.", 6),
            Panel("Growth in the shown window", "stat", "bytes", {"": grown(m.BYTES_COPIED)}, "Bytes copied.", 6),
            Panel("Objects in the lake", "stat", "short", {"": now(m.OBJECTS_PRESENT)}, "Archive objects.", 6),
            Panel(
                "Exchanges",
                "stat",
                "short",
                {"": f"count(count by (exchange) ({name(m.COMPLETENESS)}))"},
                "Exchanges of the matrix.",
                6,
            ),
        ),
        "Service level": (
            Panel(
                "Completeness now",
                "stat",
                "percentunit",
                {"": completeness()},
                "Share of published objects that are in the lake.",
                8,
            ),
            Panel(
                "Completeness, 30 days",
                "stat",
                "percentunit",
                {"": f"avg(avg_over_time({name(m.COMPLETENESS)}[30d]))"},
                "Mean over time and datasets.",
            ),
            Panel(
                "Completeness, 90 days",
                "stat",
                "percentunit",
                {"": f"avg(avg_over_time({name(m.COMPLETENESS)}[90d]))"},
                "Mean over time and datasets.",
            ),
        ),
        "Efficiency": (
            Panel(
                "Operations avoided",
                "stat",
                "short",
                {"": total(m.OPERATIONS_SAVED)},
                "Compared with list, get, write, read, put of each file.",
                6,
            ),
            Panel(
                "Network bytes avoided",
                "stat",
                "bytes",
                {"": total(m.NETWORK_BYTES_SAVED)},
                "Bytes that did not pass through our network, compared with each file twice.",
                6,
            ),
            Panel(
                "Cost avoided",
                "stat",
                "currencyUSD",
                {
                    "": f"{total(m.OPERATIONS_SAVED)} * {DOLLARS_PER_OPERATION:.9f}"
                    f" + {total(m.NETWORK_BYTES_SAVED)} * {DOLLARS_PER_BYTE:.15f}"
                },
                "Operations at 0.005 $ per 1,000 and network bytes at 0.09 $ per GB: list prices, "
                "an upper bound where requests or traffic are free.",
                6,
            ),
            Panel(
                "Bytes written to a local disk",
                "stat",
                "bytes",
                {"": total(m.LOCAL_BYTES)},
                "0 unless a copy was staged.",
                6,
            ),
        ),
    },
)

DASHBOARDS = (ENGINEERING, OPERATIONS_ROLE, RESEARCH, MANAGEMENT)
