"""The discovery sensor's cursor: what must survive a restart, bounded in size.

It remembers what neither the listing nor the manifest nor Dagster's runs can tell; where it is
lost, those three still keep anything from being copied or asked for twice.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Self

from pydantic import BaseModel, ValidationError

MAX_ASKED = 400
MAX_WAITING = 250
"""Periods remembered, about 80 kB together. No more than MAX_ASKED are asked for at a time."""


class Waiting(BaseModel):
    """A published period that is not settled yet: unchanged since ``since`` (epoch seconds)."""

    fingerprint: str
    since: int


class Asked(BaseModel):
    """A period for which a run was asked for; ``over`` is when that run was first seen to be over
    (epoch seconds), None while it is not."""

    fingerprint: str
    attempt: int
    over: int | None = None


class DiscoveryCursor(BaseModel):
    """State of one exchange's sensor, by dataset name or by ``dataset@period``.

    ``followed``: since when a dataset is followed that has no ``follow_from``. ``listed``: when all
    its symbols were last listed (epoch seconds). ``before``: where the look at its older open periods
    goes on. ``next_dataset``: where a tick that ran out of time left off.
    """

    followed: dict[str, date] = {}
    listed: dict[str, int] = {}
    before: dict[str, str] = {}
    waiting: dict[str, Waiting] = {}
    asked: dict[str, Asked] = {}
    next_dataset: str | None = None

    @classmethod
    def read(cls, text: str | None) -> Self:
        """Raises ValueError for a text that :meth:`write` did not write."""
        try:
            return cls.model_validate_json(text) if text else cls()
        except ValidationError as error:
            raise ValueError(f"{error.error_count()} faults") from error

    def keep(self, datasets: Collection[str]) -> None:
        """Forget the datasets that are no longer in the matrix."""
        by_dataset: tuple[dict[str, date] | dict[str, int] | dict[str, str], ...]
        by_dataset = (self.followed, self.listed, self.before)
        for names in by_dataset:
            for name in [name for name in names if name not in datasets]:
                del names[name]
        for entries in (self.waiting, self.asked):
            for key in [key for key in entries if dataset_of(key) not in datasets]:
                del entries[key]

    def write(self) -> str:
        """As text. The oldest periods are forgotten first; what waits then only waits anew."""
        for entries, limit in ((self.waiting, MAX_WAITING), (self.asked, MAX_ASKED)):
            for key in sorted(entries, key=period_of)[:-limit]:
                del entries[key]
        return self.model_dump_json(exclude_defaults=True)


def entry_key(dataset_name: str, period: object) -> str:
    return f"{dataset_name}@{period}"


def dataset_of(key: str) -> str:
    return key.rpartition("@")[0]


def period_of(key: str) -> str:
    return key.rpartition("@")[2]
