"""What a tick of a discovery or follow sensor returns, and how both name what went wrong and whose turn is next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import dagster as dg

from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.orchestration.discovery.cursor import MAX_ATTEMPTS, DiscoveryCursor, PendingStatus, problem_of
from lakehouse_assets.orchestration.discovery.give_up import Event, Log
from lakehouse_assets.orchestration.discovery.time_budget import OutOfTimeError

NAMED = 5
"""Number of periods that a reason names."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A tick's run requests and events; ``reason`` is shown where it requests nothing."""

    requests: list[dg.RunRequest]
    events: list[Event]
    reason: str


def rotated(items: Sequence[T], name_of: Callable[[T], str], start: str | None) -> list[T]:
    """The items, beginning with the one named ``start`` if there is one."""
    names = [name_of(item) for item in items]
    position = names.index(start) if start in names else 0
    return [*items[position:], *items[:position]]


def note_problem(cursor: DiscoveryCursor, name: str, error: Exception, *, work: str, log: Log) -> str:
    """Keep a problem in the cursor and return its text. ``work`` is what failed: `Polling`."""
    cursor.of(name).problem = problem_of(error)
    if isinstance(error, LakehouseError | OutOfTimeError):
        return f"{name}: {error}"
    log.exception("%s %s failed.", work, name)  # noqa: LOG004 - within the handler of the error
    return f"{name}: {type(error).__name__}: {error}"


def given_up(cursor: DiscoveryCursor) -> Iterator[str]:
    """A sentence that names the periods that are given up; none without any."""
    if periods := cursor.periods_in(PendingStatus.GIVEN_UP):
        yield (
            f"Gave up after {MAX_ATTEMPTS} failed runs each: {', '.join(periods[:NAMED])}"
            f"{', ...' if len(periods) > NAMED else ''}; see the runs, and materialize by hand."
        )
