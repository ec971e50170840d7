"""Bybit: trades of public.bybit.com. Files have a header; newer ones end with a column RPI, which is left out."""

from __future__ import annotations

from functools import partial

from lakehouse_assets.tables.schemas.columns import (
    BASE,
    BY_SYMBOL,
    CONTRACT_TRADES_FILE,
    QUOTE,
    number,
    price,
    side,
    symbol_of_row,
    text,
    time,
    whole,
)
from lakehouse_assets.tables.schemas.model import SizeClass, TableSchema
from lakehouse_assets.tables.schemas.readers import TEXT_SIDE

_table = partial(TableSchema, exchange="bybit", data_type="trades", size_class=SizeClass.LARGE)

_DERIVATIVES = _table(
    market="derivatives",
    description="Single trades of perpetual and dated contracts. Some files begin with the newest trade.",
    columns=(
        *symbol_of_row("symbol"),
        time("timestamp", "When the trade was made (published in seconds with up to four decimals)."),
        text("trade_id", "trdMatchID", "The exchange's id of the trade, a UUID."),
        price(),
        number(
            "size",
            "size",
            "Size: of USDT and USDC contracts in the base asset, of inverse ones in USD.",
            "base asset or USD",
        ),
        side("side", TEXT_SIDE),
        text("tick_direction", "tickDirection", "PlusTick, ZeroPlusTick, MinusTick or ZeroMinusTick."),
        number("gross_value", "grossValue", "Value of the trade.", "1e-8 of the settlement asset"),
        number("base_size", "homeNotional", "Size in the base asset.", BASE),
        number("quote_size", "foreignNotional", "Size in the quote asset.", QUOTE),
    ),
    file_columns=CONTRACT_TRADES_FILE,
    key=("symbol", "trade_id"),
)

_SPOT = _table(
    market="spot",
    description="Single trades.",
    columns=(
        *BY_SYMBOL,
        time("timestamp", "When the trade was made."),
        whole("trade_id", "id", "Number of the trade within its file."),
        price(),
        number("size", "volume", "Size.", BASE),
        side("side", TEXT_SIDE),
    ),
    file_columns=("id", "timestamp", "price", "volume", "side"),
    key=("symbol", "time", "trade_id"),
)

TABLES = (_DERIVATIVES, _SPOT)
