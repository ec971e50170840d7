"""Times that were saved: what lies in the future when it is read back counts as now.

A clock that was ahead once (a virtual machine that was resumed, a board without a battery) would otherwise silence
whatever waits for a saved time to pass, for as long as the clock was ahead. A model declares its saved times with
the types below, and is read with a `Clock` as its validation context; without one nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, TypeVar

from pydantic import AfterValidator, ValidationInfo

T = TypeVar("T", int, datetime)


@dataclass(slots=True)
class Clock:
    """Now (UTC), for reading saved times; ``corrected`` counts those that were in the future."""

    now: datetime
    corrected: int = 0

    def past(self, saved: T, latest: T) -> T:
        """``saved``, or ``latest`` where that is earlier."""
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
    """A saved time that is to come, such as that of the next attempt: at most so long from now."""

    longest: timedelta

    def __call__(self, saved: datetime | None, info: ValidationInfo) -> datetime | None:
        if saved is None or not isinstance(info.context, Clock):
            return saved
        return info.context.past(saved, info.context.now + self.longest)
