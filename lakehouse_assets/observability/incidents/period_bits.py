"""Periods of one subject, stored as one bit each.

An incident keeps a limited number of signals in full, and only the periods of signals beyond the limit. Ten years of
days take 120 numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import BaseModel

from lakehouse_assets.clock import SavedTime
from lakehouse_assets.observability.incidents.causes import Cause

_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{2})", re.DOTALL)
"""A day in its month, or a month in its year."""

Bits = dict[str, int]


class FoldedPeriods(BaseModel):
    """Periods of one source and subject that an incident keeps without their signals.

    ``cause``, ``text`` and ``run_id`` are those of the latest signal; ``first`` and ``at`` are the times of the
    earliest and the latest signal (UTC). ``firing`` and ``cleared`` have a bit per period; they do not overlap.
    """

    exchange: str
    cause: Cause
    text: str = ""
    run_id: str | None = None
    first: SavedTime
    at: SavedTime
    firing: Bits = {}
    cleared: Bits = {}

    def __len__(self) -> int:
        """Number of firing periods."""
        return sum(bits.bit_count() for bits in self.firing.values())

    def contains(self, period: str, *, cleared: bool = False) -> bool:
        stem, bit = _place(period)
        return bool((self.cleared if cleared else self.firing).get(stem, 0) & bit)

    def periods(self, *, cleared: bool = False) -> Iterator[str]:
        """The periods in ascending order."""
        for stem, bits in sorted((self.cleared if cleared else self.firing).items()):
            for number in range(bits.bit_length()):
                if bits >> number & 1:
                    yield f"{stem}-{number:02}" if number < _UNNUMBERED else stem

    def put(self, period: str) -> None:
        """Add a firing period."""
        stem, bit = _place(period)
        _remove_bits(self.cleared, stem, bit)
        self.firing[stem] = self.firing.get(stem, 0) | bit

    def clear(self, period: str) -> None:
        """Move a period from firing to cleared; does nothing for other periods."""
        stem, bit = _place(period)
        if self.firing.get(stem, 0) & bit:
            _remove_bits(self.firing, stem, bit)
            self.cleared[stem] = self.cleared.get(stem, 0) | bit

    def clear_all(self) -> None:
        for period in list(self.periods()):
            self.clear(period)

    def merged_with(self, other: FoldedPeriods | None) -> FoldedPeriods:
        """The periods of both, firing if they fire in either, with cause and text of the later one."""
        if other is None:
            return self
        firing = _union(self.firing, other.firing)
        cleared = _union(self.cleared, other.cleared)
        for stem, bits in firing.items():
            _remove_bits(cleared, stem, bits)
        latest = max(self, other, key=lambda periods: periods.at)
        first = min(self.first, other.first)
        return latest.model_copy(update={"first": first, "firing": firing, "cleared": cleared})

    def remove(self, period: str) -> None:
        """Remove a period that moves to another incident."""
        stem, bit = _place(period)
        for bits in (self.firing, self.cleared):
            _remove_bits(bits, stem, bit)


_UNNUMBERED = 100
"""The bit of a period whose text has no number at its end."""


def _place(period: str) -> tuple[str, int]:
    numbered = _NUMBERED.fullmatch(period)
    return (period, 1 << _UNNUMBERED) if numbered is None else (numbered["stem"], 1 << int(numbered["number"]))


def _union(one: Bits, other: Bits) -> Bits:
    return {stem: one.get(stem, 0) | other.get(stem, 0) for stem in (*one, *other)}


def _remove_bits(bits: Bits, stem: str, bit: int) -> None:
    rest = bits.get(stem, 0) & ~bit
    if rest:
        bits[stem] = rest
    else:
        bits.pop(stem, None)
