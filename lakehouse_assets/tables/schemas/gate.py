"""Gate: trades and candles of gateio-public-data. No file has a header; files begin with the newest row.

Source: the exchange's description of its historical data (gate.com/announcements/article/21688), which
says of spot deals ``1: sell, 2: buy``; one other public source says the opposite.
"""

from __future__ import annotations

from functools import partial

from lakehouse_assets.tables.schemas.columns import (
    BASE,
    BY_INTERVAL,
    BY_SYMBOL,
    CONTRACTS,
    QUOTE,
    number,
    ohlc,
    price,
    side,
    time,
    whole,
)
from lakehouse_assets.tables.schemas.model import SizeClass, TableSchema
from lakehouse_assets.tables.schemas.readers import GATE_SIDE, MAGNITUDE, SIGN_SIDE

_table = partial(TableSchema, exchange="gate", size_class=SizeClass.LARGE)

FUTURES = ("futures_usdt", "futures_btc")
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
            "and another source the opposite.",
        ),
    ),
    file_columns=("timestamp", "dealid", "price", "amount", "side"),
    key=("symbol", "trade_id"),
)


def _trades(market: str) -> TableSchema:
    return _table(
        market=market,
        data_type="trades",
        description="Single trades of perpetual contracts; published with a signed size.",
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
    )


def _candles(market: str) -> TableSchema:
    unit, of = (
        (QUOTE, "in the quote asset (as in the exchange's API; uncertain)") if market == "spot" else (CONTRACTS, "")
    )
    return _table(
        market=market,
        data_type="candlesticks",
        description="Candles of trades.",
        columns=(
            *BY_INTERVAL,
            time("timestamp", "When the candle opens."),
            *ohlc(),
            number("quote_volume" if market == "spot" else "volume", "volume", f"Volume {of}".strip() + ".", unit),
        ),
        file_columns=("timestamp", "volume", "close", "high", "low", "open"),
        key=("symbol", "interval", "time"),
    )


TABLES = (_DEALS, *(_trades(market) for market in FUTURES), *(_candles(market) for market in ("spot", *FUTURES)))
