"""The incident state: signals, incidents and undelivered messages, as one JSON document.

Times are UTC. lifecycle.py, correlation.py and merging.py change it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from lakehouse_assets.clock import AtMostAhead, SavedTime
from lakehouse_assets.errors import InputError
from lakehouse_assets.observability.incidents.causes import LAKE, RULES, Cause, Rule, Severity
from lakehouse_assets.observability.incidents.period_bits import FoldedPeriods

EVERY_OTHER = "*"
"""Period of a member that stands for all other periods of its subject. Only states of older versions have such."""

LONGEST_PAUSE = timedelta(hours=1)
"""Between two attempts to deliver a message."""


class Phase(StrEnum):
    """Phase of an incident; see the diagram in lifecycle.py."""

    PENDING = "pending"
    OPEN = "open"
    RESOLVED = "resolved"
    MERGED = "merged"

    @property
    def is_live(self) -> bool:
        return self in {Phase.PENDING, Phase.OPEN}


class Signal(BaseModel):
    """A problem (``firing``) or its recovery, as of ``at`` (UTC).

    ``source`` is the detector (``sync``, ``checksums``, ``published``, ``expected``, ``discovery``); a source clears
    its own signals, whatever their cause. ``subject`` is an asset, such as ``binance/um/klines/daily``; ``text`` is
    one line for people.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    cause: Cause
    exchange: str
    subject: str
    period: str | None = None
    at: SavedTime
    firing: bool = True
    text: str = ""
    run_id: str | None = None

    @property
    def key(self) -> str:
        return f"{self.stem}|{self.period or ''}"

    @property
    def stem(self) -> str:
        """Common part of the keys of one source and subject."""
        return f"{self.source}|{self.subject}"

    @property
    def scope(self) -> str:
        return LAKE if RULES[self.cause].everywhere else self.exchange


class Member(BaseModel):
    """A signal in an incident: its latest form, when it was first raised, and when it was cleared."""

    signal: Signal
    first: SavedTime
    times: int = 1
    cleared: SavedTime | None = None

    @property
    def is_firing(self) -> bool:
        return self.cleared is None


class LastNotification(BaseModel):
    """The last notification about an incident."""

    phase: Phase
    severity: Severity
    at: SavedTime


class Note(BaseModel):
    """Who changed an incident, when (UTC), and why."""

    who: str
    at: SavedTime
    text: str = ""


