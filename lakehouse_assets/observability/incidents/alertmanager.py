"""Incidents as alerts of Alertmanager's v2 API. Alertmanager then does grouping, silences and repetition."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import SecretStr

from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.observability.incidents.causes import Severity
from lakehouse_assets.observability.incidents.messages import Links
from lakehouse_assets.observability.incidents.model import Incident, IncidentState, Phase

ALIVE = timedelta(minutes=10)
"""Alertmanager treats an alert as resolved after this time without an update."""

CLOSED_SENT = timedelta(minutes=15)
"""Time for which a closed incident is still sent, in case Alertmanager was unavailable when it closed."""


class DeliveryError(LakehouseError):
    """A channel did not accept a message. The text never contains an address."""


class Alertmanager:
    """Alertmanager's v2 API. Every open incident is an alert, sent again at every tick, as the API requires."""

    def __init__(self, url: SecretStr, *, token: SecretStr | None = None, timeout: float = 10.0) -> None:
        self._url = url
        self._token = token
        self._timeout = timeout

    def post(self, alerts: Sequence[dict[str, Any]]) -> None:
        """Raises DeliveryError."""
        if not alerts:
            return
        import requests  # noqa: PLC0415 - takes a second, and most ticks send nothing

        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"} if self._token else {}
        address = f"{self._url.get_secret_value().rstrip('/')}/api/v2/alerts"
        try:
            answer = requests.post(address, json=list(alerts), headers=headers, timeout=self._timeout)
        except requests.RequestException as error:
            raise DeliveryError(f"Alertmanager cannot be reached ({type(error).__name__}).") from None
        if not answer.ok:
            raise DeliveryError(f"Alertmanager answered {answer.status_code}: {' '.join(answer.text.split())[:200]}.")


def alerts_of(state: IncidentState, links: Links, now: datetime) -> list[dict[str, Any]]:
    """The incidents as Alertmanager's alerts. Labels identify an alert; annotations may change.

    Severity is a label, so an incident that becomes worse is a new alert, and the former alert is ended.
    """
    alerts = []
    for incident in state.incidents.values():
        if incident.phase is Phase.PENDING or (incident.told is None and not incident.phase.is_live):
            continue
        if not incident.phase.is_live and (incident.closed is None or now - incident.closed > CLOSED_SENT):
            continue
        ends = now + ALIVE if incident.phase.is_live else incident.closed or now
        alerts.append(_alert(incident, links, incident.severity, ends))
        if incident.told is not None and incident.told.severity is not incident.severity:
            alerts.append(_alert(incident, links, incident.told.severity, now))
    return alerts


def _alert(incident: Incident, links: Links, severity: Severity, ends: datetime) -> dict[str, Any]:
    run, partition = links.of(incident)
    acknowledged = incident.acknowledged
    return {
        "labels": {
            "alertname": f"lakehouse_{incident.cause}",
            "exchange": incident.scope,
            "severity": severity.value,
            "role": incident.rule.role.value,
            "cause": incident.cause.value,
        },
        "annotations": {
            "summary": incident.title,
            "description": incident.summary(),
            "incident": incident.id,
            **({"acknowledged_by": acknowledged.who} if acknowledged else {}),
            **({"partition": partition} if partition else {}),
        },
        "startsAt": incident.opened.isoformat(),
        "endsAt": ends.isoformat(),
        **({"generatorURL": run or partition} if run or partition else {}),
    }
