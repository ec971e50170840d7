"""Listing and manifest compared in batches of folders, and the cache of manifests."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_assets.archive.exchanges.layout import Folder
from lakehouse_assets.archive.listing import Lister
from lakehouse_assets.lake import manifest_cache
from lakehouse_assets.lake.delta import latest
from lakehouse_assets.lake.manifest_cache import ManifestCache
from lakehouse_assets.sync import changes
from lakehouse_assets.sync.changes import PeriodContent, compare, folder_batches, folders_holding, listed_symbols
from lakehouse_assets_tests.world import World, body_of, days, scope

WEEK = days("2024-02-27", "2024-03-04")


@settings(max_examples=50)
@given(
    names=st.sets(st.text("AB0_é币", min_size=1, max_size=4), max_size=12),
    size=st.integers(1, 5),
    stop=st.integers(0, 12),
)
def test_batches_contain_every_folder_once_and_every_key_in_one_batch(names: set[str], size: int, stop: int) -> None:
    folders = [Folder(f"root/{name}/", f"root/{name}/{name}-2024", f"root/{name}/{name}-2025") for name in names]
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr(changes, "BATCH_FOLDERS", size)
        complete = list(folder_batches(folders))
        resumed = complete[:stop]
        if not resumed:
            resumed = complete
        elif resumed[-1].end is not None:
            resumed += folder_batches(folders, after=resumed[-1].end)
    for batches in (complete, resumed):
        assert sorted(folder.prefix for batch in batches for folder in batch.folders) == sorted(
            f.prefix for f in folders
        )
        assert (batches[0].first, batches[-1].end) == ("", None)
        assert [batch.end for batch in batches[:-1]] == [batch.first for batch in batches[1:]]
        assert all(
            batch.first <= f.first and (batch.end is None or f.first < batch.end)
            for batch in batches
            for f in batch.folders
        )


def compared(world: World, size: int, periods: list[str]) -> dict[str, PeriodContent]:
    """The comparison of all batches, with ``size`` folders per batch."""
    entry = world.entry()
    source = Lister(world.source)
    requested = [entry.dataset.period(text) for text in periods]
    content: dict[str, PeriodContent] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "BATCH_FOLDERS", size)
        for batch in folder_batches(folders_holding(entry, listed_symbols(entry, source, requested), requested)):
            for period, more in compare(entry, source, world.manifest(), batch, requested).items():
                content[period] = content.get(period, PeriodContent()).with_more(more)
    return content


def test_the_comparison_does_not_depend_on_the_batch_size(world: World) -> None:
    keys = world.publish(["AUSDT", "BUSDT", "CUSDT"], WEEK)
    world.engine().sync(scope(world.entry(), WEEK[0], WEEK[-1]))
    world.put(keys[0], body_of(keys[0], 2, 400))
    for key in keys[7:14]:
        world.withdraw(key)
    by_period = compared(world, 100, WEEK)
    assert by_period == compared(world, 1, WEEK) == compared(world, 2, WEEK)
    assert {period for period, content in by_period.items() if content.differs} == set(WEEK)
    assert {content.objects for content in by_period.values()} == {2}
    assert len({content.fingerprint for content in by_period.values()}) == 7


def test_new_content_changes_the_fingerprint_and_a_withdrawal_only_marks_a_difference(
    world: World,
) -> None:
    keys = world.publish(["AUSDT", "BUSDT"], WEEK[:1])
    fingerprints = [compared(world, 100, WEEK)[WEEK[0]].fingerprint]
    world.put(keys[0], body_of(keys[0], 2, 401))
    fingerprints.append(compared(world, 100, WEEK)[WEEK[0]].fingerprint)
    world.put(keys[0], body_of(keys[0], 2, 401), sidecar=False)
    assert compared(world, 100, WEEK)[WEEK[0]].fingerprint == fingerprints[-1]
    world.engine().sync(scope(world.entry(), WEEK[0]))
    assert not compared(world, 100, WEEK)[WEEK[0]].differs
    for key in keys:
        world.withdraw(key)
    assert compared(world, 100, WEEK) == {WEEK[0]: PeriodContent(0, 0, differs=True)}
    world.engine().sync(scope(world.entry(), WEEK[0]), accept_withdrawals=True)
    assert compared(world, 100, WEEK) == {}
    assert len(set(fingerprints)) == 2


def test_a_manifest_is_read_again_only_where_it_changed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[str]] = []
    real = manifest_cache._summarized_months
    monkeypatch.setattr(
        manifest_cache,
        "_summarized_months",
        lambda table, months: [read.append(sorted(months)), real(table, months)][1],
    )
    entry, memory = world.entry(), ManifestCache()
    assert memory.known(world.manifest()).complete == {}
    keys = world.publish(["AUSDT", "BUSDT"], WEEK)
    world.engine().sync(scope(entry, WEEK[0], WEEK[-2]))
    assert memory.known(world.manifest()).complete == dict.fromkeys(WEEK[:-1], 2)
    assert memory.known(world.manifest()).complete == dict.fromkeys(WEEK[:-1], 2)
    assert read == [["2024-02", "2024-03"]]
    world.engine().sync(scope(entry, WEEK[-1]))
    assert memory.known(world.manifest()).complete == dict.fromkeys(WEEK, 2)
    assert read[1:] == [["2024-03"]]
    world.withdraw(keys[0])
    world.engine().sync(scope(entry, WEEK[0]))
    now = memory.known(world.manifest())
    assert now.complete == dict.fromkeys(WEEK, 2) | {WEEK[0]: 1}
    assert sorted(now.counts.rows()) == sorted(ManifestCache().known(world.manifest()).counts.rows())
    assert now.symbols == {world.symbol("AUSDT"), world.symbol("BUSDT")}


def test_a_table_is_reopened_before_its_credentials_expire(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latest, "REOPEN_SECONDS", -1)
    world.publish(["AUSDT"], WEEK[:1])
    world.engine().sync(scope(world.entry(), WEEK[0]))
    memory = ManifestCache()
    first, second = memory.known(world.manifest()), memory.known(world.manifest())
    assert first.complete == second.complete == {WEEK[0]: 1}
    world.publish(["AUSDT"], WEEK[1:2])
    world.engine().sync(scope(world.entry(), WEEK[1]))
    assert memory.known(world.manifest()).complete == dict.fromkeys(WEEK[:2], 1)


def test_new_symbols_are_reported_once_and_none_while_the_manifest_is_empty() -> None:
    memory = ManifestCache()
    assert memory.new_symbols("a", ["X", "Y"], frozenset()) == []
    assert memory.new_symbols("a", ["X", "Y"], frozenset({"X"})) == ["Y"]
    assert memory.new_symbols("a", ["X", "Y"], frozenset({"X"})) == []
    assert memory.new_symbols("b", ["X", "Y"], frozenset({"X"})) == ["Y"]


def test_tracked_and_rescanned_periods(world: World) -> None:
    entry = world.entry(first_period="2024-02-20")
    world.publish(["AUSDT"], [*days("2024-02-18", "2024-02-22"), "2024-03-02", "2024-03-04"])
    everything = world.entry()
    for day in ("2024-02-18", "2024-02-21", "2024-03-02", "2024-03-04"):
        world.engine().sync(scope(everything, day))
    manifest = ManifestCache().known(world.manifest())
    tracked = changes.tracked_periods(entry, manifest, since=date(2024, 3, 1), today=date(2024, 3, 5))
    assert [str(period) for period in tracked.open] == ["2024-03-01", "2024-03-03"]
    assert [str(period) for period in tracked.recent] == ["2024-03-02", "2024-03-04"]
    rescanned = [str(period) for period in changes.rescanned_periods(entry, manifest, tracked)]
    assert rescanned == ["2024-02-21", *days("2024-03-01", "2024-03-04")]
    ahead = changes.tracked_periods(entry, manifest, since=date(2024, 3, 5), today=date(2024, 3, 5))
    assert (ahead.open, ahead.recent) == ((), ())
    assert [str(period) for period in changes.rescanned_periods(entry, manifest, ahead)] == [
        "2024-02-21",
        "2024-03-02",
        "2024-03-04",
    ]
