"""Several runs at once end in one correct manifest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import polars as pl

from lakehouse_assets.sync.report import PeriodState
from lakehouse_assets_tests.world import World, body_of, days, scope


def assert_true_of_the_lake(world: World, objects: int) -> None:
    rows = world.manifest().read(())
    assert rows.height == rows["key"].n_unique() == objects
    lake = {key: etag.strip('"') for key, (etag, _modified) in world.lake_files("archive/").items()}
    assert set(rows["state"]) == {"present"}
    for key, etag, sidecar_etag in rows.select("key", "lake_etag", "sidecar_lake_etag").iter_rows():
        assert lake[f"archive/binance/{key}"] == etag
        assert lake[f"archive/binance/{key}.CHECKSUM"] == sidecar_etag


def test_two_runs_of_the_same_partition_agree(world: World) -> None:
    world.publish(["BTCUSDT", "ETHUSDT"], ["2024-03-01"])
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(world.engine().sync, scope(world.entry(), "2024-03-01")) for _ in range(2)]
        reports = [run.result() for run in runs]
    assert {report.periods[0].state for report in reports} == {PeriodState.COMPLETE}
    assert_true_of_the_lake(world, 2)


def test_twenty_runs_of_one_dataset_lose_no_row(world: World) -> None:
    month = days("2024-03-01", "2024-03-20")
    world.publish(["BTCUSDT"], month)
    with ThreadPoolExecutor(20) as pool:
        reports = list(pool.map(lambda day: world.engine(workers=4).sync(scope(world.entry(), day)), month))
    assert sum(report.total("copied") for report in reports) == 20
    assert_true_of_the_lake(world, 20)


def test_a_run_that_listed_before_another_replaced_an_object_does_not_record_the_old_one(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"])
    slow, fast = world.engine(), world.engine()
    commit = slow._commit

    def overtaken(*arguments):
        world.put(key, body_of(key, 2, 400))
        fast.sync(scope(world.entry(), "2024-03-01"))
        return commit(*arguments)

    slow._commit = overtaken
    slow.sync(scope(world.entry(), "2024-03-01"))
    assert_true_of_the_lake(world, 1)
    row = world.manifest().read(()).row(0, named=True)
    assert row["source_etag"] == row["lake_etag"]
    assert world.engine().sync(scope(world.entry(), "2024-03-01")).total("copied") == 0
    assert world.manifest().read(()).filter(pl.col("state") != "present").is_empty()
