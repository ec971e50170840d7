"""The first row of each longer sample of exchanges' files, written by hand.

Names are paths below the folder of samples; each value is a row of the table without what the archive's key says.
Single lines are in tables/read/test_excerpts.py.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _candle(time: str, last: str, prices: str, figures: str) -> dict[str, Any]:
    """Spot and um: volume, quote volume, trades, and of these what takers bought."""
    volume, quote, count, taker, taker_quote = map(float, figures.split())
    return {
        "time": at(time),
        "close_time": at(last),
        **dict(zip(("open", "high", "low", "close"), map(float, prices.split()), strict=True)),
        "volume": volume,
        "quote_volume": quote,
        "trade_count": int(count),
        "taker_buy_volume": taker,
        "taker_buy_quote_volume": taker_quote,
    }


def _hour(day: str, prices: str, figures: str, hour: int = 0) -> dict[str, Any]:
    return _candle(f"{day}T{hour:02}:00", f"{day}T{hour:02}:59:59.999", prices, figures)


def _minute(day: str, prices: str, figures: str) -> dict[str, Any]:
    return _candle(f"{day}T00:00", f"{day}T00:00:59.999", prices, figures)


_EXTRACTED = "binance/extracted/data"
_VERBATIM = "binance/verbatim/data"
_MONTHS = f"{_EXTRACTED}/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h"

FIRST_ROWS: dict[str, dict[str, Any]] = {
    f"{_VERBATIM}/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2020-01-01.zip": _minute(
        "2020-01-01", "7195.24 7196.25 7183.14 7186.68", "51.642812 371233.51835535 493 19.59823 140888.41428273"
    ),
    f"{_VERBATIM}/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2020-01-02.zip": _minute(
        "2020-01-02", "7200.77 7200.99 7193.11 7194.87", "13.109715 94358.51811521 220 3.374055 24284.26957108"
    ),
    f"{_VERBATIM}/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-05-08.zip": _candle(
        "2026-05-08T00:00",
        "2026-05-08T00:59:59.999999",
        "80006.0 80142.84 79729.72 79831.99",
        "958.06006 76636658.9620897 67626 559.85461 44801546.158025",
    ),
    f"{_MONTHS}-2017-08.csv": _hour(
        "2017-08-17", "4261.48 4313.62 4261.32 4308.83", "47.181009 202366.13839304 171 35.160503 150952.47794304", 4
    ),
    f"{_MONTHS}-2017-10.csv": _hour(
        "2017-10-01", "4378.49 4378.49 4337.0 4345.95", "48.97065 212805.54447394 522 32.839158 142695.74544516"
    ),
    f"{_MONTHS}-2018-02.csv": _hour(
        "2018-02-01", "10285.1 10335.0 10215.07 10263.18", "594.44129 6115555.42732146 5895 279.123046 2872194.0504816"
    ),
    f"{_MONTHS}-2020-02.csv": _hour(
        "2020-02-01", "9351.71 9394.08 9341.17 9383.07", "848.817197 7950986.77524696 12119 465.17274 4357468.00431309"
    ),
    f"{_MONTHS}-2021-02.csv": _hour(
        "2021-02-01",
        "33092.97 33106.33 32296.16 32546.27",
        "4383.926122 142737162.71050398 98763 2074.60006900 67502334.30717597",
    ),
    f"{_MONTHS}-2022-02.csv": _hour(
        "2022-02-01",
        "38466.9 38627.35 38276.43 38342.36",
        "1058.42599 40649138.2489943 29658 507.18059 19479794.6231736",
    ),
    f"{_EXTRACTED}/spot/monthly/klines/ETHUSDT/1h/ETHUSDT-1h-2021-01.csv": _hour(
        "2021-01-01", "736.42 739.0 729.33 734.07", "27932.69884 20479903.4760359 22671 15020.61663 11015918.9722147"
    ),
    f"{_EXTRACTED}/futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2022-04-08.csv": _minute(
        "2022-04-08", "43417.1 43440.0 43402.7 43402.7", "123.191 5349661.5598 1474 53.871 2339534.5977"
    ),
    f"{_EXTRACTED}/futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2022-05-04.csv": _minute(
        "2022-05-04", "37713.0 37717.6 37700.0 37706.4", "136.957 5164158.0243 2197 79.349 2992024.2002"
    ),
    f"{_VERBATIM}/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2026-04.zip": {
        "time": at("2026-04-01T00:00"),
        "funding_interval_hours": 8,
        "funding_rate": -0.00003449,
    },
    f"{_VERBATIM}/futures/cm/daily/aggTrades/BTCUSD_PERP/BTCUSD_PERP-aggTrades-2026-05-08.zip": {
        "time": at("2026-05-08T00:00:00.020"),
        "agg_trade_id": 480537903,
        "price": 79972.8,
        "size": 542.0,
        "side": "buy",
        "first_trade_id": 1123474160,
        "last_trade_id": 1123474164,
    },
    f"{_EXTRACTED}/option/daily/BVOLIndex/BTCBVOLUSDT/BTCBVOLUSDT-BVOLIndex-2025-04-30.head20000.csv": {
        "time": at("2025-04-30T00:00:00.001"),
        "base_asset": "BTCBVOL",
        "quote_asset": "USDT",
        "index_value": 48.5436,
    },
    f"{_EXTRACTED}/option/daily/EOHSummary/BTCUSDT/BTCUSDT-EOHSummary-2023-09-19.csv": {
        "time": at("2023-09-19T09:00"),
        "contract": "BTC-230929-65000-P",
        "option_type": "put",
        "strike_price": 65000.0,
        "expiration": date(2023, 9, 29),
        "open": 38300.0,
        "high": 38300.0,
        "low": 38300.0,
        "close": 38300.0,
        "volume": 0.0,
        "quote_volume": 0.0,
        "bid_price": 36120.0,
        "ask_price": 40040.0,
        "bid_size": 3.17,
        "ask_size": 2.82,
        "bid_iv": None,
        "ask_iv": 4.90036011,
        "mark_price": 37712.0,
        "mark_iv": 0.775,
        "delta": -1.0,
        "gamma": 0.0,
        "vega": 0.0,
        "theta": -0.00000001,
        "open_interest": 0.16,
        "open_interest_value": 4366.01963956,
    },
    "bybit/excerpts/FXSUSDT2023-10-10.csv": {
        "time": at("2023-10-10T23:58:07.4922"),
        "trade_id": "f7496ecb-b174-51b9-ba56-150186ba6c27",
        "price": 5.239,
        "size": 0.86,
        "side": "sell",
        "tick_direction": "ZeroMinusTick",
        "gross_value": 4.50554e8,
        "base_size": 0.86,
        "quote_size": 4.50554,
    },
}
