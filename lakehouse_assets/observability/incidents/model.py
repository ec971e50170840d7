"""The book of incidents: what is remembered of signals, incidents and messages. One JSON document.

Times are UTC. What changes it is in incidents.py.
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
"""Period of a member that stood for a subject's other periods, in books from before they were counted."""

LONGEST_PAUSE = timedelta(hours=1)
"""Between two attempts at a message."""


class Phase(StrEnum):
    """Where an incident is; see the picture in incidents.py."""

    PENDING = "pending"
    OPEN = "open"
    RESOLVED = "resolved"
    MERGED = "merged"

    @property
    def is_live(self) -> bool:
        return self in {Phase.PENDING, Phase.OPEN}


class Signal(BaseModel):
    """Something is wrong (``firing``), or right again, as of ``at`` (UTC).

    ``source`` is what noticed (``sync``, ``checksums``, ``published``, ``expected``, ``discovery``):
    the same source clears what it raised, whatever cause it gave. ``subject`` is an asset, such as
    ``binance/um/klines/daily``; ``text`` is one line for people.
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
        """Of the keys of one source and subject."""
        return f"{self.source}|{self.subject}"

    @property
    def scope(self) -> str:
        return LAKE if RULES[self.cause].everywhere else self.exchange


class Member(BaseModel):
    """A signal within an incident: when it was first and last raised, and when it was cleared."""

    signal: Signal
    first: SavedTime
    times: int = 1
    cleared: SavedTime | None = None

    @property
    def is_firing(self) -> bool:
        return self.cleared is None


class Told(BaseModel):
    """What people were told last of an incident."""

    phase: Phase
    severity: Severity
    at: SavedTime


class Note(BaseModel):
    """Who did something, when (UTC), and why."""

    who: str
    at: SavedTime
    text: str = ""


class Incident(BaseModel):
    """One incident. ``scope`` is an exchange or ``lake``. Times are UTC.

    ``opened`` is when its first signal was raised, ``quiet`` since when none is firing. ``members`` are signals by
    key; ``folded`` are the periods beyond MAX_MEMBERS, by the stem of their keys. ``counted`` counts both, ever; of
    the members a closed incident keeps a few.
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
    told: Told | None = None
    counted: int = 0
    members: dict[str, Member] = {}
    folded: dict[str, FoldedPeriods] = {}

    @property
    def rule(self) -> Rule:
        return RULES[self.cause]

    @property
    def firing(self) -> list[Member]:
        """Of the members."""
        return [member for member in self.members.values() if member.is_firing]

    @property
    def firing_count(self) -> int:
        """Signals that are firing, the folded ones included."""
        return len(self.firing) + sum(len(folded) for folded in self.folded.values())

    def fold(self, signal: Signal, first: datetime) -> None:
        """Keep of a signal its period, and what the latest says."""
        period = signal.period or ""
        given = FoldedPeriods(
            **{name: getattr(signal, name) for name in ("exchange", "cause", "text", "run_id", "at")}, first=first
        )
        given.put(period)
        known = self.folded.get(signal.stem)
        self.folded[signal.stem] = given.joined_with(known)

    def retold(self) -> Iterator[Signal]:
        """The signals from which its members come about again."""
        for member in self.members.values():
            yield member.signal
            if member.cleared is not None:
                yield member.signal.model_copy(update={"firing": False, "at": member.cleared})
        for stem, folded in self.folded.items():
            source, _, subject = stem.partition("|")
            said = folded.model_dump(include={"exchange", "cause", "text", "run_id"})
            for period in folded.periods():
                yield Signal(source=source, subject=subject, period=period, at=folded.first, **said)
            for period in folded.periods(cleared=True):
                yield Signal(source=source, subject=subject, period=period, at=folded.at, firing=False, **said)

    def folds(self, key: str) -> bool:
        """Whether a key is that of a folded period that is firing."""
        stem, _, period = key.rpartition("|")
        return stem in self.folded and self.folded[stem].holds(period)

    @property
    def title(self) -> str:
        """One line: where, and what it is put down to."""
        return f"{self.scope}: {self.rule.words}"

    @property
    def state(self) -> str:
        """One word for lists: an acknowledged incident is open, and somebody looks after it."""
        return "acknowledged" if self.phase is Phase.OPEN and self.acknowledged else self.phase.value

    def summary(self, limit: int = 5) -> str:
        """What it concerns, in a few lines."""
        concerned = self.firing or list(self.members.values())
        folded = {stem for stem, each in self.folded.items() if len(each)}
        subjects = {member.signal.subject for member in concerned} | {stem.partition("|")[2] for stem in folded}
        count = self.firing_count or len(concerned)
        lines = [f"{count:,} signals of {len(subjects)} assets since {self.opened:%Y-%m-%d %H:%M} UTC."]
        for member in telling(concerned)[:limit]:
            signal = member.signal
            lines.append(f"{signal.subject}{f' {signal.period}' if signal.period else ''}: {signal.text}")
        if count > limit:
            lines.append(f"and {count - min(limit, len(concerned)):,} more")
        return "\n".join(lines)


class DeadLetter(BaseModel):
    """A message that a channel did not take. ``channel`` names the route and kind, never the address."""

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

    Times are those of the machines that wrote them; reading it with a `Clock` lets none be in the future.
    """

    incidents: dict[str, Incident] = {}
    cleared: dict[str, SavedTime] = {}
    dead_letters: list[DeadLetter] = []

    def live(self) -> list[Incident]:
        """Pending and open ones, best cause first."""
        return sorted(
            (incident for incident in self.incidents.values() if incident.phase.is_live),
            key=lambda incident: (rank(incident.cause), incident.scope),
        )

    def holder(self, key: str) -> Incident | None:
        """The live incident that has a signal's key."""
        return next((each for each in self.live() if key in each.members or each.folds(key)), None)

    def get(self, id_: str) -> Incident:
        """Raises InputError for an unknown id."""
        if id_ not in self.incidents:
            raise InputError(f"There is no incident {id_!r}. See: lakehouse incidents list --all")
        return self.incidents[id_]


def telling(members: Iterable[Member]) -> list[Member]:
    """Those first that say most of the cause."""
    return sorted(members, key=lambda member: (rank(member.signal.cause), member.first, member.signal.key))


def rank(cause: Cause) -> int:
    return list(RULES).index(cause)
