"""The life of an incident, as pure functions over the incident state.

    pending -> open -> resolved, and from pending or open: merged (into an incident of a better cause)

A signal raises or clears a problem of one subject and period. It joins the open incident whose cause explains it
best (causes.py), or opens a new one (correlation.py). There is at most one open incident per scope and cause, and
every signal that is firing is in exactly one incident, in whatever order signals arrive, and however often.

Hysteresis: there is no notification during the cause's ``hold``; an incident is resolved when all its signals have
been clear for SETTLE, and opened again if they return within REOPEN.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel

from lakehouse_assets.errors import InputError
from lakehouse_assets.observability.incidents.causes import Severity
from lakehouse_assets.observability.incidents.correlation import clear_signal, raise_signal
from lakehouse_assets.observability.incidents.model import (
    Incident,
    IncidentState,
    LastNotification,
    Note,
    Phase,
    Signal,
)

SETTLE = timedelta(minutes=5)

ESCALATE = {
    Severity.WARNING: timedelta(hours=24),
    Severity.ERROR: timedelta(hours=4),
    Severity.CRITICAL: timedelta(hours=1),
}
"""Time after which an incident escalates if it has not been acknowledged."""

MAX_CLOSED = 200
MAX_CLOSED_MEMBERS = 20
MAX_CLEARED = 5_000
"""Bounds of the incident state, which is one document: about 400 kB at worst per open incident, and 20 bytes per month
and subject for periods beyond MAX_MEMBERS."""


class NoticeKind(StrEnum):
    """What a notice reports."""

    OPENED = "opened"
    WORSENED = "worsened"
    REOPENED = "opened again"
    RESOLVED = "resolved"


class Notice(BaseModel):
    """A change of an incident about which people are to be notified."""

    kind: NoticeKind
    incident: Incident


def observe(state: IncidentState, signals: Iterable[Signal], now: datetime) -> IncidentState:
    """The state after some signals and the passage of time. Does not change ``state``."""
    after = state.model_copy(deep=True)
    for signal in sorted(signals, key=lambda signal: (signal.at, signal.key, signal.firing)):
        if signal.firing:
            raise_signal(after, signal)
        else:
            clear_signal(after, signal.key, signal.at)
    for incident in after.incidents.values():
        if incident.phase.is_live:
            _advance(incident, now)
        elif incident.closed is None:
            incident.closed = now
    _trim(after)
    return after


def notices(state: IncidentState) -> list[Notice]:
    """The notices that are due, most severe first."""
    due = [
        Notice(kind=kind, incident=incident)
        for incident in state.incidents.values()
        if (kind := _due_kind(incident)) is not None
    ]
    return sorted(due, key=lambda notice: (-notice.incident.severity.rank, notice.incident.opened))


def mark_notified(state: IncidentState, notified: Iterable[Notice], now: datetime) -> IncidentState:
    """The state after people were notified."""
    after = state.model_copy(deep=True)
    for notice in notified:
        incident = after.incidents.get(notice.incident.id)
        if incident is not None:
            incident.told = LastNotification(phase=notice.incident.phase, severity=notice.incident.severity, at=now)
    return after


def acknowledge(state: IncidentState, id_: str, note: Note) -> IncidentState:
    """Acknowledge an incident, so that it does not escalate. Raises InputError."""
    after = state.model_copy(deep=True)
    _live_incident(after, id_).acknowledged = note
    return after


def resolve(state: IncidentState, id_: str, note: Note) -> IncidentState:
    """Resolve an incident by hand: clears its signals up to ``note.at``; later ones count. Raises InputError."""
    after = state.model_copy(deep=True)
    incident = _live_incident(after, id_)
    for key, member in incident.members.items():
        if member.is_firing:
            clear_signal(after, key, max(note.at, member.signal.at + timedelta(microseconds=1)))
    for folded in incident.folded.values():
        folded.clear_all()
    incident.close(note)
    return after


def _live_incident(state: IncidentState, id_: str) -> Incident:
    incident = state.get(id_)
    if incident.into is not None:
        raise InputError(f"Incident {id_} was merged into {incident.into}; use that id.")
    if not incident.phase.is_live:
        raise InputError(f"Incident {id_} was already resolved at {incident.closed:%Y-%m-%d %H:%M} UTC.")
    return incident


def _advance(incident: Incident, now: datetime) -> None:
    """Apply the passage of time to a live incident."""
    if not incident.firing_count:
        incident.quiet = incident.quiet or now
        if incident.phase is Phase.PENDING or now - incident.quiet >= SETTLE:
            incident.close(Note(who="", at=now, text="all signals are clear"))
        return
    incident.quiet = None
    if incident.phase is Phase.PENDING and now - incident.opened >= incident.rule.hold:
        incident.phase = Phase.OPEN
    if (
        incident.phase is Phase.OPEN
        and incident.acknowledged is None
        and incident.escalated is None
        and now - incident.opened >= ESCALATE[incident.severity]
    ):
        incident.escalated, incident.severity = now, incident.severity.next


def _due_kind(incident: Incident) -> NoticeKind | None:
    """The kind of notice that is due for an incident, compared with its last notification."""
    last = incident.told
    if incident.phase is Phase.OPEN:
        if last is None:
            return NoticeKind.OPENED
        if last.phase is Phase.RESOLVED:
            return NoticeKind.REOPENED
        has_escalated = incident.escalated is not None and last.at < incident.escalated
        return NoticeKind.WORSENED if has_escalated or incident.severity.rank > last.severity.rank else None
    if incident.phase is Phase.RESOLVED and last is not None and last.phase is not Phase.RESOLVED:
        return NoticeKind.RESOLVED
    return None


def _trim(state: IncidentState) -> None:
    """Keep the state within its bounds. Incidents with a notice due are kept."""
    closed = sorted(
        (incident for incident in state.incidents.values() if not incident.phase.is_live),
        key=lambda incident: incident.closed or incident.opened,
    )
    for incident in closed[:-MAX_CLOSED]:
        if _due_kind(incident) is None:
            del state.incidents[incident.id]
    for incident in closed:
        if _due_kind(incident) is None:
            incident.members = dict(list(incident.members.items())[:MAX_CLOSED_MEMBERS])
            incident.folded = {}
    for key in sorted(state.cleared, key=lambda key: state.cleared[key])[:-MAX_CLEARED]:
        del state.cleared[key]
