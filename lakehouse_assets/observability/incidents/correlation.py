"""Correlation: which incident a signal belongs to. The functions change the incident state that they are given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lakehouse_assets.observability.incidents.causes import LAKE, RULES, Cause
from lakehouse_assets.observability.incidents.model import (
    EVERY_OTHER,
    Incident,
    IncidentState,
    Member,
    Phase,
    Signal,
    rank,
)

REOPEN = timedelta(hours=1)

LOOKBACK = timedelta(minutes=30)
"""A cause may show up this much later than its first consequence."""

MAX_MEMBERS = 1_000
"""Signals that an incident keeps in full; of periods beyond, it keeps one bit each."""

_NEVER = datetime.min.replace(tzinfo=UTC)


def raise_signal(state: IncidentState, signal: Signal) -> None:
    """Add a firing signal to the incident that it belongs to, unless it was cleared later."""
    if signal.at < state.cleared.get(signal.key, _NEVER):
        return
    holder = state.holder(signal.key)
    if holder is None:
        _join(state, signal, Member(signal=signal, first=signal.at))
    elif signal.key in holder.members:
        _raise_member(state, holder, signal)
    else:
        _raise_folded(state, holder, signal)


def clear_signal(state: IncidentState, key: str, at: datetime) -> None:
    """Clear the signal with this key, as of ``at``."""
    if at > state.cleared.get(key, _NEVER):
        state.cleared[key] = at
    holder = state.holder(key)
    if holder is None:
        return
    stem, _, period = key.rpartition("|")
    if key not in holder.members:
        # Only the time of the first of the folded periods is kept, not when this one was raised last.
        if holder.folded[stem].first < at:
            holder.folded[stem].clear(period)
        return
    member = holder.members[key]
    if member.signal.at < at:
        member.cleared = max(member.cleared or at, at)
    rest = holder.members.get(f"{stem}|{EVERY_OTHER}")
    if rest is not None and not any(
        other.is_firing
        for name, other in holder.members.items()
        if name.rpartition("|")[0] == stem and other is not rest
    ):
        rest.cleared = at


def _raise_member(state: IncidentState, holder: Incident, signal: Signal) -> None:
    """Raise a signal again that an incident already holds. It moves to another incident if its new cause requires."""
    member = holder.members[signal.key]
    member.first = min(member.first, signal.at)
    holder.opened = min(holder.opened, signal.at)
    if _weight(signal) <= _weight(member.signal):
        return
    member.times += 1
    member.cleared, holder.quiet = None, None
    stays = signal.cause is member.signal.cause or _explains(holder, signal.cause)
    member.signal = signal
    if stays:
        return
    del holder.members[signal.key]
    is_empty = not holder.members and not holder.firing_count
    target = _join(state, signal, member)
    if is_empty:
        _merge_into(holder, target)


def _raise_folded(state: IncidentState, holder: Incident, signal: Signal) -> None:
    """Raise a folded period again."""
    folded = holder.folded[signal.stem]
    holder.quiet = None
    if signal.at > folded.at and signal.cause is not folded.cause and not _explains(holder, signal.cause):
        folded.remove(signal.period or "")
        _join(state, signal, Member(signal=signal, first=folded.first))
        return
    holder.fold(signal, min(folded.first, signal.at))


def _explains(incident: Incident, cause: Cause) -> bool:
    return cause is incident.cause or cause in incident.rule.explains


def _weight(signal: Signal) -> tuple[datetime, int]:
    """Of two signals with one key, the later counts; at the same moment, the one with the better cause."""
    return signal.at, -rank(signal.cause)


def _join(state: IncidentState, signal: Signal, member: Member) -> Incident:
    incident = _explaining(state, signal) or _reopened(state, signal) or _new(state, signal)
    folded = incident.folded.get(signal.stem)
    was_folded = folded is not None and folded.contains(signal.period or "", cleared=True)
    incident.counted += signal.key not in incident.members and not was_folded
    # Signals without a period are never folded: there is one per check or sensor.
    if was_folded or (len(incident.members) >= MAX_MEMBERS and signal.period is not None):
        incident.fold(signal, member.first)
    else:
        incident.members[signal.key] = member
    incident.opened = min(incident.opened, member.first)
    incident.quiet = None
    if signal.cause is incident.cause:
        _absorb(state, incident)
    return incident


def _explaining(state: IncidentState, signal: Signal) -> Incident | None:
    """The live incident that explains a signal best, or the one with the signal's own cause."""
    for incident in state.live():
        if incident.scope not in {signal.scope, LAKE}:
            continue
        if incident.cause is signal.cause:
            return incident
        if signal.cause in incident.rule.explains and _was_active(incident, signal.at):
            return incident
    return None


def _was_active(incident: Incident, at: datetime) -> bool:
    """Whether a signal of the incident's own cause, not only of a consequence, was firing within LOOKBACK of ``at``."""
    return any(
        member.first - LOOKBACK <= at and (member.cleared is None or at <= member.cleared + LOOKBACK)
        for member in incident.members.values()
        if member.signal.cause is incident.cause
    ) or any(
        folded.first - LOOKBACK <= at and (len(folded) > 0 or at <= folded.at + LOOKBACK)
        for folded in incident.folded.values()
        if folded.cause is incident.cause
    )


def _reopened(state: IncidentState, signal: Signal) -> Incident | None:
    """The incident of this cause that was resolved within REOPEN before the signal, opened again."""
    for incident in state.incidents.values():
        if (
            incident.phase is Phase.RESOLVED
            and incident.told is not None
            and (incident.scope, incident.cause) == (signal.scope, signal.cause)
            and incident.closed is not None
            and incident.closed <= signal.at <= incident.closed + REOPEN
        ):
            incident.phase, incident.closed, incident.quiet = Phase.OPEN, None, None
            incident.resolved, incident.acknowledged = None, None
            incident.members, incident.folded = {}, {}
            incident.reopened += 1
            return incident
    return None


def _new(state: IncidentState, signal: Signal) -> Incident:
    """A new incident. Its id derives from scope, cause and day, so that two writers give it the same id."""
    stem = f"{signal.scope}-{signal.cause}-{signal.at:%Y%m%d}".replace("_", "-").replace("/", "-")
    number = 1
    while f"{stem}-{number}" in state.incidents:
        number += 1
    incident = Incident(
        id=f"{stem}-{number}",
        cause=signal.cause,
        scope=signal.scope,
        severity=RULES[signal.cause].severity,
        opened=signal.at,
    )
    state.incidents[incident.id] = incident
    return incident


def _absorb(state: IncidentState, incident: Incident) -> None:
    """Merge the live incidents that this one explains and that opened while its own cause was active."""
    for other in state.live():
        if (
            other.cause in incident.rule.explains
            and incident.scope in {other.scope, LAKE}
            and _was_active(incident, other.opened)
        ):
            _merge_into(other, incident)


def _merge_into(other: Incident, incident: Incident) -> None:
    for key, member in other.members.items():
        if key not in incident.members:
            incident.counted += 1
        incident.members.setdefault(key, member)
    for stem, folded in other.folded.items():
        incident.counted += len(folded)
        incident.folded[stem] = folded.merged_with(incident.folded.get(stem))
    other.members, other.folded = {}, {}
    incident.opened = min(incident.opened, other.opened)
    if other.told is not None and incident.told is None:
        # People were already notified about it, under the other cause.
        incident.told, incident.phase = other.told, Phase.OPEN
    other.phase, other.into = Phase.MERGED, incident.id
