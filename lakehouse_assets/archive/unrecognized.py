"""Unrecognized keys of a listing: keys and folders that match no known publication of an exchange.

All are counted, and the first ones are kept with their reasons, so that memory stays bounded for any bucket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges.grammar import UnrecognizedKey

NAMED = 100
"""Unrecognized keys that are kept in all. Of one reason NAMED_PER_REASON are kept, so that a frequent reason does not
hide another."""

NAMED_PER_REASON = 20

READ = 200
"""Keys per call whose reason is determined, which takes 20 µs per key."""


class UnrecognizedKeys:
    """Counts unrecognized keys and keeps the first ones: ``named`` of ``total``."""

    def __init__(self) -> None:
        self.total = 0
        self.named: list[UnrecognizedKey] = []
        self._named_per_reason: Counter[str] = Counter()

    def add(self, keys: Iterable[UnrecognizedKey], total: int | None = None) -> None:
        """Add keys. ``total`` counts those that are not among ``keys`` too; None: there are no others."""
        number = 0
        for key in keys:
            number += 1
            if len(self.named) < NAMED and self._named_per_reason[key.reason] < NAMED_PER_REASON:
                self._named_per_reason[key.reason] += 1
                self.named.append(key)
        self.total += number if total is None else total

    def add_keys(self, dataset: Dataset, keys: pl.Series) -> None:
        """Add keys that do not belong to a dataset, except objects of other datasets in the same folder."""
        for pattern in _patterns_beside(dataset):
            if keys.is_empty():
                return
            keys = keys.filter(~keys.str.contains(f"^(?:{pattern})$"))
        parsed_keys = (dataset.source.parse(key) for key in keys.head(READ))
        unrecognized = [parsed for parsed in parsed_keys if isinstance(parsed, UnrecognizedKey)]
        self.add(unrecognized, len(unrecognized) + max(0, len(keys) - READ))


@lru_cache(maxsize=512)
def _patterns_beside(dataset: Dataset) -> tuple[str, ...]:
    """The patterns of other datasets whose keys may begin as this one's do."""
    head = dataset.layout.head
    layouts = (layout for layout in dataset.source.layouts.values() if layout is not dataset.layout)
    return tuple(layout.pattern for layout in layouts if layout.head.startswith(head) or head.startswith(layout.head))
