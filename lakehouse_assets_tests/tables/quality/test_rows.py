"""The quality checks of rows: every kind of fault is measured, and valid rows are ok."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.tables.quality.outages import known_outages
from lakehouse_assets.tables.quality.rows import QUALITY_SCHEMA, check_rows, summarize
from lakehouse_assets.tables.schema import TABLES, schema_of
from lakehouse_assets.tables.schemas.interval import duration
from lakehouse_assets.tables.schemas.model import TableSchema

DAY = Period(Cadence.DAILY, date(2024, 1, 10))
MONTH = Period(Cadence.MONTHLY, date(2024, 1, 1))
MIDNIGHT = datetime(2024, 1, 10, tzinfo=UTC)
KLINES = schema_of("binance", "um", "klines")


def frame(schema: TableSchema, rows: list[dict[str, Any]], **values: Any) -> pl.DataFrame:
    """Rows of a table, with defaults for the values that are not given."""
    defaults = {"symbol": "BTCUSDT", "open": 2.0, "high": 3.0, "low": 1.0, "close": 2.0, "price": 2.0, "volume": 1.0}
    return pl.DataFrame(
        [{name: row.get(name, values.get(name, defaults.get(name))) for name in schema.polars} for row in rows],
        schema=schema.polars,
        orient="row",
    )


def candles(times: list[datetime], interval: str = "1h", **values: Any) -> pl.DataFrame:
    length = duration(interval) or timedelta(days=28)
    last = timedelta(milliseconds=1)
    rows = [{"time": time, "close_time": time + length - last} for time in times]
    return frame(KLINES, rows, interval=interval, **values)


def every(step: timedelta, count: int, start: datetime = MIDNIGHT) -> list[datetime]:
    return [start + step * number for number in range(count)]


HOURS = every(timedelta(hours=1), 24)


def checked(rows: pl.DataFrame, schema: TableSchema = KLINES, period: Period = DAY, **more: Any) -> dict[str, Any]:
    result = check_rows(rows, schema=schema, period=period, **more)
    assert result.schema == QUALITY_SCHEMA
    (row,) = result.to_dicts()
    return row


def gaps(row: dict[str, Any]) -> list[tuple[datetime, datetime, int, str]]:
    return [(gap["after"], gap["before"], gap["missing"], gap["place"]) for gap in row["gaps"]]


def test_a_complete_day_is_ok():
    row = checked(candles(HOURS))
    assert (row["level"], row["rows"], row["expected"], row["missing"], row["gaps"]) == ("ok", 24, 24, 0, [])
    assert (row["period"], row["first_time"], row["last_time"]) == ("2024-01-10", HOURS[0], HOURS[-1])


def test_gaps_have_bounds_and_a_place_at_the_start_within_or_at_the_end():
    row = checked(candles([*HOURS[2:5], *HOURS[8:20]]))
    assert gaps(row) == [
        (HOURS[0], HOURS[2], 2, "start"),
        (HOURS[5], HOURS[8], 3, "within"),
        (HOURS[20], MIDNIGHT + timedelta(days=1), 4, "end"),
    ]
    assert (row["rows"], row["missing"], row["expected"], row["level"]) == (15, 9, 24, "error")


def test_an_archive_without_rows_has_all_rows_missing():
    row = checked(candles([]), files=[("BTCUSDT", "1h")])
    assert (row["rows"], row["missing"], row["expected"], row["level"]) == (0, 24, 24, "error")
    assert gaps(row) == [(MIDNIGHT, MIDNIGHT + timedelta(days=1), 24, "start")]


def test_no_rows_and_no_files_have_no_result():
    assert check_rows(candles([]), schema=KLINES, period=DAY).is_empty()


def test_each_symbol_and_interval_is_measured_separately():
    rows = pl.concat(
        [
            candles(HOURS),
            candles(HOURS[:-1], symbol="ETHUSDT"),
            candles(every(timedelta(minutes=1), 1440), "1m"),
            candles([MIDNIGHT], "1d"),
        ]
    )
    result = check_rows(rows.sample(fraction=1, shuffle=True, seed=1), schema=KLINES, period=DAY)
    assert result.select("symbol", "interval", "expected", "missing").rows() == [
        ("BTCUSDT", "1d", 1, 0),
        ("BTCUSDT", "1h", 24, 0),
        ("BTCUSDT", "1m", 1440, 0),
        ("ETHUSDT", "1h", 24, 1),
    ]


def test_a_gap_begins_when_the_candle_before_it_closed_early():
    rows = candles([*HOURS[:4], *HOURS[6:]]).with_columns(
        close_time=pl.when(pl.col("time") == HOURS[3])
        .then(pl.lit(HOURS[3] + timedelta(minutes=40), pl.Datetime("us", "UTC")))
        .otherwise("close_time")
    )
    assert gaps(checked(rows)) == [(HOURS[3] + timedelta(minutes=40), HOURS[6], 2, "within")]


def test_candles_off_the_grid_are_counted_and_are_not_missing():
    rows = candles([time + timedelta(minutes=28) if number > 9 else time for number, time in enumerate(HOURS)])
    row = checked(rows)
    assert (row["off_grid"], row["missing"], row["level"]) == (14, 0, "warning")


@pytest.mark.parametrize(
    ("interval", "times", "expected"),
    [
        ("1w", [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 8, 15, 22, 29)], 5),
        ("1mo", [datetime(2024, 1, 1, tzinfo=UTC)], 1),
        ("12h", every(timedelta(hours=12), 62, datetime(2024, 1, 1, tzinfo=UTC)), 62),
        ("3d", every(timedelta(days=3), 10, datetime(2024, 1, 2, tzinfo=UTC)), 10),
        ("7d", [datetime(2024, 1, day, tzinfo=UTC) for day in (4, 11, 18, 25)], 4),
    ],
)
def test_long_intervals_have_their_own_grid(interval: str, times: list[datetime], expected: int):
    row = checked(candles(times, interval), period=MONTH)
    assert (row["expected"], row["missing"], row["off_grid"]) == (expected, 0, 0)
    if len(times) > 2:
        assert checked(candles(times[:2] + times[3:], interval), period=MONTH)["missing"] == 1


def test_three_day_candles_are_not_due_at_the_bounds_of_a_month():
    times = every(timedelta(days=3), 10, datetime(2024, 1, 3, tzinfo=UTC))
    assert checked(candles(times[1:-1], "3d"), period=MONTH)["missing"] == 0


def test_duplicates_and_rows_of_another_period_are_counted():
    row = checked(candles([*HOURS, HOURS[3], HOURS[3], HOURS[0] - timedelta(days=30), HOURS[0] + timedelta(days=1)]))
    assert (row["duplicates"], row["outside"], row["missing"], row["expected"]) == (2, 2, 0, 24)
    assert row["level"] == "error"


@pytest.mark.parametrize(
    ("values", "impossible", "negative"),
    [
        ({"low": 2.5}, 1, 0),
        ({"high": 1.5}, 1, 0),
        ({"open": 3.5}, 1, 0),
        ({"close": 0.5}, 1, 0),
        ({"volume": -1.0}, 0, 1),
        ({"taker_buy_volume": -0.1, "quote_volume": -1.0}, 0, 1),
        ({"low": 2.0, "high": 2.0}, 0, 0),
        ({"volume": 0.0, "open": 2.0, "high": 2.0, "low": 2.0, "close": 2.0}, 0, 0),
    ],
)
def test_impossible_candles_are_counted(values: dict[str, float], impossible: int, negative: int):
    row = checked(pl.concat([candles(HOURS[1:]), candles(HOURS[:1], **values)]))
    assert (row["impossible_prices"], row["negative_sizes"]) == (impossible, negative)
    assert row["level"] == ("error" if impossible or negative else "ok")


def test_only_a_gap_within_a_known_outage_is_explained():
    spot = schema_of("binance", "spot", "klines")
    day = Period(Cadence.DAILY, date(2021, 4, 25))
    minutes = every(timedelta(minutes=1), 1440, datetime(2021, 4, 25, tzinfo=UTC))

    def without(missing: range) -> dict[str, Any]:
        times = [time for number, time in enumerate(minutes) if number not in missing]
        rows = candles(times, "1m").select(spot.polars.names())
        return checked(rows, spot, day)

    during, longer = without(range(241, 525)), without(range(241, 530))
    assert (during["explained"], during["missing"], during["level"], during["expected"]) == (284, 0, "explained", 1440)
    assert "binance-public-data #368" in during["gaps"][0]["outage"]
    assert (longer["explained"], longer["missing"], longer["level"]) == (0, 289, "error")
    assert longer["gaps"][0]["outage"] is None


def test_an_outage_of_spot_does_not_explain_gaps_of_futures():
    day = Period(Cadence.DAILY, date(2021, 4, 25))
    minutes = every(timedelta(minutes=1), 1440, datetime(2021, 4, 25, tzinfo=UTC))
    row = checked(candles(minutes[:241] + minutes[525:], "1m"), period=day)
    assert (row["missing"], row["explained"]) == (284, 0)


def test_an_outage_over_midnight_explains_the_end_of_one_day_and_the_start_of_the_next():
    spot = schema_of("binance", "spot", "klines")
    eighth, ninth = (datetime(2018, 2, day, tzinfo=UTC) for day in (8, 9))
    before = candles(every(timedelta(minutes=1), 29, eighth), "1m")
    after = candles(every(timedelta(minutes=1), 840, ninth + timedelta(hours=10)), "1m")
    for rows, day, missing in ((before, eighth, 1411), (after, ninth, 600)):
        row = checked(rows.select(spot.polars.names()), spot, Period(Cadence.DAILY, day.date()))
        assert (row["missing"], row["explained"]) == (0, missing)


def test_known_outages_have_sources_and_do_not_overlap():
    outages = known_outages("binance", "spot")
    assert len(outages) > 30
    assert (outages["start"] < outages["end"]).all()
    assert (outages["end"].shift() < outages["start"]).drop_nulls().all()
    assert outages["source"].str.len_chars().min() > 5
    assert known_outages("gate", "spot").is_empty()


def test_missing_candles_are_a_warning_if_idle_intervals_have_no_candle():
    kucoin = schema_of("kucoin", "spot", "klines")
    row = checked(frame(kucoin, [{"time": time} for time in HOURS[3:]], interval="1h"), kucoin)
    assert (row["missing"], row["level"]) == (3, "warning")


TRADES = schema_of("binance", "spot", "trades")


def trades(ids: list[int], **values: Any) -> pl.DataFrame:
    rows = [{"trade_id": number, "time": MIDNIGHT + timedelta(seconds=number)} for number in ids]
    return frame(TRADES, rows, **{"size": 1.0, "quote_size": 2.0} | values)


def test_skipped_ids_are_counted():
    row = checked(trades([3, 4, 9, 10, 12]), TRADES)
    assert (row["id_gaps"], row["ids_missing"]) == (2, 5)
    assert (row["level"], row["expected"], row["gaps"]) == ("warning", None, None)


@pytest.mark.parametrize("data_type", ["trades", "aggTrades"])
def test_skipped_ids_are_no_warning_if_the_exchange_always_skips_some(data_type: str):
    um = schema_of("binance", "um", data_type)
    rows = [{um.id_column: number, "time": MIDNIGHT + timedelta(seconds=number)} for number in (3, 4, 9, 10, 12)]
    row = checked(frame(um, rows, size=1.0, quote_size=2.0), um)
    assert (row["id_gaps"], row["level"]) == (None, "ok")


def test_the_order_of_rows_does_not_matter_but_times_have_to_rise_with_the_ids():
    assert checked(trades([5, 4, 3, 2, 1]), TRADES)["level"] == "ok"
    swapped = trades([1, 2, 3, 4]).with_columns(trade_id=pl.Series([1, 3, 2, 4]))
    row = checked(swapped, TRADES)
    assert (row["out_of_order"], row["id_gaps"], row["level"]) == (1, 0, "warning")


def test_a_price_of_zero_a_duplicate_id_and_a_negative_size_are_errors():
    assert checked(trades([1, 2], price=0.0), TRADES)["impossible_prices"] == 2
    assert checked(trades([1, 2, 2]), TRADES)["duplicates"] == 1
    assert checked(trades([1, 2], size=-1.0), TRADES)["negative_sizes"] == 2
    assert checked(trades([1]), TRADES)["level"] == "ok"


FUNDING = schema_of("binance", "um", "fundingRate")


def funding(hours: list[float], intervals: list[int]) -> pl.DataFrame:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [
        {"time": start + timedelta(hours=hour, milliseconds=8), "funding_interval_hours": interval, "funding_rate": 0.1}
        for hour, interval in zip(hours, intervals, strict=True)
    ]
    return frame(FUNDING, rows)


def test_funding_is_due_after_the_interval_that_each_row_states():
    eight = [8 * number for number in range(93)]
    row = checked(funding(eight, [8] * 93), FUNDING, MONTH)
    assert (row["expected"], row["missing"], row["off_grid"], row["level"]) == (93, 0, 0, "ok")
    row = checked(funding(eight[:40] + eight[43:], [8] * 90), FUNDING, MONTH)
    assert (row["expected"], row["missing"], row["gaps"][0]["missing"]) == (93, 3, 3)
    row = checked(funding(eight[2:-1], [8] * 90), FUNDING, MONTH)
    assert [gap["missing"] for gap in row["gaps"]] == [2, 1]


def test_funding_may_change_its_interval():
    hours = [8 * number for number in range(47)] + [4 * number for number in range(93, 186)]
    row = checked(funding(hours, [8] * 47 + [4] * 93), FUNDING, MONTH)
    assert (row["missing"], row["expected"]) == (0, 140)


def test_funding_at_an_odd_time_is_off_the_grid():
    row = checked(funding([0, 8.2, *(8 * number for number in range(2, 93))], [8] * 93), FUNDING, MONTH)
    assert (row["off_grid"], row["missing"]) == (1, 0)


METRICS = schema_of("binance", "um", "metrics")
FIVE = timedelta(minutes=5)


def test_a_day_of_metrics_has_288_rows_and_ends_at_midnight():
    times = every(FIVE, 288, MIDNIGHT + FIVE)
    row = checked(frame(METRICS, [{"time": time} for time in times]), METRICS)
    assert (row["rows"], row["expected"], row["missing"], row["outside"], row["level"]) == (288, 288, 0, 0, "ok")
    row = checked(frame(METRICS, [{"time": time} for time in times[:100] + times[144:]]), METRICS)
    assert (row["expected"], row["missing"]) == (288, 44)
    row = checked(frame(METRICS, [{"time": time} for time in times[:-1]]), METRICS)
    assert [(gap["missing"], gap["place"]) for gap in row["gaps"]] == [(1, "end")]


def test_metrics_with_one_row_per_day_have_the_other_rows_missing():
    row = checked(frame(METRICS, [{"time": MIDNIGHT + FIVE}]), METRICS)
    assert (row["expected"], row["missing"], row["level"]) == (288, 287, "error")


def test_a_missing_second_and_a_missing_hour_of_options_are_detected():
    index = schema_of("binance", "option", "BVOLIndex")
    seconds = every(timedelta(seconds=1), 86400)
    late = [time + timedelta(milliseconds=number % 9 - 2) for number, time in enumerate(seconds)]
    rows = frame(index, [{"time": time} for time in late], base_asset="BTC", quote_asset="USDT", index_value=50.0)
    assert (checked(rows, index)["level"], checked(rows, index)["outside"]) == ("ok", 0)
    row = checked(pl.concat([rows[:500], rows[501:]]), index)
    assert (row["missing"], row["expected"], row["level"]) == (1, 86400, "warning")
    summary = schema_of("binance", "option", "EOHSummary")
    hours = frame(summary, [{"time": time, "contract": contract} for time in HOURS for contract in ("C", "P")])
    assert checked(hours, summary)["missing"] == 0
    row = checked(hours.filter(pl.col("time") != HOURS[7]), summary)
    assert (gaps(row), row["level"]) == ([(HOURS[6], HOURS[8], 1, "within")], "warning")


@pytest.mark.parametrize(
    ("schema", "step", "length"),
    [
        (schema_of("binance", "um", "bookDepth"), timedelta(seconds=33), 5),
        (schema_of("kucoin", "futures", "fundingRates"), timedelta(hours=4), 480),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_window_without_rows_is_missing_if_rows_have_no_fixed_time(schema: TableSchema, step: timedelta, length: int):
    times = every(step, timedelta(days=1) // step, MIDNIGHT + timedelta(seconds=7))
    rows = frame(schema, [{"time": time} for time in times])
    windows = 1440 // length
    row = checked(rows, schema)
    assert (row["expected"], row["missing"], row["off_grid"], row["level"]) == (windows, 0, 0, "ok")
    first, last = (MIDNIGHT + timedelta(minutes=length * number) for number in (1, 2))
    row = checked(rows.filter(~pl.col("time").is_between(first, last)), schema)
    assert (row["expected"], row["missing"], row["level"]) == (windows, 1, "warning")


@pytest.mark.parametrize("schema", TABLES, ids=lambda schema: schema.name)
def test_every_table_declares_when_rows_are_due_or_why_they_are_irregular(schema: TableSchema):
    if schema.has_interval:
        assert not any([schema.step, schema.at_least_every, schema.irregular])
    else:
        declarations = [schema.step, schema.at_least_every, schema.irregular, schema.has_own_step or None]
        assert sum(declaration is not None for declaration in declarations) == 1


@pytest.mark.parametrize("schema", TABLES, ids=lambda schema: schema.name)
def test_every_table_with_ids_has_a_source_for_whether_they_are_consecutive(schema: TableSchema):
    assert (schema.id_column is None) == (schema.ids_source is None)
    if schema.ids_are_consecutive:
        assert schema.id_column is not None


def test_a_period_is_the_day_of_the_exchanges_own_time_zone():
    htx = schema_of("htx", "old_spot", "klines")
    start = MIDNIGHT - timedelta(hours=8)
    rows = frame(htx, [{"time": time} for time in every(timedelta(hours=1), 24, start)], interval="60min")
    row = checked(rows, htx)
    assert (row["expected"], row["missing"], row["outside"], row["level"]) == (24, 0, 0, "ok")
    assert checked(rows.with_columns(pl.col("time") + timedelta(hours=8)), htx)["outside"] == 8


@pytest.mark.parametrize(
    ("interval", "opens", "expected"),
    [("1day", datetime(2024, 1, 9, 16, tzinfo=UTC), 1), ("4hour", datetime(2024, 1, 9, 16, tzinfo=UTC), 6)],
)
def test_long_candles_open_in_the_exchanges_own_time_zone(interval: str, opens: datetime, expected: int):
    htx = schema_of("htx", "old_spot", "klines")
    length = timedelta(days=1) / expected
    row = checked(frame(htx, [{"time": time} for time in every(length, expected, opens)], interval=interval), htx)
    assert (row["expected"], row["missing"], row["off_grid"], row["outside"]) == (expected, 0, 0, 0)


@pytest.mark.parametrize("schema", TABLES, ids=lambda schema: schema.name)
def test_every_table_can_be_checked(schema: TableSchema):
    interval = "1h" if schema.has_interval else None
    rows = frame(schema, [{"time": MIDNIGHT}], interval=interval, funding_interval_hours=8, trade_id=None)
    result = check_rows(rows, schema=schema, period=DAY)
    assert result.schema == QUALITY_SCHEMA
    assert result.select("symbol", "interval", "rows").rows() == [("BTCUSDT", interval, 1)]
    assert check_rows(rows.clear(), schema=schema, period=DAY).is_empty()


def test_a_summary_has_totals_and_the_worst_results_first():
    good, bad, worse = candles(HOURS), candles(HOURS[:20], symbol="ETHUSDT"), candles(HOURS[:5], symbol="XRPUSDT")
    results = check_rows(pl.concat([good, bad, worse]), schema=KLINES, period=DAY)
    summary = summarize(results, worst=1)
    assert summary.levels == {"ok": 1, "explained": 0, "warning": 0, "error": 2}
    assert (summary.level, summary.rows, summary.missing, summary.explained) == ("error", 49, 23, 0)
    assert summary.worst["symbol"].to_list() == ["XRPUSDT"]
    assert summarize(results.clear()).level == "ok"
