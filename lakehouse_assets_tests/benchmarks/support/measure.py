"""Measuring several ways of doing the same work, so that the machine's noise affects all of them alike."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

BLOCK = 512
"""Bytes per block in rusage, independent of the file system."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition: wall seconds; of us and our finished children (not the store) processor seconds and
    bytes written to local disk."""

    seconds: float
    disk_bytes: int = 0
    processor: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the result. ``ratio`` is to the case's way of ratio 1, on medians of one run."""

    case: str
    way: str
    value: float
    unit: str = "s"
    ratio: float | None = None
    budget: str = ""
    note: str = ""


Way = Callable[[int], Sample]
"""Does the work of a repetition, and measures the relevant part."""


def timed(work: Callable[[], object]) -> Sample:
    """Run ``work`` once."""
    written, used, started = _written(), _used(), time.monotonic()
    work()
    return Sample(time.monotonic() - started, _written() - written, _used() - used)


def interleaved(ways: Mapping[str, Way], repeat: int) -> dict[str, list[Sample]]:
    """Run every way ``repeat`` times in turn, starting each repetition with another one.

    What a store pays for having grown, or a neighbour for being noisy, then falls on all of them.
    """
    names = list(ways)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(repeat):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            samples[name].append(ways[name](number))
    return samples


def seconds(samples: list[Sample]) -> float:
    """The median."""
    return median(sample.seconds for sample in samples)


def disk_bytes(samples: list[Sample]) -> int:
    """The median."""
    return int(median(sample.disk_bytes for sample in samples))


def fastest_and_slowest(samples: list[Sample]) -> str:
    """Over all repetitions."""
    times = sorted(sample.seconds for sample in samples)
    return f"{times[0]:.2f} to {times[-1]:.2f} s"


def spread(samples: list[Sample]) -> str:
    """The fastest and the slowest repetition, and the median of processor time."""
    used = median(sample.processor for sample in samples)
    return f"{fastest_and_slowest(samples)}, processor {used:.2f} s"


def saved(ratio: float) -> str:
    """The saving of a way that takes ``ratio`` of another one's time, as text."""
    return f"{1 - ratio:.0%} less time" if ratio < 1 else f"{ratio - 1:.0%} more time"


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def _written() -> int:
    """Output blocks are counted when pages become dirty; files on tmpfs are not counted."""
    return BLOCK * sum(resource.getrusage(who).ru_oublock for who in _WHO)


def _used() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, _WHO))
