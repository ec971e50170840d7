"""Gaps at the beginning and end of a symbol are no missing rows, and new knowledge changes the classification."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.tables.quality.lifetimes import LIFETIME_SCHEMA, Lifetimes, classify_gaps
from lakehouse_assets.tables.quality.rows import check_rows
from lakehouse_assets.tables.schema import TABLES, schema_of
from lakehouse_assets.tables.schemas.model import TableSchema
from lakehouse_assets.tables.write.build_attempt import with_periods
from lakehouse_assets_tests.tables.quality.test_rows import frame

DAY = Period(Cadence.DAILY, date(2024, 1, 10))
BEFORE, AFTER = str(DAY.shifted(-1)), str(DAY.next())
KLINES = schema_of("binance", "um", "klines")
NOON = timedelta(hours=12)
REGULAR = [schema for schema in TABLES if schema.is_regular and schema.data_type != "BVOLIndex"]
every_regular_table = pytest.mark.parametrize("schema", REGULAR, ids=lambda schema: schema.name)


def day_of(schema: TableSchema, first: timedelta = timedelta(0), last: timedelta = timedelta(days=1)) -> pl.DataFrame:
    """The rows of a perfect day, from a time of the day to another."""
    start, _ = exchange_named(schema.exchange).bounds(DAY)
    step = schema.step or schema.at_least_every or timedelta(hours=1)
    shift = step if schema.labels_end else timedelta(0)
    times = [start + step * number + shift for number in range(timedelta(days=1) // step)]
    selected = [time for time in times if first <= time - shift - start < last]
    interval = ("60min" if schema.exchange == "htx" else "1h") if schema.has_interval else None
    return frame(schema, [{"time": time} for time in selected], interval=interval, funding_interval_hours=1)


def classified(rows: pl.DataFrame, lifetimes: Lifetimes, schema: TableSchema = KLINES, **more: Any) -> dict[str, Any]:
    (row,) = classify_gaps(check_rows(rows, schema=schema, period=DAY, **more), schema, lifetimes).to_dicts()
    return row


def known(*periods: str, symbol: str = "BTCUSDT", until: str = str(DAY)) -> Lifetimes:
    rows = [(symbol, period, period) for period in (*periods, str(DAY))]
    return Lifetimes.of([pl.DataFrame(rows, schema=LIFETIME_SCHEMA, orient="row")], until)


@every_regular_table
def test_a_perfect_day_of_every_table_is_ok(schema: TableSchema):
    row = classified(day_of(schema), known(BEFORE, AFTER), schema)
    assert (row["level"], row["missing"], row["outside"], row["off_grid"]) == ("ok", 0, 0, 0)


@every_regular_table
def test_a_first_day_may_begin_and_a_last_day_may_end_at_noon(schema: TableSchema):
    first = classified(day_of(schema, NOON), known(AFTER), schema)
    assert (first["level"], first["missing"], [gap["place"] for gap in first["gaps"]]) == ("ok", 0, ["before_first"])
    last = classified(day_of(schema, last=NOON), known(BEFORE, until=AFTER), schema)
    assert (last["level"], last["missing"], [gap["place"] for gap in last["gaps"]]) == ("ok", 0, ["after_last"])


@every_regular_table
def test_half_a_day_is_missing_if_the_symbol_exists_before_and_after(schema: TableSchema):
    bad = "error" if schema.gaps_are_faults else "warning"
    for rows, lifetimes in ((day_of(schema, NOON), known(BEFORE)), (day_of(schema, last=NOON), known(AFTER))):
        row = classified(rows, lifetimes, schema)
        assert (row["level"], row["missing"] >= row["expected"] // 3) == (bad, True)


def test_an_early_end_of_the_newest_day_is_undecided():
    rows = day_of(KLINES, last=NOON)
    row = classified(rows, known(BEFORE))
    assert (row["level"], row["missing"], row["undecided"], row["expected"]) == ("warning", 0, 12, 12)
    assert [gap["place"] for gap in row["gaps"]] == ["undecided"]


def test_a_contract_ends_on_its_day_of_delivery():
    rows = day_of(KLINES, last=timedelta(hours=8))
    delivered = rows.with_columns(symbol=pl.lit("BTCUSDT_240110"))
    assert classified(delivered, known(BEFORE, symbol="BTCUSDT_240110"))["level"] == "ok"
    later = rows.with_columns(symbol=pl.lit("BTCUSDT_240329"))
    assert classified(later, known(BEFORE, symbol="BTCUSDT_240329"))["level"] == "warning"


@pytest.mark.parametrize("earlier", [(), (BEFORE,)])
@pytest.mark.parametrize("later", [(), (AFTER,)])
@pytest.mark.parametrize("until", [str(DAY), AFTER])
@pytest.mark.parametrize(("first", "last"), [(NOON, NOON * 2), (NOON / 2, NOON), (NOON * 0, NOON)])
def test_classifying_again_with_more_evidence_equals_classifying_once_with_all(
    earlier: tuple[str, ...], later: tuple[str, ...], until: str, first: timedelta, last: timedelta
):
    measured = check_rows(day_of(KLINES, first, last), schema=KLINES, period=DAY)
    early = classify_gaps(measured, KLINES, known())
    more = known(*earlier, *later, until=until)
    again = classify_gaps(early, KLINES, more)
    assert again.equals(classify_gaps(measured, KLINES, more), null_equal=True)
    assert classify_gaps(again, KLINES, more).equals(again)


@pytest.mark.parametrize(
    ("evidence", "until", "level", "place"),
    [
        ((AFTER,), AFTER, "ok", "before_first"),
        ((BEFORE,), AFTER, "ok", "after_last"),
        ((BEFORE,), str(DAY), "warning", "undecided"),
        ((BEFORE, AFTER), AFTER, "error", "start"),
    ],
)
def test_a_day_without_rows_of_a_monthly_archive_is_classified_by_the_rows_around_it(
    evidence: tuple[str, ...], until: str, level: str, place: str
):
    lifetimes = pl.DataFrame([("BTCUSDT", period, period) for period in evidence], schema=LIFETIME_SCHEMA, orient="row")
    row = classified(day_of(KLINES).clear(), Lifetimes.of([lifetimes], until), files=[("BTCUSDT", "1h")])
    assert (row["level"], [gap["place"] for gap in row["gaps"]], row["rows"]) == (level, [place], 0)


def test_an_exchange_wide_outage_at_a_bound_stays_explained():
    spot = schema_of("binance", "spot", "klines")
    day = Period(Cadence.DAILY, date(2018, 2, 8))
    start = datetime.fromisoformat("2018-02-08T00:00:00+00:00")
    rows = frame(spot, [{"time": start + timedelta(minutes=number)} for number in range(29)], interval="1m")
    lifetimes = pl.DataFrame([("BTCUSDT", "2018-02-07", "2018-02-10")], schema=LIFETIME_SCHEMA, orient="row")
    (row,) = classify_gaps(
        check_rows(rows, schema=spot, period=day), spot, Lifetimes.of([lifetimes], "2018-02-10")
    ).to_dicts()
    assert (row["level"], row["missing"], row["explained"]) == ("explained", 0, 1411)


def test_rows_of_a_monthly_archive_get_days_of_the_exchanges_time_zone():
    times = [datetime.fromisoformat(f"2024-01-{text}+00:00") for text in ("09T15:59:59", "09T16:00:00", "10T16:00:00")]
    rows = pl.DataFrame({"time": times}, schema={"time": pl.Datetime("us", "UTC")})
    days = ["2024-01-09", "2024-01-10", "2024-01-11"]
    assert with_periods(rows, "2024-01", days, "time", "Asia/Shanghai")["period"].to_list() == days
    assert with_periods(rows, "2024-01", days, "time", "UTC")["period"].to_list() == [days[0], days[0], days[1]]
