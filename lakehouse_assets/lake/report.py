"""What a sync did: per period, and summed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

TRADITIONAL_OPERATIONS = 5
"""Steps per object of the traditional way: list, get, write to disk, read from disk, put."""

SHOWN = 5
"""Names in a line."""

LEFT_OUT_NAMED = 100
"""Names in the place of symbols that a report names; the rest is counted."""

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
    ``integrity`` counts the present objects by their state (sync/integrity/sidecars.py).
    ``digest`` changes exactly when the period's content does.
    ``doubted`` and ``sidecars_doubted`` are not listed any more, and not believed to be withdrawn (lake/withdrawal.py).
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
    doubted: int = 0
    sidecars_doubted: int = 0
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
    """A whole sync. ``listing_requests`` counts pages; ``mode_note`` says why direct was not used.

    ``strays`` are the first of ``strays_total`` keys that belong to nothing, with their reasons; ``left_out`` the first
    of ``left_out_total`` folders that are no symbol by the exchange's grammar, so that nothing of them is in the lake.
    """

    dataset: str
    periods: tuple[PeriodReport, ...]
    seconds: float
    listing_requests: int
    strays: tuple[tuple[str, str], ...] = field(default=())
    strays_total: int = 0
    left_out: tuple[str, ...] = field(default=())
    left_out_total: int = 0
    mode_note: str | None = None

    def total(self, name: str) -> int:
        """Sum of one of the periods' numbers, such as ``copied``."""
        return sum(getattr(period, name) for period in self.periods)

    @property
    def notes(self) -> list[str]:
        """What is left alone in the source, in a line each; whatever a name has in it, it can be printed."""
        notes = self.left_out_notes
        if self.strays_total:
            named = _some([f"{key!r}: {reason}" for key, reason in self.strays], self.strays_total)
            notes.append(f"{self.strays_total} keys of the source are no archive objects and are left alone: {named}.")
        return notes

    @property
    def left_out_notes(self) -> list[str]:
        """Those that say what the matrix selects and the lake does not have."""
        if not self.left_out_total:
            return []
        named = _some([repr(name) for name in self.left_out], self.left_out_total)
        text = (
            f"Left out, since their names are no symbols by the exchange's grammar: {named}. Nothing of these "
            f"{self.left_out_total} folders is in the lake; exclude them in the matrix, or report them to this project."
        )
        return [text]

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


def doubted_text(report: PeriodReport | SyncReport, source_url: str) -> str | None:
    """What is wrong with a listing that lacks too much to be believed; None where it is not."""
    if isinstance(report, SyncReport):
        objects, sidecars, expected = (report.total(name) for name in ("doubted", "sidecars_doubted", "expected"))
    else:
        objects, sidecars, expected = report.doubted, report.sidecars_doubted, report.expected
    if not (objects or sidecars):
        return None
    lacking = f"{objects} of {expected} objects" if objects else f"the sidecars of {sidecars} of {expected} objects"
    return (
        f"Listing {source_url} lacks {lacking} that were there: taken for an outage of the exchange's, not for a "
        "withdrawal. It is asked again later, and believed when it lasts or when a sync accepts withdrawals."
    )


def _some(texts: Sequence[str], total: int) -> str:
    shown = "; ".join(texts[:SHOWN])
    return f"{shown} and {total - SHOWN} more" if total > SHOWN else shown
