"""The manifest as a table: what an earlier version wrote is read and kept."""

from __future__ import annotations

import polars as pl
from deltalake import DeltaTable, write_deltalake

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA
from lakehouse_assets_tests.world import KLINES, World, days, scope


def test_a_manifest_without_the_column_part_is_read_and_gets_it_with_the_next_commit(world: World) -> None:
    entry = world.entry()
    [first, second] = world.publish(["BTCUSDT"], days("2024-01-01", "2024-01-02"))
    world.engine().sync(scope(entry, "2024-01-01", "2024-01-02"))
    written = world.manifest().read([])
    options = world.lake.delta_options
    url = world.lake.url(Dataset.parse(KLINES).manifest_prefix)
    old = written.drop("part")
    write_deltalake(
        url, old, mode="overwrite", schema_mode="overwrite", partition_by=["month"], storage_options=options
    )
    assert "part" not in {field.name for field in DeltaTable(url, storage_options=options).schema().fields}

    assert world.manifest().read([]).equals(written)
    assert world.manifest().read(["2024-01-02"])["key"].to_list() == [second]
    report = world.engine().sync(scope(entry, "2024-01-01", "2024-01-02"))
    assert sum(period.copied for period in report.periods) == 0

    world.put(second, b"rewritten" * 50)
    world.engine().sync(scope(entry, "2024-01-02"))
    rows = world.manifest().read([])
    assert rows.schema == MANIFEST_SCHEMA
    assert rows["key"].to_list() == [first, second]
    assert rows.filter(pl.col("key") == first).equals(written.filter(pl.col("key") == first))
    assert rows["part"].null_count() == 2
    assert "part" in {field.name for field in DeltaTable(url, storage_options=options).schema().fields}
