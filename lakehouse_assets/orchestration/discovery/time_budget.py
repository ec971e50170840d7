"""The time and the threads of one sensor tick."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import ParamSpec, TypeVar

LIMIT_SECONDS = 45.0
"""Longest time that a tick waits for an answer: Dagster ends it at 60 s, and its cursor would be lost."""

THREADS = 16

P = ParamSpec("P")
T = TypeVar("T")


class OutOfTimeError(Exception):
    """An answer did not arrive within the tick."""

    def __init__(self) -> None:
        super().__init__(f"no answer within {LIMIT_SECONDS:g} s")


class TickBudget:
    """The time of one tick: no new work starts after ``budget_seconds``."""

    def __init__(self, budget_seconds: float) -> None:
        self._started = time.monotonic()
        self._budget = budget_seconds
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="discovery")

    def is_over(self, share: float = 1.0) -> bool:
        """Whether this share of the budget is spent."""
        return self._left(share) <= 0

    def is_too_late_for(self, future: Future[T], share: float) -> bool:
        """Whether an answer does not arrive within this share of the budget; waits until then."""
        wait([future], timeout=max(0.0, self._left(share)))
        return not future.done()

    def start(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._pool.submit(work, *args, **kwargs)

    def result_of(self, future: Future[T]) -> T:
        """Wait for a result. Raises OutOfTimeError."""
        wait([future], timeout=max(0.0, LIMIT_SECONDS - self._elapsed()))
        if not future.done():
            raise OutOfTimeError
        return future.result()

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Start work and wait for its result. Raises OutOfTimeError."""
        return self.result_of(self.start(work, *args, **kwargs))

    def end(self) -> None:
        """Abandon the threads that still wait for an answer."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _left(self, share: float) -> float:
        return self._budget * share - self._elapsed()

    def _elapsed(self) -> float:
        return time.monotonic() - self._started
