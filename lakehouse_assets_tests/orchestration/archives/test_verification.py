"""The verification asset: a separate step, whose check distinguishes faults of the exchange from faults of the lake."""

from __future__ import annotations

import hashlib

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.archives.verification import build_verification_asset
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets_tests.orchestration.conftest import Runner, resources_of
from lakehouse_assets_tests.world import World, days

FIRST, LAST = "2024-03-01", "2024-03-03"


def verify(runner: Runner, entry: DatasetEntry, first: str, last: str) -> dg.ExecuteInProcessResult:
    verification = build_verification_asset(entry)
    return dg.materialize(
        [build_archive_asset(entry, "s3://lake"), verification],
        selection=[verification.key],
        instance=runner.instance,
        resources=resources_of(runner.world),
        raise_on_error=False,
        tags=range_tags(first, last),
    )


def test_each_period_is_reported_with_its_counts_and_the_check_passes(runner: Runner, world: World) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT", "ETHUSDT"], days(FIRST, LAST))
    runner.run(entry, FIRST, LAST)
    result = verify(runner, entry, FIRST, LAST)
    assert result.success
    key = dg.AssetKey([*entry.dataset.asset_key, "verified"])
    assert sorted(runner.instance.get_materialized_partitions(key)) == days(FIRST, LAST)
    [check] = result.get_asset_check_evaluations()
    assert (check.passed, check.metadata["objects_read"].value) == (True, 6)
    [second] = verify(runner, entry, FIRST, LAST).get_asset_check_evaluations()
    assert (second.passed, second.metadata["objects_read"].value) == (True, 0)
    assert second.metadata["objects_verified"].value == 6


def test_a_period_that_is_not_in_the_lake_is_not_materialized(runner: Runner, world: World) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT"], [FIRST])
    runner.run(entry, FIRST)
    assert verify(runner, entry, FIRST, LAST).success
    key = dg.AssetKey([*entry.dataset.asset_key, "verified"])
    assert sorted(runner.instance.get_materialized_partitions(key)) == [FIRST]


@pytest.mark.parametrize(
    ("damage_the_lake", "severity"), [(False, dg.AssetCheckSeverity.WARN), (True, dg.AssetCheckSeverity.ERROR)]
)
def test_a_wrong_sidecar_warns_and_a_wrong_copy_is_an_error(
    runner: Runner, world: World, *, damage_the_lake: bool, severity: dg.AssetCheckSeverity
) -> None:
    entry = world.entry()
    [key] = world.publish(["BTCUSDT"], [FIRST])
    if not damage_the_lake:
        world.put(f"{key}.CHECKSUM", b"0" * 64, sidecar=False)
    runner.run(entry, FIRST)
    if damage_the_lake:
        world.overwrite_in_lake(f"archive/binance/{key}", b"x" * 400)
        etag = hashlib.md5(b"x" * 400).hexdigest()
        world.manifest().replace([FIRST], lambda rows: rows.with_columns(lake_etag=pl.lit(etag)), run_id=None)
    result = verify(runner, entry, FIRST, FIRST)
    assert result.success
    [check] = result.get_asset_check_evaluations()
    assert (check.passed, check.severity) == (False, severity)
    assert key in check.metadata["mismatches"].value


def test_verification_has_its_own_pool_and_is_not_part_of_the_archive_step(world: World) -> None:
    archive, verification = build_archive_asset(world.entry(), "s3://lake"), build_verification_asset(world.entry())
    assert (archive.op.pool, verification.op.pool) == ("archive_binance", "verify_binance")
    assert archive.keys.isdisjoint(verification.keys)
    assert archive.backfill_policy.max_partitions_per_run != verification.backfill_policy.max_partitions_per_run
