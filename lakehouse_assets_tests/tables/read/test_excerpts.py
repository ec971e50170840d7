"""Published lines of every exchange are read as the expected rows, which were written by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.exchanges.grammar import ParsedKey
from lakehouse_assets.tables.read.archives import read_archive
from lakehouse_assets.tables.schema import schema_of
from lakehouse_assets_tests.paths import SAMPLES
from lakehouse_assets_tests.tables.archives import gzipped, zipped

Row = dict[str, Any]


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


# Key: the lines of the file, and the expected values of its first row.
EXCERPTS: dict[str, tuple[str, Row]] = {
    "binance/data/futures/cm/daily/liquidationSnapshot/BTCUSD_PERP/BTCUSD_PERP-liquidationSnapshot-2024-03-05.zip": (
        ("time,side,order_type,time_in_force,original_quantity,price,average_price,order_status,last_fill_quantity,"
        "accumulated_fill_quantity\n1709598391022,SELL,LIMIT,IOC,1,67934.2,68203.4,FILLED,1,1\n"),
        {"symbol": "BTCUSD_PERP", "time": at(2024, 3, 5, 0, 26, 31, 22000), "side": "sell", "price": 67934.2,
         "average_price": 68203.4, "original_size": 1.0, "filled_size": 1.0},
    ),
    "binance/data/futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2026-08-08.zip": (
        ("create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
        "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio\n2026-08-08 00:00:00,"
        "BTCUSDT,106964.058,6940865634.40,1.17050042,1.53817300,1.10263350,0.57838100\n"),
        {"symbol": "BTCUSDT", "time": at(2026, 8, 8, 0, 5), "create_time": at(2026, 8, 8), "open_interest": 106964.058,
         "open_interest_value": 6940865634.4, "top_long_short_account_ratio": 1.17050042,
         "top_long_short_position_ratio": 1.538173, "global_long_short_account_ratio": 1.1026335,
         "taker_long_short_volume_ratio": 0.578381},
    ),
    "bitmex/data/trade/20180122.csv.gz": (
        ("timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional\n"
        "2018-01-22D00:00:02.364320000,XBTUSD,Sell,20,11559.5,MinusTick,046e0b31-267d-007b-179e-aa8e8fd31c69,173020,"
        "0.0017302,20\n"),
        {"symbol": "XBTUSD", "time": at(2018, 1, 22, 0, 0, 2, 364320), "ts_ns": 1516579202364320000, "side": "sell",
         "price": 11559.5, "size": 20.0, "base_size": 0.0017302, "quote_size": 20.0, "gross_value": 173020.0},
    ),
    "bybit/spot/BTCUSDT/BTCUSDT_2026-09-01.csv.gz": (
        ("id,timestamp,price,volume,side,rpi\n1,1788220800624,78580.8,0.00016,buy,0\n"
        "2,1788220801011,78580.7,0.000984,sell,0\n"),
        {"symbol": "BTCUSDT", "time": at(2026, 9, 1, 0, 0, 0, 624000), "trade_id": 1, "price": 78580.8,
         "size": 0.00016, "side": "buy"},
    ),
    "bybit/trading/BTC-14MAR25/BTC-14MAR252025-03-14.csv.gz": (
        ("timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional\n"
        "1741910443.7357,BTC-14MAR25,Buy,0.001,81095.00,MinusTick,26bb8b97-1991-503f-b2c2-f4e8d0b94721,8.1095e+09,"
        "0.001,81.095\n"),
        {"symbol": "BTC-14MAR25", "time": at(2025, 3, 14, 0, 0, 43, 735700), "side": "buy", "price": 81095.0,
         "size": 0.001, "base_size": 0.001, "quote_size": 81.095},
    ),
    "bybit/trading/BTCUSD/BTCUSD2022-11-17.csv.gz": (
        ("timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional\n"
        "1668728606,BTCUSD,Buy,611,16661.00,ZeroMinusTick,00fcc5e9-d36f-51ae-9906-11f83ed505a7,"
        "3.6672468639337374e+06,611,0.036672468639337374\n"),
        {"symbol": "BTCUSD", "time": at(2022, 11, 17, 23, 43, 26), "side": "buy", "price": 16661.0, "size": 611.0,
         "base_size": 0.036672468639337374, "quote_size": 611.0, "gross_value": 3667246.8639337374},
    ),
    "bybit/trading/BTCUSDT/BTCUSDT2020-03-26.csv.gz": (
        ("timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional\n"
        "1585267197.3539,BTCUSDT,Sell,0.857,6733.5,MinusTick,b7026545-8675-54e6-9935-6ed6b9d9993f,577060950000.0,0.857,"
        "5770.6095\n"),
        {"symbol": "BTCUSDT", "time": at(2020, 3, 26, 23, 59, 57, 353900), "side": "sell", "price": 6733.5,
         "size": 0.857, "base_size": 0.857, "quote_size": 5770.6095},
    ),
    "gate/futures_usdt/candlesticks_1m/202601/BTC_USDT-202601.csv.gz": (
        "1767225600,151037,87617.9,87621.6,87598.1,87617.7\n",
        {"symbol": "BTC_USDT", "interval": "1m", "time": at(2026, 1, 1), "open": 87617.7, "high": 87621.6,
         "low": 87598.1, "close": 87617.9, "volume": 151037.0},
    ),
    "gate/futures_usdt/trades/202601/BTC_USDT-202601.csv.gz": (
        "1767225601.477201,643050119,87617.7,7601\n",
        {"symbol": "BTC_USDT", "time": at(2026, 1, 1, 0, 0, 1, 477201), "trade_id": 643050119, "price": 87617.7,
         "size": 7601.0, "side": "buy"},
    ),
    "gate/spot/deals/202601/BTC_USDT-202601.csv.gz": (
        "1767225600.277618,152559793,87645.7,0.000057,1\n",
        {"symbol": "BTC_USDT", "time": at(2026, 1, 1, 0, 0, 0, 277618), "trade_id": 152559793, "price": 87645.7,
         "size": 0.000057, "side": "sell"},
    ),
    "htx/data/klines/spot/daily/FILUSDT/60min/FILUSDT-60min-2020-10-15.zip": (
        "1602774000,10.0,137.0001,220.0001,10.0,1.0231803003396902E7,84333.49782092\n",
        {"symbol": "FILUSDT", "interval": "60min", "time": at(2020, 10, 15, 15), "open": 10.0, "close": 137.0001,
         "high": 220.0001, "low": 10.0, "quote_volume": 10231803.003396902, "volume": 84333.49782092},
    ),
    "htx/data/trades/spot/daily/ETHUSDT/ETHUSDT-trades-2021-05-18.zip": (
        "102189537905,1621331937334,3471.95,0.0653,buy\n",
        {"symbol": "ETHUSDT", "time": at(2021, 5, 18, 9, 58, 57, 334000), "trade_id": 102189537905, "price": 3471.95,
         "size": 0.0653, "side": "buy"},
    ),
    "kucoin/data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2024-05-13.zip": (
        "trade_id,trade_time,price,size,side\n8833558834331649,1715558400475,61484.1,0.0000325,BUY\n",
        {"symbol": "BTCUSDT", "time": at(2024, 5, 13, 0, 0, 0, 475000), "trade_id": "8833558834331649",
         "price": 61484.1, "size": 0.0000325, "side": "buy"},
    ),
    # Not from sample files, but from the exchange's description and from a third party's notes on files.
    "htx/data/klines/swap/daily/BTC-USD/1min/BTC-USD-1min-2021-05-18.zip": (
        "1621332060,45707.76,45705.88,45725.05,45700.89,13220,28.9204701984171414886879489503784944634\n",
        {"symbol": "BTC-USD", "time": at(2021, 5, 18, 10, 1), "open": 45707.76, "close": 45705.88, "high": 45725.05,
         "low": 45700.89, "volume": 13220.0, "base_volume": 28.920470198417142},
    ),
    "htx/data/klines/linear-swap/daily/BTC-USDT/1min/BTC-USDT-1min-2026-04-02.zip": (
        "timestamp,open,close,high,low,vol,amount\n1775059200,68100.1,68110.2,68120.3,68090.4,1322,1.322\n",
        {"time": at(2026, 4, 1, 16), "open": 68100.1, "close": 68110.2, "high": 68120.3, "low": 68090.4,
         "volume": 1322.0, "base_volume": 1.322},
    ),
    "htx/data/klines/spot/daily/BTCUSDT/1min/BTCUSDT-1min-2026-04-02.zip": (
        "id,open,close,high,low,vol,amount\n1775059200,68100.1,68110.2,68120.3,68090.4,90041.2,1.322\n",
        {"open": 68100.1, "close": 68110.2, "high": 68120.3, "low": 68090.4, "quote_volume": 90041.2, "volume": 1.322},
    ),
    "htx/data/trades/swap/daily/BTC-USD/BTC-USD-trades-2021-05-18.zip": (
        "1358791271630000,1621332195189,45665.58,2,0.0043796662606716043024089478333572025,sell\n",
        {"time": at(2021, 5, 18, 10, 3, 15, 189000), "trade_id": 1358791271630000, "price": 45665.58, "size": 2.0,
         "base_size": 0.004379666260671604, "side": "sell"},
    ),
    "htx/data/trades/linear-swap/daily/BTC-USDT/BTC-USDT-trades-2021-05-18.zip": (
        "363599553790000,1621332282860,45004.1,424,0.424,19081.7384,sell\n",
        {"time": at(2021, 5, 18, 10, 4, 42, 860000), "price": 45004.1, "size": 424.0, "base_size": 0.424,
         "quote_size": 19081.7384, "side": "sell"},
    ),
    "htx/data/trades/spot/daily/BTCUSDT/BTCUSDT-trades-2026-08-03.zip": (
        "Trade ID,Trade Time,Trade Price,Volume (Base Currency),Side (buy/sell)\n7,1785690000123,3471.95,0.0653,buy\n",
        {"trade_id": 7, "time": at(2026, 8, 2, 17, 0, 0, 123000), "price": 3471.95, "size": 0.0653, "side": "buy"},
    ),
    "htx/data/trades/linear-swap/daily/BTC-USDT/BTC-USDT-trades-2026-08-03.zip": (
        ("Trade ID,Trade Time,Trade Price,Volume (in Contracts),Volume (in Base Currency),Turnover,Side (buy/sell)\n"
        "7,1785690000123,45004.1,424,0.424,19081.7384,sell\n"),
        {"trade_id": 7, "size": 424.0, "base_size": 0.424, "quote_size": 19081.7384, "side": "sell"},
    ),
    "htx/data/trades/swap/daily/BTC-USD/BTC-USD-trades-2026-08-03.zip": (
        ("Trade ID,Trade Time,Trade Price,Volume (in Contracts),Volume (in Base Currency),Turnover,Side (buy/sell)\n"
        "7,1785690000123,45665.58,2,0.00437966,200,sell\n"),
        {"trade_id": 7, "size": 2.0, "base_size": 0.00437966, "side": "sell"},
    ),
    "htx/historical_data/spot/daily/klines/BTC-USDT/1h/BTC-USDT-klines-1h-2026-03-01.zip": (
        "instId,open,high,low,close,vol,volCcy,volCcyQuote,ts\nBTC-USDT,1,4,0.5,2,10,20,20,1772294400000\n",
        {"symbol": "BTC-USDT", "time": at(2026, 2, 28, 16), "open": 1.0, "high": 4.0, "low": 0.5, "close": 2.0},
    ),
    "htx/historical_data/futures/daily/trades/BTC-USDT-PERP/BTC-USDT-PERP-trades-2026-02-01.zip": (
        "instId,tradeId,px,side,size,ts\nBTC-USDT-PERP,9,78000.5,sell,12,1769904000123\n",
        {"symbol": "BTC-USDT-PERP", "trade_id": 9, "price": 78000.5, "side": "sell", "size": 12.0},
    ),
    "kucoin/data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-05-13.zip": (
        "time,open,close,high,low,volume,turnover\n1715558400,61484.1,61500,61600,61400,12.5,768000\n",
        {"time": at(2024, 5, 13), "open": 61484.1, "close": 61500.0, "high": 61600.0, "low": 61400.0,
         "volume": 12.5, "quote_volume": 768000.0},
    ),
    "kucoin/data/futures/daily/klines/XBTUSDTM/1h/XBTUSDTM-1h-2024-05-13.zip": (
        "time,open,high,low,close,volume\n1715558400000,61484.1,61600,61400,61500,12\n",
        {"time": at(2024, 5, 13), "open": 61484.1, "high": 61600.0, "low": 61400.0, "close": 61500.0, "volume": 12.0},
    ),
    "kucoin/data/futures/daily/trades/XBTUSDTM/XBTUSDTM-trades-2024-05-14.zip": (
        "trade_id,trade_time,price,size,side\n1749781187484,1715644801095,62932.6,6,sell\n",
        {"trade_id": "1749781187484", "time": at(2024, 5, 14, 0, 0, 1, 95000), "size": 6.0, "side": "sell"},
    ),
}  # fmt: skip


def parse(place: str) -> tuple[ParsedKey, str]:
    """The key as parsed by the exchange's grammar, and the name of its table."""
    name, _, key = place.partition("/")
    parsed = exchange_named(name).parse(key)
    assert isinstance(parsed, ParsedKey), parsed
    return parsed, f"{name}/{parsed.market}/{parsed.data_type}"


