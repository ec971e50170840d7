"""Types for saved times: a time that is in the future when it is read counts as now.

If a clock was ahead once (a resumed virtual machine, a board without a battery), anything that waits for a saved time
to pass would otherwise be silent for as long as the clock was ahead. A model declares its saved times with the types
below and is validated with a `Clock` as context; without a `Clock`, times are not changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, TypeVar

from pydantic import AfterValidator, ValidationInfo

T = TypeVar("T", int, datetime)


@dataclass(slots=True)
class Clock:
    """The current time (UTC), for reading saved times. ``corrected`` counts the times that were in the future."""

    now: datetime
    corrected: int = 0

    def past(self, saved: T, latest: T) -> T:
        """The earlier of ``saved`` and ``latest``."""
        self.corrected += saved > latest
        return min(saved, latest)


def _time(saved: datetime, info: ValidationInfo) -> datetime:
    return info.context.past(saved, info.context.now) if isinstance(info.context, Clock) else saved


def _seconds(saved: int, info: ValidationInfo) -> int:
    return info.context.past(saved, int(info.context.now.timestamp())) if isinstance(info.context, Clock) else saved


SavedTime = Annotated[datetime, AfterValidator(_time)]
SavedSeconds = Annotated[int, AfterValidator(_seconds)]
"""Epoch seconds; 0 for never."""


@dataclass(frozen=True, slots=True)
class AtMostAhead:
    """Limits a saved future time, such as that of the next attempt, to at most ``longest`` from now."""

    longest: timedelta

    def __call__(self, saved: datetime | None, info: ValidationInfo) -> datetime | None:
        if saved is None or not isinstance(info.context, Clock):
            return saved
        return info.context.past(saved, info.context.now + self.longest)
