"""A whole sync (listings, copies, second listing, manifest) compared with other tools on the same archive.

At one endpoint the store copies server-side (direct); between two endpoints the bytes pass through this machine
(relay, with SHA-256 and MD5 of everything; peers compute none, or MD5 only). The mode is fixed, since ``auto``
would probe every fresh lake, but probes a real one once a week. Every repetition fills a fresh prefix of the lake,
and the tools take turns. A peer uses the number of transfers that is fastest for it here, determined by a trial
each; ours uses its defaults. Afterwards the lake must have every object, whichever tool copied it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets_tests.benchmarks.support import peers
from lakehouse_assets_tests.benchmarks.support.bench import Bench, Shape, bench
from lakehouse_assets_tests.benchmarks.support.measure import Row, Sample, interleaved, seconds, spread, timed

SHAPES = {
    "small": ("10,000 x 20 kB", Shape(100, 100, 20_000)),
    "medium": ("50 x 5 MB", Shape(5, 10, 5_000_000)),
    "large": ("4 x 200 MB", Shape(1, 4, 200_000_000)),
}
QUICK = {
    "small": ("500 x 20 kB", Shape(10, 50, 20_000)),
    "medium": ("10 x 5 MB", Shape(1, 10, 5_000_000)),
    "large": ("2 x 50 MB", Shape(1, 2, 50_000_000)),
}
IDLE = ("100,010 x 80 B", Shape(274, 365, 80))
QUICK_IDLE = ("2,000 x 80 B", Shape(20, 100, 80))
ACROSS_BUDGET = {"small": "0.7x", "medium": "1.0x", "large": "1.0x"}
"""Budgets, as a share of rclone's time."""

ENGINE = "lakehouse sync"


def run(size: str, repeat: int, *, across: bool, quick: bool, workers: int) -> list[Row]:
    """Copying into an empty lake. Ratios are to rclone, or to the first installed peer."""
    case, shape = (QUICK if quick else SHAPES)[size]
    there, missing = peers.found()
    with bench(shape, across=across) as archive:
        mode = SyncMode.RELAY if across else SyncMode.DIRECT
        ways: dict[str, Callable[[Lake], object]] = {ENGINE: partial(_sync, archive, workers=workers, mode=mode)}
        _filled(archive, ways[ENGINE])  # the stores' first objects, which nobody should be charged for
        for peer in there:
            work = peer.across if across else peer.copy
            width = _best_width(archive, peer, work)
            ways[f"{peer.name}{_two_steps(peer, across=across)}, {width} at a time"] = _at(archive, work, width)
        samples = interleaved(
            {name: lambda _n, work=work: _filled(archive, work) for name, work in ways.items()}, repeat
        )
    return _rows(case, samples, missing, budget=ACROSS_BUDGET[size] if across else "")


def idle(repeat: int, *, quick: bool, workers: int) -> list[Row]:
    """A sync of a lake that has everything: nothing may be copied."""
    case, shape = QUICK_IDLE if quick else IDLE
    there, missing = peers.found()
    with bench(shape) as archive:
        mirror = archive.new_lake
        _sync(archive, mirror, workers=workers)
        archive.check(mirror)
        ways = {ENGINE: partial(_sync, archive, mirror, workers=workers, expected=0)}
        for peer in there:
            ways |= {name: partial(work, archive, mirror, peers.WIDEST) for name, work in peer.look.items()}
        samples = interleaved({name: lambda _number, work=work: timed(work) for name, work in ways.items()}, repeat)
    return _rows(case, samples, missing, budget="0.5x of s5cmd, 1.0x of rclone")


def _filled(archive: Bench, work: Callable[[Lake], object]) -> Sample:
    """Fill a fresh prefix of the lake. Raises RuntimeError unless it then has every object."""
    lake = archive.new_lake
    taken = timed(lambda: work(lake))
    archive.check(lake)
    return taken


def _at(archive: Bench, work: peers.Work, width: int) -> Callable[[Lake], object]:
    return lambda lake: work(archive, lake, width)


def _best_width(archive: Bench, peer: peers.Peer, work: peers.Work) -> int:
    """The number of transfers that is fastest, by one trial each."""
    if len(peer.widths) == 1:
        return peer.widths[0]
    return min(peer.widths, key=lambda width: _filled(archive, _at(archive, work, width)).seconds)


def _two_steps(peer: peers.Peer, *, across: bool) -> str:
    return ", down and up" if across and "rclone" not in peer.name else ""


def _rows(case: str, samples: dict[str, list[Sample]], missing: list[str], *, budget: str) -> list[Row]:
    base = next((name for name in samples if "rclone" in name), next(iter(samples)))
    rows = [
        Row(
            case,
            name,
            seconds(taken),
            ratio=seconds(taken) / seconds(samples[base]),
            budget=budget if name == ENGINE else "",
            note=spread(taken) + (_against(samples) if name == ENGINE else ""),
        )
        for name, taken in samples.items()
    ]
    return rows + [Row(case, name.partition(":")[0], float("nan"), note=f"missing; {name}") for name in missing]


def _against(samples: dict[str, list[Sample]]) -> str:
    ours = seconds(samples[ENGINE])
    others = [f"{ours / seconds(taken):.2f}x of {name}" for name, taken in samples.items() if name != ENGINE]
    return f"; {', '.join(others)}" if others else ""


def _sync(
    archive: Bench, lake: Lake, *, workers: int, expected: int | None = None, mode: SyncMode | None = None
) -> None:
    copied = archive.engine(lake, workers).sync(archive.scope, mode=mode).total("copied")
    wanted = archive.shape.objects if expected is None else expected
    if copied != wanted:
        raise RuntimeError(f"{copied} objects were copied instead of {wanted}")
