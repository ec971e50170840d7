"""Both sides of a range: packed as they come, and whole again part by part."""

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
    """A range over three months with a gap, half of it in the lake."""
    world.publish(SYMBOLS, days(*RANGE))
    world.put(world.key("BTCUSDT", RANGE[0]) + ".bak", b"stray", sidecar=False)
    world.engine().sync(scope(world.entry(), *RANGE, symbols=[world.symbol("ETHUSDT")]))
    whole = scope(world.entry(), *RANGE)
    return replace(whole, periods=tuple(period for period in whole.periods if str(period) != "2024-02-10"))


def listed(world: World, asked: Scope, *, root: str = "") -> pl.DataFrame:
    """As one listing of either side, by another way than the survey's."""
    bucket = world.lake.bucket if root else world.source
    first, last = min(asked.periods), max(asked.periods)
    folders = folders_of(
        asked.entry.dataset, symbols=[world.symbol(s) for s in SYMBOLS], intervals=["1m"], first=first, last=last
    )
    objects = Lister(bucket, root=root).objects(asked.entry.dataset, folders).objects
    return objects.filter(pl.col("period") != "2024-02-10").sort("key")


@pytest.mark.parametrize(("folders", "keys"), [(64, 8000), (1, 8000), (64, 1)])
def test_a_survey_has_what_the_sides_list_however_it_comes(
    world: World, asked: Scope, monkeypatch: pytest.MonkeyPatch, folders: int, keys: int
) -> None:
    monkeypatch.setattr(listing, "FOLDERS_PARSED", folders)
    monkeypatch.setattr(listing, "KEYS_PARSED", keys)
    survey = SnapshotReader(world.source, world.lake, concurrency=4).survey(asked)
    whole = survey.whole()
    assert whole.source.objects.height == 35 * 3
    assert whole.lake.objects.height == 35
    assert whole.source.objects.sort("key").equals(listed(world, asked))
    assert whole.lake.objects.sort("key").equals(listed(world, asked, root=world.lake.key("archive/binance/")))
    assert [stray.key for stray in whole.source.strays] == [world.key("BTCUSDT", RANGE[0]) + ".bak"]
    assert whole.requests == survey.requests == 4, "three folders here, one there"


@pytest.mark.parametrize("most", [1, 7, 50, 10_000])
def test_parts_are_the_whole_cut_by_period(world: World, asked: Scope, most: int) -> None:
    survey = SnapshotReader(world.source, world.lake, concurrency=4).survey(asked)
    parts = survey.parts(most)
    assert [period for part in parts for period in part.periods] == sorted(asked.periods)
    assert all(len(part.periods) == 1 or len(part.periods) * 3 <= most for part in parts)
    pieces = [survey.within(part) for part in parts]
    for side in ("source", "lake"):
        together = pl.concat([getattr(piece, side).objects for piece in pieces])
        assert together.sort("key").equals(getattr(survey.whole(), side).objects.sort("key"))
    assert {piece.requests for piece in pieces} == {0}
