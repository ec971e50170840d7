"""Tables that should agree: candles of a minute with those of an hour, monthly archives with daily ones.

Every comparison answers in the same form (COMPARISON_SCHEMA), one row per symbol and interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.errors import InputError
from lakehouse_assets.tables.schema import TableSchema
from lakehouse_assets.tables.schemas.interval import duration
from lakehouse_assets.tables.schemas.readers import UTC_MICROSECONDS

VOLUME_TOLERANCE = 1e-9
"""Relative: a sum of Float64 volumes is not exact to the last digit."""

COMPARISON_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "interval": pl.String(),
        "comparison": pl.String(),
        "compared": pl.Int64(),
        "differing": pl.Int64(),
        "only_left": pl.Int64(),
        "only_right": pl.Int64(),
        "differing_columns": pl.List(pl.String()),
        "worst": pl.Float64(),
        "first_difference": UTC_MICROSECONDS,
    }
)
"""``compared`` rows exist on both sides, ``differing`` of them differ in one of ``differing_columns``; ``worst`` is
the largest relative difference of a number. ``only_left`` and ``only_right`` rows have no counterpart."""

_GROUP = ("symbol", "interval")
_RIGHT = ":right"


@dataclass(frozen=True, slots=True)
class _Columns:
    """``key`` finds the counterpart, ``exact`` columns have to be equal, ``summed`` ones within VOLUME_TOLERANCE."""

    key: tuple[str, ...]
    exact: tuple[str, ...]
    summed: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[str, ...]:
        return (*self.exact, *self.summed)


def compare_intervals(fine: pl.DataFrame, coarse: pl.DataFrame, *, schema: TableSchema) -> pl.DataFrame:
    """Compare candles of one short interval, summed up, with those of one longer interval.

    Prices and counts have to be equal, volumes within VOLUME_TOLERANCE. Left is ``fine``. Raises InputError where
    one interval does not divide the other.
    """
    short, long = _only_interval(fine), _only_interval(coarse)
    every, part = duration(long), duration(short)
    if every is None or part is None or every <= part or every % part:
        raise InputError(f"Candles of {short} do not add up to candles of {long}.")
    summed = tuple(name for name in schema.polars if name.endswith("volume"))
    counted = tuple(name for name in ("trade_count",) if name in schema.polars)
    added = (
        fine.sort("symbol", "time")
        .group_by("symbol", _opening(pl.col("time"), every, exchange_named(schema.exchange).timezone))
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col(*summed, *counted).sum(),
        )
        .with_columns(interval=pl.lit(long))
    )
    columns = _Columns(("symbol", "interval", "time"), ("open", "high", "low", "close", *counted), summed)
    return _compared(added, coarse, columns, f"{short} in {long}")


def compare_cadences(daily: pl.DataFrame, monthly: pl.DataFrame, *, schema: TableSchema) -> pl.DataFrame:
    """Compare the rows of daily archives with those of the monthly archive of the same month: they have to be equal.

    Left is ``daily``. Raises InputError for a table whose rows have no key.
    """
    if not schema.key:
        raise InputError(f"Rows of {schema.name} have no key by which daily and monthly ones could be compared.")
    values = tuple(name for name in schema.polars if name not in {*schema.key, "exchange", "market", "interval"})
    if not schema.has_interval:
        daily, monthly = (frame.with_columns(interval=pl.lit(None, pl.String())) for frame in (daily, monthly))
    return _compared(daily, monthly, _Columns(schema.key, values), "daily in monthly")


def _only_interval(candles: pl.DataFrame) -> str:
    intervals = candles["interval"].unique().to_list()
    if len(intervals) != 1:
        raise InputError(f"Candles of one interval are compared; these have {', '.join(sorted(intervals)) or 'none'}.")
    return str(intervals[0])


def _compared(left: pl.DataFrame, right: pl.DataFrame, columns: _Columns, comparison: str) -> pl.DataFrame:
    key = [*dict.fromkeys((*_GROUP, *columns.key))]
    sides = [
        side.select(
            [*key, "time", *columns.values] if "time" not in (*key, *columns.values) else [*key, *columns.values]
        )
        .unique(key)
        .with_columns(here=pl.lit(value=True))
        for side in (left, right)
    ]
    both = sides[0].join(sides[1], on=key, how="full", nulls_equal=True, coalesce=True, suffix=_RIGHT)
    at_left, at_right = pl.col("here").is_not_null(), pl.col(f"here{_RIGHT}").is_not_null()
    differs = {name: _differs(name, exact=name in columns.exact) & at_left & at_right for name in columns.values}
    numbers = [name for name in columns.values if right.schema[name].is_numeric()]
    time = pl.col("time") if "time" in key else pl.coalesce("time", f"time{_RIGHT}")
    marked = both.select(
        *_GROUP,
        time.alias("time"),
        (at_left & at_right).alias("compared"),
        (at_left & ~at_right).alias("only_left"),
        (at_right & ~at_left).alias("only_right"),
        pl.any_horizontal(differs.values()).alias("differing"),
        pl.concat_list(pl.when(flag).then(pl.lit(name)) for name, flag in differs.items()).alias("differing_columns"),
        pl.max_horizontal([_difference(name) for name in numbers] or [pl.lit(0.0)]).alias("worst"),
    )
    counts = ("compared", "differing", "only_left", "only_right")
    return (
        marked.group_by(_GROUP)
        .agg(
            pl.col(counts).sum().cast(pl.Int64),
            pl.col("differing_columns").explode().drop_nulls().unique().sort(),
            pl.col("worst").max(),
            pl.col("time").filter("differing").min().alias("first_difference"),
        )
        .with_columns(comparison=pl.lit(comparison))
        .select(COMPARISON_SCHEMA.names())
        .sort(_GROUP)
        .match_to_schema(COMPARISON_SCHEMA)
    )


def _opening(time: pl.Expr, every: timedelta, timezone: str) -> pl.Expr:
    """When the candle opens that a time is in; a day is the exchange's own."""
    return time.dt.convert_time_zone(timezone).dt.truncate(every).dt.convert_time_zone("UTC")


def _differs(name: str, *, exact: bool) -> pl.Expr:
    return pl.col(name).ne_missing(pl.col(f"{name}{_RIGHT}")) if exact else _difference(name) > VOLUME_TOLERANCE


def _difference(name: str) -> pl.Expr:
    """Relative to the larger one; 0 where both are equal."""
    left, right = pl.col(name).cast(pl.Float64), pl.col(f"{name}{_RIGHT}").cast(pl.Float64)
    return pl.when(left != right).then((left - right).abs() / pl.max_horizontal(left.abs(), right.abs())).otherwise(0.0)
