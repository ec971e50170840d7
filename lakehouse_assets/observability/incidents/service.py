"""The desk where signals come in: they become incidents, people are told, and then it is written down.

In that order: a lake that does not answer must not silence its own alarm. Two desks may therefore tell
the same twice, and neither ever tells nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from lakehouse_assets.errors import ErrorKind, Side, StoreError
from lakehouse_assets.observability.incidents.lifecycle import Notice, mark_notified, notices, observe
from lakehouse_assets.observability.incidents.model import IncidentState, Signal
from lakehouse_assets.observability.incidents.notification import Delivery, Notifier, deliver_into

WRITE_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class StoredState:
    """A book as it was read; ``version`` is the store's own, for writing it back. ``unsaved``: it is newer
    than what is stored."""

    book: IncidentState
    version: Any = None
    unsaved: bool = False


class IncidentStore(Protocol):
    """Where the book is kept between processes."""

    def read(self, now: datetime) -> StoredState:
        """The book as last written, empty where there is none."""

    def write(self, book: IncidentState, kept: StoredState) -> bool:
        """Replace what was read as ``kept``; False, and nothing written, where another writer was first."""


@dataclass(frozen=True, slots=True)
class Handled:
    """What a tick did. ``told`` are the notices that people were sent."""

    book: IncidentState
    told: tuple[Notice, ...]
    delivery: Delivery


class IncidentService:
    """One writer of the book."""

    def __init__(self, store: IncidentStore, notifier: Notifier) -> None:
        self._store = store
        self._notifier = notifier

    def read(self, now: datetime) -> IncidentState:
        return self._store.read(now).book

    def handle(self, signals: Sequence[Signal], now: datetime) -> Handled:
        """Take in signals, tell people what they are to know, write it down. Raises StoreError when it
        cannot be written; what was told is told.

        What is said to be right of which nobody knew that it was wrong is left out: most of what goes on
        is right, and the book has to stay small.
        """
        kept = self._store.read(now)
        # Of a machine whose clock is ahead; else nothing could clear it, or raise it again, for as long.
        signals = [each if each.at <= now else each.model_copy(update={"at": now}) for each in signals]
        raised = {signal.key for signal in signals if signal.firing}
        signals = [each for each in signals if each.key in raised or kept.book.holder(each.key) is not None]
        seen = observe(kept.book, signals, now)
        delivery = self._notifier.deliver(seen, notices(seen), now)

        def act(book: IncidentState) -> IncidentState:
            return deliver_into(mark_notified(observe(book, signals, now), delivery.told, now), delivery)

        return Handled(self._write(act, kept, now), delivery.told, delivery)

    def change(self, act: Callable[[IncidentState], IncidentState], now: datetime) -> IncidentState:
        """Do something by hand, such as acknowledging; raises what ``act`` raises, and StoreError."""
        return self._write(act, self._store.read(now), now)

    def _write(self, act: Callable[[IncidentState], IncidentState], kept: StoredState, now: datetime) -> IncidentState:
        for _ in range(WRITE_ATTEMPTS):
            book = act(kept.book)
            if (book == kept.book and not kept.unsaved) or self._store.write(book, kept):
                return book
            kept = self._store.read(now)
        raise StoreError(
            "Writing the incident state",
            f"other writers were first {WRITE_ATTEMPTS} times; try again",
            side=Side.LAKE,
            kind=ErrorKind.CONFLICT,
        )
