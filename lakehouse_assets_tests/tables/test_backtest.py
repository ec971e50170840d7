"""Conversions for backtesting programs: columns, units and times."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.errors import InputError
from lakehouse_assets.tables.backtest import (
    freqtrade_candles,
    freqtrade_file,
    nautilus_bars,
    nautilus_trades,
    write_freqtrade,
)
from lakehouse_assets_tests.tables.tabled import made_up_candles

CANDLES = made_up_candles(["BTCUSDT"], [date(2024, 3, 1)])


def test_freqtrade_finds_sorted_candles_in_a_feather_file(tmp_path: Path) -> None:
    file = freqtrade_file("BTC", "USDT", "1h", settle="USDT")
    assert file == Path("futures/BTC_USDT_USDT-1h-futures.feather")
    assert freqtrade_file("BTC", "USDT", "1h") == Path("BTC_USDT-1h.feather")
    written = write_freqtrade(CANDLES.reverse(), tmp_path / "binance", file)
    assert written == tmp_path / "binance" / file
    read = pl.read_ipc(written)
    assert read.schema == pl.Schema(
        {"date": pl.Datetime("ms", "UTC"), **dict.fromkeys(("open", "high", "low", "close", "volume"), pl.Float64)}
    )
    assert read["date"].to_list() == [datetime(2024, 3, 1, hour, tzinfo=UTC) for hour in range(24)]
    assert read["close"].to_list() == CANDLES["close"].to_list()


@pytest.mark.parametrize("last", ["59.999", "59.999999"])
def test_nautilus_bars_are_stamped_with_their_end(last: str) -> None:
    closes = pl.lit(f"2024-03-01 00:59:{last}").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", time_zone="UTC")
    bars = nautilus_bars(CANDLES.head(1).with_columns(close_time=closes))
    assert bars.columns == ["timestamp", "open", "high", "low", "close", "volume"]
    assert bars.schema["timestamp"] == pl.Datetime("ns", "UTC")
    assert bars["timestamp"].to_list() == [datetime(2024, 3, 1, 1, tzinfo=UTC)]


@pytest.mark.parametrize("number", ["trade_id", "agg_trade_id"])
def test_nautilus_trades_have_the_takers_side_and_text_ids_in_order(number: str) -> None:
    trades = pl.DataFrame(
        {
            "symbol": "BTCUSDT",
            "time": [datetime(2024, 3, 1, second=second, tzinfo=UTC) for second in (1, 0, 0)],
            number: [9, 8, 7],
            "price": [3.0, 2.0, 1.0],
            "size": [0.3, 0.2, 0.1],
            "side": ["sell", "buy", "sell"],
        },
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    )
    ticks = nautilus_trades(trades)
    assert ticks.drop("timestamp").rows() == [(1.0, 0.1, "SELL", "7"), (2.0, 0.2, "BUY", "8"), (3.0, 0.3, "SELL", "9")]
    assert ticks.columns == ["timestamp", "price", "quantity", "side", "trade_id"]
    assert ticks.schema["timestamp"] == pl.Datetime("ns", "UTC")


def test_several_symbols_or_intervals_are_refused() -> None:
    two = made_up_candles(["BTCUSDT", "ETHUSDT"], [date(2024, 3, 1)])
    with pytest.raises(InputError, match=r"one symbol .* BTCUSDT, ETHUSDT"):
        freqtrade_candles(two)
    mixed = pl.concat([CANDLES, made_up_candles(["BTCUSDT"], [date(2024, 3, 1)], "1m")])
    with pytest.raises(InputError, match="one interval"):
        nautilus_bars(mixed)