def first_row(place: str, data: bytes) -> Row:
    parsed, table = parse(place)
    schema = schema_of(*table.split("/"))
    rows = read_archive(data, schema=schema, name=place, symbol=parsed.symbol, interval=parsed.interval)
    return rows.frame.row(0, named=True)


def packed(place: str, text: str) -> bytes:
    return zipped(text) if place.endswith(".zip") else gzipped(text)


@pytest.mark.parametrize("place", EXCERPTS)
def test_a_published_row_has_the_expected_values(place: str) -> None:
    text, expected = EXCERPTS[place]
    row = first_row(place, packed(place, text))
    assert {name: row[name] for name in expected} == expected


EXCERPT_FILES = sorted(path for ending in ("zip", "gz") for path in SAMPLES.glob(f"excerpts/**/*.{ending}"))
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the folder of the exchanges' own files")


@needs_samples
def test_the_sample_files_of_the_excerpts_have_the_same_values() -> None:
    assert len(EXCERPT_FILES) == 13
    for path in EXCERPT_FILES:
        place = path.relative_to(SAMPLES / "excerpts").as_posix()
        _, expected = EXCERPTS[place]
        row = first_row(place, path.read_bytes())
        assert {name: row[name] for name in expected} == expected


@needs_samples
def test_complete_samples_name_the_symbol_of_their_key() -> None:
    options = [*SAMPLES.glob("binance/extracted/data/option/**/*.csv")]
    assert options
    for path in options:
        place = path.relative_to(SAMPLES).as_posix().replace("/extracted/", "/").split(".")[0]
        assert first_row(f"{place}.zip", zipped(path.read_bytes()))["symbol"] == path.parent.name
