"""The discovery sensor's cursor: what must survive a restart, bounded in size.

It remembers what neither the listing nor the manifest nor Dagster's runs can tell; where it is
lost, those three still keep anything from being copied or asked for twice.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lakehouse_assets.clock import Clock, SavedSeconds
from lakehouse_assets.errors import StoreError

MAX_BYTES = 95_000
"""Of the text. With 300 datasets and as many periods as may be pursued it is below."""

MAX_PURSUED = 500
MAX_PURSUED_OF_DATASET = 250
"""Periods pursued at a time. A rescan that has found so many waits until some are done."""

MAX_RESCANS = 20
"""Datasets in the midst of a rescan at a time."""


class PendingPeriod(NamedTuple):
    """A period that is published and not (wholly) in the lake.

    ``attempt`` 0: no run was asked for; its listing has the ``fingerprint`` since ``at`` (epoch
    seconds), or was not taken yet (empty fingerprint). Otherwise the last attempt; ``at`` is when that
    run was first seen to be over, 0 while it is not.
    """

    fingerprint: str = ""
    attempt: int = 0
    at: SavedSeconds = 0


class Place(NamedTuple):
    """How far a rescan is: the last period of the stretch it is at, and the key where its next part begins."""

    period: str
    key: str = ""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DatasetState(_Model):
    """One dataset. Times are epoch seconds, 0 for never.

    ``since``: followed from here where there is no ``follow_from``. ``listed``: when the newest periods of
    all symbols were last listed. ``rescanned``: when the last rescan ended. ``wanted``: what the matrix
    asked for then, as a digest. ``told``: the verdict of the check ``published`` and the day it was logged.
    """

    since: date | None = None
    listed: SavedSeconds = 0
    rescanned: SavedSeconds = 0
    wanted: str = ""
    told: str = ""
    place: Place | None = None
    pursued: dict[str, PendingPeriod] = {}

    @property
    def standing(self) -> str:
        """As told last; empty for never."""
        return self.told.partition(" ")[0]


class PartialListing(_Model):
    """A listing of all symbols that a tick could not finish; ``found`` is (objects, digest, differs) by period."""

    dataset: str
    periods: tuple[str, ...]
    key: str = ""
    found: dict[str, tuple[int, int, bool]] = {}


class Problem(_Model):
    """Why a tick could not poll a dataset: the fields of its StoreError, empty for any other error."""

    operation: str = ""
    side: str = ""
    kind: str = ""

    @classmethod
    def of(cls, error: Exception) -> Problem:
        if not isinstance(error, StoreError):
            return cls()
        return cls(operation=error.operation, side=error.side, kind=error.kind)


class DiscoveryCursor(_Model):
    """State of one exchange's sensor. ``next_dataset``: where a tick that ran out of time left off. ``problems``: the
    datasets that the last tick could not poll."""

    ticked: SavedSeconds = 0
    next_dataset: str | None = None
    survey: PartialListing | None = None
    datasets: dict[str, DatasetState] = {}
    problems: dict[str, Problem] = {}

    @classmethod
    def read(cls, text: str | None, now: float | None = None) -> Self:
        """As :meth:`write` wrote it, with no time after ``now`` (epoch seconds) where that is given.

        Raises ValueError for any other text.
        """
        clock = None if now is None else Clock(datetime.fromtimestamp(now, UTC))
        try:
            return cls.model_validate_json(text, context=clock) if text else cls()
        except ValidationError as error:
            raise ValueError(f"{error.error_count()} faults") from error

    def keep(self, names: Collection[str]) -> None:
        """Forget the datasets that are no longer in the matrix."""
        for name in [name for name in self.datasets if name not in names]:
            del self.datasets[name]

    def of(self, name: str) -> DatasetState:
        return self.datasets.setdefault(name, DatasetState())

    @property
    def pursued(self) -> int:
        """Number of periods."""
        return sum(len(watched.pursued) for watched in self.datasets.values())

    def write(self) -> str:
        """As text of at most MAX_BYTES. What has to go is found again: periods that no run was asked for by
        the next look or rescan, the others by their runs."""
        text = self.model_dump_json(exclude_defaults=True)
        while len(text) > MAX_BYTES and self._drop(len(text) - MAX_BYTES):
            text = self.model_dump_json(exclude_defaults=True)
        return text

    def _drop(self, excess: int) -> bool:
        """Drop about as many bytes of the least loss, oldest periods first; False when nothing is left to drop."""
        if self.survey is not None:
            self.survey = None
            return True
        entries = sorted(
            (min(entry.attempt, 1), period, name)
            for name, watched in self.datasets.items()
            for period, entry in watched.pursued.items()
        )
        for _, period, name in entries[: excess // len('"2024-01-01":["0123456789abcdef",1,1700000000],') + 1]:
            del self.datasets[name].pursued[period]
        if not entries:
            places = [watched for watched in self.datasets.values() if watched.place is not None]
            for watched in places:
                watched.place = None
            return bool(places)
        return True


def problems_of(text: str | None) -> dict[str, Problem]:
    """The problems that a sensor's saved cursor names, by dataset; none in a cursor that cannot be read."""
    try:
        return DiscoveryCursor.read(text).problems
    except ValueError:
        return {}
