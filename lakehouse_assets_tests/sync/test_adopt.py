"""Taking over an existing mirror, and rebuilding a lost manifest."""

from __future__ import annotations

import polars as pl
import pytest

from lakehouse_assets.archive.exchanges.layout import ALL_SYMBOLS
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.embedded.samples.objects import sample_objects
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.sync.adopt import adopt, rebuild_manifest
from lakehouse_assets.sync.integrity.verify import Verifier
from lakehouse_assets_tests.world import World, body_of, days, scope

WEEK = ("2024-03-01", "2024-03-07")


def mirror_by_hand(world: World, keys: list[str], body=lambda key: body_of(key, 1, 400)) -> None:
    """An existing mirror, made by other means: objects only, no manifest."""
    for key in keys:
        world.overwrite_in_lake(f"archive/binance/{key}", body(key))


def forget_the_manifest(world: World) -> None:
    for key in world.lake_files("_manifest/"):
        world.delete_in_lake(key)


def test_an_existing_mirror_is_recorded_and_read_without_a_copy(world: World) -> None:
    keys = world.publish(["BTCUSDT"], days(*WEEK))
    mirror_by_hand(world, keys[:3])
    before = world.lake_files("archive/")
    done = adopt(world.engine(), Verifier(world.source, world.lake), scope(world.entry(), *WEEK))
    assert world.lake_files("archive/") == before
    assert done.objects_read == 3
    rows = world.manifest().read(()).filter(pl.col("lake_etag").is_not_null())
    assert set(rows["mode"]) == {"adopted"}
    report = world.engine().sync(scope(world.entry(), *WEEK))
    assert (report.total("copied"), report.total("sidecars_copied")) == (4, 7)


def test_wrong_objects_of_an_adopted_mirror_are_replaced_and_preserved(world: World) -> None:
    keys = world.publish(["BTCUSDT"], ["2024-03-01"])
    mirror_by_hand(world, keys, lambda _key: b"y" * 400)
    adopt(world.engine(), Verifier(world.source, world.lake), scope(world.entry(), "2024-03-01"))
    assert world.engine().sync(scope(world.entry(), "2024-03-01")).total("copied") == 1
    assert world.lake_body(f"archive/binance/{keys[0]}") == body_of(keys[0], 1, 400)
    [kept] = world.lake_files("_superseded/")
    assert world.lake_body(kept) == b"y" * 400


def test_a_rebuilt_manifest_has_everything_that_the_bucket_shows(world: World) -> None:
    world.publish(["BTCUSDT", "ETHUSDT"], days("2024-02-27", "2024-03-03"))
    world.engine().sync(scope(world.entry(), "2024-02-27", "2024-03-03"), mode=SyncMode.RELAY)
    before = world.manifest().read(())
    forget_the_manifest(world)
    assert rebuild_manifest(world.lake, world.entry()) == 12
    rows = world.manifest().read(())
    columns = [
        "period",
        "symbol",
        "interval",
        "key",
        "state",
        "size",
        "lake_etag",
        "lake_last_modified",
        "sidecar_lake_etag",
    ]
    assert rows.select(columns).equals(before.select(columns))
    assert rows["source_etag"].null_count() == 12
    assert set(rows["mode"]) == {"rebuilt"}
    assert set(rows["integrity"]) == {Integrity.UNVERIFIED}
    assert rebuild_manifest(world.lake, world.entry()) == 0

    assert world.engine().sync(scope(world.entry(), "2024-02-27", "2024-03-03")).total("copied") == 0
    assert world.manifest().read(())["source_etag"].null_count() == 0


def test_a_rebuild_adds_rows_to_a_manifest_and_removes_none(world: World) -> None:
    world.publish(["BTCUSDT"], days(*WEEK))
    world.engine().sync(scope(world.entry(), "2024-03-01", "2024-03-02"))
    before = world.manifest().read(())
    stranger = world.key("ETHUSDT", "2024-03-02")
    mirror_by_hand(world, [stranger])
    assert rebuild_manifest(world.lake, world.entry()) == 1
    after = world.manifest().read(())
    assert after.filter(pl.col("key") != stranger).equals(before)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("gate/spot/orderbooks/daily", "2022-02-28", "2022-03-01"),
        ("bitmex/derivatives/trade/daily", "2022-02-28", "2022-03-01"),
    ],
)
def test_a_manifest_is_rebuilt_where_symbols_have_no_folders(
    store: EmbeddedStore, name: str, first: str, last: str
) -> None:
    world = World(store, name.split("/", maxsplit=1)[0])
    entry = world.entry(name)
    dataset = entry.dataset
    symbols = [world.symbol("BTC_USDT")] if entry.symbols.include else [ALL_SYMBOLS]
    for file in sample_objects(dataset, symbols=symbols, first=dataset.period(first), last=dataset.period(last)):
        world.put(file.key, file.body)
    world.engine().sync(scope(entry, first, last))
    before = world.manifest(name).read(())
    forget_the_manifest(world)
    assert rebuild_manifest(world.lake, entry) == before.height == 2 * max(1, len(dataset.layout.parts))
    columns = ["period", "symbol", "part", "key", "state", "size", "lake_etag"]
    assert world.manifest(name).read(()).select(columns).equals(before.select(columns))
