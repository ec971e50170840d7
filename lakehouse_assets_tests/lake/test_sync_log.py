"""The sync log, and the efficiency report that sums it up."""

from __future__ import annotations

from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.lake.sync_log import efficiency, read_sync_log
from lakehouse_assets_tests.world import World, days, scope


def test_each_mode_adds_its_cost_and_its_savings(world: World) -> None:
    world.publish(["BTCUSDT"], days("2024-03-01", "2024-03-03"))
    for day, mode in zip(
        days("2024-03-01", "2024-03-03"), (SyncMode.DIRECT, SyncMode.RELAY, SyncMode.STAGED), strict=True
    ):
        world.engine().sync(scope(world.entry(), day), mode=mode, run_id=f"run-{mode}")
    history = read_sync_log(world.lake)
    assert history["period"].to_list() == days("2024-03-01", "2024-03-03")
    assert history["run_id"].to_list() == ["run-direct", "run-relay", "run-staged"]
    assert history["operations"].to_list() == [2, 4, 10]
    assert history["operations_saved"].to_list() == [8, 6, 0]
    size = history["bytes_copied"][0]
    assert size > 400
    assert history["network_bytes"].to_list() == [0, 2 * size, 2 * size]
    assert history["network_bytes_saved"].to_list() == [2 * size, 0, 0]
    assert history["local_bytes_written"].to_list() == [0, 0, size]
    for by in ("day", "month"):
        [row] = efficiency(history, by=by).to_dicts()
        assert (row["periods"], row["objects"], row["operations"], row["operations_saved"]) == (3, 3, 16, 14)
        assert row["bytes_per_second"] == row["bytes_copied"] / row["seconds"]


def test_a_sync_that_changes_nothing_leaves_no_row(world: World) -> None:
    world.publish(["BTCUSDT"], ["2024-03-01"])
    for _ in range(2):
        world.engine().sync(scope(world.entry(), "2024-03-01"))
    assert read_sync_log(world.lake).height == 1


def test_a_lake_without_any_sync_has_an_empty_sync_log(world: World) -> None:
    assert read_sync_log(world.lake).is_empty()
    assert efficiency(read_sync_log(world.lake), by="day").is_empty()
