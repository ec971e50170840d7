"""Gate: trades and candles of gateio-public-data. No file has a header; files begin with the newest row.

A file with more columns than are known is refused: in 2021-07, 85 files of futures hold spot deals, whose
unsigned sizes would all be read as bought.

Source: the exchange's description of its historical data (gate.com/announcements/article/21688), which
says of spot deals ``1: sell, 2: buy``; another public source found the opposite by the price impact of
7.5 million deals. That the volume of a spot candle is in the base asset was found publicly, too, by adding
up the deals of 2018-12; in the exchange's API it is in the quote asset. An interval without trades has no
candle (gate.com/developer/historical_quotes).
"""

from __future__ import annotations

from functools import partial

from lakehouse_assets.tables.schemas.columns import (
    A_ROW_PER_TRADE,
    BASE,
    BY_INTERVAL,
    BY_SYMBOL,
    CONTRACTS,
    number,
    ohlc,
    price,
    side,
    time,
    whole,
)
from lakehouse_assets.tables.schemas.model import SizeClass, TableSchema
from lakehouse_assets.tables.schemas.readers import GATE_SIDE, MAGNITUDE, SIGN_SIDE

_table = partial(TableSchema, exchange="gate", size_class=SizeClass.LARGE, more_columns=False)

PERPETUALS = ("futures_usdt", "futures_btc")
_TRADE_TIME = time("timestamp", "When the trade was made (published in seconds with six decimals).")
_TRADE_ID = whole("trade_id", "dealid", "The exchange's number of the trade.")

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
            "and another source found the opposite by the price impact of deals.",
        ),
    ),
    file_columns=("timestamp", "dealid", "price", "amount", "side"),
    key=("symbol", "trade_id"),
    irregular=A_ROW_PER_TRADE,
)


def _trades(market: str) -> TableSchema:
    of = "perpetual" if market in PERPETUALS else "delivery"
    return _table(
        market=market,
        data_type="trades",
        description=f"Single trades of {of} contracts; published with a signed size.",
        columns=(
            *BY_SYMBOL,
            _TRADE_TIME,
            _TRADE_ID,
            price(),
            number(
                "size",
                "size",
                "Size without its sign; a contract's worth differs by symbol.",
                CONTRACTS,
                read=MAGNITUDE,
            ),
            side("size", SIGN_SIDE, "The taker's side, from the sign of the size: above zero is buy."),
        ),
        file_columns=("timestamp", "dealid", "price", "size"),
        key=("symbol", "trade_id"),
        irregular=A_ROW_PER_TRADE,
    )


_VOLUMES = {
    "spot": ("Volume in the base asset, as found by adding up deals of 2018-12.", BASE),
    "tradfi": ("Volume. Uncertain: the exchange does not say what it counts.", "as published"),
}


def _candles(market: str) -> TableSchema:
    volume, unit = _VOLUMES.get(market, ("Volume, in contracts as in the exchange's API.", CONTRACTS))
    return _table(
        market=market,
        data_type="candlesticks",
        description="Candles of trades.",
        columns=(
            *BY_INTERVAL,
            time("timestamp", "When the candle opens."),
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
