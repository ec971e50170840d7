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
    of the run by files copied (of the objects judged, when nothing was). ``retries`` counts how often
    files were tried again.
    ``copied_by_mode`` counts objects, ``files_by_mode`` and ``bytes_by_mode`` sidecars too.
    ``integrity`` counts the present objects by their state (sync/integrity.py).
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
    retries: int
    bytes_copied: int
    bytes_present: int
    seconds: float
    copied_by_mode: dict[str, int]
    files_by_mode: dict[str, int]
    bytes_by_mode: dict[str, int]
    integrity: dict[str, int]
    failures: tuple[Failure, ...]
    missing_total: int
    digest: str
    narrowed: bool = False

    @property
    def operations(self) -> int:
        """Steps that this run's copies took."""
        return sum(count * OPERATIONS[mode] for mode, count in self.files_by_mode.items())

    @property
    def operations_saved(self) -> int:
        """Steps that the traditional way would have taken beyond these."""
        return TRADITIONAL_OPERATIONS * sum(self.files_by_mode.values()) - self.operations

    @property
    def network_bytes(self) -> int:
        """Bytes over this machine's network: in and out again, unless the store copied by itself."""
        return 2 * sum(size for mode, size in self.bytes_by_mode.items() if mode != "direct")

    @property
    def network_bytes_saved(self) -> int:
        return 2 * sum(self.bytes_by_mode.values()) - self.network_bytes

    @property
    def local_bytes_written(self) -> int:
        """Bytes that went to scratch disk."""
        return self.bytes_by_mode.get("staged", 0)

    @property
    def bytes_per_second(self) -> float:
        return self.bytes_copied / self.seconds if self.seconds > 0 else 0.0

    @property
    def is_complete(self) -> bool:
        return self.state is PeriodState.COMPLETE


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """A whole sync. ``listing_requests`` counts pages, ``strays`` are keys that belong to nothing,
    with their reasons; ``mode_note`` says why direct was not used where ``auto`` could not."""

    dataset: str
    periods: tuple[PeriodReport, ...]
    seconds: float
    listing_requests: int
    strays: tuple[tuple[str, str], ...] = field(default=())
    mode_note: str | None = None

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
