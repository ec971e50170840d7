"""Manifest statistics equal what is in the lake, and only changed months are read again."""

from __future__ import annotations

import polars as pl
import pytest

from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.manifest_stats import MANIFEST_STATS_SCHEMA, ManifestStats
from lakehouse_assets_tests.world import World, scope


def row(stats: pl.DataFrame, period: str) -> dict:
    return stats.filter(pl.col("period") == period).row(0, named=True)


def test_counts_per_period_and_state(world: World) -> None:
    world.publish(["BTCUSDT", "ETHUSDT"], ["2024-03-30", "2024-03-31", "2024-04-01"], size=500)
    refused = world.key("ETHUSDT", "2024-03-31")
    with world.refused_writes(refused):
        world.engine(attempts=1).sync(scope(world.entry(), "2024-03-30", "2024-04-01"), mode="direct")
    stats = ManifestStats(world.lake).of(world.entry().dataset)
    assert stats.schema == MANIFEST_STATS_SCHEMA
    assert stats["period"].to_list() == ["2024-03-30", "2024-03-31", "2024-04-01"]
    whole, partly = row(stats, "2024-03-30"), row(stats, "2024-03-31")
    assert (whole["expected"], whole["present"], whole["bytes"], whole["failed"]) == (2, 2, 1000, 0)
    assert (partly["expected"], partly["present"], partly["bytes"], partly["failed"]) == (2, 1, 500, 1)
    assert whole["unverified"] + whole["verified"] == 2
    assert whole["synced_at"] is not None


def test_a_withdrawn_object_is_kept_and_not_expected(world: World) -> None:
    [key, _other] = world.publish(["BTCUSDT", "ETHUSDT"], ["2024-03-01"])
    world.engine().sync(scope(world.entry(), "2024-03-01"))
    world.withdraw(key)
    world.engine().sync(scope(world.entry(), "2024-03-01"))
    counted = row(ManifestStats(world.lake).of(world.entry().dataset), "2024-03-01")
    assert (counted["expected"], counted["present"], counted["vanished"]) == (1, 1, 1)


def test_only_months_that_changed_are_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish(["BTCUSDT"], ["2024-03-01", "2024-04-01"])
    for day in ("2024-03-01", "2024-04-01"):
        world.engine().sync(scope(world.entry(), day))
    stats, scanned = ManifestStats(world.lake), []
    months = Manifest.months

    def noted(self: Manifest):
        files, scan = months(self)

        def scan_noted(names):
            scanned.append(sorted(names))
            return scan(names)

        return files, scan_noted

    monkeypatch.setattr(Manifest, "months", noted)
    dataset = world.entry().dataset
    first = stats.of(dataset)
    assert stats.of(dataset).equals(first)
    assert scanned == [["2024-03", "2024-04"]]
    world.publish(["ETHUSDT"], ["2024-04-01"])
    world.engine().sync(scope(world.entry(), "2024-04-01"))
    again = stats.of(dataset)
    assert scanned[1:] == [["2024-04"]]
    assert (row(again, "2024-03-01")["present"], row(again, "2024-04-01")["present"]) == (1, 2)


def test_a_lake_without_manifests_counts_nothing(world: World) -> None:
    assert ManifestStats(world.lake).of(world.entry().dataset).equals(MANIFEST_STATS_SCHEMA.to_frame())
