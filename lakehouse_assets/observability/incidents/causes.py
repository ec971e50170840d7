"""Causes of incidents: one rule table with their rank, severity, role, and the causes that they explain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

LAKE = "lake"
"""Scope of incidents that affect every exchange."""


class Severity(StrEnum):
    """Severity of an incident, ascending."""

    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)

    @property
    def next(self) -> Severity:
        """The next higher severity; the highest stays."""
        return list(Severity)[min(self.rank + 1, len(Severity) - 1)]


class Role(StrEnum):
    """Role of the people who handle an incident."""

    DATA_ENGINEER = "data_engineer"
    OPERATIONS = "operations"
    RESEARCH = "research"
    MANAGEMENT = "management"


class Cause(StrEnum):
    """The cause to which an incident is attributed."""

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
    """The rule of one cause. Signals of causes that it ``explains``, in the same scope and time, are consequences.

    ``everywhere``: its scope is the lake, so that it explains signals of every exchange. ``hold``: time from the first
    signal to the notification, since a higher-ranked cause may still show up.
    """

    cause: Cause
    title: str
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
            title="the exchange's archive does not answer or publishes nothing new",
            severity=Severity.CRITICAL,
            role=Role.OPERATIONS,
            explains=_CONSEQUENCES | {Cause.LISTING_FAILS},
        ),
        Rule(
            cause=Cause.LISTING_FAILS,
            title="the exchange's archive cannot be listed",
            severity=Severity.ERROR,
            role=Role.OPERATIONS,
            explains=_CONSEQUENCES,
        ),
        Rule(
            cause=Cause.LAKE_REFUSES,
            title="the lake refuses requests or does not answer",
            severity=Severity.CRITICAL,
            role=Role.OPERATIONS,
            explains=_CONSEQUENCES,
            everywhere=True,
        ),
        Rule(
            cause=Cause.TRANSFER_FAILS,
            title="objects cannot be copied into the lake",
            severity=Severity.ERROR,
            role=Role.DATA_ENGINEER,
            explains=frozenset({Cause.DATASET_LATE, Cause.UNUSUAL}),
        ),
        Rule(
            cause=Cause.RUN_FAILS,
            title="runs fail",
            severity=Severity.ERROR,
            role=Role.DATA_ENGINEER,
        ),
        Rule(
            cause=Cause.DATASET_LATE,
            title="datasets are later than usual",
            severity=Severity.WARNING,
            role=Role.DATA_ENGINEER,
            explains=frozenset({Cause.UNUSUAL}),
        ),
        Rule(
            cause=Cause.CHECKSUM_MISMATCH,
            title="copies or sidecars do not match the published checksums",
            severity=Severity.ERROR,
            role=Role.DATA_ENGINEER,
        ),
        Rule(
            cause=Cause.CHECK_FAILS,
            title="asset checks fail",
            severity=Severity.WARNING,
            role=Role.RESEARCH,
        ),
        Rule(
            cause=Cause.UNUSUAL,
            title="periods have unusual values",
            severity=Severity.WARNING,
            role=Role.RESEARCH,
        ),
    )
}
"""Best explanation first: a signal joins the open incident of the first cause that explains it."""
