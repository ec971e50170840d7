"""A listing that lacks many known objects: an outage, until the gap lasts or an operator accepts withdrawals."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.listing import Lister
from lakehouse_assets.archive.matrix import DatasetEntry, SyncMode
from lakehouse_assets.lake.manifest_cache import ManifestCache
from lakehouse_assets.lake.manifest_stats import ManifestStats
from lakehouse_assets.lake.report import PeriodState, SyncReport, implausible_text
from lakehouse_assets.lake.withdrawal import WithdrawalLimits
from lakehouse_assets.sync.changes import compare, folder_batches, folders_holding
from lakehouse_assets.sync.engine import Engine, EngineOptions
from lakehouse_assets.sync.scope import Scope
from lakehouse_assets_tests.faults.listings import edited, replaced, without
from lakehouse_assets_tests.world import World, days, scope

DAYS = days("2024-03-01", "2024-03-04")
SYMBOLS = ["AUSDT", "BUSDT", "CUSDT"]
INTERVALS = ["1m", "1h"]
ALL = len(DAYS) * len(SYMBOLS) * len(INTERVALS)


def asked(world: World, **fields: object) -> Scope:
    return scope(world.entry(intervals=INTERVALS, **fields), DAYS[0], DAYS[-1])


def engine(world: World, source: Bucket, limits: WithdrawalLimits) -> Engine:
    return Engine(source, world.lake, EngineOptions(withdrawal_limits=limits))


@pytest.fixture
def synced(world: World) -> World:
    """A world whose lake has some days of three symbols and two intervals."""
    world.publish(SYMBOLS, DAYS, intervals=INTERVALS)
    assert states(world.engine().sync(asked(world))) == {PeriodState.COMPLETE}
    return world


def states(report: SyncReport) -> set[PeriodState]:
    return {period.state for period in report.periods}


GONE = {
    "everything": ("<Key>", ALL, 0),
    "every folder": ("<Contents>|<CommonPrefixes>", ALL, 0),
    "two symbols": ("[AB]USDT-", 2 * ALL // 3, 0),
    "an interval": ("-1h-", ALL // 2, 0),
    "sidecars": (r"\.CHECKSUM</Key>", 0, ALL),
}
"""What a listing lacks: the entries that match a pattern, and the number of objects and of sidecars among them."""


@pytest.mark.parametrize(("pattern", "objects", "sidecars"), GONE.values(), ids=GONE.keys())
def test_a_listing_that_lacks_many_objects_is_an_outage_and_the_lakes_copies_stay(
    synced: World, pattern: str, objects: int, sidecars: int
) -> None:
    world, before = synced, synced.manifest().read(())
    with edited(world.source, without(pattern)) as source:
        planned = world.engine(source).plan(asked(world)).summary()
        first, second = (world.engine(source).sync(asked(world)) for _ in range(2))
        judged = world.engine(source).check(asked(world))
    assert (planned.doubted, planned.withdrawn, planned.objects) == (objects, 0, 0)
    for report in (first, second, judged):
        assert states(report) == {PeriodState.INCOMPLETE}
        assert [report.total(name) for name in ("doubted", "sidecars_doubted", "withdrawn")] == [objects, sidecars, 0]
        assert all("listing lacks it" in period.failures[0].reason for period in report.periods)
    kept = world.manifest().read(())
    assert kept["missed_at"].null_count() == ALL - objects - sidecars
    assert kept.drop("missed_at", "seen_at").equals(before.drop("missed_at", "seen_at"))

    assert states(world.engine().sync(asked(world))) == {PeriodState.COMPLETE}
    assert world.manifest().read(()).drop("seen_at").equals(before.drop("seen_at"))


def test_the_text_about_an_implausible_listing_names_the_url_and_the_numbers(synced: World) -> None:
    with edited(synced.source, without("<Key>")) as source:
        report = synced.engine(source).check(asked(synced))
    text = implausible_text(report, "s3://archive/klines/")
    assert text is not None
    assert text.startswith(f"Listing s3://archive/klines/ lacks {ALL} of {ALL} objects that were there: ")
    assert implausible_text(synced.engine().check(asked(synced)), "s3://archive/klines/") is None


@pytest.mark.parametrize(("pattern", "objects", "sidecars"), GONE.values(), ids=GONE.keys())
def test_a_lasting_gap_is_accepted_as_a_withdrawal(synced: World, pattern: str, objects: int, sidecars: int) -> None:
    world = synced
    with edited(world.source, without(pattern)) as source:
        at_once = engine(world, source, WithdrawalLimits(hours=0))
        assert states(at_once.sync(asked(world))) == {PeriodState.INCOMPLETE}
        for report in (at_once.sync(asked(world)), world.engine(source).sync(asked(world))):
            assert states(report) == {PeriodState.COMPLETE}
            assert (report.total("withdrawn"), report.total("doubted")) == (objects, 0)
    rows = world.manifest().read(())
    assert rows["missed_at"].null_count() == ALL
    assert (rows["state"] == "vanished").sum() == objects
    assert rows["sidecar_withdrawn"].sum() == sidecars
    assert states(world.engine().sync(asked(world))) == {PeriodState.COMPLETE}
    assert world.manifest().read(())["sidecar_withdrawn"].null_count() == ALL


def test_an_operator_who_accepts_withdrawals_is_obeyed_at_once(synced: World) -> None:
    with edited(synced.source, without("-1h-")) as source:
        report = synced.engine(source).sync(asked(synced), accept_withdrawals=True)
    assert states(report) == {PeriodState.COMPLETE}
    assert report.total("withdrawn") == ALL // 2


@pytest.mark.parametrize("limits", [WithdrawalLimits(objects=12), WithdrawalLimits(share=0.5)])
def test_a_gap_within_the_limits_is_a_withdrawal(synced: World, limits: WithdrawalLimits) -> None:
    with edited(synced.source, without("-1h-")) as source:
        report = engine(synced, source, limits).sync(asked(synced))
    assert (states(report), report.total("withdrawn")) == ({PeriodState.COMPLETE}, ALL // 2)


def test_an_empty_listing_is_an_outage_even_for_a_small_archive(world: World) -> None:
    """A single object may be withdrawn at any time; an empty listing of several is no evidence that all were."""
    world.publish(["AUSDT"], DAYS[:2])
    several, one = scope(world.entry(), DAYS[0], DAYS[1]), scope(world.entry(), DAYS[0])
    world.engine().sync(several)
    with edited(world.source, without("<Key>")) as source:
        report = world.engine(source).sync(several)
        assert (states(report), report.total("doubted")) == ({PeriodState.INCOMPLETE}, 2)
        assert states(world.engine(source).sync(several, accept_withdrawals=True)) == {PeriodState.COMPLETE}
    assert states(world.engine().sync(several)) == {PeriodState.COMPLETE}
    with edited(world.source, without("<Key>")) as source:
        assert world.engine(source).sync(one).total("withdrawn") == 1


def test_an_outage_keeps_objects_that_were_never_copied(world: World) -> None:
    symbols = [f"S{number:02}USDT" for number in range(12)]
    keys = world.publish(symbols, DAYS[:1])
    period = scope(world.entry(), DAYS[0])
    with world.refused_writes(*keys[2:]):
        world.engine().sync(period)
    with edited(world.source, without("<Key>")) as source:
        [report] = world.engine(source).sync(period).periods
    assert (report.state, report.expected, report.present, report.doubted) == (PeriodState.INCOMPLETE, 12, 2, 12)
    assert set(world.manifest().read(())["key"]) == set(keys)
    assert world.engine().sync(period).total("copied") == 10


def test_a_clock_that_was_ahead_does_not_prolong_an_implausible_gap(synced: World) -> None:
    with edited(synced.source, without("<Key>")) as source:
        synced.engine(source).sync(asked(synced))
        table = DeltaTable(synced.manifest().url, storage_options=synced.lake.delta_options)
        table.update({"missed_at": "timestamp '2099-01-01T00:00:00Z'"})
        synced.engine(source).sync(asked(synced))
    assert synced.manifest().read(()).filter(pl.col("missed_at") > datetime.now(UTC)).is_empty()


def test_a_matrix_with_fewer_symbols_is_no_outage(synced: World) -> None:
    narrower = synced.entry(symbols={"include": [synced.symbol("AUSDT")]})
    report = synced.engine().sync(scope(narrower, DAYS[0], DAYS[-1]))
    assert (states(report), report.total("doubted")) == ({PeriodState.COMPLETE}, 0)


def test_new_objects_are_copied_while_a_listing_is_implausible(synced: World) -> None:
    synced.publish(["DUSDT"], DAYS[:1], intervals=["1m"])
    with edited(synced.source, without("-1h-")) as source:
        report = synced.engine(source).sync(asked(synced))
    assert (report.total("copied"), report.total("doubted")) == (1, ALL // 2)


def test_a_listing_that_is_complete_at_the_second_request_is_accepted(synced: World) -> None:
    source = _Once(synced)
    with source.running() as bucket:
        report = synced.engine(bucket).sync(asked(synced))
    assert (states(report), report.total("doubted")) == ({PeriodState.COMPLETE}, 0)


class _Once:
    """A source whose first listing of each folder lacks all keys."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: set[str] = set()

    def running(self):
        return edited(self._world.source, self._edit)

    def _edit(self, page: str) -> str:
        folder = page.partition("<Prefix>")[2].partition("<")[0]
        if folder in self._seen or "<Key>" not in page:
            return page
        self._seen.add(folder)
        return without("<Key>")(page)


