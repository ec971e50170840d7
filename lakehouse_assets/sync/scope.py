"""What to sync: periods of one matrix entry."""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Period
from lakehouse_assets.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Periods of one matrix entry.

    ``symbols`` and ``intervals`` limit what a run copies. They do not change when a period is complete: that depends on
    the whole entry.
    """

    entry: DatasetEntry
    periods: tuple[Period, ...]
    symbols: tuple[str, ...] = ()
    intervals: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.periods:
            raise InputError(f"No period of {self.entry.dataset} was given.")
        unknown = sorted(set(self.intervals) - set(self.entry.intervals))
        if unknown:
            raise InputError(
                f"{self.entry.dataset} is not collected at interval {unknown[0]!r}; the matrix has "
                f"{', '.join(self.entry.intervals) or 'no intervals'}."
            )
        refused = [symbol for symbol in self.symbols if not self.entry.symbols.selects(symbol)]
        if refused:
            raise InputError(f"{self.entry.dataset}: the matrix does not select the symbol {refused[0]!r}.")

    @property
    def names(self) -> list[str]:
        """The texts of the periods, sorted."""
        return sorted(str(period) for period in self.periods)

    @property
    def partial(self) -> bool:
        """Whether the run is limited to symbols or intervals."""
        return bool(self.symbols or self.intervals)
