"""Periods of one subject, counted one by one in little room: a bit each.

An incident holds so many signals with their texts; of those beyond it is only kept which periods they are of. Ten
years of days are 120 numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import BaseModel

from lakehouse_assets.clock import SavedTime
from lakehouse_assets.observability.incidents.causes import Cause

_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{2})", re.DOTALL)
"""A day within its month, a month within its year."""

Bits = dict[str, int]


class FoldedPeriods(BaseModel):
    """The periods of one source and subject that an incident keeps without their signals.

    ``cause``, ``text`` and ``run_id`` are of the latest signal, ``first`` and ``at`` the times of the earliest and the
    latest (UTC). ``firing`` and ``cleared`` are the periods, none in both; a bit per period.
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
        """How many are firing."""
        return sum(bits.bit_count() for bits in self.firing.values())

    def holds(self, period: str, *, cleared: bool = False) -> bool:
        stem, bit = _place(period)
        return bool((self.cleared if cleared else self.firing).get(stem, 0) & bit)

    def periods(self, *, cleared: bool = False) -> Iterator[str]:
        """Ascending."""
        for stem, bits in sorted((self.cleared if cleared else self.firing).items()):
            for number in range(bits.bit_length()):
                if bits >> number & 1:
                    yield f"{stem}-{number:02}" if number < _WHOLE else stem

    def put(self, period: str) -> None:
        """It is firing."""
        stem, bit = _place(period)
        _without(self.cleared, stem, bit)
        self.firing[stem] = self.firing.get(stem, 0) | bit

    def clear(self, period: str) -> None:
        """It is right again, if it is one of these."""
        stem, bit = _place(period)
        if self.firing.get(stem, 0) & bit:
            _without(self.firing, stem, bit)
            self.cleared[stem] = self.cleared.get(stem, 0) | bit

    def clear_all(self) -> None:
        for period in list(self.periods()):
            self.clear(period)

    def joined_with(self, other: FoldedPeriods | None) -> FoldedPeriods:
        """The periods of both, firing where they are so in either, with what the later one says."""
        if other is None:
            return self
        firing = _united(self.firing, other.firing)
        cleared = _united(self.cleared, other.cleared)
        for stem, bits in firing.items():
            _without(cleared, stem, bits)
        latest = max(self, other, key=lambda each: each.at)
        first = min(self.first, other.first)
        return latest.model_copy(update={"first": first, "firing": firing, "cleared": cleared})

    def forget(self, period: str) -> None:
        """It is another incident's."""
        stem, bit = _place(period)
        for bits in (self.firing, self.cleared):
            _without(bits, stem, bit)


_WHOLE = 100
"""The bit of a text that is not numbered."""


def _place(period: str) -> tuple[str, int]:
    numbered = _NUMBERED.fullmatch(period)
    return (period, 1 << _WHOLE) if numbered is None else (numbered["stem"], 1 << int(numbered["number"]))


def _united(one: Bits, other: Bits) -> Bits:
    return {stem: one.get(stem, 0) | other.get(stem, 0) for stem in (*one, *other)}


def _without(bits: Bits, stem: str, bit: int) -> None:
    rest = bits.get(stem, 0) & ~bit
    if rest:
        bits[stem] = rest
    else:
        bits.pop(stem, None)
