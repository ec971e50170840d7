"""Bytes in flight: as many as raise the measured throughput, and never more than the memory allows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.sync.movers.flow_control import FIRST_WIDTH, InFlight, Pace

MIB = 1024**2
MOST = 256 * MIB


def widths(
    rate_of: Callable[[int, float], float], *, seconds: float, most: int = MOST, waits: bool = True
) -> list[int]:
    """The width at every MiB received, from a store and network with ``rate_of(width, now)`` bytes per second."""
    now = 0.0
    pace = Pace(most, now)
    seen = []
    while now < seconds:
        if waits:
            pace.limits()
        now += MIB / rate_of(pace.width, now)
        pace.moved(MIB, now)
        seen.append(pace.width)
    return seen


def test_with_high_latency_the_width_grows_to_all_the_memory() -> None:
    seen = widths(lambda width, _now: width / 0.5, seconds=60)
    assert seen[0] == FIRST_WIDTH
    assert seen[-1] == MOST
    assert sorted(set(seen)) == [FIRST_WIDTH, 2 * FIRST_WIDTH, 4 * FIRST_WIDTH, MOST]


@pytest.mark.parametrize("slowed", [1.0, 0.6])
def test_a_saturated_store_gets_no_more_than_its_best_width(slowed: float) -> None:
    seen = widths(lambda width, _now: 100 * MIB * slowed ** (width / FIRST_WIDTH - 1), seconds=300)
    on_trial = sum(width > FIRST_WIDTH for width in seen) / len(seen)
    assert seen[-1] == FIRST_WIDTH
    assert set(seen) == {FIRST_WIDTH, 2 * FIRST_WIDTH}
    assert on_trial < 0.1, "trials are rare"


def test_an_increase_in_latency_is_detected() -> None:
    seen = widths(lambda width, now: 100 * MIB if now < 100 else width / 2.0, seconds=400)
    assert seen[100] == FIRST_WIDTH, "by then nothing has been measured yet"
    assert seen[-1] == MOST


def test_no_trial_starts_while_no_read_waits_for_room() -> None:
    assert set(widths(lambda width, _now: width / 0.5, seconds=60, waits=False)) == {FIRST_WIDTH}


@given(
    most=st.integers(1, 4 * MOST),
    steps=st.lists(st.tuples(st.integers(1, MOST), st.floats(0, 100, allow_subnormal=False), st.booleans())),
)
def test_the_width_never_exceeds_the_memory(most: int, steps: list[tuple[int, float, bool]]) -> None:
    now = 0.0
    pace = Pace(most, now)
    for size, after, waits in steps:
        now += after
        if waits:
            pace.limits()
        pace.moved(size, now)
        assert min(FIRST_WIDTH, most) <= pace.width <= most


@given(sizes=st.lists(st.integers(0, 3 * MOST), max_size=60), most=st.integers(1, MOST))
def test_reserved_bytes_fit_the_memory_and_requests_are_served_in_order(sizes: list[int], most: int) -> None:
    held = 0
    peak = 0
    served: list[int] = []

    async def one(room: InFlight, number: int, size: int) -> None:
        nonlocal held, peak
        async with room.hold(size):
            held += min(size, most)
            peak = max(peak, held)
            served.append(number)
            await asyncio.sleep(0)
            held -= min(size, most)

    async def all_of_them() -> None:
        room = InFlight(most)
        await asyncio.gather(*(one(room, number, size) for number, size in enumerate(sizes)))

    asyncio.run(all_of_them())
    assert served == list(range(len(sizes)))
    assert peak <= max(min(most, FIRST_WIDTH), max((min(size, most) for size in sizes), default=0))


def test_a_failed_transfer_releases_its_room() -> None:
    async def fail_then_hold() -> None:
        room = InFlight(10)
        with pytest.raises(OSError, match="lost"):
            async with room.hold(10):
                raise OSError("lost")
        async with asyncio.timeout(5), room.hold(10):
            pass

    asyncio.run(fail_then_hold())
