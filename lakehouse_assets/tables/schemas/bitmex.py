"""BitMEX: trades and quotes of public.bitmex.com. Each daily file has all symbols; times have nanoseconds.

Newer trade files also have a last column trdType, which is ignored.
"""

from __future__ import annotations

from functools import partial

from lakehouse_assets.tables.schemas.columns import (
    A_ROW_PER_CHANGE,
    A_ROW_PER_TRADE,
    BASE,
    CONTRACT_TRADES_FILE,
    CONTRACTS,
    QUOTE,
    number,
    price,
    side,
    symbol_of_row,
    text,
    time,
    time_ns,
)
from lakehouse_assets.tables.schemas.model import SizeClass, TableSchema
from lakehouse_assets.tables.schemas.readers import TEXT_SIDE
from lakehouse_assets.tables.schemas.relations import PRODUCT_OF_BASE, Relation, col, implies, near

_table = partial(TableSchema, exchange="bitmex", market="derivatives", size_class=SizeClass.LARGE)
_figure = partial(number, nullable=True)
_BITCOIN = (
    Relation(
        name="quote_size is price times base_size, of bitcoin",
        holds=implies(
            col("symbol").str.starts_with("XBT"),
            # base_size is rounded to 1e-8; the price multiplies the rounding error.
            near(col("quote_size"), col("price") * col("base_size"), absolute=0)
            | ((col("quote_size") - col("price") * col("base_size")).abs() <= col("price") * 1e-8),
        ),
        reason="The value of a trade is its price times its size; the exchange sets the value of other contracts.",
    ),
)

TABLES = (
    _table(
        data_type="trade",
        description="Single trades; a taker order has a row per maker order that it matches.",
        columns=(
            *symbol_of_row("symbol"),
            time("timestamp", "Time of the trade."),
            time_ns("timestamp"),
            text("trade_id", "trdMatchID", "The exchange's id of the trade, a UUID."),
            price(),
            number("size", "size", "Size; the value of a contract depends on the symbol.", CONTRACTS),
            side("side", TEXT_SIDE, "The taker's side: buy or sell; empty if the row is not a trade.", nullable=True),
            text("tick_direction", "tickDirection", "PlusTick, ZeroPlusTick, MinusTick or ZeroMinusTick."),
            _figure(
                "gross_value",
                "grossValue",
                "Value of the trade, in the settlement asset's smallest unit.",
                "XBt, USDt ...",
            ),
            _figure("base_size", "homeNotional", "Size in the base asset.", BASE),
            _figure("quote_size", "foreignNotional", "Size in the quote asset.", QUOTE),
        ),
        file_columns=CONTRACT_TRADES_FILE,
        key=("symbol", "trade_id"),
        irregular=A_ROW_PER_TRADE,
        unrelated=(PRODUCT_OF_BASE,),
        own_relations=_BITCOIN,
    ),
    _table(
        data_type="quote",
        description="Best bid and ask, a row per change.",
        columns=(
            *symbol_of_row("symbol"),
            time("timestamp", "Time of the change."),
            time_ns("timestamp"),
            _figure("bid_price", "bidPrice", "Best bid; empty if the book has no bid.", QUOTE),
            _figure("bid_size", "bidSize", "Size at the best bid.", CONTRACTS),
            _figure("ask_price", "askPrice", "Best ask; empty if the book has no ask.", QUOTE),
            _figure("ask_size", "askSize", "Size at the best ask.", CONTRACTS),
        ),
        file_columns=("timestamp", "symbol", "bidSize", "bidPrice", "askPrice", "askSize"),
        key=(),
        irregular=A_ROW_PER_CHANGE,
    ),
)
