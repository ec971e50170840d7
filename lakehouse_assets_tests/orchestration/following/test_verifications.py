"""Verifications follow their archives by state, as tables do: while objects are not verified, they are asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lakehouse_assets.archive.bucket import Credentials
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.orchestration.following.sensors import VERIFICATIONS_FOLLOW, build_follow_sensors
from lakehouse_assets.tables.table import tables_of
from lakehouse_assets_tests.orchestration.following.conftest import Following
from lakehouse_assets_tests.orchestration.watcher import lake_at
from lakehouse_assets_tests.world import World, body_of, scope

ONE, TWO = "2024-03-05", "2024-03-06"


def sync(world: World, entry: DatasetEntry, first: str, last: str | None = None) -> None:
    world.engine().sync(scope(entry, first, last))


@pytest.fixture
def entry(world: World) -> DatasetEntry:
    return world.entry(verify="full")


@pytest.fixture
def verifications(following: Callable[..., Following], entry: DatasetEntry) -> Following:
    return following(entry, name=VERIFICATIONS_FOLLOW)


def names_of(*entries: DatasetEntry) -> list[str]:
    return [sensor.name for sensor in build_follow_sensors(tables_of(entries), entries)]


def test_a_dataset_is_followed_only_if_the_matrix_says_so(world: World) -> None:
    assert names_of(world.entry()) == ["tables_follow"]
    for verify in ("full", "sampled"):
        assert names_of(world.entry(verify=verify)) == ["tables_follow", "verifications_follow"]
    assert names_of(world.entry(verify="full", paused=True)) == ["tables_follow"]


def test_each_content_is_verified_once(verifications: Following, world: World, entry: DatasetEntry) -> None:
    [key, _] = world.publish(["BTCUSDT"], [ONE, TWO])
    sync(world, entry, ONE, TWO)
    assert verifications.settle() == [f"{ONE}..{TWO}"]
    sync(world, entry, ONE, TWO)
    assert verifications.asked_for() == []
    world.put(key, body_of(key, 2, 400))
    sync(world, entry, ONE)
    assert verifications.settle() == [ONE]
    assert set(world.manifest().read([])["integrity"]) == {"verified"}


def test_a_mismatch_is_a_finding_and_not_asked_for_again(
    verifications: Following, world: World, entry: DatasetEntry
) -> None:
    [key] = world.publish(["BTCUSDT"], [ONE])
    world.put(f"{key}.CHECKSUM", b"0" * 64 + f"  {key.rsplit('/', 1)[1]}".encode(), sidecar=False)
    sync(world, entry, ONE)
    assert verifications.settle() == [ONE]
    assert set(world.manifest().read([])["integrity"]) == {"mismatch"}


def test_a_verification_that_failed_is_asked_for_again(
    verifications: Following, world: World, entry: DatasetEntry
) -> None:
    world.publish(["BTCUSDT"], [ONE])
    sync(world, entry, ONE)
    [request] = verifications.tick()
    assert not verifications.run(request, lake=lake_at(world, credentials=Credentials("who", "wrong"))).success
    assert verifications.asked_for() == []
    verifications.restart()
    [again] = verifications.tick(later=300)
    assert verifications.run(again).success
    assert verifications.asked_for(later=86_400) == []


def test_a_sampled_verification_is_done_once_its_sample_is_read(
    following: Callable[..., Following], world: World
) -> None:
    entry = world.entry(verify="sampled")
    verifications = following(entry, name=VERIFICATIONS_FOLLOW)
    symbols = [f"S{number}" for number in range(60)]
    world.publish(symbols, [ONE])
    sync(world, entry, ONE)
    verifications.settle()
    read = world.manifest().read([])["verified_at"].is_not_null().sum()
    assert 0 <= read < len(symbols) / 2
    assert verifications.asked_for() == []
