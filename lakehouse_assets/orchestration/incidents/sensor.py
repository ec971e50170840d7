"""The sensor that turns problems into incidents and notifies people, and the asset that shows incidents in the UI."""

import hashlib
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from lakehouse_assets.lake.incident_store import LakeIncidentStore, fallback_file
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.observability.incidents.model import Incident, IncidentState
from lakehouse_assets.observability.incidents.service import Handled, IncidentService
from lakehouse_assets.orchestration.incidents.signals import InstanceScan, ScanCursor
from lakehouse_assets.orchestration.location import location_of_sensor
from lakehouse_assets.orchestration.markdown import code, lines, table
from lakehouse_assets.orchestration.reports.asset import report_asset
from lakehouse_assets.orchestration.resources import LakeResource
from lakehouse_assets.settings import IncidentSettings, read_group

INCIDENTS = dg.AssetKey(["reports", "incidents"])
CLOSED_SHOWN = 50


def build_incident_sensor(
    settings: IncidentSettings | None = None, *, jobs: Collection[str] = ()
) -> dg.SensorDefinition:
    """One sensor for all exchanges. It runs by default: an alarm that must be switched on first is missed.

    ``jobs`` are the names of this project's jobs: failures of others are not its incidents.
    """
    settings = settings or IncidentSettings()

    @dg.sensor(
        name="incidents",
        minimum_interval_seconds=settings.tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Raises incidents from failed runs, failed checks and failing sensors, and notifies people: "
        "one incident per cause and exchange. See the asset reports/incidents, or run `lakehouse incidents`.",
    )
    def incident_sensor(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
        if context.repository_def is None:
            raise dg.DagsterInvariantViolationError("The sensor needs the code location's definitions.")
        target = lake.lake()
        scan = InstanceScan(
            context.instance,
            context.repository_def.asset_graph,
            ScanCursor.read(context.cursor),
            jobs=jobs,
            location=location_of_sensor(context),
            lake=target.label,
        )
        service = IncidentService(_store(context.instance, target), read_group(IncidentSettings).notifier())
        handled = service.handle(scan.signals(), now())
        _log_notifications(context, handled)
        events = _page_if_changed(scan.cursor, handled.state)
        return dg.SensorResult(skip_reason=_reason(handled.state), cursor=scan.cursor.write(), asset_events=events)

    return incident_sensor


def build_incident_report() -> dg.AssetsDefinition:
    """The asset that shows incidents. The sensor updates it when incidents change, and so does materializing it."""

    @report_asset(
        INCIDENTS,
        "Open incidents, the latest resolved ones, and undelivered notifications. "
        "Acknowledge and resolve them with `lakehouse incidents`.",
    )
    def incident_report(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
        state = _store(context.instance, lake.lake()).read(now()).state
        return dg.MaterializeResult(metadata=page_of(state))

    return incident_report


def now() -> datetime:
    """UTC."""
    return datetime.now(UTC)


def page_of(state: IncidentState) -> dict[str, dg.MetadataValue]:
    """The incident state as metadata."""
    live = state.live()
    closed = sorted(
        (incident for incident in state.incidents.values() if not incident.phase.is_live and incident.told),
        key=lambda incident: incident.closed or incident.opened,
        reverse=True,
    )
    undelivered = table(
        ("channel", "incident", "attempts", "reason"),
        [(letter.channel, letter.incident, letter.attempts, letter.reason) for letter in state.dead_letters],
    )
    return {
        "incidents_open": dg.MetadataValue.int(len(live)),
        "messages_undelivered": dg.MetadataValue.int(len(state.dead_letters)),
        "open": dg.MetadataValue.md(_table(live)),
        "resolved": dg.MetadataValue.md(_table(closed[:CLOSED_SHOWN])),
        "undelivered": dg.MetadataValue.md(undelivered),
    }


def _table(incidents: Sequence[Incident]) -> str:
    rows = [
        (
            code(incident.id),
            incident.state,
            incident.severity,
            f"{incident.opened:%Y-%m-%d %H:%M}",
            lines(incident.title, *incident.summary().splitlines()),
        )
        for incident in incidents
    ]
    return table(("incident", "state", "severity", "since", "what"), rows)


def _page_if_changed(cursor: ScanCursor, state: IncidentState) -> list[dg.AssetMaterialization]:
    """Reported only if an incident was opened, closed or changed its state or severity, not for every signal of one."""
    shown = [
        (incident.id, incident.state, incident.severity, incident.firing_count) for incident in state.incidents.values()
    ]
    if not shown and not cursor.page:
        return []
    digest = hashlib.sha256(repr((sorted(shown), len(state.dead_letters))).encode()).hexdigest()[:16]
    if cursor.page == digest:
        return []
    cursor.page = digest
    return [dg.AssetMaterialization(asset_key=INCIDENTS, metadata=page_of(state))]


def _store(instance: dg.DagsterInstance, lake: Lake) -> LakeIncidentStore:
    folder = read_group(IncidentSettings).fallback_dir or Path(instance.storage_directory())
    return LakeIncidentStore(lake, fallback_file(folder, lake))


def _log_notifications(context: dg.SensorEvaluationContext, handled: Handled) -> None:
    for notice in handled.notified:
        context.log.warning("%s (%s): %s", notice.incident.title, notice.kind, notice.incident.summary(1))
    for letter in handled.delivery.failed:
        context.log.error("A notification of %s was not delivered: %s", letter.incident, letter.reason)


def _reason(state: IncidentState) -> str:
    live = state.live()
    if not live:
        return "No incident is open."
    return f"{len(live)} incidents are open: " + "; ".join(
        f"{incident.id} ({incident.severity})" for incident in live[:5]
    )
