"""Building a table in a real store: written, replaced, unchanged and quarantined periods."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.tables import lineage
from lakehouse_assets.tables.read import fetch, lines
from lakehouse_assets.tables.report import BuildReport, BuildState
from lakehouse_assets.tables.write import build as build_module
from lakehouse_assets.tables.write.build_attempt import BuildAttempt
from lakehouse_assets.tables.write.files import FileWriter
from lakehouse_assets_tests.tables.tabled import Tabled, candles, zipped
from lakehouse_assets_tests.world import World

DAYS = ("2024-03-01", "2024-03-02", "2024-03-03")
ONE, TWO, THREE = DAYS


def states(report: BuildReport) -> dict[str, str]:
    return {period.period: period.state.value for period in report.periods}


def test_days_of_all_symbols_are_written_with_their_lineage(world: World) -> None:
    tabled = Tabled(world)
    keys = tabled.publish(["BTC", "ETH"], DAYS)
    tabled.sync(ONE, THREE)
    report = tabled.build(*DAYS, run_id="the-run")
    assert states(report) == dict.fromkeys(DAYS, "written")
    assert report.table_rows == tabled.rows().height == 2 * 3 * 24
    lineage = tabled.lineage()
    assert sorted(lineage["key"]) == sorted(keys)
    assert lineage.select("rows", "state", "cadence", "integrity", "run_id").unique().rows() == [
        (24, "written", "daily", "verified", "the-run")
    ]
    etags = {key: tabled.world.lake_files(f"archive/binance/{key}")[f"archive/binance/{key}"][0] for key in keys}
    assert {row["key"]: f'"{row["etag"]}"' for row in lineage.to_dicts()} == etags


def test_the_commit_names_its_run_and_periods(world: World) -> None:
    tabled = Tabled(world)
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)
    tabled.build(ONE, run_id="the-run")
    commits = build_module.open_table(world.lake, tabled.table.place).history()
    assert [(commit.get("run_id"), commit.get("periods")) for commit in commits] == [("the-run", [ONE]), (None, None)]


def test_unchanged_archives_rewrite_nothing(world: World) -> None:
    tabled = Tabled(world)
    tabled.publish(["BTC"], DAYS)
    tabled.sync(ONE, THREE)
    tabled.build(*DAYS)
    before = world.lake_files(tabled.table.place)
    tabled.sync(ONE, THREE)
    report = tabled.build(*DAYS)
    assert states(report) == dict.fromkeys(DAYS, "unchanged")
    assert [period.rows for period in report.periods] == [24, 24, 24]
    assert (report.bytes_read, report.bytes_written) == (0, 0)
    assert world.lake_files(tabled.table.place) == before


def test_a_changed_archive_of_an_old_period_replaces_only_that_period(world: World) -> None:
    tabled = Tabled(world)
    tabled.publish(["BTC", "ETH"], DAYS)
    tabled.sync(ONE, THREE)
    tabled.build(*DAYS)
    tabled.publish(["ETH"], [ONE], price=7.0)
    tabled.sync(ONE, THREE)
    report = tabled.build(*DAYS)
    assert states(report) == {ONE: "written", TWO: "unchanged", THREE: "unchanged"}
    prices = tabled.prices()
    assert prices.pop(("ETH", ONE)) == {7.0}
    assert set(map(tuple, prices.values())) == {(100.0,)}
    assert len(prices) == 5


def test_a_withdrawn_archive_stays_in_the_table(world: World) -> None:
    tabled = Tabled(world)
    [key] = tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)
    tabled.build(ONE)
    world.withdraw(key)
    tabled.sync(ONE)
    assert states(tabled.build(ONE)) == {ONE: "unchanged"}
    assert tabled.prices() == {("BTC", ONE): {100.0}}


def test_a_period_without_archives_is_empty_and_nothing_is_written(world: World) -> None:
    tabled = Tabled(world)
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE, TWO)
    assert states(tabled.build(ONE, TWO)) == {ONE: "written", TWO: "empty"}


# Daily and monthly


@pytest.mark.parametrize("interval", ["1h", "1m"])
def test_daily_archives_come_first_and_monthly_ones_fill_the_gaps(world: World, interval: str) -> None:
    tabled = Tabled(world, intervals=[interval], monthly=True)
    tabled.publish(["BTC"], [ONE, THREE], interval=interval)
    tabled.publish(["BTC", "ETH"], ["2024-03"], interval=interval, price=5.0)
    tabled.sync(ONE, THREE)
    tabled.sync("2024-03")
    report = tabled.build(*DAYS)
    assert tabled.prices() == {
        ("BTC", ONE): {100.0},
        ("BTC", TWO): {5.0},
        ("BTC", THREE): {100.0},
        **{("ETH", day): {5.0} for day in DAYS},
    }
    assert [(period.daily, period.monthly) for period in report.periods] == [(1, 1), (0, 2), (1, 1)]
    used = {(row["symbol"][-3:], row["period"]): row["cadence"] for row in tabled.lineage().to_dicts()}
    assert used["BTC", ONE] == "daily"
    assert used["BTC", TWO] == "monthly"


def test_a_later_daily_archive_replaces_rows_of_the_monthly_one(world: World) -> None:
    tabled = Tabled(world, monthly=True)
    tabled.publish(["BTC"], ["2024-03"], price=5.0)
    tabled.sync("2024-03")
    tabled.build(*DAYS)
    tabled.publish(["BTC"], [TWO])
    tabled.sync(ONE, THREE)
    assert states(tabled.build(*DAYS)) == {ONE: "unchanged", TWO: "written", THREE: "unchanged"}
    assert tabled.prices() == {("BTC", ONE): {5.0}, ("BTC", TWO): {100.0}, ("BTC", THREE): {5.0}}


def test_a_monthly_archive_without_gaps_to_fill_changes_nothing(world: World) -> None:
    tabled = Tabled(world, monthly=True)
    tabled.publish(["BTC"], DAYS)
    tabled.sync(ONE, THREE)
    tabled.build(*DAYS)
    tabled.publish(["BTC"], ["2024-03"], price=5.0)
    tabled.sync("2024-03")
    assert states(tabled.build(*DAYS)) == dict.fromkeys(DAYS, "unchanged")


# Bad archives


def spoil(tabled: Tabled, symbol: str, period: str, body: bytes) -> str:
    key = tabled.world.key(symbol, period, interval="1h")
    tabled.world.put(key, body)
    return key


@pytest.mark.parametrize("in_memory_bytes", [fetch.IN_MEMORY_BYTES, 0])
def test_an_unreadable_archive_is_quarantined_and_the_others_are_written(
    world: World, in_memory_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "IN_MEMORY_BYTES", in_memory_bytes)
    tabled = Tabled(world)
    tabled.publish(["BTC", "XRP"], [ONE])
    data = zipped("x", candles(ONE, "1h", 1.0))
    key = spoil(tabled, "ETH", ONE, data[: len(data) // 2])
    tabled.sync(ONE)
    [period] = tabled.build(ONE).periods
    assert (period.state, period.rows, period.daily) == (BuildState.WRITTEN, 48, 2)
    [problem] = period.problems
    assert (problem.key, problem.usage, problem.filled) == (key, "quarantined", False)
    assert problem.reason
    assert set(tabled.prices()) == {("BTC", ONE), ("XRP", ONE)}
    assert tabled.rows().height == 48
    [again] = tabled.build(ONE).periods
    assert again.state is BuildState.UNCHANGED
    assert again.problems == period.problems


@pytest.mark.parametrize("in_memory_bytes", [fetch.IN_MEMORY_BYTES, 0])
def test_a_period_with_bad_archives_only_has_no_rows_and_names_them(
    world: World, in_memory_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "IN_MEMORY_BYTES", in_memory_bytes)
    tabled = Tabled(world)
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)
    tabled.build(ONE)
    key = spoil(tabled, "BTC", ONE, b"no zip")
    tabled.sync(ONE)
    [period] = tabled.build(ONE).periods
    assert (period.state, period.rows, [problem.key for problem in period.problems]) == (BuildState.WRITTEN, 0, [key])
    assert tabled.rows().is_empty()
    assert states(tabled.build(ONE)) == {ONE: "unchanged"}


def test_a_quarantined_archive_that_is_published_again_is_read_again(world: World) -> None:
    tabled = Tabled(world)
    spoil(tabled, "ETH", ONE, b"no zip")
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)
    assert len(tabled.build(ONE).periods[0].problems) == 1
    tabled.publish(["ETH"], [ONE])
    tabled.sync(ONE)
    [period] = tabled.build(ONE).periods
    assert (period.state, period.problems, period.daily) == (BuildState.WRITTEN, (), 2)


def test_an_archive_that_an_earlier_reader_refused_is_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tabled = Tabled(world)
    tabled.publish(["BTC"], [ONE, TWO])
    key = spoil(tabled, "ETH", ONE, zipped("x", candles(ONE, "1h", 1.0).replace("\n", "\r")))
    tabled.sync(ONE, TWO)
    with monkeypatch.context() as before:
        before.setattr(lineage, "READING", 1)
        before.setattr(lines, "_line_feeds", lambda texts: texts)
        assert [problem.key for problem in tabled.build(ONE, TWO).periods[0].problems] == [key]
        assert states(tabled.build(ONE, TWO)) == {ONE: "unchanged", TWO: "unchanged"}
    report = tabled.build(ONE, TWO)
    assert states(report) == {ONE: "written", TWO: "unchanged"}
    assert report.periods[0].problems == ()
    assert tabled.prices()["ETH", ONE] == {1.0}
    assert states(tabled.build(ONE, TWO)) == {ONE: "unchanged", TWO: "unchanged"}


def test_periods_of_an_earlier_schema_revision_are_outdated_and_written_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tabled = Tabled(world)
    tabled.publish(["BTC"], [ONE, TWO])
    tabled.sync(ONE, TWO)
    assert tabled.build(ONE, TWO).outdated == ()
    schema = tabled.table.schema
    monkeypatch.setitem(vars(tabled.table), "schema", replace(schema, revision=schema.revision + 1))
    report = tabled.build(ONE)
    assert (states(report), report.outdated) == ({ONE: "written"}, (TWO,))
    report = tabled.build(ONE, TWO)
    assert (states(report), report.outdated) == ({ONE: "unchanged", TWO: "written"}, ())
    assert tabled.rows().height == 48


@pytest.mark.parametrize("in_memory_bytes", [fetch.IN_MEMORY_BYTES, 0])
def test_an_archive_that_differs_from_its_sidecar_is_quarantined_and_marked_in_the_manifest(
    world: World, in_memory_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "IN_MEMORY_BYTES", in_memory_bytes)
    tabled = Tabled(world)
    [good, bad] = tabled.publish(["BTC", "ETH"], [ONE])
    world.put(f"{bad}.CHECKSUM", b"0" * 64, sidecar=False)
    tabled.sync(ONE)
    [period] = tabled.build(ONE).periods
    [problem] = period.problems
    assert (problem.key, period.daily) == (bad, 1)
    assert "the sidecar says 000" in problem.reason
    assert set(tabled.prices()) == {("BTC", ONE)}
    manifest = {row["key"]: row["integrity"] for row in world.manifest().read([ONE]).to_dicts()}
    assert manifest == {good: Integrity.VERIFIED, bad: Integrity.MISMATCH}
    assert states(tabled.build(ONE)) == {ONE: "unchanged"}

    # The exchange corrects the sidecar; content and ETag of the object do not change.
    tabled.publish(["ETH"], [ONE])
    tabled.sync(ONE)
    [period] = tabled.build(ONE).periods
    assert (period.state, period.daily) == (BuildState.WRITTEN, 2)


def test_a_monthly_archive_replaces_a_bad_daily_one(world: World) -> None:
    tabled = Tabled(world, monthly=True)
    key = spoil(tabled, "BTC", ONE, b"no zip")
    tabled.publish(["BTC"], [TWO])
    tabled.publish(["BTC"], ["2024-03"], price=5.0)
    tabled.sync(ONE, TWO)
    tabled.sync("2024-03")
    report = tabled.build(ONE, TWO)
    assert tabled.prices() == {("BTC", ONE): {5.0}, ("BTC", TWO): {100.0}}
    [problem] = report.periods[0].problems
    assert (problem.key, problem.filled) == (key, True)
    assert states(tabled.build(ONE, TWO)) == {ONE: "unchanged", TWO: "unchanged"}


def test_on_bad_file_block_keeps_the_periods_rows(world: World) -> None:
    tabled = Tabled(world, on_bad_file="block")
    tabled.publish(["BTC", "ETH"], [ONE, TWO])
    tabled.sync(ONE, TWO)
    tabled.build(ONE, TWO)
    spoil(tabled, "ETH", ONE, b"no zip")
    tabled.publish(["BTC"], [ONE, TWO], price=7.0)
    tabled.sync(ONE, TWO)
    report = tabled.build(ONE, TWO)
    assert states(report) == {ONE: "blocked", TWO: "written"}
    assert "1 archive objects are quarantined or missing" in report.periods[0].reason
    prices = tabled.prices()
    assert (prices["BTC", ONE], prices["ETH", ONE], prices["BTC", TWO]) == ({100.0}, {100.0}, {7.0})


def test_a_missing_archive_is_named_and_the_others_are_written(world: World) -> None:
    tabled = Tabled(world)
    [_, key] = tabled.publish(["BTC", "ETH"], [ONE])
    with world.refused_writes(key):
        tabled.sync(ONE)
    [period] = tabled.build(ONE).periods
    [problem] = period.problems
    assert (problem.key, problem.usage, period.daily, period.state) == (key, "missing", 1, BuildState.WRITTEN)
    tabled.sync(ONE)
    [period] = tabled.build(ONE).periods
    assert (period.problems, period.rows) == ((), 48)


def test_an_archive_that_is_replaced_while_it_is_read_fails_only_its_period(world: World) -> None:
    tabled = Tabled(world)
    [one, *_] = tabled.publish(["BTC"], [ONE, TWO])
    tabled.sync(ONE, TWO)
    world.overwrite_in_lake(f"archive/binance/{one}", b"somebody else's")
    report = tabled.build(ONE, TWO)
    assert states(report) == {ONE: "failed", TWO: "written"}
    assert "it was replaced while it was read" in report.periods[0].reason
    assert tabled.prices() == {("BTC", TWO): {100.0}}


# Writers


def test_a_commit_conflict_repeats_the_build_without_duplicate_rows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tabled = Tabled(world)
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)
    first = build_module.TableBuilder._read_and_write
    raced = []

    def read_while_another_commits(self: build_module.TableBuilder, *arguments: object) -> BuildAttempt:
        attempt = first(self, *arguments)
        if not raced:
            raced.append(True)
            assert states(tabled.build(ONE)) == {ONE: "written"}
        return attempt

    monkeypatch.setattr(build_module.TableBuilder, "_read_and_write", read_while_another_commits)
    assert states(tabled.build(ONE)) == {ONE: "unchanged"}
    assert tabled.rows().height == 24


def test_a_run_that_is_killed_after_its_commit_is_repeated_without_duplicate_rows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tabled = Tabled(world)
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build_module.TableBuilder, "_record_findings", killed)
    with pytest.raises(KeyboardInterrupt):
        tabled.build(ONE)
    monkeypatch.undo()
    assert tabled.rows().height == 24
    assert states(tabled.build(ONE)) == {ONE: "written"}
    assert tabled.rows().height == 24


def test_a_failure_while_writing_does_not_change_the_table(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tabled = Tabled(world)
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)
    tabled.build(ONE)
    tabled.publish(["BTC"], [ONE], price=7.0)
    tabled.sync(ONE)

    def broken(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(FileWriter, "_write_one", broken)
    with pytest.raises(MemoryError):
        tabled.build(ONE)
    assert tabled.prices() == {("BTC", ONE): {100.0}}


def test_each_interval_has_its_own_folder_and_each_large_day_its_own_file(
    world: World,
) -> None:
    tabled = Tabled(world, intervals=["1m", "1h"])
    for interval in ("1m", "1h"):
        tabled.publish(["BTC"], DAYS, interval=interval)
    tabled.sync(ONE, THREE)
    tabled.build(*DAYS)
    folders = [name.removeprefix(f"{tabled.table.place}/").rsplit("/", 1)[0] for name in tabled.data_files()]
    assert sorted(folders) == ["interval=1h/month=2024-03", *["interval=1m/month=2024-03"] * 3]