class Incident(BaseModel):
    """One incident. ``scope`` is an exchange or ``lake``. Times are UTC.

    ``opened`` is when its first signal was raised, ``quiet`` since when no signal is firing. ``members`` are signals
    by key; ``folded`` are the periods beyond MAX_MEMBERS, by the stem of their keys. ``counted`` counts all signals
    that were ever in it; a closed incident keeps only a few members. ``told`` is the last notification.
    """

    id: str
    cause: Cause
    scope: str
    severity: Severity
    phase: Phase = Phase.PENDING
    opened: SavedTime
    quiet: SavedTime | None = None
    closed: SavedTime | None = None
    escalated: SavedTime | None = None
    reopened: int = 0
    acknowledged: Note | None = None
    resolved: Note | None = None
    into: str | None = None
    told: LastNotification | None = None
    counted: int = 0
    members: dict[str, Member] = {}
    folded: dict[str, FoldedPeriods] = {}

    @property
    def rule(self) -> Rule:
        return RULES[self.cause]

    @property
    def firing(self) -> list[Member]:
        """Members that are firing."""
        return [member for member in self.members.values() if member.is_firing]

    @property
    def firing_count(self) -> int:
        """Number of firing signals, including folded ones."""
        return len(self.firing) + sum(len(folded) for folded in self.folded.values())

    def fold(self, signal: Signal, first: datetime) -> None:
        """Keep only a signal's period, and the text of the latest signal of its stem."""
        period = signal.period or ""
        periods = FoldedPeriods(
            **{name: getattr(signal, name) for name in ("exchange", "cause", "text", "run_id", "at")}, first=first
        )
        periods.put(period)
        self.folded[signal.stem] = periods.merged_with(self.folded.get(signal.stem))

    def close(self, note: Note) -> None:
        self.phase, self.closed, self.resolved = Phase.RESOLVED, note.at, note

    def replay(self) -> Iterator[Signal]:
        """Signals that recreate the incident's members and folded periods."""
        for member in self.members.values():
            yield member.signal
            if member.cleared is not None:
                yield member.signal.model_copy(update={"firing": False, "at": member.cleared})
        for stem, folded in self.folded.items():
            source, _, subject = stem.partition("|")
            fields = folded.model_dump(include={"exchange", "cause", "text", "run_id"})
            for period in folded.periods():
                yield Signal(source=source, subject=subject, period=period, at=folded.first, **fields)
            for period in folded.periods(cleared=True):
                yield Signal(source=source, subject=subject, period=period, at=folded.at, firing=False, **fields)

    def has_folded(self, key: str) -> bool:
        """Whether the key belongs to a folded period that is firing."""
        stem, _, period = key.rpartition("|")
        return stem in self.folded and self.folded[stem].contains(period)

    @property
    def title(self) -> str:
        """One line: the scope and the cause."""
        return f"{self.scope}: {self.rule.title}"

    @property
    def state(self) -> str:
        """The phase, or ``acknowledged`` for an open incident that is acknowledged."""
        return "acknowledged" if self.phase is Phase.OPEN and self.acknowledged else self.phase.value

    def summary(self, limit: int = 5) -> str:
        """The affected assets and periods, in a few lines."""
        members = self.firing or list(self.members.values())
        folded = {stem for stem, periods in self.folded.items() if len(periods)}
        subjects = {member.signal.subject for member in members} | {stem.partition("|")[2] for stem in folded}
        count = self.firing_count or len(members)
        lines = [f"{count:,} signals of {len(subjects)} assets since {self.opened:%Y-%m-%d %H:%M} UTC."]
        for member in most_relevant_first(members)[:limit]:
            signal = member.signal
            lines.append(f"{signal.subject}{f' {signal.period}' if signal.period else ''}: {signal.text}")
        if count > limit:
            lines.append(f"and {count - min(limit, len(members)):,} more")
        return "\n".join(lines)


class DeadLetter(BaseModel):
    """A message that a channel did not accept. ``again`` is the time of the next attempt, None after the last.

    ``channel`` names the route and number, never the address.
    """

    channel: str
    incident: str
    title: str
    body: str
    severity: Severity
    first: SavedTime
    attempts: int = 1
    again: Annotated[datetime | None, AfterValidator(AtMostAhead(LONGEST_PAUSE))]
    reason: str


class IncidentState(BaseModel):
    """All incidents, and when signals were last cleared. One document in the lake.

    Its times come from the clocks of the machines that wrote it; reading it with a `Clock` moves future times to now.
    """

    incidents: dict[str, Incident] = {}
    cleared: dict[str, SavedTime] = {}
    dead_letters: list[DeadLetter] = []

    def live(self) -> list[Incident]:
        """Pending and open incidents, best cause first."""
        return sorted(
            (incident for incident in self.incidents.values() if incident.phase.is_live),
            key=lambda incident: (rank(incident.cause), incident.scope),
        )

    def holder(self, key: str) -> Incident | None:
        """The live incident that holds the signal with this key."""
        return next((incident for incident in self.live() if key in incident.members or incident.has_folded(key)), None)

    def get(self, id_: str) -> Incident:
        """Raises InputError for an unknown id."""
        if id_ not in self.incidents:
            raise InputError(f"There is no incident {id_!r}. See: lakehouse incidents list --all")
        return self.incidents[id_]


def most_relevant_first(members: Iterable[Member]) -> list[Member]:
    """Members with the best cause first, then the oldest."""
    return sorted(members, key=lambda member: (rank(member.signal.cause), member.first, member.signal.key))


def rank(cause: Cause) -> int:
    """Position in the rule table; the best explanation has rank 0."""
    return list(RULES).index(cause)
