"""Periods that are lost or were changed by other programs are built again; intact periods are not."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import date
from functools import cache

import obstore
import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.errors import StoreError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables import coverage
from lakehouse_assets.tables.delta import table_id_of
from lakehouse_assets.tables.quality.measure import quality_of
from lakehouse_assets.tables.report import BuildReport
from lakehouse_assets.tables.stats import TableStats
from lakehouse_assets.tables.write import build as build_module
from lakehouse_assets.tables.write.build import TableBuilder
from lakehouse_assets.tables.write.maintenance import compact
from lakehouse_assets_tests.faults.listings import edited, html
from lakehouse_assets_tests.tables.tabled import Tabled
from lakehouse_assets_tests.world import World

DAYS = ("2024-03-01", "2024-03-02", "2024-03-03")
ONE, TWO, THREE = DAYS
LATER = date(2024, 4, 1)
NEWER = {("BTC", ONE): {100.0}, ("BTC", TWO): {7.0}, ("BTC", THREE): {100.0}}


def states(report: BuildReport) -> dict[str, str]:
    return {period.period: period.state.value for period in report.periods}


def delta(tabled: Tabled) -> DeltaTable:
    lake = tabled.world.lake
    return DeltaTable(lake.url(tabled.table.place), storage_options=lake.delta_options)


def delete(tabled: Tabled, below: str) -> None:
    for name in tabled.world.lake_files(f"{below}/"):
        tabled.world.delete_in_lake(name)


def log_entry(tabled: Tabled, version: int) -> str:
    return f"{tabled.table.place}/_delta_log/{version:020}.json"


@pytest.fixture(scope="module")
def built(store: EmbeddedStore) -> Callable[[str], World]:
    """Worlds, one per interval, with three days in one commit (large days in three), and then the second day again with
    other prices."""

    @cache
    def world_of(interval: str) -> World:
        made = Tabled(World(store), intervals=[interval])
        made.publish(["BTC"], DAYS, interval=interval)
        made.sync(ONE, THREE)
        made.build(*DAYS)
        made.publish(["BTC"], [TWO], interval=interval, price=7.0)
        made.sync(ONE, THREE)
        made.build(*DAYS)
        return made.world

    return world_of


@pytest.fixture
def tabled(built: Callable[[str], World], request: pytest.FixtureRequest) -> Iterator[Tabled]:
    """A copy of such a world's lake. Afterwards, the source is as before."""
    interval = getattr(request, "param", "1h")
    made = Tabled(built(interval).with_copied_lake(), intervals=[interval])
    yield made
    if made.published:
        made.publish(["BTC"], DAYS, interval=interval)
        made.publish(["BTC"], [TWO], interval=interval, price=7.0)


def table_moved_away(tabled: Tabled) -> None:
    delete(tabled, tabled.table.place)


def table_restored_to_an_older_version(tabled: Tabled) -> None:
    delta(tabled).restore(delta(tabled).version() - 1)


def log_restored_to_an_older_state(tabled: Tabled) -> None:
    tabled.world.delete_in_lake(log_entry(tabled, delta(tabled).version()))


def last_commit_overwritten_by_another_writer(tabled: Tabled) -> None:
    tabled.world.overwrite_in_lake(log_entry(tabled, delta(tabled).version()), b'{"commitInfo":{"timestamp":1}}\n')


def rows_of_a_day_deleted(tabled: Tabled) -> None:
    delta(tabled).delete(f"period = '{TWO}'")


def some_rows_of_a_day_deleted(tabled: Tabled) -> None:
    delta(tabled).delete(f"period = '{TWO}' AND time < '{TWO}T03:00:00Z'")


def rows_of_a_day_changed(tabled: Tabled) -> None:
    delta(tabled).update(predicate=f"period = '{TWO}'", updates={"close": "1.0"})


def table_id_changed(tabled: Tabled) -> None:
    key = log_entry(tabled, 0)
    store = tabled.world.lake.bucket.object_store()
    text = bytes(obstore.get(store, tabled.world.lake.key(key)).bytes()).decode()
    tabled.world.overwrite_in_lake(key, text.replace(table_id_of(delta(tabled)), str(uuid.uuid4())).encode())


def lineage_lost(tabled: Tabled) -> None:
    delete(tabled, tabled.table.lineage_place)


