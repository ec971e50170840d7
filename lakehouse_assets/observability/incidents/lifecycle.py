"""Incidents: signals that share a cause, from the first one to the resolution. A pure state machine.

    pending -> open -> resolved, and from any but resolved: merged (into one of a better cause)

A signal says of one subject and period that something is wrong, or that it is right again. It joins
the open incident whose cause explains it best (causes.py), or opens one of its own. At any time
there is at most one open incident per scope and cause, and every signal that was not cleared is
in exactly one; in whatever order signals arrive, and however often.

Hysteresis: nobody is told during the cause's ``hold``; an incident is resolved when all its signals
have been clear for ``settle``, and the same one is opened again where they return within ``reopen``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel

from lakehouse_assets.errors import InputError
from lakehouse_assets.observability.incidents.causes import LAKE, RULES, Cause, Severity
from lakehouse_assets.observability.incidents.model import (
    EVERY_OTHER,
    Incident,
    IncidentState,
    Member,
    Note,
    Phase,
    Signal,
    Told,
    rank,
)

SETTLE = timedelta(minutes=5)
REOPEN = timedelta(hours=1)

LOOKBACK = timedelta(minutes=30)
"""A cause may show itself so much later than its first consequence."""

ESCALATE = {
    Severity.WARNING: timedelta(hours=24),
    Severity.ERROR: timedelta(hours=4),
    Severity.CRITICAL: timedelta(hours=1),
}
"""An incident that nobody acknowledged is raised after so long."""

MAX_MEMBERS = 1_000
MAX_CLOSED = 200
MAX_CLEARED = 5_000
"""Bounds of the book, which is one document: about 400 kB at worst per open incident, and 20 bytes per month and
subject of the periods beyond."""


class Kind(StrEnum):
    """What a notice tells."""

    OPENED = "opened"
    WORSENED = "worsened"
    REOPENED = "opened again"
    RESOLVED = "resolved"


class Notice(BaseModel):
    """Something to tell people of an incident, as it stands."""

    kind: Kind
    incident: Incident


def observe(book: IncidentState, signals: Iterable[Signal], now: datetime) -> IncidentState:
    """The book after some signals and after the time that has passed. ``book`` stays as it is."""
    after = book.model_copy(deep=True)
    for signal in sorted(signals, key=lambda signal: (signal.at, signal.key, signal.firing)):
        if signal.firing:
            _raise(after, signal)
        else:
            _clear(after, signal.key, signal.at)
    for incident in after.incidents.values():
        if incident.phase.is_live:
            _advance(incident, now)
        elif incident.closed is None:
            incident.closed = now
    _trim(after)
    return after


def notices(book: IncidentState) -> list[Notice]:
    """What people are to be told now, worst first."""
    due = [
        Notice(kind=kind, incident=incident)
        for incident in book.incidents.values()
        if (kind := _untold(incident)) is not None
    ]
    return sorted(due, key=lambda notice: (-notice.incident.severity.rank, notice.incident.opened))


def mark_notified(book: IncidentState, told: Iterable[Notice], now: datetime) -> IncidentState:
    """The book after people were told."""
    after = book.model_copy(deep=True)
    for notice in told:
        incident = after.incidents.get(notice.incident.id)
        if incident is not None:
            incident.told = Told(phase=notice.incident.phase, severity=notice.incident.severity, at=now)
    return after


def acknowledge(book: IncidentState, id_: str, note: Note) -> IncidentState:
    """Somebody looks after it: it is no longer raised by time. Raises InputError."""
    after = book.model_copy(deep=True)
    _live_one(after, id_).acknowledged = note
    return after


def resolve(book: IncidentState, id_: str, note: Note) -> IncidentState:
    """Close by hand: what fired up to ``note.at`` is done with; what fires later counts anew. Raises InputError."""
    after = book.model_copy(deep=True)
    incident = _live_one(after, id_)
    for key, member in incident.members.items():
        if member.is_firing:
            _clear(after, key, max(note.at, member.signal.at + timedelta(microseconds=1)))
    for folded in incident.folded.values():
        folded.clear_all()
    _close(incident, note)
    return after


def merge(ours: IncidentState, theirs: IncidentState, now: datetime) -> IncidentState:
    """One book of two that went separate ways, such as the lake's and the one kept while it was away.

    Signals are observed again, so that the rules of :func:`observe` hold; of what people said
    and were told, the later one counts.
    """
    after = ours.model_copy(deep=True)
    for other in theirs.incidents.values():
        if not other.phase.is_live:
            _take_closed(after, other)
    for key, at in theirs.cleared.items():
        _clear(after, key, at)
    after = observe(after, [signal for incident in theirs.live() for signal in incident.retold()], now)
    for other in theirs.incidents.values():
        if other.id in after.incidents:
            _take_over(after.incidents[other.id], other)
    letters = [*ours.dead_letters, *theirs.dead_letters]
    after.dead_letters = list({(letter.channel, letter.incident, letter.first): letter for letter in letters}.values())
    return after


def _take_closed(book: IncidentState, other: Incident) -> None:
    known = book.incidents.get(other.id)
    if known is None:
        book.incidents[other.id] = other.model_copy(deep=True)
    elif known.phase.is_live and other.resolved is not None and other.resolved.who and other.closed is not None:
        # By a person. One that time resolved says nothing of signals that it did not have.
        for key, member in known.members.items():
            if member.signal.at < other.closed:
                _clear(book, key, other.closed)
        for folded in known.folded.values():
            if folded.at < other.closed:
                folded.clear_all()
        if not known.firing_count:
            _close(known, other.resolved)


def _take_over(known: Incident, other: Incident) -> None:
    """What people said and were told of one incident in two books."""
    known.told = max((told for told in (known.told, other.told) if told), key=lambda told: told.at, default=None)
    known.acknowledged = known.acknowledged or other.acknowledged
    known.escalated = known.escalated or other.escalated
    known.severity = max(known.severity, other.severity, key=lambda severity: severity.rank)


# Signals


def _raise(book: IncidentState, signal: Signal) -> None:
    if signal.at < book.cleared.get(signal.key, datetime.min.replace(tzinfo=UTC)):
        return
    holder = book.holder(signal.key)
    if holder is not None and signal.key not in holder.members:
        _raise_folded(book, holder, signal)
        return
    if holder is not None:
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
        if not holder.members and not holder.firing_count:
            _merge_into(holder, _join(book, signal, member))
        else:
            _join(book, signal, member)
        return
    _join(book, signal, Member(signal=signal, first=signal.at))


def _raise_folded(book: IncidentState, holder: Incident, signal: Signal) -> None:
    """A folded period was raised again."""
    folded = holder.folded[signal.stem]
    holder.quiet = None
    if signal.at > folded.at and signal.cause is not folded.cause and not _explains(holder, signal.cause):
        folded.forget(signal.period or "")
        _join(book, signal, Member(signal=signal, first=folded.first))
        return
    holder.fold(signal, min(folded.first, signal.at))


def _explains(incident: Incident, cause: Cause) -> bool:
    return cause is incident.cause or cause in incident.rule.explains


def _weight(signal: Signal) -> tuple[datetime, int]:
    """Of one key, the later signal counts; of the same moment, the one that explains more."""
    return signal.at, -rank(signal.cause)


def _join(book: IncidentState, signal: Signal, member: Member) -> Incident:
    incident = _best(book, signal) or _again(book, signal) or _new(book, signal)
    folded = incident.folded.get(signal.stem)
    was_folded = folded is not None and folded.holds(signal.period or "", cleared=True)
    incident.counted += signal.key not in incident.members and not was_folded
    # What has no period is one per check or sensor.
    if was_folded or (len(incident.members) >= MAX_MEMBERS and signal.period is not None):
        incident.fold(signal, member.first)
    else:
        incident.members[signal.key] = member
    incident.opened = min(incident.opened, member.first)
    incident.quiet = None
    if signal.cause is incident.cause:
        _absorb(book, incident)
    return incident


def _best(book: IncidentState, signal: Signal) -> Incident | None:
    """The live incident that explains a signal best, or the one of its own cause."""
    for incident in book.live():
        if incident.scope not in {signal.scope, LAKE}:
            continue
        if incident.cause is signal.cause:
            return incident
        if signal.cause in incident.rule.explains and _is_going_on(incident, signal.at):
            return incident
    return None


def _is_going_on(incident: Incident, at: datetime) -> bool:
    """Whether the incident's own cause, and not only its consequences, was there about then."""
    return any(
        member.first - LOOKBACK <= at and (member.cleared is None or at <= member.cleared + LOOKBACK)
        for member in incident.members.values()
        if member.signal.cause is incident.cause
    ) or any(
        folded.first - LOOKBACK <= at and (len(folded) > 0 or at <= folded.at + LOOKBACK)
        for folded in incident.folded.values()
        if folded.cause is incident.cause
    )


