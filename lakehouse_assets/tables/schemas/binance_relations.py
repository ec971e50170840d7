"""Relations of Binance's tables: contract values, funding, book depth, liquidations and options."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from lakehouse_assets.tables.schemas.relations import (
    Relation,
    above_zero,
    col,
    implies,
    near,
    not_negative,
    product,
    same_row_before,
)

CONTRACT_SIZE = "one contract is worth 100 USD for BTC and 10 USD for other coins"
_CONTRACT_USD = pl.when(col("symbol").str.starts_with("BTCUSD")).then(100).otherwise(10)
_WORTH = f"In a coin-margined market, {CONTRACT_SIZE}."
_CLOCKS = timedelta(minutes=1)
_RARE = 1e-3
"""Allowed share of violating rows of a book: its two sides are not observed at the same instant."""

CONTRACT_CANDLES = (
    Relation(
        name="base_volume between volume's worth at high and at low",
        holds=col("base_volume").is_between(
            col("volume") * _CONTRACT_USD / col("high") * 0.999 - 1e-6,
            col("volume") * _CONTRACT_USD / col("low") * 1.001 + 1e-6,
        ),
        reason=_WORTH,
    ),
)
CONTRACT_TRADES = (
    Relation(
        name="base_size is size's worth at price",
        holds=near(col("base_size"), col("size") * _CONTRACT_USD / col("price")),
        reason=_WORTH,
    ),
)

LINEAR_TRADES = (product("size", absolute=0.01),)
"""In um, whose files truncate the value to two decimals: 0.001 at 23175.5 is 23.17 (rows of 2021 and 2023; those of
2019 and 2024 have all decimals)."""

FUNDING = (
    above_zero("funding_interval_hours", reason="It is a duration."),
    Relation(
        name="funding_interval_hours since the row before",
        holds=implies(
            same_row_before("symbol", "funding_interval_hours"),
            col("time").diff() > pl.duration(hours=col("funding_interval_hours")) - _CLOCKS,
        ),
        reason="Funding is not charged before its interval has passed, unless the interval changes; "
        "if it comes later, rows are missing.",
        allowed=0.05,
        ordered=True,
    ),
)

_SAME_SIDE = same_row_before("symbol", "time") & (col("percentage").sign() == col("percentage").sign().shift())
_FARTHER = (col("percentage").abs() - col("percentage").abs().shift()).sign()
_MEAN_PRICE = col("notional") / col("depth")
BOOK_DEPTH = (
    not_negative("depth", "notional", reason="Both are totals of orders."),
    Relation(
        name="percentage not zero",
        holds=col("percentage") != 0,
        reason="It is the distance from the price, with the side as its sign.",
    ),
    *(
        Relation(
            name=f"{name} grows with the distance",
            holds=implies(_SAME_SIDE, _FARTHER * (col(name) - col(name).shift()) >= 0),
            reason="Orders within one per cent of the price are also within two per cent.",
            allowed=_RARE,
            ordered=True,
        )
        for name in ("depth", "notional")
    ),
    Relation(
        name="notional is depth at prices within the distance",
        holds=implies(
            same_row_before("symbol", "time") & (col("depth") > 0) & (col("depth").shift() > 0),
            (_MEAN_PRICE / _MEAN_PRICE.shift() - 1).abs()
            <= (col("percentage").abs() + col("percentage").abs().shift()) / 100 * 1.1 + 1e-3,
        ),
        reason="The mean prices of two distances differ by no more than the distances.",
        allowed=_RARE,
        ordered=True,
    ),
)

_IS_SELL = col("side") == "sell"
LIQUIDATIONS = (
    above_zero("original_size", "price", "average_price", reason="Orders and trades have a size and a price."),
    Relation(
        name="last_fill_size within filled_size within original_size",
        holds=(col("last_fill_size") <= col("filled_size")) & (col("filled_size") <= col("original_size")),
        reason="The trades of an order do not exceed its size.",
    ),
    Relation(
        name="all is filled where order_status is FILLED",
        holds=implies(col("order_status") == "FILLED", col("filled_size") == col("original_size")),
        reason="The status FILLED means that the order was filled completely.",
    ),
    Relation(
        name="average_price no worse than price",
        holds=pl.when(_IS_SELL)
        .then(col("average_price") >= col("price") * 0.999999)
        .otherwise(col("average_price") <= col("price") * 1.000001),
        reason="An order is not executed at a worse price than its limit.",
    ),
)

VOLATILITY_INDEX = (
    Relation(
        name="index_value above 0 and below 1,000",
        holds=col("index_value").is_between(0, 1000, closed="none"),
        reason="The index is an annualized volatility in per cent; other values have another unit.",
    ),
    Relation(
        name="symbol is base_asset and quote_asset",
        holds=col("symbol") == col("base_asset") + col("quote_asset"),
        reason="The symbol of the key is the name of the index and its quote asset.",
    ),
)

_IS_CALL = col("option_type") == "call"
OPTIONS = (
    above_zero("strike_price", reason="A strike is a price."),
    not_negative("mark_price", "gamma", "vega", reason="An option's value, gamma and vega are never negative."),
    Relation(
        name="contract is of symbol",
        holds=col("symbol").str.starts_with(col("contract").str.extract(r"^([^-]+)-", 1)),
        reason="The symbol of the key begins with the underlying in the contract's name.",
    ),
    Relation(
        name="expiration not before time",
        holds=col("expiration") >= col("time").dt.date(),
        reason="An expired option is no longer quoted.",
    ),
    Relation(
        name="delta of a call 0 to 1, of a put -1 to 0",
        holds=pl.when(_IS_CALL).then(col("delta").is_between(0, 1)).otherwise(col("delta").is_between(-1, 0)),
        reason="The value of a call rises with the price, that of a put falls.",
    ),
    Relation(
        name="quote_volume exactly where volume is",
        holds=(col("quote_volume") > 0) == (col("volume") > 0),
        reason="Both cover the same trades.",
    ),
    Relation(
        name="bid_iv not above ask_iv",
        holds=implies((col("bid_iv") > 0) & (col("ask_iv") > 0), col("bid_iv") <= col("ask_iv")),
        reason="Implied volatility rises with the option's price; zero means that there is no order.",
    ),
)
