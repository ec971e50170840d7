"""The incident service: takes signals, updates the incidents, notifies people, and then writes the incident state.

It notifies before it writes, so that a lake that does not answer cannot silence its own alarm. Two services may
therefore send the same notification twice, but none is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from lakehouse_assets.errors import ErrorKind, Side, StoreError
from lakehouse_assets.observability.incidents.lifecycle import Notice, mark_notified, notices, observe
from lakehouse_assets.observability.incidents.model import IncidentState, Signal
from lakehouse_assets.observability.incidents.notification import Delivery, Notifier, record_delivery

WRITE_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class StoredState:
    """An incident state as it was read. ``version`` is the store's own, for writing it back; ``unsaved`` says that the
    state is newer than the stored one."""

    state: IncidentState
    version: Any = None
    unsaved: bool = False


class IncidentStore(Protocol):
    """Keeps the incident state between processes."""

    def read(self, now: datetime) -> StoredState:
        """The state as last written; an empty one at first."""

    def write(self, state: IncidentState, stored: StoredState) -> bool:
        """Replace the state that was read as ``stored``. Returns False and writes nothing after another write."""


@dataclass(frozen=True, slots=True)
class Handled:
    """Result of a tick. ``notified`` are the notices that were sent."""

    state: IncidentState
    notified: tuple[Notice, ...]
    delivery: Delivery


class IncidentService:
    """One writer of the incident state."""

    def __init__(self, store: IncidentStore, notifier: Notifier) -> None:
        self._store = store
        self._notifier = notifier

    def read(self, now: datetime) -> IncidentState:
        return self._store.read(now).state

    def handle(self, signals: Sequence[Signal], now: datetime) -> Handled:
        """Observe signals, send the notices that are due, and write the state.

        Raises StoreError if the state cannot be written, after the notices were sent. Recovery signals for problems
        that were never raised are dropped, to keep the state small.
        """
        stored = self._store.read(now)
        # A signal from a machine whose clock is ahead counts as one of now; otherwise nothing could clear it before
        # that time.
        signals = [signal if signal.at <= now else signal.model_copy(update={"at": now}) for signal in signals]
        raised = {signal.key for signal in signals if signal.firing}
        signals = [signal for signal in signals if signal.key in raised or stored.state.holder(signal.key) is not None]
        observed = observe(stored.state, signals, now)
        delivery = self._notifier.deliver(observed, notices(observed), now)

        def change(state: IncidentState) -> IncidentState:
            return record_delivery(mark_notified(observe(state, signals, now), delivery.notified, now), delivery)

        return Handled(self._write(change, stored, now), delivery.notified, delivery)

    def change(self, change: Callable[[IncidentState], IncidentState], now: datetime) -> IncidentState:
        """Apply a change by hand, such as an acknowledgement. Raises StoreError and what ``change`` raises."""
        return self._write(change, self._store.read(now), now)

    def _write(
        self, change: Callable[[IncidentState], IncidentState], stored: StoredState, now: datetime
    ) -> IncidentState:
        for _ in range(WRITE_ATTEMPTS):
            state = change(stored.state)
            if (state == stored.state and not stored.unsaved) or self._store.write(state, stored):
                return state
            stored = self._store.read(now)
        raise StoreError(
            "Writing the incident state",
            f"other writers were first {WRITE_ATTEMPTS} times; try again",
            side=Side.LAKE,
            kind=ErrorKind.CONFLICT,
        )
