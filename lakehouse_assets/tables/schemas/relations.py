"""Relations between columns: what the columns' own definitions imply of every row.

A relation is declared once, with the columns that it is about, and holds for every table that has them in these
units. Tables add relations of their own. They are measured with the quality of each period (tables/
quality_relations.py); rows that break one are a warning, with numbers and an example.

Tolerances are for rounding as exchanges round: to eight decimals, to the smallest unit of an asset. They are wide,
since what they have to tell is another column, another unit or another sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from lakehouse_assets.tables.schemas.interval import Length

BASE = "base asset"
QUOTE = "quote asset"
BASE_OR_USD = "base asset or USD"
SETTLED = "1e-8 of the settlement asset"

ONE_SIDED = 1000
"""Trades of a period from which on both sides are expected: with even odds, one side alone has one of 2^999."""

_ROUNDING = 1e-3
_SMALL = 1e-6
"""Relative, and in the unit itself: sums of values that were rounded to eight decimals each."""
_LATE_EVENTS = 1e-3
"""Share of rows of a book that may be crossed, or sent before they happened: clocks of several machines."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relation:
    """``holds`` is true of a row as it should be; null counts as true.

    ``allowed`` is the share of a period's rows (of a symbol and interval) that may break it. ``units``: it is about
    columns of these units only. ``of_part``: it is about all of these rows together, an aggregate. ``ordered``: it
    looks at the row before, by symbol and time.
    """

    name: str
    holds: pl.Expr
    reason: str
    allowed: float = 0.0
    units: Mapping[str, str] = field(default_factory=dict)
    of_part: bool = False
    ordered: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns that it is about, in the order in which it names them."""
        return tuple(dict.fromkeys(name for name in self.holds.meta.root_names() if name != Length.COLUMN))

    def applies(self, units: Mapping[str, str | None]) -> bool:
        """Whether a table with columns of these units has what it is about."""
        return all(name in units for name in self.columns) and all(
            units[name] == unit for name, unit in self.units.items()
        )


def col(name: str) -> pl.Expr:
    return pl.col(name)


def near(left: pl.Expr, right: pl.Expr, *, relative: float = _ROUNDING, absolute: float = _SMALL) -> pl.Expr:
    """Whether two figures are one, but for rounding."""
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
    """Whether the row before has the same values of these columns."""
    return pl.all_horizontal(col(name) == col(name).shift() for name in names)


def _part_of(part: str, whole: str) -> Relation:
    return Relation(
        name=f"{part} within {whole}",
        holds=col(part) <= col(whole) * (1 + _SMALL) + _SMALL,
        reason="What takers bought is part of what was traded.",
    )


def _priced(quote: str, base: str) -> Relation:
    low, high = (col(name) * col(base) for name in ("low", "high"))
    return Relation(
        name=f"{quote} between low and high times {base}",
        holds=col(quote).is_between(low * (1 - _ROUNDING) - _SMALL, high * (1 + _ROUNDING) + _SMALL),
        reason="Every trade of the candle was made at a price between the two.",
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
        reason="Both count the same trades.",
    )


POSITIVE_PRICES = above_zero("low", reason="A price is above zero.", units={"low": QUOTE})
PRODUCT_OF_BASE = product("base_size")
PRODUCT_OF_SIZE = product("size")

BOTH_SIDES = Relation(
    name="both sides",
    holds=(col("side").count() < ONE_SIDED) | (col("side").drop_nulls().n_unique() > 1),
    reason=f"Of {ONE_SIDED:,} trades of a period not all are bought, nor all sold: the side is misread.",
    of_part=True,
)

COMMON: Sequence[Relation] = (
    # Candles
    POSITIVE_PRICES,
    Relation(
        name="close_time within the interval",
        holds=(col("close_time") > col("time"))
        & ((col("close_time") < col("time") + col(Length.COLUMN)) | col(Length.COLUMN).is_null()),
        reason="A candle ends before the next one opens, and earlier where trading stopped.",
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
        reason="A trade has a size, and what was traded was traded by somebody.",
    ),
    Relation(
        name="one price where nothing was traded",
        holds=implies(col("volume") == 0, (col("high") == col("low")) & (col("open") == col("close"))),
        reason="Without a trade the price stays where it was.",
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
        reason="Contracts are counted in the base asset, or, inverse ones, in the quote asset.",
        units={"size": BASE_OR_USD},
    ),
    Relation(
        name="first_trade_id not above last_trade_id",
        holds=col("first_trade_id") <= col("last_trade_id"),
        reason="The row sums up the trades from the one to the other.",
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
        reason="Orders that cross are matched at once; a zero means no order.",
        allowed=_LATE_EVENTS,
    ),
    Relation(
        name="a best price has a size",
        holds=implies(col("bid_price") > 0, col("bid_size") > 0) & implies(col("ask_price") > 0, col("ask_size") > 0),
        reason="An order without a size is no order.",
        allowed=_LATE_EVENTS,
    ),
    Relation(
        name="time not after event_time",
        holds=col("time") <= col("event_time"),
        reason="The book changes before the exchange can send it.",
        allowed=_LATE_EVENTS,
    ),
    # Positions and funding
    not_negative("open_interest", "open_interest_value", reason="Open positions are counted."),
    Relation(
        name="open_interest exactly where it has a value",
        holds=(col("open_interest") > 0) == (col("open_interest_value") > 0),
        reason="Both count the same positions.",
    ),
    Relation(
        name="funding_rate within a tenth",
        holds=col("funding_rate").abs() <= 0.1,  # noqa: PLR2004 - the name says it
        reason="No exchange charges more at a time; a rate in per cent would be.",
    ),
)
"""What columns of one name mean in every table."""
