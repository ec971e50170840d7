"""Merging two incident states that diverged, such as the lake's and the local copy written while it was unavailable."""

from __future__ import annotations

from datetime import datetime

from lakehouse_assets.observability.incidents.correlation import clear_signal
from lakehouse_assets.observability.incidents.lifecycle import observe
from lakehouse_assets.observability.incidents.model import Incident, IncidentState


def merge(ours: IncidentState, theirs: IncidentState, now: datetime) -> IncidentState:
    """One state from two. Changes neither of them.

    Their signals are observed again, so that the rules of :func:`observe` hold. Notes and notifications of an incident
    are taken from both; the later notification counts.
    """
    after = ours.model_copy(deep=True)
    for other in theirs.incidents.values():
        if not other.phase.is_live:
            _take_closed(after, other)
    for key, at in theirs.cleared.items():
        clear_signal(after, key, at)
    after = observe(after, [signal for incident in theirs.live() for signal in incident.replay()], now)
    for other in theirs.incidents.values():
        if other.id in after.incidents:
            _take_notes(after.incidents[other.id], other)
    letters = [*ours.dead_letters, *theirs.dead_letters]
    after.dead_letters = list({(letter.channel, letter.incident, letter.first): letter for letter in letters}.values())
    return after


def _take_closed(state: IncidentState, other: Incident) -> None:
    """Add a closed incident of the other state, or close it in this state if a person resolved it.

    If time resolved it in the other state, that says nothing about signals which the other state did not have.
    """
    incident = state.incidents.get(other.id)
    if incident is None:
        state.incidents[other.id] = other.model_copy(deep=True)
    elif incident.phase.is_live and other.resolved is not None and other.resolved.who and other.closed is not None:
        for key, member in incident.members.items():
            if member.signal.at < other.closed:
                clear_signal(state, key, other.closed)
        for folded in incident.folded.values():
            if folded.at < other.closed:
                folded.clear_all()
        if not incident.firing_count:
            incident.close(other.resolved)


def _take_notes(incident: Incident, other: Incident) -> None:
    """Add the acknowledgement, escalation and last notification of the same incident in the other state."""
    notifications = [told for told in (incident.told, other.told) if told]
    incident.told = max(notifications, key=lambda told: told.at, default=None)
    incident.acknowledged = incident.acknowledged or other.acknowledged
    incident.escalated = incident.escalated or other.escalated
    incident.severity = max(incident.severity, other.severity, key=lambda severity: severity.rank)
