"""Causes of trouble: the one rule table that ranks them, says what each explains, and whom it concerns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

LAKE = "lake"
"""Scope of what concerns every exchange."""


class Severity(StrEnum):
    """How bad it is, ascending."""

    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)

    @property
    def next(self) -> Severity:
        """One step worse; the worst stays."""
        return list(Severity)[min(self.rank + 1, len(Severity) - 1)]


class Role(StrEnum):
    """Who is to look."""

    DATA_ENGINEER = "data_engineer"
    OPERATIONS = "operations"
    RESEARCH = "research"
    MANAGEMENT = "management"


class Cause(StrEnum):
    """What an incident is put down to."""

    EXCHANGE_STALLED = "exchange_stalled"
    LISTING_FAILS = "listing_fails"
    LAKE_REFUSES = "lake_refuses"
    TRANSFER_FAILS = "transfer_fails"
    RUN_FAILS = "run_fails"
    DATASET_LATE = "dataset_late"
    UNUSUAL = "unusual"
    CHECK_FAILS = "check_fails"
    CHECKSUM_MISMATCH = "checksum_mismatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One cause. ``explains``: signals of these causes, in the same scope and time, are its consequences.

    ``everywhere``: its scope is the lake, so that it explains every exchange's. ``hold``: so long
    after the first signal nobody is told yet, since a cause further up may still show itself.
    """

    cause: Cause
    words: str
    severity: Severity
    role: Role
    explains: frozenset[Cause] = frozenset()
    everywhere: bool = False
    hold: timedelta = timedelta(seconds=60)


_CONSEQUENCES = frozenset({Cause.TRANSFER_FAILS, Cause.RUN_FAILS, Cause.DATASET_LATE, Cause.UNUSUAL})

RULES: Mapping[Cause, Rule] = {
    rule.cause: rule
    for rule in (
        Rule(
            cause=Cause.EXCHANGE_STALLED,
            words="the exchange's archive does not answer or publishes nothing",
            severity=Severity.CRITICAL,
            role=Role.OPERATIONS,
            explains=_CONSEQUENCES | {Cause.LISTING_FAILS},
        ),
        Rule(
            cause=Cause.LISTING_FAILS,
            words="the exchange's archive cannot be listed",
            severity=Severity.ERROR,
            role=Role.OPERATIONS,
            explains=_CONSEQUENCES,
        ),
        Rule(
            cause=Cause.LAKE_REFUSES,
            words="the lake refuses or does not answer",
            severity=Severity.CRITICAL,
            role=Role.OPERATIONS,
            explains=_CONSEQUENCES,
            everywhere=True,
        ),
        Rule(
            cause=Cause.TRANSFER_FAILS,
            words="objects cannot be brought into the lake",
            severity=Severity.ERROR,
            role=Role.DATA_ENGINEER,
            explains=frozenset({Cause.DATASET_LATE, Cause.UNUSUAL}),
        ),
        Rule(
            cause=Cause.RUN_FAILS,
            words="runs fail",
            severity=Severity.ERROR,
            role=Role.DATA_ENGINEER,
        ),
        Rule(
            cause=Cause.DATASET_LATE,
            words="datasets are later than usual",
            severity=Severity.WARNING,
            role=Role.DATA_ENGINEER,
            explains=frozenset({Cause.UNUSUAL}),
        ),
        Rule(
            cause=Cause.CHECKSUM_MISMATCH,
            words="copies or sidecars do not match their published checksum",
            severity=Severity.ERROR,
            role=Role.DATA_ENGINEER,
        ),
        Rule(
            cause=Cause.CHECK_FAILS,
            words="asset checks fail",
            severity=Severity.WARNING,
            role=Role.RESEARCH,
        ),
        Rule(
            cause=Cause.UNUSUAL,
            words="numbers of periods are unusual",
            severity=Severity.WARNING,
            role=Role.RESEARCH,
        ),
    )
}
"""Best explanation first: a signal belongs to the first of these that has an open incident and explains it."""
