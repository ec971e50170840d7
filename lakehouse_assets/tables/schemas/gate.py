"""Gate: trades and candles of gateio-public-data. Files have no header; they begin with the newest row.

A file with more columns than declared is refused: in 2021-07, 85 futures files contain spot deals, and their
unsigned sizes would all be read as buys.

Source: the exchange's description of its historical data (gate.com/announcements/article/21688), which documents the
side of spot deals as ``1: sell, 2: buy``; another public source concluded the opposite from the price impact of
7.5 million deals. A public source found that the volume of a spot candle is in the base asset, by adding up the
deals of 2018-12; in the exchange's API it is in the quote asset. An interval without trades has no candle
(gate.com/developer/historical_quotes).
"""

from __future__ import annotations

from functools import partial

from lakehouse_assets.tables.schemas.columns import (
    A_ROW_PER_TRADE,
    BASE,
    BY_INTERVAL,
    BY_SYMBOL,
    CONTRACTS,
    OPENING_TIME,
    integer,
    number,
    ohlc,
    price,
    side,
    time,
)
from lakehouse_assets.tables.schemas.model import SizeClass, TableSchema
from lakehouse_assets.tables.schemas.readers import GATE_SIDE, MAGNITUDE, SIGN_SIDE

_table = partial(TableSchema, exchange="gate", size_class=SizeClass.LARGE, more_columns=False)

PERPETUALS = ("futures_usdt", "futures_btc")
_TRADE_TIME = time("timestamp", "Time of the trade (published in seconds with six decimals).")
_TRADE_ID = integer("trade_id", "dealid", "The exchange's id of the trade.")

_DEALS = _table(
    market="spot",
    data_type="deals",
    description="Single trades.",
    columns=(
        *BY_SYMBOL,
        _TRADE_TIME,
        _TRADE_ID,
        price(),
        number("size", "amount", "Size.", BASE),
        side(
            "side",
            GATE_SIDE,
            "The taker's side: buy or sell. Uncertain: the exchange documents 1 as sell and 2 as buy, "
            "and another source concluded the opposite from the price impact of deals.",
        ),
    ),
    file_columns=("timestamp", "dealid", "price", "amount", "side"),
    key=("symbol", "trade_id"),
    irregular=A_ROW_PER_TRADE,
)


def _trades(market: str) -> TableSchema:
    kind = "perpetual" if market in PERPETUALS else "delivery"
    return _table(
        market=market,
        data_type="trades",
        description=f"Single trades of {kind} contracts, published with a signed size.",
        columns=(
            *BY_SYMBOL,
            _TRADE_TIME,
            _TRADE_ID,
            price(),
            number(
                "size",
                "size",
                "Size without its sign; the value of a contract depends on the symbol.",
                CONTRACTS,
                read=MAGNITUDE,
            ),
            side("size", SIGN_SIDE, "The taker's side, from the sign of the size: positive is buy."),
        ),
        file_columns=("timestamp", "dealid", "price", "size"),
        key=("symbol", "trade_id"),
        irregular=A_ROW_PER_TRADE,
    )


_VOLUMES = {
    "spot": ("Volume in the base asset, according to the sum of the deals of 2018-12.", BASE),
    "tradfi": ("Volume. Uncertain: the exchange does not document what it counts.", "as published"),
}


def _candles(market: str) -> TableSchema:
    volume, unit = _VOLUMES.get(market, ("Volume in contracts, as in the exchange's API.", CONTRACTS))
    return _table(
        market=market,
        data_type="candlesticks",
        description="Candles of trades.",
        columns=(
            *BY_INTERVAL,
            time("timestamp", OPENING_TIME),
            *ohlc(),
            number("volume", "volume", volume, unit),
        ),
        file_columns=("timestamp", "volume", "close", "high", "low", "open"),
        key=("symbol", "interval", "time"),
        gaps_are_faults=False,
    )


TABLES = (
    _DEALS,
    *(_trades(market) for market in (*PERPETUALS, "delivery_usdt")),
    *(_candles(market) for market in ("spot", *PERPETUALS, "tradfi")),
)
