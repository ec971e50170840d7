"""Relations between columns: conditions that follow from the definitions of the columns.

A relation is declared once, with its columns, and applies to every table that has them in the same units. Tables add
relations of their own. They are checked with the quality of each period (tables/quality/relations.py); rows that
violate one are a warning, with their number and an example.

Tolerances cover the exchanges' rounding, to eight decimals or to the smallest unit of an asset. They are wide: a
relation has to detect a wrong column, unit or sign, not a rounding error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from lakehouse_assets.tables.schemas.interval import INTERVAL_LENGTH

BASE = "base asset"
QUOTE = "quote asset"
BASE_OR_USD = "base asset or USD"
SETTLED = "1e-8 of the settlement asset"

ONE_SIDED = 1000
"""Minimum trades of a period for expecting both sides: with even odds, one side alone has a chance of 1 in 2^999."""

_ROUNDING = 1e-3
_SMALL = 1e-6
"""Relative and absolute: for sums of values that were rounded to eight decimals each."""
_LATE_EVENTS = 1e-3
"""Allowed share of rows with a crossed book, or sent before they happened: several machines' clocks differ."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relation:
    """``holds`` is an expression that is true for a valid row; null counts as true.

    ``allowed`` is the share of rows, per period, symbol and interval, that may violate it. ``units``: it applies only
    to columns of these units. ``per_group``: ``holds`` aggregates all rows of a period, symbol and interval.
    ``ordered``: ``holds`` refers to the previous row, by symbol and time.
    """

    name: str
    holds: pl.Expr
    reason: str
    allowed: float = 0.0
    units: Mapping[str, str] = field(default_factory=dict)
    per_group: bool = False
    ordered: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns in the expression, in their order there."""
        return tuple(dict.fromkeys(name for name in self.holds.meta.root_names() if name != INTERVAL_LENGTH))

    def applies(self, units: Mapping[str, str | None]) -> bool:
        """Whether a table with columns of these units has the relation's columns and units."""
        return all(name in units for name in self.columns) and all(
            units[name] == unit for name, unit in self.units.items()
        )


def col(name: str) -> pl.Expr:
    return pl.col(name)


def near(left: pl.Expr, right: pl.Expr, *, relative: float = _ROUNDING, absolute: float = _SMALL) -> pl.Expr:
    """Whether two numbers are equal except for rounding."""
    return (left - right).abs() <= pl.max_horizontal(left.abs(), right.abs()) * relative + absolute


def implies(condition: pl.Expr, consequence: pl.Expr) -> pl.Expr:
    return ~condition | consequence


def above_zero(
    *names: str, reason: str, unless: pl.Expr | None = None, units: Mapping[str, str] | None = None
) -> Relation:
    expression = pl.all_horizontal(col(name) > 0 for name in names)
    return Relation(
        name=f"{', '.join(names)} above zero",
        holds=expression if unless is None else expression | unless,
        reason=reason,
        units=units or {},
    )


def not_negative(*names: str, reason: str) -> Relation:
    return Relation(
        name=f"{', '.join(names)} not negative",
        holds=pl.all_horizontal(col(name) >= 0 for name in names),
        reason=reason,
    )


def same_row_before(*names: str) -> pl.Expr:
    """Whether the previous row has the same values of these columns."""
    return pl.all_horizontal(col(name) == col(name).shift() for name in names)


def _part_of(part: str, total: str) -> Relation:
    return Relation(
        name=f"{part} within {total}",
        holds=col(part) <= col(total) * (1 + _SMALL) + _SMALL,
        reason="The volume that takers bought is part of the traded volume.",
    )


def _priced(quote: str, base: str) -> Relation:
    low, high = (col(name) * col(base) for name in ("low", "high"))
    return Relation(
        name=f"{quote} between low and high times {base}",
        holds=col(quote).is_between(low * (1 - _ROUNDING) - _SMALL, high * (1 + _ROUNDING) + _SMALL),
        reason="Every trade of the candle has a price between low and high.",
        units={quote: QUOTE, base: BASE},
    )


def product(base: str, *, absolute: float = _SMALL) -> Relation:
    return Relation(
        name=f"quote_size is price times {base}",
        holds=near(col("quote_size"), col("price") * col(base), absolute=absolute),
        reason="The value of a trade is its price times its size.",
        units={"quote_size": QUOTE, base: BASE},
    )


