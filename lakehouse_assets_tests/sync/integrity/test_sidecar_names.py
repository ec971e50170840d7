"""Sidecars are recognized by the name that their exchange gives them, in every place that reads sidecars."""

from __future__ import annotations

import polars as pl
import pytest

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import DatasetEntry, SyncMode
from lakehouse_assets.embedded.samples.objects import sample_objects
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.sync.adopt import adopt, rebuild_manifest
from lakehouse_assets.sync.integrity.verify import Verifier
from lakehouse_assets_tests.world import World, scope

DAY = "2021-01-01"

# Data set, its intervals, and the ending of the sidecar's name that replaces that of the object's.
NAMES = {
    "binance/spot/trades/daily": ([], ".zip.CHECKSUM"),
    "htx/old_spot/klines/daily": (["60min"], ".CHECKSUM"),
    "htx/old_linear_swap/trades/daily": ([], ".CHECKSUM"),
}
each_name = pytest.mark.parametrize("name", NAMES)


def published(store: EmbeddedStore, name: str) -> tuple[World, list[str], list[str]]:
    """A world, and the keys of its objects and of their sidecars."""
    world, dataset = World(store, name.split("/", maxsplit=1)[0]), Dataset.parse(name)
    intervals, ending = NAMES[name]
    period = dataset.period(DAY)
    files = list(
        sample_objects(dataset, symbols=[world.symbol("AUSDT")], intervals=intervals, first=period, last=period)
    )
    for file in files:
        world.put(file.key, file.body, sidecar=False)
    [key] = [file.key for file in files if file.key.endswith(".zip")]
    [sidecar] = [file.key for file in files if file.key != key]
    assert sidecar == key.removesuffix(".zip") + ending
    return world, [key], [sidecar]


def entry_of(world: World, name: str) -> DatasetEntry:
    intervals, _ = NAMES[name]
    return world.entry(name, **({"intervals": intervals} if intervals else {}))


@each_name
@pytest.mark.parametrize("mode", [SyncMode.DIRECT, SyncMode.RELAY, SyncMode.STAGED])
def test_a_sidecar_is_copied_with_its_object_and_verifies_it(store: EmbeddedStore, name: str, mode: SyncMode) -> None:
    world, keys, sidecars = published(store, name)
    entry = entry_of(world, name)
    report = world.engine().sync(scope(entry, DAY), mode=mode)
    assert (report.total("copied"), report.total("sidecars_copied"), report.unrecognized) == (1, 1, ())
    assert set(world.lake_files("archive/")) == {f"{entry.dataset.lake_root}{key}" for key in keys + sidecars}
    Verifier(world.source, world.lake).verify(entry.dataset, scope(entry, DAY).names)
    [row] = world.manifest(name).read([]).to_dicts()
    assert (row["key"], row["state"], row["integrity"]) == (keys[0], "present", Integrity.VERIFIED)
    assert row["sidecar_lake_etag"] is not None
    again = world.engine().sync(scope(entry, DAY), mode=mode)
    assert (again.total("copied"), again.total("sidecars_copied"), again.total("skipped")) == (0, 0, 1)


@each_name
def test_a_sidecar_is_found_in_an_adopted_mirror_and_by_a_rebuilt_manifest(store: EmbeddedStore, name: str) -> None:
    world, keys, sidecars = published(store, name)
    entry = entry_of(world, name)
    world.engine().sync(scope(entry, DAY))
    for key in world.lake_files("_manifest/"):
        world.delete_in_lake(key)
    assert rebuild_manifest(world.lake, entry) == 1
    rebuilt = world.manifest(name).read([])
    assert rebuilt.select("key", pl.col("sidecar_lake_etag").is_not_null()).rows() == [(keys[0], True)]
    done = adopt(world.engine(), Verifier(world.source, world.lake), scope(entry, DAY))
    assert done.objects_read == 1
    assert world.manifest(name).read([])["integrity"].to_list() == [Integrity.VERIFIED]
    assert set(world.lake_files("archive/")) == {f"{entry.dataset.lake_root}{key}" for key in keys + sidecars}
