"""Concurrent runs leave one correct manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import polars as pl
import pytest

from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.lake.report import PeriodState
from lakehouse_assets.sync.engine import Engine, EngineOptions
from lakehouse_assets.sync.movers.base import TransferOptions
from lakehouse_assets.sync.progress import OnProgress, Progress, Stage
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


def once_listed(action: Callable[[], object], stage: Stage = Stage.LISTED) -> OnProgress:
    """A callback that runs another run's action once, when this run reaches the stage."""
    left = [action]

    def on_progress(progress: Progress) -> None:
        if progress.stage is stage and left:
            left.pop()()

    return on_progress


def assert_former_bytes_are_kept(world: World, key: str) -> None:
    row = world.manifest().read(()).row(by_predicate=pl.col("key") == key, named=True)
    assert row["state"] == "present"
    assert world.lake_body(f"archive/binance/{key}") == body_of(key, 2, 400)
    assert world.lake_body(row["superseded_key"]) == body_of(key, 1, 400)
    assert row["former_etag"] == hashlib.md5(body_of(key, 1, 400)).hexdigest()
    assert list(world.lake_files(f"_superseded/binance/{key}/")) == [row["superseded_key"]]


@pytest.mark.parametrize("mode", [SyncMode.DIRECT, SyncMode.RELAY, SyncMode.STAGED])
def test_bytes_preserved_by_another_run_are_not_overwritten_by_a_run_with_an_older_listing(
    world: World, mode: SyncMode
) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"])
    requested = scope(world.entry(), "2024-03-01")
    world.engine().sync(requested, mode=mode)
    world.put(key, body_of(key, 2, 400))
    report = world.engine().sync(
        requested, mode=mode, on_progress=once_listed(lambda: world.engine().sync(requested, mode=mode))
    )
    assert (report.periods[0].state, report.total("copied")) == (PeriodState.COMPLETE, 0)
    assert_former_bytes_are_kept(world, key)


def test_a_long_run_trusts_newer_manifest_rows_over_its_own_listing(world: World) -> None:
    keys = world.publish(["BTCUSDT"], days("2024-03-01", "2024-03-03"))
    requested, last = scope(world.entry(), "2024-03-01", "2024-03-03"), scope(world.entry(), "2024-03-03")
    world.engine().sync(requested)
    for key in keys:
        world.put(key, body_of(key, 2, 400))
    options = EngineOptions(window_objects=1, transfer=TransferOptions(workers=8))
    slow = Engine(world.source, world.lake, options)
    report = slow.sync(requested, on_progress=once_listed(lambda: world.engine().sync(last), Stage.COMMITTED))
    assert report.total("copied") == 2
    for key in keys:
        assert_former_bytes_are_kept(world, key)


def test_former_bytes_are_preserved_once_if_another_run_replaces_the_object_first(world: World) -> None:
    """The replacement happens after the manifest is read: only the condition of the copy can detect it."""
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"])
    requested = scope(world.entry(), "2024-03-01")
    world.engine().sync(requested)
    world.put(key, body_of(key, 2, 400))
    slow = world.engine()
    move = slow._move

    def overtaken(*arguments):
        world.engine().sync(requested)
        return move(*arguments)

    slow._move = overtaken
    assert slow.sync(requested).periods[0].state is PeriodState.COMPLETE
    assert_former_bytes_are_kept(world, key)


def test_a_partial_run_records_objects_that_another_run_copied_meanwhile(world: World) -> None:
    world.publish(["AUSDT", "BUSDT"], ["2024-03-01"])
    requested = scope(world.entry(), "2024-03-01")
    partial = replace(requested, symbols=(world.symbol("AUSDT"),))
    report = world.engine().sync(
        partial, on_progress=once_listed(lambda: world.engine().sync(requested, mode=SyncMode.RELAY))
    )
    assert report.periods[0].state is PeriodState.COMPLETE
    assert_true_of_the_lake(world, 2)
    assert set(world.manifest().read(())["integrity"]) == {"verified"}
