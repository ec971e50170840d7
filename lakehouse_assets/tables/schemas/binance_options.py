"""Binance options: the volatility index, and the hourly summary that ended in October 2023."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import polars as pl

from lakehouse_assets.tables.schemas.binance_relations import OPTIONS, VOLATILITY_INDEX
from lakehouse_assets.tables.schemas.columns import (
    BY_SYMBOL,
    CONTRACTS,
    EXCHANGE,
    MARKET,
    QUOTE,
    number,
    text,
    time,
)
from lakehouse_assets.tables.schemas.model import Column, SizeClass, TableSchema
from lakehouse_assets.tables.schemas.readers import HOUR_OF_DAY, OPTION_EXPIRY, OPTION_STRIKE, OPTION_TYPE
from lakehouse_assets.tables.schemas.relations import POSITIVE_PRICES

_table = partial(TableSchema, exchange="binance", market="option")
_figure = partial(number, nullable=True)

_VOLATILITY_INDEX = _table(
    data_type="BVOLIndex",
    description="Volatility index, every second.",
    columns=(
        *BY_SYMBOL,
        time("calc_time", "Time of the calculation; sometimes some milliseconds late."),
        text("base_asset", "base_asset", "Name of the index, such as BTCBVOL."),
        text("quote_asset", "quote_asset", "Quote asset."),
        number("index_value", "index_value", "Annualized implied volatility of the next 30 days.", "%"),
    ),
    file_columns=("calc_time", "symbol", "base_asset", "quote_asset", "index_value"),
    symbol_column="symbol",
    key=("symbol", "time"),
    size_class=SizeClass.SMALL,
    step=timedelta(seconds=1),
    gaps_are_faults=False,
    own_relations=VOLATILITY_INDEX,
)

_SUMMARY_FILE = (
    "date", "hour", "symbol", "underlying", "type", "strike", "open", "high", "low", "close", "volume_contracts",
    "volume_usdt", "best_bid_price", "best_ask_price", "best_bid_qty", "best_ask_qty", "best_buy_iv",
    "best_sell_iv", "mark_price", "mark_iv", "delta", "gamma", "vega", "theta", "openinterest_contracts",
    "openinterest_usdt",
)  # fmt: skip
_SUMMARY = _table(
    data_type="EOHSummary",
    description="All option contracts at the end of each hour. Rows are not sorted by time.",
    columns=(
        EXCHANGE,
        MARKET,
        Column("symbol", pl.String(), "Underlying, such as BTCUSDT, as in the archive's key."),
        time(("date", "hour"), "Hour of the summary.", read=HOUR_OF_DAY),
        text("contract", "symbol", "Contract, such as BTC-231027-33000-C."),
        Column("option_type", pl.String(), "Option type: call or put.", source="symbol", read=OPTION_TYPE),
        Column("strike_price", pl.Float64(), "Strike price.", QUOTE, "symbol", OPTION_STRIKE),
        Column("expiration", pl.Date(), "Day of expiry.", source="symbol", read=OPTION_EXPIRY),
        _figure("open", "open", "First price of the hour.", QUOTE),
        _figure("high", "high", "Highest price.", QUOTE),
        _figure("low", "low", "Lowest price.", QUOTE),
        _figure("close", "close", "Last price.", QUOTE),
        _figure("volume", "volume_contracts", "Volume.", CONTRACTS),
        _figure("quote_volume", "volume_usdt", "Volume in the quote asset.", QUOTE),
        _figure("bid_price", "best_bid_price", "Best bid.", QUOTE),
        _figure("ask_price", "best_ask_price", "Best ask.", QUOTE),
        _figure("bid_size", "best_bid_qty", "Size at the best bid.", CONTRACTS),
        _figure("ask_size", "best_ask_qty", "Size at the best ask.", CONTRACTS),
        _figure("bid_iv", "best_buy_iv", "Implied volatility of the best bid.", "1"),
        _figure("ask_iv", "best_sell_iv", "Implied volatility of the best ask.", "1"),
        _figure("mark_price", "mark_price", "Mark price.", QUOTE),
        _figure("mark_iv", "mark_iv", "Implied volatility of the mark price.", "1"),
        _figure("delta", "delta", "Greek delta.", "1"),
        _figure("gamma", "gamma", "Greek gamma.", "1"),
        _figure("vega", "vega", "Greek vega.", "1"),
        _figure("theta", "theta", "Greek theta.", "1"),
        _figure("open_interest", "openinterest_contracts", "Open interest.", CONTRACTS),
        _figure("open_interest_value", "openinterest_usdt", "Value of the open interest.", QUOTE),
    ),
    file_columns=_SUMMARY_FILE,
    symbol_column="underlying",
    key=("symbol", "contract", "time"),
    size_class=SizeClass.SMALL,
    step=timedelta(hours=1),
    gaps_are_faults=False,
    own_relations=OPTIONS,
    # A contract that was not traded has prices of zero.
    unrelated=(POSITIVE_PRICES,),
)

TABLES = (_VOLATILITY_INDEX, _SUMMARY)