def _again(book: IncidentState, signal: Signal) -> Incident | None:
    """The incident of this cause that was resolved a short while ago, opened again."""
    for incident in book.incidents.values():
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


def _new(book: IncidentState, signal: Signal) -> Incident:
    """Ids follow from scope, cause and day, so that two writers give one incident one id."""
    stem = f"{signal.scope}-{signal.cause}-{signal.at:%Y%m%d}".replace("_", "-").replace("/", "-")
    number = 1
    while f"{stem}-{number}" in book.incidents:
        number += 1
    incident = Incident(
        id=f"{stem}-{number}",
        cause=signal.cause,
        scope=signal.scope,
        severity=RULES[signal.cause].severity,
        opened=signal.at,
    )
    book.incidents[incident.id] = incident
    return incident


def _absorb(book: IncidentState, incident: Incident) -> None:
    """Take over the live incidents that this one explains and that began about when it did, or later."""
    for other in book.live():
        if (
            other.cause in incident.rule.explains
            and incident.scope in {other.scope, LAKE}
            and _is_going_on(incident, other.opened)
        ):
            _merge_into(other, incident)


def _merge_into(other: Incident, incident: Incident) -> None:
    for key, member in other.members.items():
        if key not in incident.members:
            incident.counted += 1
        incident.members.setdefault(key, member)
    for stem, folded in other.folded.items():
        incident.counted += len(folded)
        incident.folded[stem] = folded.joined_with(incident.folded.get(stem))
    other.members, other.folded = {}, {}
    incident.opened = min(incident.opened, other.opened)
    if other.told is not None and incident.told is None:
        # People know of it, by its lesser name.
        incident.told, incident.phase = other.told, Phase.OPEN
    other.phase, other.into = Phase.MERGED, incident.id