HARMS = [
    table_moved_away,
    table_restored_to_an_older_version,
    log_restored_to_an_older_state,
    last_commit_overwritten_by_another_writer,
    rows_of_a_day_deleted,
    some_rows_of_a_day_deleted,
    rows_of_a_day_changed,
    table_id_changed,
    lineage_lost,
]


@pytest.mark.parametrize("tabled", ["1h", "1m"], indirect=True)
@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_lost_or_changed_rows_are_built_again_once(tabled: Tabled, harm: Callable[[Tabled], None]) -> None:
    rows = tabled.rows().height
    harm(tabled)
    # First one day alone, then all.
    assert states(tabled.build(TWO)) == {TWO: "written"}
    report = tabled.build(*DAYS)
    assert {period.rows for period in report.periods} == {rows // 3}
    assert report.table_rows == tabled.rows().height == rows
    assert tabled.prices() == NEWER
    assert set(states(tabled.build(*DAYS)).values()) == {"unchanged"}


@pytest.mark.parametrize("tabled", ["1m"], indirect=True)
@pytest.mark.parametrize("harm", [rows_of_a_day_deleted, table_restored_to_an_older_version, rows_of_a_day_changed])
def test_only_days_in_a_changed_file_are_built_again(tabled: Tabled, harm: Callable[[Tabled], None]) -> None:
    harm(tabled)
    report = tabled.build(*DAYS)
    assert states(report) == {ONE: "unchanged", TWO: "written", THREE: "unchanged"}
    assert report.periods[1].reason == "the rows in the table differed from its lineage"


def data_files_lost(tabled: Tabled) -> None:
    for path in delta(tabled).get_add_actions(flatten=True).column("path").to_pylist():
        tabled.world.delete_in_lake(f"{tabled.table.place}/{path}")


@pytest.mark.parametrize("tabled", ["1h", "1m"], indirect=True)
def test_deleted_data_files_are_written_again(tabled: Tabled) -> None:
    rows = tabled.rows().height
    data_files_lost(tabled)
    assert states(tabled.build(*DAYS)) == dict.fromkeys(DAYS, "written")
    assert (tabled.rows().height, tabled.prices()) == (rows, NEWER)
    assert set(states(tabled.build(*DAYS)).values()) == {"unchanged"}


def test_a_response_that_is_not_a_listing_builds_nothing_again(tabled: Tabled) -> None:
    lake, version = tabled.world.lake, delta(tabled).version()
    with edited(lake.bucket, html, below=lake.key(f"{tabled.table.place}/interval=")) as bucket:
        builder = TableBuilder(tabled.world.source, Lake(bucket, lake.prefix.strip("/")), tabled.entry)
        with pytest.raises(StoreError, match="NotAListing"):
            builder.build(DAYS)
    assert delta(tabled).version() == version


def test_the_error_for_a_deleted_file_names_all_days_in_it(tabled: Tabled) -> None:
    data_files_lost(tabled)
    with pytest.raises(StoreError, match=f"NotFound: the file is gone; it had rows of {ONE} to {THREE}: materialize"):
        tabled.build(TWO)


def test_compacted_periods_are_intact(tabled: Tabled) -> None:
    assert compact(tabled.world.lake, tabled.table, today=LATER).files_after == 1
    assert set(states(tabled.build(*DAYS)).values()) == {"unchanged"}
    some_rows_of_a_day_deleted(tabled)
    assert states(tabled.build(ONE)) == {ONE: "written"}, "the file changed"
    tabled.build(*DAYS)
    assert tabled.prices() == NEWER
    assert set(states(tabled.build(*DAYS)).values()) == {"unchanged"}


def test_compaction_skips_periods_that_are_not_intact(tabled: Tabled) -> None:
    table_restored_to_an_older_version(tabled)
    compact(tabled.world.lake, tabled.table, today=LATER)
    assert states(tabled.build(TWO)) == {TWO: "written"}
    assert tabled.prices()["BTC", TWO] == {7.0}


def test_rows_without_lineage_are_replaced_even_if_the_archive_returns_to_its_earlier_content(
    tabled: Tabled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    tabled.publish(["BTC"], [TWO], price=9.0)
    tabled.sync(TWO)
    with monkeypatch.context() as patched:
        patched.setattr(build_module.TableBuilder, "_record_findings", killed)
        with pytest.raises(KeyboardInterrupt):
            tabled.build(TWO)
    assert tabled.prices()["BTC", TWO] == {9.0}
    tabled.publish(["BTC"], [TWO], price=7.0)
    tabled.sync(TWO)
    assert states(tabled.build(TWO)) == {TWO: "written"}
    assert tabled.prices() == NEWER


def test_a_commit_that_another_writer_overwrote_fails_its_periods(
    tabled: Tabled, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = build_module.Replacer.replace

    def overwritten(self, delta: DeltaTable, *arguments, **options):
        done = replace(self, delta, *arguments, **options)
        # Like a store that ignores the condition of a write.
        tabled.world.overwrite_in_lake(log_entry(tabled, done[0].version), b'{"commitInfo":{"timestamp":1}}\n')
        return done

    monkeypatch.setattr(build_module.Replacer, "replace", overwritten)
    [period] = tabled.build(TWO, force=True).periods
    assert period.state.value == "failed"
    assert "does not support conditional writes" in period.reason
    monkeypatch.undo()
    assert states(tabled.build(TWO)) == {TWO: "written"}
    assert tabled.prices() == NEWER


def without_table_columns(tabled: Tabled) -> None:
    """Rewrite the lineage and the quality records as they were before they had these columns."""
    lake = tabled.world.lake
    for place in (tabled.table.lineage_place, tabled.table.quality_place):
        rows = pl.read_delta(lake.url(place), storage_options=lake.delta_options)
        delete(tabled, place)
        write_deltalake(
            lake.url(place),
            rows.drop("table_id", "version", "committed_at", strict=False),
            partition_by=["month"],
            storage_options=lake.delta_options,
        )


def test_periods_with_old_lineage_are_not_built_again(tabled: Tabled) -> None:
    without_table_columns(tabled)
    before = tabled.world.lake_files(tabled.table.place)
    assert set(states(tabled.build(*DAYS)).values()) == {"unchanged"}
    assert tabled.world.lake_files(tabled.table.place) == before
    [row] = coverage(tabled.table.name, lake=tabled.world.lake).to_dicts()
    assert (row["periods"], row["rows"]) == (3, tabled.rows().height)
    tabled.publish(["BTC"], [ONE], price=5.0)
    tabled.sync(ONE)
    assert states(tabled.build(*DAYS)) == {ONE: "written", TWO: "unchanged", THREE: "unchanged"}
    assert tabled.lineage()["table_id"].to_list() == [table_id_of(delta(tabled)), None, None]
    assert quality_of(tabled.world.lake, tabled.table).read()["table_id"].null_count() == 2


@pytest.mark.parametrize("harm", [table_moved_away, rows_of_a_day_deleted, some_rows_of_a_day_deleted])
def test_lost_rows_of_periods_with_old_lineage_are_built_again(tabled: Tabled, harm: Callable[[Tabled], None]) -> None:
    without_table_columns(tabled)
    harm(tabled)
    assert states(tabled.build(TWO)) == {TWO: "written"}
    tabled.build(*DAYS)
    assert tabled.prices() == NEWER


def test_statistics_and_coverage_describe_the_current_table(tabled: Tabled) -> None:
    stats = TableStats(tabled.world.lake)
    before = stats.of(tabled.table)
    assert before is not None
    assert sum(before.levels.values()) == 3
    table_moved_away(tabled)
    assert coverage(tabled.table.name, lake=tabled.world.lake).is_empty()
    assert stats.of(tabled.table) is None
    tabled.build(TWO)
    [row] = coverage(tabled.table.name, lake=tabled.world.lake).to_dicts()
    assert (row["periods"], row["first_period"]) == (1, TWO)
    after = stats.of(tabled.table)
    assert after is not None
    assert sum(after.levels.values()) == 1, "quality records of the earlier table do not count"


def test_an_invalid_log_entry_is_an_error_and_not_an_empty_table(tabled: Tabled) -> None:
    key = tabled.world.lake.key(log_entry(tabled, delta(tabled).version()))
    obstore.put(tabled.world.lake.bucket.object_store(), key, b"not JSON")
    with pytest.raises(StoreError, match="failed"):
        tabled.build(*DAYS)
