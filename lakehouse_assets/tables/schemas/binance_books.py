"""Binance futures: order book depth, best prices and liquidations."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from lakehouse_assets.tables.schemas.binance_relations import BOOK_DEPTH, CONTRACT_SIZE, LIQUIDATIONS
from lakehouse_assets.tables.schemas.columns import (
    A_ROW_PER_CHANGE,
    BASE,
    BY_SYMBOL,
    CONTRACTS,
    QUOTE,
    integer,
    number,
    side,
    text,
    time,
)
from lakehouse_assets.tables.schemas.model import SizeClass, TableSchema
from lakehouse_assets.tables.schemas.readers import TEXT_SIDE
from lakehouse_assets.tables.schemas.relations import BOTH_SIDES

_table = partial(TableSchema, exchange="binance")

_WINDOW = timedelta(minutes=5)
"""Ten times the distance between rows of book depth."""


def book_depth(market: str) -> TableSchema:
    cm = market == "cm"
    return _table(
        market=market,
        data_type="bookDepth",
        description="Total size and value of the orders within some per cent of the price, every 30 seconds. Not an "
        "order book.",
        columns=(
            *BY_SYMBOL,
            time("timestamp", "Time of the observation."),
            number("percentage", "percentage", "Distance from the price; negative for bids.", "%"),
            number("depth", "depth", "Size of the orders up to that distance.", CONTRACTS if cm else BASE),
            number("notional", "notional", "Value of the orders up to that distance.", BASE if cm else QUOTE),
        ),
        file_columns=("timestamp", "percentage", "depth", "notional"),
        key=("symbol", "time", "percentage"),
        size_class=SizeClass.LARGE,
        at_least_every=_WINDOW,
        gaps_are_faults=False,
        own_relations=BOOK_DEPTH,
    )


def book_ticker(market: str) -> TableSchema:
    unit = CONTRACTS if market == "cm" else BASE
    return _table(
        market=market,
        data_type="bookTicker",
        description="Best bid and ask, a row per change. Rows may be out of order.",
        columns=(
            *BY_SYMBOL,
            time("transaction_time", "Time of the change."),
            integer("update_id", "update_id", "The exchange's id of the order book update."),
            number("bid_price", "best_bid_price", "Best bid.", QUOTE),
            number("bid_size", "best_bid_qty", "Size at the best bid.", unit),
            number("ask_price", "best_ask_price", "Best ask.", QUOTE),
            number("ask_size", "best_ask_qty", "Size at the best ask.", unit),
            time("event_time", "When the exchange sent the update.", name="event_time"),
        ),
        file_columns=(
            "update_id",
            "best_bid_price",
            "best_bid_qty",
            "best_ask_price",
            "best_ask_qty",
            "transaction_time",
            "event_time",
        ),
        key=("symbol", "update_id"),
        size_class=SizeClass.LARGE,
        id_column="update_id",
        ids_source="an update that does not change the best prices has an id, but no row",
        irregular=A_ROW_PER_CHANGE,
    )


def liquidations() -> TableSchema:
    columns = (
        *BY_SYMBOL,
        time("time", "Time of execution of the liquidation order."),
        side("side", TEXT_SIDE, "Side of the liquidation order, which is the taker: buy or sell."),
        text("order_type", "order_type", "Order type: LIMIT."),
        text("time_in_force", "time_in_force", "Time in force: IOC."),
        number("original_size", "original_quantity", f"Size of the order; {CONTRACT_SIZE}.", CONTRACTS),
        number("price", "price", "Limit price of the order.", QUOTE),
        number("average_price", "average_price", "Average price of its trades.", QUOTE),
        text("order_status", "order_status", "Status of the order, such as FILLED."),
        number("last_fill_size", "last_fill_quantity", "Size of the last trade.", CONTRACTS),
        number("filled_size", "accumulated_fill_quantity", "Total size of its trades.", CONTRACTS),
    )
    return _table(
        market="cm",
        data_type="liquidationSnapshot",
        description="Liquidation orders. The files repeat every row; the table has each row once.",
        columns=columns,
        file_columns=tuple(column.sources[0] for column in columns if column.source is not None),
        key=("symbol", *(column.name for column in columns if column.source is not None)),
        size_class=SizeClass.SMALL,
        repeats_rows=True,
        irregular="a row per liquidation",
        own_relations=LIQUIDATIONS,
        # When prices fall, all liquidation orders may be sells.
        unrelated=(BOTH_SIDES,),
    )
