"""Windows: periods are planned, moved and recorded a few at a time, with the result of a single window."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.errors import InputError, StoreError
from lakehouse_assets.lake.report import PeriodState
from lakehouse_assets.lake.sync_log import read_sync_log
from lakehouse_assets.sync.engine import Engine, EngineOptions
from lakehouse_assets.sync.movers.base import TransferOptions
from lakehouse_assets.sync.progress import Progress, Stage
from lakehouse_assets_tests.faults.proxy import LISTS, Meanwhile, Proxy, Rule
from lakehouse_assets_tests.faults.trial import through
from lakehouse_assets_tests.world import World, days, scope

RANGE = ("2024-02-27", "2024-03-04")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "XRPUSDT")


def engine(world: World, window_objects: int = 7, **transfer: int) -> Engine:
    """Windows of two days (three objects each)."""
    options = EngineOptions(window_objects=window_objects, transfer=TransferOptions(**{"workers": 8} | transfer))
    return Engine(world.source, world.lake, options)


def test_several_windows_have_the_result_of_a_single_window(world: World) -> None:
    world.publish(SYMBOLS, days(*RANGE))
    world.withdraw(world.key("XRPUSDT", "2024-03-02"))
    reported: list[Progress] = []
    report = engine(world).sync(scope(world.entry(), *RANGE), on_progress=reported.append, run_id="r")
    assert [period.period for period in report.periods] == days(*RANGE)
    assert {period.state for period in report.periods} == {PeriodState.COMPLETE}
    assert (report.total("copied"), report.total("sidecars_copied")) == (20, 20)
    assert [progress.stage for progress in reported].count(Stage.COMMITTED) == 4
    assert (reported[-1].files_done, reported[-1].files_total) == (40, 40)
    assert reported[-1].bytes_done == reported[-1].bytes_total == report.total("bytes_copied")
    assert abs(sum(period.seconds for period in report.periods) - report.seconds) < report.seconds / 2
    rows = world.manifest().read(())
    assert (rows.height, set(rows["state"]), set(rows["run_id"])) == (20, {"present"}, {"r"})
    assert read_sync_log(world.lake)["period"].sort().to_list() == days(*RANGE)

    single = world.engine().check(scope(world.entry(), *RANGE))
    in_windows = engine(world).check(scope(world.entry(), *RANGE))
    unlike = {"seconds": 0.0}
    assert [replace(period, **unlike) for period in in_windows.periods] == [
        replace(period, **unlike) for period in single.periods
    ]
    again = engine(world).sync(scope(world.entry(), *RANGE))
    assert (again.total("copied"), again.total("present")) == (0, 20)
    assert world.manifest().read(()).equals(rows)


def test_a_window_has_at_least_one_period(world: World) -> None:
    world.publish(SYMBOLS, days(*RANGE))
    assert engine(world, window_objects=1).sync(scope(world.entry(), *RANGE)).total("copied") == 21


def test_recorded_windows_stay_recorded_when_the_lake_fails_in_a_later_window(world: World) -> None:
    world.publish(SYMBOLS, days(*RANGE))
    with Proxy(world.store.endpoint_url).running() as proxy:
        faulty = through(world, proxy, source=False, max_attempts=1)

        def die(progress: Progress) -> None:
            if progress.stage is Stage.MOVING and progress.files_done == 15:
                proxy.die()

        with pytest.raises(StoreError, match="Unreachable"):
            engine(faulty, retries=0, attempts=1).sync(
                scope(world.entry(), *RANGE), mode=SyncMode.RELAY, on_progress=die
            )
    rows = world.manifest().read(())
    assert set(rows["period"]) == set(days("2024-02-27", "2024-02-28"))
    assert set(rows["integrity"]) == {"verified"}
    assert engine(world).sync(scope(world.entry(), *RANGE)).total("present") == 21


def test_the_circuit_breaker_skips_the_remaining_objects_and_names_them(world: World) -> None:
    keys = world.publish(SYMBOLS, days(*RANGE))
    with world.refused_writes(*keys), Proxy(world.store.endpoint_url).running() as proxy:
        refused = engine(through(world, proxy), failures_in_a_row=12)
        report = refused.sync(scope(world.entry(), *RANGE), mode=SyncMode.DIRECT)
        assert proxy.counts("archive/").total() <= 12
    assert report.total("failed") == 21
    reasons = [failure.reason for period in report.periods for failure in period.failures]
    assert sum(reason.startswith("AccessDenied: ") for reason in reasons) == 6
    untried = [reason for reason in reasons if reason.startswith("NotTried: ")]
    assert len(untried) == 15
    assert all("AccessDenied" in reason for reason in untried)
    assert {failure.code for period in report.periods for failure in period.failures} == {"AccessDenied"}
    assert engine(world).sync(scope(world.entry(), *RANGE)).total("copied") == 21


def test_a_window_whose_only_object_is_refused_does_not_end_the_sync(world: World) -> None:
    world.publish(SYMBOLS, days(*RANGE))
    engine(world).sync(scope(world.entry(), "2024-02-27", "2024-02-28"))
    [refused] = world.publish(["BTCUSDT"], ["2024-02-27"], version=2, sidecars=False)
    with world.refused_writes(refused):
        report = engine(world).sync(scope(world.entry(), *RANGE))
    assert (report.total("copied"), report.total("failed")) == (15, 1)


def test_a_sync_with_nothing_to_copy_only_requests_listings_and_the_manifest(world: World) -> None:
    world.publish(SYMBOLS, days(*RANGE))
    world.engine().sync(scope(world.entry(), *RANGE))
    with Proxy(world.store.endpoint_url).running() as proxy:
        report = through(world, proxy).engine().sync(scope(world.entry(), *RANGE))
        assert proxy.counts("_probes").total() == 0
        assert proxy.counts()["OfBucket"] == 0, "requested versioning or unfinished uploads"
        assert proxy.counts("archive/").total() == 0
        assert proxy.counts()[LISTS[0]] > 0
    assert report.total("present") == 21


def test_a_mode_that_cannot_work_is_refused_when_there_is_something_to_copy(world: World) -> None:
    world.publish(SYMBOLS, [RANGE[0]])
    world.engine().sync(scope(world.entry(), RANGE[0]))
    with Proxy(world.store.endpoint_url).running() as proxy:
        elsewhere = through(world, proxy, lake=False).engine()
        assert elsewhere.sync(scope(world.entry(), RANGE[0]), mode=SyncMode.DIRECT).total("present") == 3
        world.publish(SYMBOLS, [RANGE[1]])
        with pytest.raises(InputError, match="Mode direct needs source and lake at one endpoint"):
            elsewhere.sync(scope(world.entry(), RANGE[1]), mode=SyncMode.DIRECT)


def test_digests_are_recorded_even_if_the_source_fails_after_the_copies(world: World) -> None:
    keys = world.publish(SYMBOLS, [RANGE[0]])
    # One object is withdrawn after the listing, so that the source is listed again.
    with Proxy(world.store.endpoint_url).running() as proxy:
        faulty = through(world, proxy, lake=False, max_attempts=1)

        def lose(progress: Progress) -> None:
            if progress.stage is Stage.LISTED:
                world.withdraw(keys[0])
                proxy.rules = [Rule(Meanwhile(proxy.die_from_within), LISTS)]

        with pytest.raises(StoreError, match="Listing s3://"):
            faulty.engine().sync(scope(world.entry(), RANGE[0]), mode=SyncMode.RELAY, on_progress=lose, run_id="lost")
    rows = world.manifest().read(())
    assert dict(rows.select("key", "state").iter_rows()) == {
        keys[0]: "failed",
        keys[1]: "present",
        keys[2]: "present",
    }
    assert rows["sha256"].null_count() == 1
    assert set(rows.drop_nulls("sha256")["integrity"]) == {"verified"}
    assert read_sync_log(world.lake)["run_id"].to_list() == ["lost"]
    report = world.engine().sync(scope(world.entry(), RANGE[0]))
    assert (report.total("copied"), report.periods[0].state) == (0, PeriodState.COMPLETE)
