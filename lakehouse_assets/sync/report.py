"""What a sync did: per period, and summed up."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

TRADITIONAL_OPERATIONS = 5
"""Steps per object of the traditional way: list, get, write to disk, read from disk, put."""

OPERATIONS = {"direct": 1, "relay": 2, "staged": TRADITIONAL_OPERATIONS}
"""Steps per copied object by mode; direct is one CopyObject."""


class PeriodState(StrEnum):
    """``complete``: the lake holds all that the source lists within the matrix entry.
    ``not_published``: the source lists nothing yet."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    NOT_PUBLISHED = "not_published"


@dataclass(frozen=True, slots=True)
class Failure:
    """One object that is not in the lake as it should be. ``reason`` is one line."""

    key: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodReport:
    """One period, judged by the lake's listing after the transfer.

    Objects do not count their sidecars; files do. ``copied``, ``bytes_copied`` and ``seconds``
    are of this run, ``bytes_present`` is what the lake holds. ``seconds`` is the period's share
    of the run by files copied (of the objects judged, when nothing was).
    ``digest`` changes exactly when the period's content does.
    """

    period: str
    state: PeriodState
    expected: int
    present: int
    copied: int
    skipped: int
    failed: int
    vanished: int
    sidecars_copied: int
    bytes_copied: int
    bytes_present: int
    seconds: float
    copied_by_mode: dict[str, int]
    operations_saved: int
    failures: tuple[Failure, ...]
    missing_total: int
    digest: str
    narrowed: bool = False

    @property
    def bytes_per_second(self) -> float:
        return self.bytes_copied / self.seconds if self.seconds > 0 else 0.0

    @property
    def is_complete(self) -> bool:
        return self.state is PeriodState.COMPLETE


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """A whole sync. ``requests`` counts listing pages, ``strays`` keys that belong to nothing."""

    dataset: str
    periods: tuple[PeriodReport, ...]
    seconds: float
    listing_requests: int
    strays: tuple[tuple[str, str], ...] = field(default=())

    def total(self, name: str) -> int:
        """Sum of one of the periods' numbers, such as ``copied``."""
        return sum(getattr(period, name) for period in self.periods)

    @property
    def copied_by_mode(self) -> dict[str, int]:
        totals: dict[str, int] = {}
        for period in self.periods:
            for mode, count in period.copied_by_mode.items():
                totals[mode] = totals.get(mode, 0) + count
        return totals

    @property
    def incomplete(self) -> tuple[PeriodReport, ...]:
        return tuple(period for period in self.periods if period.state is PeriodState.INCOMPLETE)
