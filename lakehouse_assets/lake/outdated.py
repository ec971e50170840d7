"""What a comparison of the lake's records finds: periods of which something has to be made anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from lakehouse_assets.lake.delta.latest import MonthFiles


class Outdated(NamedTuple):
    """A period whose result (a table's rows, a verification) was not made from the archive objects in the lake.

    ``fingerprint`` is of these ``objects``. ``is_complete``: the archive's period is; otherwise more objects may come.
    ``is_known``: there is a result, made from others.
    """

    fingerprint: str
    objects: int
    is_complete: bool
    is_known: bool


class Comparison(Protocol):
    """Compares a result with the archives that it is made from. Both methods raise StoreError."""

    def months(self) -> Mapping[str, MonthFiles]:
        """The files of all compared records by month: a month has to be compared again only if they change."""
        ...

    def outdated(self, month: str) -> Mapping[str, Outdated]:
        """The outdated periods of one month."""
        ...
