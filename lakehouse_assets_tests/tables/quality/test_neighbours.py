"""Quality results of a period follow its neighbours, in a real lake."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.tables.quality.measure import QUALITY_TABLE_SCHEMA, quality_of
from lakehouse_assets.tables.quality.rows import summarize
from lakehouse_assets.tables.query import read_table
from lakehouse_assets.tables.records import PeriodRecords
from lakehouse_assets.tables.report import BuildReport
from lakehouse_assets.tables.table import TableEntry, tables_of
from lakehouse_assets.tables.write.build import TableBuilder
from lakehouse_assets.tables.write.maintenance import compact
from lakehouse_assets_tests.tables.tabled import Tabled, candles, zipped
from lakehouse_assets_tests.world import World, scope

ONE, TWO, THREE = "2024-03-01", "2024-03-02", "2024-03-03"


def publish(tabled: Tabled, symbol: str, period: str, hours: Iterable[int]) -> None:
    """Publish some hours of a day; hours from 24 on are of the next day."""
    header, *lines = candles(period, "1h", 100.0).splitlines()
    lines += candles(str(datetime.fromisoformat(period).date() + timedelta(days=1)), "1h", 100.0).splitlines()[1:]
    key = tabled.world.key(symbol, period, interval="1h")
    text = "\n".join([header, *(lines[hour] for hour in hours)]) + "\n"
    tabled.world.put(key, zipped(key.rsplit("/", 1)[1][:-4], text))


def recorded(tabled: Tabled, symbol: str) -> dict[str, tuple[str, int, int]]:
    """The recorded level, missing and undecided rows, by period."""
    rows = quality_of(tabled.world.lake, tabled.table).read().filter(pl.col("symbol") == tabled.world.tag + symbol)
    return {row["period"]: (row["level"], row["missing"], row["undecided"]) for row in rows.to_dicts()}


FULL, MORNING, AFTERNOON = range(24), range(12), range(12, 24)
OK = ("ok", 0, 0)


def test_symbols_that_begin_or_end_within_one_build_are_ok(world: World) -> None:
    tabled = Tabled(world)
    for day in (ONE, TWO, THREE):
        publish(tabled, "BTC", day, FULL)
    publish(tabled, "NEW", TWO, AFTERNOON)
    publish(tabled, "NEW", THREE, FULL)
    publish(tabled, "OLD", ONE, FULL)
    publish(tabled, "OLD", TWO, MORNING)
    tabled.sync(ONE, THREE)
    report = tabled.build(ONE, TWO, THREE)
    assert summarize(report.quality).levels == {"ok": 7, "explained": 0, "warning": 0, "error": 0}
    assert recorded(tabled, "OLD") == {ONE: OK, TWO: OK}


@pytest.mark.parametrize(("continues", "level", "missing"), [(False, "ok", 0), (True, "error", 12)])
def test_the_next_day_decides_whether_the_symbol_ended(world: World, continues: bool, level: str, missing: int) -> None:
    tabled = Tabled(world)
    publish(tabled, "BTC", ONE, FULL)
    publish(tabled, "ETH", ONE, MORNING)
    tabled.sync(ONE)
    report = tabled.build(ONE)
    assert recorded(tabled, "ETH") == {ONE: ("warning", 0, 12)}
    assert summarize(report.quality).level == "warning"
    publish(tabled, "BTC", TWO, FULL)
    if continues:
        publish(tabled, "ETH", TWO, FULL)
    tabled.sync(TWO)
    report = tabled.build(TWO, run_id="the-next")
    assert recorded(tabled, "ETH")[ONE] == (level, missing, 0)
    assert recorded(tabled, "BTC") == {ONE: OK, TWO: OK}
    updated = report.quality.filter(pl.col("period") == ONE)
    assert updated.select("symbol", "level", "missing").rows() == [(world.tag + "ETH", level, missing)]


def test_an_earlier_day_shows_that_rows_before_a_late_beginning_are_missing(world: World) -> None:
    tabled = Tabled(world)
    publish(tabled, "BTC", TWO, AFTERNOON)
    tabled.sync(TWO)
    tabled.build(TWO)
    assert recorded(tabled, "BTC") == {TWO: OK}
    publish(tabled, "BTC", ONE, FULL)
    tabled.sync(ONE)
    tabled.build(ONE)
    assert recorded(tabled, "BTC") == {ONE: OK, TWO: ("error", 12, 0)}


def test_a_symbol_without_an_archive_for_one_day_has_not_ended(world: World) -> None:
    tabled = Tabled(world)
    for day in (ONE, TWO, THREE):
        publish(tabled, "BTC", day, FULL)
    publish(tabled, "ETH", ONE, MORNING)
    publish(tabled, "ETH", THREE, AFTERNOON)
    tabled.sync(ONE, THREE)
    tabled.build(ONE, TWO, THREE)
    assert recorded(tabled, "ETH") == {ONE: ("error", 12, 0), THREE: ("error", 12, 0)}


def test_no_rows_are_missing_before_and_after_a_symbol_within_a_monthly_archive(world: World) -> None:
    tabled = Tabled(world, monthly=True)
    key = world.key("NEW", "2024-03", dataset="binance/um/klines/monthly", interval="1h")
    header, *lines = candles("2024-03", "1h", 100.0).splitlines()
    text = "\n".join([header, *lines[16 * 24 + 4 : 28 * 24 + 5]]) + "\n"
    world.put(key, zipped("new", text))
    tabled.publish(["BTC"], ["2024-03"])
    tabled.sync("2024-03")
    report = tabled.build(*(f"2024-03-{day:02}" for day in range(1, 31)))
    assert report.quality["level"].unique().to_list() == ["ok"]
    days_of_new = recorded(tabled, "NEW")
    assert len(days_of_new) == 30
    assert set(days_of_new.values()) == {OK}
    publish(tabled, "NEW", "2024-04-01", FULL)
    publish(tabled, "BTC", "2024-04-01", FULL)
    tabled.sync("2024-04-01")
    tabled.build("2024-04-01")
    after = recorded(tabled, "NEW")
    assert {day: after[day] for day in ("2024-03-17", "2024-03-29", "2024-03-30")} == {
        "2024-03-17": OK,
        "2024-03-29": ("error", 19, 0),
        "2024-03-30": ("error", 24, 0),
    }
    assert {after[f"2024-03-{day:02}"] for day in range(1, 29)} == {OK}


def test_a_key_in_two_days_is_detected_across_months_and_in_compacted_files(world: World) -> None:
    tabled = Tabled(world)
    publish(tabled, "BTC", "2024-02-28", FULL)
    publish(tabled, "BTC", "2024-02-29", range(26))
    publish(tabled, "ETH", "2024-02-29", FULL)
    publish(tabled, "BTC", ONE, FULL)
    tabled.sync("2024-02-28", ONE)
    first = tabled.build("2024-02-28", "2024-02-29")
    assert first.quality["shared_keys"].sum() == 0
    assert compact(world.lake, tabled.table).files_before <= 2
    report = tabled.build(ONE)
    shared = report.quality.filter(pl.col("shared_keys") > 0).sort("period")
    assert shared.select("period", "symbol", "shared_keys", "level").rows() == [
        ("2024-02-29", world.tag + "BTC", 2, "error"),
        (ONE, world.tag + "BTC", 2, "error"),
    ]
    assert summarize(report.quality).shared_keys == 4
    publish(tabled, "BTC", "2024-02-29", FULL)
    tabled.sync("2024-02-29")
    tabled.build("2024-02-29")
    records = quality_of(world.lake, tabled.table).read()
    assert records["shared_keys"].to_list() == [0] * records.height
    assert set(records["level"]) == {"ok"}


def test_records_with_older_columns_are_read_and_revised(world: World) -> None:
    tabled = Tabled(world)
    publish(tabled, "BTC", ONE, MORNING)
    tabled.sync(ONE)
    tabled.build(ONE)
    later = {"undecided", "shared_keys", "broken"}
    removed = {"first_id": pl.Int64(), "last_id": pl.Int64()}
    old = pl.Schema({name: dtype for name, dtype in QUALITY_TABLE_SCHEMA.items() if name not in later} | removed)
    rows = quality_of(world.lake, tabled.table).read()
    lake, place = world.lake, f"{tabled.table.quality_place}-old"
    gaps = [[gap | {"place": "end"} for gap in row_gaps] for row_gaps in rows["gaps"].to_list()]
    before = rows.with_columns(
        missing=12,
        expected=24,
        level=pl.lit("error"),
        gaps=pl.Series(gaps, dtype=rows.schema["gaps"]),
        first_id=1,
        last_id=2,
    )
    PeriodRecords(lake, place, old).replace([ONE], before, run_id=None)
    records = PeriodRecords(lake, place, QUALITY_TABLE_SCHEMA)
    (read,) = records.read().to_dicts()
    assert (read["missing"], read["undecided"], read["shared_keys"], read["broken"]) == (12, None, None, None)
    assert summarize(records.read()).broken == 0
    changed = records.revise(
        [ONE], lambda records: records.with_columns(undecided=pl.lit(12), missing=pl.lit(0)), run_id="r"
    )
    assert changed.select("missing", "undecided").rows() == [(0, 12)]
    assert records.read().select("missing", "undecided", "rows").rows() == [(0, 12, 12)]
    assert records.revise([ONE], lambda records: records, run_id="r").is_empty()


METRICS = "binance/um/metrics/daily"
_METRICS_HEADER = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
    "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio"
)


def put_metrics(world: World, day: str, first_minute: int, *, rows: int = 288) -> None:
    start = datetime.fromisoformat(day) + timedelta(minutes=first_minute)
    symbol = f"{world.tag}BTC"
    lines = [f"{start + timedelta(minutes=5 * row)},{symbol},{row + 1},{row + 1},1,1,1,1" for row in range(rows)]
    world.put(world.key("BTC", day, dataset=METRICS), zipped("m", "\n".join([_METRICS_HEADER, *lines]) + "\n"))


def build_metrics(world: World, first: str, last: str) -> tuple[BuildReport, TableEntry]:
    entry = world.entry(METRICS)
    world.engine().sync(scope(entry, first, last))
    [table] = tables_of([entry])
    days = [str(period) for period in scope(entry, first, last).periods]
    return TableBuilder(world.source, world.lake, table).build(days), table


def test_times_of_metrics_are_ends_before_and_after_the_change(world: World) -> None:
    put_metrics(world, "2026-06-24", 5)
    put_metrics(world, "2026-06-25", 0)
    put_metrics(world, "2026-06-26", 0)
    report, entry = build_metrics(world, "2026-06-24", "2026-06-26")
    assert report.quality.select("level", "missing", "shared_keys").unique().rows() == [("ok", 0, 0)]
    rows = read_table(entry.table.name, lake=world.lake).collect().sort("time")
    start = datetime(2026, 6, 24, 0, 5, tzinfo=UTC)
    assert rows["time"].to_list() == [start + timedelta(minutes=5) * number for number in range(3 * 288)]
    known_after = (rows["time"] - rows["create_time"]).dt.total_minutes()
    assert known_after.to_list() == [0] * 288 + [5] * 576


def test_metrics_with_the_same_midnight_in_two_files_are_an_error(world: World) -> None:
    put_metrics(world, "2026-06-26", 0, rows=289)
    put_metrics(world, "2026-06-27", 0)
    report, _ = build_metrics(world, "2026-06-26", "2026-06-27")
    assert report.quality.sort("period").select("level", "shared_keys", "outside").rows() == [
        ("error", 1, 1),
        ("error", 1, 0),
    ]


def test_shared_keys_of_monthly_periods_are_detected(world: World) -> None:
    name = "binance/um/fundingRate/monthly"
    entry = world.entry(name)
    for month, hours in (("2024-01", range(0, 31 * 24 + 1, 8)), ("2024-02", range(0, 29 * 24, 8))):
        start = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
        moments = (int((start + timedelta(hours=hour)).timestamp() * 1000) for hour in hours)
        lines = [f"{moment},8,0.0001" for moment in moments]
        text = "\n".join(["calc_time,funding_interval_hours,last_funding_rate", *lines]) + "\n"
        world.put(world.key("BTC", month, dataset=name), zipped("f", text))
    world.engine().sync(scope(entry, "2024-01", "2024-02"))
    [table] = tables_of([entry])
    assert table.table.cadence is Cadence.MONTHLY
    report = TableBuilder(world.source, world.lake, table).build(["2024-01", "2024-02"])
    assert report.quality.sort("period")["shared_keys"].to_list() == [1, 1]
