"""The report of a sync, per period and in total."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

TRADITIONAL_OPERATIONS = 5
"""Operations per object of the traditional way: list, get, write to disk, read from disk, put."""

NAMES_SHOWN = 5
"""Names shown in one line."""

LEFT_OUT_NAMED = 100
"""Left-out folders that a report names; the rest is counted."""

OPERATIONS = {"direct": 1, "relay": 2, "staged": TRADITIONAL_OPERATIONS}
"""Operations per copied object by mode; direct is one CopyObject."""


class PeriodState(StrEnum):
    """``complete``: the lake has every object that the source lists within the matrix entry.
    ``not_published``: the source lists nothing yet."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    NOT_PUBLISHED = "not_published"


NOT_COPIED = "NotCopied"
"""The code of an object that the run did not copy, as one of other symbols than it was restricted to."""

IMPLAUSIBLE = "Implausible"
"""The code of a failure that a gap in a listing causes, which is too large to be a withdrawal."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An object that the lake lacks, or has with other content.

    ``reason`` is one line. ``code`` is that of the copy's fault; :data:`NOT_COPIED` or :data:`IMPLAUSIBLE` if there is
    no error, and empty if the error is not a store's.
    """

    key: str
    state: str
    reason: str
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodReport:
    """One period, by the lake's listing after the transfer. Its fields are keys of the JSON output, some of them under
    former names (cli/sync.py).

    Object counts exclude sidecars, file counts include them. ``copied``, ``bytes_copied`` and ``seconds`` are of this
    run, ``bytes_present`` is what the lake has. ``seconds`` is the period's share of the run, by files copied (or by
    objects, if none was copied). ``retries`` counts retries of files.
    ``copied_by_mode`` counts objects, ``files_by_mode`` and ``bytes_by_mode`` include sidecars.
    ``integrity`` counts the present objects by Integrity (lake/states.py).
    ``digest`` changes exactly when the period's content does.
    ``withdrawn`` objects are kept in the lake; ``doubted`` and ``sidecars_doubted`` are lacking in an implausible
    listing (lake/withdrawal.py). ``partial``: the run was limited to symbols or intervals.
    """

    period: str
    state: PeriodState
    expected: int
    present: int
    copied: int
    skipped: int
    failed: int
    withdrawn: int
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
    partial: bool = False

    @property
    def operations(self) -> int:
        """Operations of this run's copies."""
        return sum(count * OPERATIONS[mode] for mode, count in self.files_by_mode.items())

    @property
    def operations_saved(self) -> int:
        """Operations that the traditional way would have needed in addition."""
        return TRADITIONAL_OPERATIONS * sum(self.files_by_mode.values()) - self.operations

    @property
    def network_bytes(self) -> int:
        """Bytes through this machine's network, in and out; direct copies have none."""
        return 2 * sum(size for mode, size in self.bytes_by_mode.items() if mode != "direct")

    @property
    def network_bytes_saved(self) -> int:
        return 2 * sum(self.bytes_by_mode.values()) - self.network_bytes

    @property
    def local_bytes_written(self) -> int:
        """Bytes written to scratch disk."""
        return self.bytes_by_mode.get("staged", 0)

    @property
    def bytes_per_second(self) -> float:
        return self.bytes_copied / self.seconds if self.seconds > 0 else 0.0

    @property
    def is_complete(self) -> bool:
        return self.state is PeriodState.COMPLETE


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """A complete sync. ``listing_requests`` counts pages; ``mode_note`` is the reason why direct was not used.

    ``unrecognized`` are the first of ``unrecognized_total`` keys that are not of the dataset, with their reasons.
    ``left_out`` are the first of ``left_out_total`` folders that are not symbols by the exchange's grammar; the lake
    has nothing of them.
    """

    dataset: str
    periods: tuple[PeriodReport, ...]
    seconds: float
    listing_requests: int
    unrecognized: tuple[tuple[str, str], ...] = field(default=())
    unrecognized_total: int = 0
    left_out: tuple[str, ...] = field(default=())
    left_out_total: int = 0
    mode_note: str | None = None

    def total(self, name: str) -> int:
        """Sum of a field over all periods, such as ``copied``."""
        return sum(getattr(period, name) for period in self.periods)

    @property
    def notes(self) -> list[str]:
        """What is not copied from the source, a line each. Names are escaped, so every line is printable."""
        notes = self.left_out_notes
        if self.unrecognized_total:
            named = _some([f"{key!r}: {reason}" for key, reason in self.unrecognized], self.unrecognized_total)
            notes.append(
                f"{self.unrecognized_total} keys of the source are not archive objects and are ignored: {named}."
            )
        return notes

    @property
    def left_out_notes(self) -> list[str]:
        """The note about folders that the matrix selects and the lake does not have."""
        if not self.left_out_total:
            return []
        named = _some([repr(name) for name in self.left_out], self.left_out_total)
        text = (
            f"Left out, since their names are not symbols by the exchange's grammar: {named}. Nothing of these "
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


def implausible_text(report: PeriodReport | SyncReport, source_url: str) -> str | None:
    """The problem of an implausible listing; None if it is plausible."""
    if isinstance(report, SyncReport):
        objects, sidecars, expected = (report.total(name) for name in ("doubted", "sidecars_doubted", "expected"))
    else:
        objects, sidecars, expected = report.doubted, report.sidecars_doubted, report.expected
    if not (objects or sidecars):
        return None
    lacking = f"{objects} of {expected} objects" if objects else f"the sidecars of {sidecars} of {expected} objects"
    return (
        f"Listing {source_url} lacks {lacking} that were there: this looks like an outage of the exchange, not like a "
        "withdrawal. It is listed again later, and accepted if the gap lasts or if a sync accepts withdrawals."
    )


def _some(texts: Sequence[str], total: int) -> str:
    shown = "; ".join(texts[:NAMES_SHOWN])
    return f"{shown} and {total - NAMES_SHOWN} more" if total > NAMES_SHOWN else shown
