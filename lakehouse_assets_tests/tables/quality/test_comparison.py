"""Comparing candles of different intervals, and daily with monthly rows."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from lakehouse_assets.errors import InputError
from lakehouse_assets.tables.quality.comparison import COMPARISON_SCHEMA, compare_cadences, compare_intervals
from lakehouse_assets.tables.schema import schema_of
from lakehouse_assets_tests.tables.quality.test_rows import HOURS, KLINES, MIDNIGHT, TRADES, candles, every, trades

MINUTES = candles(
    every(timedelta(minutes=1), 180),
    "1m",
    quote_volume=1.0,
    taker_buy_volume=1.0,
    taker_buy_quote_volume=1.0,
    trade_count=2,
)
HOURLY = candles(
    HOURS[:3], volume=60.0, quote_volume=60.0, taker_buy_volume=60.0, taker_buy_quote_volume=60.0, trade_count=120
)


def test_minutes_add_up_to_hours():
    result = compare_intervals(MINUTES, HOURLY, schema=KLINES)
    assert result.schema == COMPARISON_SCHEMA
    assert result.row(0) == ("BTCUSDT", "1h", "1m in 1h", 3, 0, 0, 0, [], 0.0, None)


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "trade_count", "volume", "taker_buy_quote_volume"])
def test_a_differing_hour_is_reported_with_its_column(column: str):
    wrong = HOURLY.with_columns(
        pl.when(pl.col("time") == HOURS[1])
        .then(pl.col(column) * 2)
        .otherwise(column)
        .cast(HOURLY.schema[column])
        .alias(column)
    )
    (row,) = compare_intervals(MINUTES, wrong, schema=KLINES).to_dicts()
    assert (row["compared"], row["differing"], row["differing_columns"]) == (3, 1, [column])
    assert (row["worst"], row["first_difference"]) == (0.5, HOURS[1])


def test_volumes_may_differ_in_the_last_digits_and_prices_may_not():
    nearly = 1 + 1e-12
    assert (
        compare_intervals(MINUTES, HOURLY.with_columns(pl.col("volume") * nearly), schema=KLINES)["differing"][0] == 0
    )
    assert compare_intervals(MINUTES, HOURLY.with_columns(pl.col("close") * nearly), schema=KLINES)["differing"][0] == 3


def test_hours_on_one_side_only_are_counted_and_not_compared():
    (row,) = compare_intervals(MINUTES, HOURLY[1:], schema=KLINES).to_dicts()
    assert (row["compared"], row["only_left"], row["only_right"], row["differing"]) == (2, 1, 0, 0)
    (row,) = compare_intervals(MINUTES[:60], HOURLY, schema=KLINES).to_dicts()
    assert (row["compared"], row["only_left"], row["only_right"], row["differing"]) == (1, 0, 2, 0)


def test_intervals_that_do_not_add_up_are_refused():
    with pytest.raises(InputError, match="Candles of 1h do not add up to candles of 1m"):
        compare_intervals(HOURLY, MINUTES, schema=KLINES)
    with pytest.raises(InputError, match="these have 1h, 1m"):
        compare_intervals(pl.concat([MINUTES, HOURLY]), HOURLY, schema=KLINES)


def test_monthly_and_daily_rows_are_compared_by_key():
    (row,) = compare_cadences(MINUTES, MINUTES.reverse(), schema=KLINES).to_dicts()
    assert (row["comparison"], row["compared"], row["differing"], row["only_left"]) == ("daily in monthly", 180, 0, 0)
    stale = MINUTES.with_columns(close=pl.when(pl.col("time") == MIDNIGHT).then(1.5).otherwise("close"))[:170]
    (row,) = compare_cadences(MINUTES, stale, schema=KLINES).to_dicts()
    assert (row["compared"], row["differing"], row["only_left"], row["only_right"]) == (170, 1, 10, 0)
    assert (row["differing_columns"], row["first_difference"]) == (["close"], MIDNIGHT)


def test_trades_are_compared_by_their_id():
    daily = trades([1, 2, 3, 4])
    monthly = trades([2, 3, 4, 5]).with_columns(price=pl.when(pl.col("trade_id") == 3).then(9.0).otherwise("price"))
    (row,) = compare_cadences(daily, monthly, schema=TRADES).to_dicts()
    assert (row["symbol"], row["interval"]) == ("BTCUSDT", None)
    assert (row["compared"], row["differing"], row["only_left"], row["only_right"]) == (3, 1, 1, 1)
    assert row["differing_columns"] == ["price"]


def test_rows_without_a_key_cannot_be_compared():
    quotes = schema_of("bitmex", "derivatives", "quote")
    with pytest.raises(InputError, match="have no key"):
        compare_cadences(quotes.polars.to_frame(), quotes.polars.to_frame(), schema=quotes)


def test_candles_of_hours_add_up_to_the_exchanges_own_days():
    htx = schema_of("htx", "old_spot", "klines")
    start = MIDNIGHT - timedelta(hours=8)
    values = {
        "symbol": "BTCUSDT",
        "open": 1.0,
        "high": 1.0,
        "low": 1.0,
        "close": 1.0,
        "volume": 2.0,
        "quote_volume": 2.0,
    }
    hours = [values | {"interval": "60min", "time": start + timedelta(hours=hour)} for hour in range(24)]
    day = [values | {"interval": "1day", "time": start, "volume": 48.0, "quote_volume": 48.0}]
    fine, coarse = (pl.DataFrame(rows, schema_overrides={"time": pl.Datetime("us", "UTC")}) for rows in (hours, day))
    (result,) = compare_intervals(fine, coarse, schema=htx).to_dicts()
    assert (result["compared"], result["differing"], result["only_left"], result["only_right"]) == (1, 0, 0, 0)
