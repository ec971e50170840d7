"""The cursor of discovery and follow sensors: the state that must survive a restart, bounded in size.

It holds what neither the listing nor the lake's records nor Dagster's runs record. Where it is lost, those three still
prevent that anything is copied or requested twice.

In JSON, some fields keep the names that earlier versions wrote (the aliases below), and named tuples are lists.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime
from enum import Enum
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lakehouse_assets.clock import Clock, SavedSeconds
from lakehouse_assets.errors import StoreError

MAX_BYTES = 95_000
"""Limit of the cursor's text. 300 datasets with as many pending periods as allowed stay below it."""

MAX_PENDING = 500
MAX_PENDING_OF_DATASET = 250
"""Pending periods at a time. A rescan that has found as many pauses until some are done."""

OTHER_PROBLEM = "other"
"""A problem that is not an error of a store."""

MAX_RESCANS = 20
"""Datasets that are being rescanned at a time."""

MAX_ATTEMPTS = 8
"""Runs requested for one content of a period before it is given up."""


class PendingStatus(Enum):
    """What a pending period waits for."""

    NOT_LISTED = "not listed"
    SETTLING = "waiting for the listing to settle"
    REQUESTED = "run requested"
    RETRYING = "retry pending"
    GIVEN_UP = "given up"


class PendingPeriod(NamedTuple):
    """A period that is published and not complete in the lake.

    ``fingerprint`` is of its listing, empty before the first one. ``attempt`` counts the runs requested for that
    content. ``since`` (epoch seconds): when the listing had the fingerprint first, or with an attempt, when its run was
    first seen to be over, 0 before that.
    """

    fingerprint: str = ""
    attempt: int = 0
    since: SavedSeconds = 0

    @property
    def status(self) -> PendingStatus:
        if not self.attempt:
            return PendingStatus.SETTLING if self.fingerprint else PendingStatus.NOT_LISTED
        if not self.since:
            return PendingStatus.REQUESTED
        return PendingStatus.GIVEN_UP if self.attempt >= MAX_ATTEMPTS else PendingStatus.RETRYING


class RescanPosition(NamedTuple):
    """How far a rescan is: the last period of its current window, and the key at which the window goes on."""

    period: str
    key: str = ""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class DatasetState(_Model):
    """State of one dataset, or of a table or verification that follows archives. Times are epoch seconds, 0 for never.

    ``since``: first tracked day where the matrix has no ``follow_from``. ``listed``: when the newest periods of all
    symbols were last listed (of a follower: when all changed months were last compared). ``rescanned``: when the last
    rescan ended (the last sweep over all months). ``scope_digest``: digest of what the matrix selected then.
    ``recorded``: status and day of the last evaluation of the check ``published``.
    ``problem``: why the last tick could not finish with the dataset: the side of the StoreError, or `other`.
    """

    since: date | None = None
    listed: SavedSeconds = 0
    rescanned: SavedSeconds = 0
    scope_digest: str = Field(default="", alias="wanted")
    recorded: str = Field(default="", alias="told")
    rescan_position: RescanPosition | None = Field(default=None, alias="place")
    pending: dict[str, PendingPeriod] = Field(default={}, alias="pursued")
    problem: str = ""

    @property
    def status(self) -> str:
        """The availability recorded last; empty before the first."""
        return self.recorded.partition(" ")[0]


class PartialListing(_Model):
    """A listing of all symbols that a tick could not finish.

    ``key`` is where it goes on; ``results`` are (objects, digest, differs) by period so far.
    """

    dataset: str
    periods: tuple[str, ...]
    key: str = ""
    results: dict[str, tuple[int, int, bool]] = Field(default={}, alias="found")


class DiscoveryCursor(_Model):
    """State of one exchange's sensor.

    ``next_dataset``: where the next tick begins. ``observed``: day and digest of the last observation of the source.
    """

    ticked: SavedSeconds = 0
    next_dataset: str | None = None
    partial_listing: PartialListing | None = Field(default=None, alias="survey")
    datasets: dict[str, DatasetState] = {}
    observed: str = ""

    @classmethod
    def read(cls, text: str | None, now: float | None = None) -> Self:
        """Parse what :meth:`write` wrote. Times after ``now`` (epoch seconds) become ``now`` where it is given.

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

    def periods_in(self, *statuses: PendingStatus) -> list[str]:
        """The pending periods of these statuses, sorted: ``binance/um/klines/daily@2024-03-01``."""
        return sorted(
            f"{name}@{period}"
            for name, state in self.datasets.items()
            for period, pending in state.pending.items()
            if pending.status in statuses
        )

    @property
    def pending_periods(self) -> int:
        """Number of pending periods of all datasets."""
        return sum(len(state.pending) for state in self.datasets.values())

    def write(self) -> str:
        """The cursor as text of at most MAX_BYTES.

        What does not fit is dropped and found again: periods without a request by the next poll or rescan, the others
        by the tags of their runs.
        """
        text = self._json()
        while len(text) > MAX_BYTES and self._drop(len(text) - MAX_BYTES):
            text = self._json()
        return text

    def _json(self) -> str:
        return self.model_dump_json(exclude_defaults=True, by_alias=True)

    def _drop(self, excess: int) -> bool:
        """Drop about ``excess`` bytes, those first whose loss costs least; False when nothing is left to drop."""
        if self.partial_listing is not None:
            self.partial_listing = None
            return True
        candidates = sorted(
            (min(pending.attempt, 1), period, name)
            for name, state in self.datasets.items()
            for period, pending in state.pending.items()
        )
        for _, period, name in candidates[: excess // len('"2024-01-01":["0123456789abcdef",1,1700000000],') + 1]:
            del self.datasets[name].pending[period]
        if candidates:
            return True
        rescanning = [state for state in self.datasets.values() if state.rescan_position is not None]
        for state in rescanning:
            state.rescan_position = None
        return bool(rescanning)


def problem_of(error: Exception) -> str:
    """The value of :attr:`DatasetState.problem` for an error."""
    return error.side.value if isinstance(error, StoreError) else OTHER_PROBLEM


def problems_of(text: str | None) -> dict[str, str]:
    """The problems in a sensor's saved cursor, by dataset; none if the cursor cannot be read."""
    try:
        datasets = DiscoveryCursor.read(text).datasets
    except ValueError:
        return {}
    return {name: state.problem for name, state in datasets.items() if state.problem}