def _needs(value: str, volume: str) -> Relation:
    return Relation(
        name=f"{value} only with {volume}",
        holds=implies(col(value) > 0, col(volume) > 0),
        reason="Both cover the same trades.",
    )


POSITIVE_PRICES = above_zero("low", reason="A price is above zero.", units={"low": QUOTE})
PRODUCT_OF_BASE = product("base_size")
PRODUCT_OF_SIZE = product("size")

BOTH_SIDES = Relation(
    name="both sides",
    holds=(col("side").count() < ONE_SIDED) | (col("side").drop_nulls().n_unique() > 1),
    reason=f"Among {ONE_SIDED:,} trades of a period are buys and sells; otherwise the side is misread.",
    per_group=True,
)

COMMON: Sequence[Relation] = (
    # Candles
    POSITIVE_PRICES,
    Relation(
        name="close_time within the interval",
        holds=(col("close_time") > col("time"))
        & ((col("close_time") < col("time") + col(INTERVAL_LENGTH)) | col(INTERVAL_LENGTH).is_null()),
        reason="A candle ends before the next one opens, and earlier if trading stopped.",
    ),
    _part_of("taker_buy_volume", "volume"),
    _part_of("taker_buy_quote_volume", "quote_volume"),
    _part_of("taker_buy_base_volume", "base_volume"),
    _priced("quote_volume", "volume"),
    _priced("quote_volume", "base_volume"),
    _needs("quote_volume", "volume"),
    _needs("base_volume", "volume"),
    Relation(
        name="volume exactly where trades were counted",
        holds=(col("volume") > 0) == (col("trade_count") > 0),
        reason="Every trade has a size, and every volume comes from a trade.",
    ),
    Relation(
        name="one price where nothing was traded",
        holds=implies(col("volume") == 0, (col("high") == col("low")) & (col("open") == col("close"))),
        reason="Without a trade the price does not change.",
    ),
    # Trades
    above_zero("size", reason="A trade has a size.", unless=col("side").is_null()),
    BOTH_SIDES,
    PRODUCT_OF_SIZE,
    PRODUCT_OF_BASE,
    Relation(
        name="gross_value is base_size or quote_size in the smallest unit",
        holds=near(col("gross_value"), col("quote_size") * 1e8) | near(col("gross_value"), col("base_size") * 1e8),
        reason="Linear contracts are settled in the quote asset, inverse ones in the base asset.",
        units={"gross_value": SETTLED},
    ),
    Relation(
        name="size is base_size or quote_size",
        holds=near(col("size"), col("base_size")) | near(col("size"), col("quote_size")),
        reason="The size of linear contracts is in the base asset, of inverse ones in the quote asset.",
        units={"size": BASE_OR_USD},
    ),
    Relation(
        name="first_trade_id not above last_trade_id",
        holds=col("first_trade_id") <= col("last_trade_id"),
        reason="The row covers the trades from the first to the last.",
    ),
    Relation(
        name="ts_ns is time",
        holds=col("ts_ns") // 1000 == col("time").to_physical(),
        reason="Both are the same instant.",
    ),
    # Quotes
    Relation(
        name="bid_price not above ask_price",
        holds=implies((col("bid_price") > 0) & (col("ask_price") > 0), col("bid_price") <= col("ask_price")),
        reason="Orders that cross are matched immediately; zero means that there is no order.",
        allowed=_LATE_EVENTS,
    ),
    Relation(
        name="a best price has a size",
        holds=implies(col("bid_price") > 0, col("bid_size") > 0) & implies(col("ask_price") > 0, col("ask_size") > 0),
        reason="Every order has a size.",
        allowed=_LATE_EVENTS,
    ),
    Relation(
        name="time not after event_time",
        holds=col("time") <= col("event_time"),
        reason="The book changes before the exchange sends the update.",
        allowed=_LATE_EVENTS,
    ),
    # Positions and funding
    not_negative("open_interest", "open_interest_value", reason="Open interest is a count of positions."),
    Relation(
        name="open_interest exactly where it has a value",
        holds=(col("open_interest") > 0) == (col("open_interest_value") > 0),
        reason="Both cover the same positions.",
    ),
    Relation(
        name="funding_rate within a tenth",
        holds=col("funding_rate").abs() <= 0.1,  # noqa: PLR2004 - as in the name
        reason="No exchange charges more at once; a larger value is a rate in per cent.",
    ),
)
"""Relations of columns that have the same meaning in every table."""