def test_a_period_with_an_implausible_gap_differs_until_it_is_complete_again(synced: World) -> None:
    world, entry = synced, asked(synced).entry
    memory, manifest = ManifestCache(), synced.manifest()
    assert set(memory.known(manifest).complete) == set(DAYS)
    with edited(world.source, without("-1h-")) as source:
        assert set(differing(world, entry, source)) == set(DAYS)
        world.engine(source).sync(asked(world))
    assert memory.known(manifest).complete == {}
    assert set(differing(world, entry, world.source)) == set(DAYS)
    world.engine().sync(asked(world))
    assert set(memory.known(manifest).complete) == set(DAYS)
    assert differing(world, entry, world.source) == []


def differing(world: World, entry: DatasetEntry, source: Bucket) -> list[str]:
    periods = list(asked(world).periods)
    symbols = [world.symbol(name) for name in SYMBOLS]
    lister, manifest = Lister(source), world.manifest()
    return [
        period
        for part in folder_batches(folders_holding(entry, symbols, periods))
        for period, found in compare(entry, lister, manifest, part, periods).items()
        if found.differs
    ]


def test_a_manifest_without_the_column_missed_at_is_read_and_updated(synced: World) -> None:
    manifest = synced.manifest()
    table = DeltaTable(manifest.url, storage_options=synced.lake.delta_options)
    older = pl.read_delta(manifest.url, storage_options=synced.lake.delta_options)
    older = older.drop("missed_at", "sidecar_withdrawn")
    write_deltalake(table, older, mode="overwrite", schema_mode="overwrite", partition_by=["month"])
    assert set(ManifestCache().known(manifest).complete) == set(DAYS)
    assert manifest.contents(DAYS)["missed_at"].null_count() == ALL
    stats = ManifestStats(synced.lake)
    assert stats.of(asked(synced).entry.dataset)["doubted"].sum() == 0
    with edited(synced.source, without("<Key>")) as source:
        assert synced.engine(source).sync(asked(synced)).total("doubted") == ALL
    assert manifest.read(())["missed_at"].null_count() == 0
    assert stats.of(asked(synced).entry.dataset)["doubted"].sum() == ALL


