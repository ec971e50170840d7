"""Snapshots of the source's and the lake's listing: packed in batches, unpacked completely or by window."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from lakehouse_assets.archive import listing
from lakehouse_assets.archive.listing import Lister, folders_of
from lakehouse_assets.sync.listings import SnapshotReader
from lakehouse_assets.sync.scope import Scope
from lakehouse_assets_tests.world import World, days, scope

RANGE = ("2024-01-28", "2024-03-03")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "XRPUSDT")


@pytest.fixture
def asked(world: World) -> Scope:
    """Periods of three months with a gap, half of them in the lake."""
    world.publish(SYMBOLS, days(*RANGE))
    world.put(world.key("BTCUSDT", RANGE[0]) + ".bak", b"stray", sidecar=False)
    world.engine().sync(scope(world.entry(), *RANGE, symbols=[world.symbol("ETHUSDT")]))
    complete_range = scope(world.entry(), *RANGE)
    return replace(
        complete_range, periods=tuple(period for period in complete_range.periods if str(period) != "2024-02-10")
    )


def listed(world: World, asked: Scope, *, root: str = "") -> pl.DataFrame:
    """A listing of the source or the lake, made without a snapshot."""
    bucket = world.lake.bucket if root else world.source
    first, last = min(asked.periods), max(asked.periods)
    folders = folders_of(
        asked.entry.dataset, symbols=[world.symbol(s) for s in SYMBOLS], intervals=["1m"], first=first, last=last
    )
    objects = Lister(bucket, root=root).objects(asked.entry.dataset, folders).objects
    return objects.filter(pl.col("period") != "2024-02-10").sort("key")


@pytest.mark.parametrize(("folders", "keys"), [(64, 8000), (1, 8000), (64, 1)])
def test_a_snapshot_equals_the_listings_for_any_batch_size(
    world: World, asked: Scope, monkeypatch: pytest.MonkeyPatch, folders: int, keys: int
) -> None:
    monkeypatch.setattr(listing, "FOLDERS_PARSED", folders)
    monkeypatch.setattr(listing, "KEYS_PARSED", keys)
    snapshot = SnapshotReader(world.source, world.lake, concurrency=4).read(asked)
    complete = snapshot.unpacked()
    assert complete.source.objects.height == 35 * 3
    assert complete.lake.objects.height == 35
    assert complete.source.objects.sort("key").equals(listed(world, asked))
    assert complete.lake.objects.sort("key").equals(listed(world, asked, root=world.lake.key("archive/binance/")))
    assert [unrecognized.key for unrecognized in complete.source.unrecognized] == [
        world.key("BTCUSDT", RANGE[0]) + ".bak"
    ]
    assert complete.requests == snapshot.requests == 4, "three folders in the source, one in the lake"


@pytest.mark.parametrize("most", [1, 7, 50, 10_000])
def test_windows_split_the_complete_scope_by_period(world: World, asked: Scope, most: int) -> None:
    snapshot = SnapshotReader(world.source, world.lake, concurrency=4).read(asked)
    windows = snapshot.windows(most)
    assert [period for window in windows for period in window.periods] == sorted(asked.periods)
    assert all(len(window.periods) == 1 or len(window.periods) * 3 <= most for window in windows)
    pieces = [snapshot.of(window) for window in windows]
    for side in ("source", "lake"):
        together = pl.concat([getattr(piece, side).objects for piece in pieces])
        assert together.sort("key").equals(getattr(snapshot.unpacked(), side).objects.sort("key"))
    assert {piece.requests for piece in pieces} == {0}
