"""Incomplete periods are those of the statistics, found without reading what is complete."""

from __future__ import annotations

import polars as pl

from lakehouse_assets.lake.manifest_stats import INCOMPLETE_SCHEMA, ManifestStats, incomplete_periods, is_complete
from lakehouse_assets_tests.world import World, scope


def change(world: World, period: str, symbol: str, **columns: pl.Expr) -> None:
    """Change the manifest's row of one object."""
    is_row = pl.col("symbol") == world.symbol(symbol)
    world.manifest().replace(
        [period],
        lambda rows: rows.with_columns(
            pl.when(is_row).then(value).otherwise(name).alias(name) for name, value in columns.items()
        ),
        run_id=None,
    )


def test_the_periods_with_most_missing_objects_come_first(world: World) -> None:
    assert incomplete_periods(world.manifest()).equals(INCOMPLETE_SCHEMA.to_frame())
    periods = ["2023-12-31", "2024-01-01", "2024-02-01", "2024-03-01"]
    world.publish(["A", "B", "C"], periods)
    for period in periods:
        world.engine().sync(scope(world.entry(), period))
    assert incomplete_periods(world.manifest()).is_empty()
    change(world, "2024-01-01", "A", state=pl.lit("failed"))
    change(world, "2024-02-01", "A", state=pl.lit("missing"))
    change(world, "2024-02-01", "B", state=pl.lit("changed"))
    change(world, "2024-03-01", "B", state=pl.lit("vanished"))  # withdrawn: complete
    change(world, "2023-12-31", "C", missed_at=pl.lit("2024-01-02").str.to_datetime("%Y-%m-%d", time_zone="UTC"))
    found = incomplete_periods(world.manifest())
    assert found.rows() == [("2024-02-01", 3, 1, 0), ("2024-01-01", 3, 2, 0), ("2023-12-31", 3, 3, 1)]
    stats = ManifestStats(world.lake).of(world.entry().dataset)
    assert found.sort("period").equals(stats.filter(~is_complete()).select(INCOMPLETE_SCHEMA.names()))


def test_only_months_that_may_have_incomplete_periods_are_read(world: World) -> None:
    for period in ("2024-01-01", "2024-02-01"):
        world.publish(["A", "B"], [period])
        world.engine().sync(scope(world.entry(), period))
    change(world, "2024-02-01", "A", state=pl.lit("failed"))
    place = world.entry().dataset.manifest_prefix
    for name in world.lake_files(f"{place}/month=2024-01"):
        world.delete_in_lake(name)
    assert incomplete_periods(world.manifest())["period"].to_list() == ["2024-02-01"]
