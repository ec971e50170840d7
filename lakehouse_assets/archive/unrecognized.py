"""Strays of a listing: keys and folders that are nothing an exchange is known to publish.

All are counted and some are named: what is held is what is told, however many of them a bucket has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges.grammar import UnrecognizedKey

NAMED = 100
"""Strays that are named in all; of one reason NAMED_PER_REASON, so that many of one do not hide another."""

NAMED_PER_REASON = 20

READ = 200
"""Strays of some folders whose reason is looked for; a key takes 20 µs."""


class UnrecognizedKeys:
    """Counts strays, and keeps the first ones: ``named`` of ``total``."""

    def __init__(self) -> None:
        self.total = 0
        self.named: list[UnrecognizedKey] = []
        self._alike: Counter[str] = Counter()

    def add(self, strays: Iterable[UnrecognizedKey], total: int | None = None) -> None:
        """Some more, of which only these are known by name (None: all of them are)."""
        number = 0
        for stray in strays:
            number += 1
            if len(self.named) < NAMED and self._alike[stray.reason] < NAMED_PER_REASON:
                self._alike[stray.reason] += 1
                self.named.append(stray)
        self.total += number if total is None else total

    def add_keys(self, dataset: Dataset, keys: pl.Series) -> None:
        """Keys that are not of a dataset; objects of others that share the folder are no strays."""
        for pattern in _neighbours(dataset):
            if keys.is_empty():
                return
            keys = keys.filter(~keys.str.contains(f"^(?:{pattern})$"))
        read = (dataset.source.parse(key) for key in keys.head(READ))
        strays = [each for each in read if isinstance(each, UnrecognizedKey)]
        self.add(strays, len(strays) + max(0, len(keys) - READ))


@lru_cache(maxsize=512)
def _neighbours(dataset: Dataset) -> tuple[str, ...]:
    """The patterns of other data sets whose keys may begin as this one's do."""
    head = dataset.layout.head
    layouts = (layout for layout in dataset.source.layouts.values() if layout is not dataset.layout)
    return tuple(each.pattern for each in layouts if each.head.startswith(head) or head.startswith(each.head))
