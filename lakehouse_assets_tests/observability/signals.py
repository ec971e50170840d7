"""Short forms for signals in tests, with minutes after noon instead of times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse_assets.observability.incidents.causes import Cause
from lakehouse_assets.observability.incidents.lifecycle import observe
from lakehouse_assets.observability.incidents.model import Incident, IncidentState, Signal

KLINES = "binance/um/klines/daily"
NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def signal(cause: Cause, minute: float = 0, *, firing: bool = True, **fields: Any) -> Signal:
    defaults: dict[str, Any] = {
        "source": "sync",
        "exchange": "binance",
        "subject": KLINES,
        "period": "2024-03-04",
        "text": cause.replace("_", " "),
    }
    return Signal(**{**defaults, **fields}, cause=cause, at=at(minute), firing=firing)


def after(*signals: Signal, minute: float, state: IncidentState | None = None) -> IncidentState:
    return observe(state or IncidentState(), signals, at(minute))


def only(state: IncidentState) -> Incident:
    [incident] = state.live()
    return incident
