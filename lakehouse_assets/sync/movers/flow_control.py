"""Flow control of a transfer: parallel copies, failures in a row, and a relay's bytes in flight.

With a distant store, more bytes in flight are faster, up to the bandwidth of the link. A near or busy store only gets
slower: one on two cores took twice the processor time per byte with 256 MB in flight than with 32 MB. So a relay starts
with few bytes in flight and doubles them as long as that raises the throughput.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from lakehouse_assets.archive.errors import StoreFault

if TYPE_CHECKING:
    from lakehouse_assets.sync.movers.base import Outcome, TransferOptions

FIRST_WIDTH = 32 * 1024**2
"""Bytes in flight at the start: enough for 2.5 Gbit/s at 100 ms."""

ROUNDS = 4
"""Throughput is measured over so many times the bytes in flight; during a trial, which has twice as many, over half."""

MIN_GAIN = 1.15
"""A trial that is not faster by this factor is reverted."""

PAUSE = 16
"""Measurements between a reverted trial and the next one, for a link that has changed meanwhile."""


class AdaptiveConcurrency:
    """The number of parallel copies: halved when the store throttles, raised by a quarter after other batches."""

    MIN_WORKERS = 8

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers
        self.workers = max_workers

    def observe(self, outcomes: Iterable[Outcome]) -> None:
        """Adapt to the outcomes of a batch."""
        if any(outcome.fault is not None and outcome.fault.is_throttle for outcome in outcomes):
            self.workers = max(min(self.MIN_WORKERS, self._max_workers), self.workers // 2)
        else:
            self.workers = min(self._max_workers, self.workers + max(1, self.workers // 4))


class CircuitBreaker:
    """Ends a batch at its deadline, or after too many failures in a row. Threads may share it."""

    def __init__(self, options: TransferOptions) -> None:
        self._options = options
        self._deadline = time.monotonic() + options.deadline_seconds
        self._lock = threading.Lock()
        self._failures = 0
        self._last: StoreFault | None = None

    def observe(self, fault: StoreFault | None) -> None:
        """Count an outcome."""
        with self._lock:
            if fault is None:
                self._failures = 0
            elif not fault.is_of_object:
                self._failures += 1
                self._last = self._last if self._failures > self._options.failures_in_a_row else fault

    def tripped(self) -> StoreFault | None:
        """The fault of all copies that were not started yet; None while the batch goes on."""
        if time.monotonic() >= self._deadline:
            return StoreFault("Deadline", f"the batch was ended after {self._options.deadline_seconds:g} s")
        limit = self._options.failures_in_a_row
        with self._lock:
            if self._last is None or self._failures < limit:
                return None
            return replace(self._last, message=f"given up after {limit} failures in a row: {self._last.message}")


class Pace:
    """Finds the number of bytes in flight with the best throughput. Callers pass the time; it has no clock."""

    def __init__(self, max_bytes: int, now: float) -> None:
        self.width = min(FIRST_WIDTH, max_bytes)
        self._max_bytes = max_bytes
        self._before_trial: tuple[int, float] | None = None
        self._pause = 0
        self._begin(now)

    def limits(self) -> None:
        """Note that a transfer waits for room: otherwise the width does not limit the throughput."""
        self._limiting = True

    def moved(self, size: int, now: float) -> None:
        """Count bytes that have arrived."""
        self._moved += size
        rounds = ROUNDS if self._before_trial is None else ROUNDS // 2
        if self._moved < rounds * self.width:
            return
        if self._limiting:
            self._adapt(self._moved / max(now - self._since, 1e-9))
        self._begin(now)

    def _adapt(self, rate: float) -> None:
        if self._before_trial is not None:
            width, former_rate = self._before_trial
            self._before_trial = None
            if rate < MIN_GAIN * former_rate:
                self.width = width
                self._pause = PAUSE
                return
        elif self._pause:
            self._pause -= 1
            return
        if self.width < self._max_bytes:
            self._before_trial = (self.width, rate)
            self.width = min(2 * self.width, self._max_bytes)

    def _begin(self, now: float) -> None:
        self._moved = 0
        self._since = now
        self._limiting = False


class InFlight:
    """Limits the bodies in memory of the tasks of one event loop; first come, first served."""

    def __init__(self, max_bytes: int) -> None:
        self._pace = Pace(max_bytes, time.monotonic())
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[int]]] = deque()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncGenerator[None]:
        """Wait for room for ``size`` bytes, or for the current limit if that is less: no body waits forever."""
        held = await self._take(size)
        try:
            yield
        finally:
            self._held -= held
            self._serve()

    def moved(self, size: int) -> None:
        """Count bytes that have arrived at the lake."""
        self._pace.moved(size, time.monotonic())

    async def _take(self, size: int) -> int:
        given: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, given))
        self._serve()
        return await given

    def _serve(self) -> None:
        while self._waiting:
            size, given = self._waiting[0]
            granted = min(size, self._pace.width)
            if self._held + granted > self._pace.width:
                self._pace.limits()
                return
            self._waiting.popleft()
            if not given.done():
                self._held += granted
                given.set_result(granted)