def _clear(book: IncidentState, key: str, at: datetime) -> None:
    if at > book.cleared.get(key, datetime.min.replace(tzinfo=UTC)):
        book.cleared[key] = at
    holder = book.holder(key)
    if holder is None:
        return
    stem, _, period = key.rpartition("|")
    if key not in holder.members:
        # When this period was raised last is not kept; it was after the first of them.
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


# Time


def _advance(incident: Incident, now: datetime) -> None:
    if not incident.firing_count:
        incident.quiet = incident.quiet or now
        if incident.phase is Phase.PENDING or now - incident.quiet >= SETTLE:
            _close(incident, Note(who="", at=now, text="all signals are clear"))
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


def _untold(incident: Incident) -> Kind | None:
    told = incident.told
    if incident.phase is Phase.OPEN:
        if told is None:
            return Kind.OPENED
        if told.phase is Phase.RESOLVED:
            return Kind.REOPENED
        escalated = incident.escalated is not None and told.at < incident.escalated
        return Kind.WORSENED if escalated or incident.severity.rank > told.severity.rank else None
    if incident.phase is Phase.RESOLVED and told is not None and told.phase is not Phase.RESOLVED:
        return Kind.RESOLVED
    return None


def _close(incident: Incident, note: Note) -> None:
    incident.phase, incident.closed, incident.resolved = Phase.RESOLVED, note.at, note


def _live_one(book: IncidentState, id_: str) -> Incident:
    incident = book.get(id_)
    if incident.into is not None:
        raise InputError(f"Incident {id_} became part of {incident.into}; name that one.")
    if not incident.phase.is_live:
        raise InputError(f"Incident {id_} is resolved already, since {incident.closed:%Y-%m-%d %H:%M} UTC.")
    return incident


def _trim(book: IncidentState) -> None:
    closed = sorted(
        (incident for incident in book.incidents.values() if not incident.phase.is_live),
        key=lambda incident: incident.closed or incident.opened,
    )
    for incident in closed[:-MAX_CLOSED]:
        if _untold(incident) is None:
            del book.incidents[incident.id]
    for incident in closed:
        if _untold(incident) is None:
            incident.members, incident.folded = dict(list(incident.members.items())[:20]), {}
    for key in sorted(book.cleared, key=lambda key: book.cleared[key])[:-MAX_CLEARED]:
        del book.cleared[key]