# Sources that return no ETags


@pytest.mark.parametrize("etag", ["", 'W/"0123"'], ids=["none", "weak"])
@pytest.mark.parametrize("mode", [SyncMode.RELAY, SyncMode.STAGED])
def test_without_etags_sizes_and_times_are_compared(world: World, etag: str, mode: SyncMode) -> None:
    [key, _] = world.publish(["AUSDT", "BUSDT"], ["2024-03-01"])
    period = scope(world.entry(), "2024-03-01")
    with edited(world.source, replaced("ETag", etag)) as source:
        report = world.engine(source).sync(period, mode=mode)
        assert (states(report), report.total("copied")) == ({PeriodState.COMPLETE}, 2)
        rows = world.manifest().read(())
        assert rows["source_etag"].null_count() == 2
        assert set(rows["integrity"]) <= {"verified", "unverified"}
        assert world.engine(source).sync(period, mode=mode).total("copied") == 0
        assert world.manifest().read(()).equals(rows)
        world.put(key, b"longer or shorter than it was")
        assert world.engine(source).sync(period, mode=mode).total("copied") == 1
        assert world.lake_body(f"archive/binance/{key}") == b"longer or shorter than it was"


def test_etags_that_are_missing_for_a_while_change_nothing(world: World) -> None:
    world.publish(["AUSDT", "BUSDT"], ["2024-03-01"])
    period = scope(world.entry(), "2024-03-01")
    [first] = world.engine().sync(period).periods
    before = world.manifest().read(())
    with edited(world.source, replaced("ETag", "")) as source:
        [again] = world.engine(source).sync(period).periods
    assert (again.state, again.copied, again.digest) == (PeriodState.COMPLETE, 0, first.digest)
    assert world.manifest().read(()).equals(before)
