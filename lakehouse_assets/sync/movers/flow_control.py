"""How many bytes a relay has in flight: as many as pay, within the memory that it may use.

Over a long way more in flight is faster, up to the link's width. A store near by, or a busy one, only
gets slower: one on two cores took twice the processor time per byte for 256 MB in flight of what it
took for 32. So a relay begins with little and doubles it for as long as that moves more bytes a second.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

FIRST_WIDTH = 32 * 1024**2
"""Bytes in flight that a relay begins with: 2.5 Gbit/s over 100 ms."""

ROUNDS = 4
"""A width is measured over so many times its bytes; on trial over half as many, which are twice as wide."""

PAYS = 1.15
"""A trial that is not so much faster is taken back."""

RESTS = 16
"""Measurements after a trial that did not pay until the next one: the way may have become another."""


class Pace:
    """Finds the bytes in flight that pay. Told what arrives and when; it has no clock of its own."""

    def __init__(self, most: int, now: float) -> None:
        self.width = min(FIRST_WIDTH, most)
        self._most = most
        self._former: tuple[int, float] | None = None
        self._rests = 0
        self._begin(now)

    def limits(self) -> None:
        """Something waits for room: only then does it matter how much there is."""
        self._limiting = True

    def moved(self, size: int, now: float) -> None:
        """Bytes that have arrived."""
        self._moved += size
        rounds = ROUNDS if self._former is None else ROUNDS // 2
        if self._moved < rounds * self.width:
            return
        if self._limiting:
            self._judge(self._moved / max(now - self._since, 1e-9))
        self._begin(now)

    def _judge(self, rate: float) -> None:
        if self._former is not None:
            width, former_rate = self._former
            self._former = None
            if rate < PAYS * former_rate:
                self.width = width
                self._rests = RESTS
                return
        elif self._rests:
            self._rests -= 1
            return
        if self.width < self._most:
            self._former = (self.width, rate)
            self.width = min(2 * self.width, self._most)

    def _begin(self, now: float) -> None:
        self._moved = 0
        self._since = now
        self._limiting = False


class InFlight:
    """Room for bodies, for the tasks of one event loop; given in the order in which it is asked for."""

    def __init__(self, most: int) -> None:
        self._pace = Pace(most, time.monotonic())
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[int]]] = deque()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncGenerator[None]:
        """Room for ``size`` bytes; for all that there may be where that is less, so that nothing waits for ever."""
        held = await self._take(size)
        try:
            yield
        finally:
            self._held -= held
            self._serve()

    def moved(self, size: int) -> None:
        """Bytes that have arrived at the lake."""
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
