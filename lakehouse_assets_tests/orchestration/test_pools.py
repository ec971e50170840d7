"""Pools of two lakes in one Dagster instance."""

from __future__ import annotations

import pytest

from lakehouse_assets.definitions import defs
from lakehouse_assets.orchestration.pools import Pools
from lakehouse_assets.tables.table import Table
from lakehouse_assets_tests.world import World


def pools() -> set[str]:
    """The pools of all assets of the code location."""
    return {
        pool
        for asset in defs().resolve_asset_graph().assets_defs
        for pool in (asset.op.pools if asset.is_executable else ())
    }


@pytest.fixture
def no_lake(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BUCKET", "PREFIX", "NAME"):
        monkeypatch.delenv(f"LAKEHOUSE_LAKE_{name}", raising=False)


@pytest.mark.usefixtures("no_lake")
def test_two_lakes_have_no_pool_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    without = pools()
    assert {"archive_binance", "verify_binance", "catalog_binance", "table_binance_um_klines", "maintenance"} < without
    monkeypatch.setenv("LAKEHOUSE_LAKE_BUCKET", "lake")
    bucket = pools()
    assert bucket == {f"lake:{pool}" for pool in without}
    monkeypatch.setenv("LAKEHOUSE_LAKE_PREFIX", "mirror/a")
    prefix = pools()
    assert prefix == {f"lake:mirror:a:{pool}" for pool in without}
    monkeypatch.setenv("LAKEHOUSE_LAKE_NAME", "research")
    assert pools() == {f"research:{pool}" for pool in without}


def test_labels_that_differ_in_a_separator_have_pools_of_their_own() -> None:
    table = Table.parse("binance/um/klines")
    labels = ["lake/a_b", "lake/a/b", "lake_a/b", "lake-a/b", "lake.a/b"]
    assert len({Pools(label).table(table) for label in labels}) == len(labels)


def test_a_pool_names_the_lake_as_the_tags_of_its_runs_do(world: World) -> None:
    assert Pools(world.lake.label).maintenance == f"{world.lake.bucket.name}:{world.lake.prefix.strip('/')}:maintenance"
