"""Compares data that should agree: candles of a minute with those of an hour, daily archives with monthly ones.

Every comparison returns COMPARISON_SCHEMA, one row per symbol and interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.errors import InputError
from lakehouse_assets.tables.schemas.interval import duration
from lakehouse_assets.tables.schemas.model import TableSchema
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
"""``compared`` rows exist on both sides, and ``differing`` of them differ, in the columns ``differing_columns``.
``worst`` is the largest relative difference of a number, ``first_difference`` the time (UTC) of the first differing
row. ``only_left`` and ``only_right`` rows have no counterpart on the other side."""

_GROUP = ("symbol", "interval")
_RIGHT = ":right"


@dataclass(frozen=True, slots=True)
class _Columns:
    """``key`` identifies the counterpart of a row. ``exact`` columns have to be equal, ``summed`` columns equal within
    VOLUME_TOLERANCE."""

    key: tuple[str, ...]
    exact: tuple[str, ...]
    summed: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[str, ...]:
        return (*self.exact, *self.summed)


def compare_intervals(fine: pl.DataFrame, coarse: pl.DataFrame, *, schema: TableSchema) -> pl.DataFrame:
    """Compare the candles of one short interval, aggregated, with the candles of a longer interval.

    Prices and counts have to be equal, volumes equal within VOLUME_TOLERANCE. The left side is ``fine``. Raises
    InputError if the longer interval is not a multiple of the shorter one.
    """
    short, long = _only_interval(fine), _only_interval(coarse)
    long_length, short_length = duration(long), duration(short)
    if long_length is None or short_length is None or long_length <= short_length or long_length % short_length:
        raise InputError(f"Candles of {short} do not add up to candles of {long}.")
    summed = tuple(name for name in schema.polars if name.endswith("volume"))
    counted = tuple(name for name in ("trade_count",) if name in schema.polars)
    aggregated = (
        fine.sort("symbol", "time")
        .group_by("symbol", _opening(pl.col("time"), long_length, exchange_named(schema.exchange).timezone))
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
    return _compared(aggregated, coarse, columns, f"{short} in {long}")


def compare_cadences(daily: pl.DataFrame, monthly: pl.DataFrame, *, schema: TableSchema) -> pl.DataFrame:
    """Compare the rows of daily archives with those of the monthly archive of the same month; they have to be equal.

    The left side is ``daily``. Raises InputError for a table without a key.
    """
    if not schema.key:
        raise InputError(f"Rows of {schema.name} have no key, so daily and monthly rows cannot be compared.")
    values = tuple(name for name in schema.polars if name not in {*schema.key, "exchange", "market", "interval"})
    if not schema.has_interval:
        daily, monthly = (frame.with_columns(interval=pl.lit(None, pl.String())) for frame in (daily, monthly))
    return _compared(daily, monthly, _Columns(schema.key, values), "daily in monthly")


def _only_interval(candles: pl.DataFrame) -> str:
    intervals = candles["interval"].unique().to_list()
    if len(intervals) != 1:
        raise InputError(
            f"Pass candles of exactly one interval; these have {', '.join(sorted(intervals)) or 'no interval'}."
        )
    return str(intervals[0])


def _compared(left: pl.DataFrame, right: pl.DataFrame, columns: _Columns, comparison: str) -> pl.DataFrame:
    counts = ("compared", "differing", "only_left", "only_right")
    return (
        _compared_rows(left, right, columns)
        .group_by(_GROUP)
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


def _compared_rows(left: pl.DataFrame, right: pl.DataFrame, columns: _Columns) -> pl.DataFrame:
    """A row per key of either side: which sides have it, and in which columns they differ."""
    key = [*dict.fromkeys((*_GROUP, *columns.key))]
    names = list(dict.fromkeys([*key, "time", *columns.values]))
    left, right = (side.select(names).unique(key).with_columns(present=pl.lit(value=True)) for side in (left, right))
    both = left.join(right, on=key, how="full", nulls_equal=True, coalesce=True, suffix=_RIGHT)
    in_left, in_right = pl.col("present").is_not_null(), pl.col(f"present{_RIGHT}").is_not_null()
    differs = {name: _differs(name, exact=name in columns.exact) & in_left & in_right for name in columns.values}
    numbers = [name for name in columns.values if right.schema[name].is_numeric()]
    time = pl.col("time") if "time" in key else pl.coalesce("time", f"time{_RIGHT}")
    return both.select(
        *_GROUP,
        time.alias("time"),
        (in_left & in_right).alias("compared"),
        (in_left & ~in_right).alias("only_left"),
        (in_right & ~in_left).alias("only_right"),
        pl.any_horizontal(differs.values()).alias("differing"),
        pl.concat_list(pl.when(flag).then(pl.lit(name)) for name, flag in differs.items()).alias("differing_columns"),
        pl.max_horizontal([_difference(name) for name in numbers] or [pl.lit(0.0)]).alias("worst"),
    )


def _opening(time: pl.Expr, length: timedelta, timezone: str) -> pl.Expr:
    """The opening time of the candle that contains a time; days are the exchange's own."""
    return time.dt.convert_time_zone(timezone).dt.truncate(length).dt.convert_time_zone("UTC")


def _differs(name: str, *, exact: bool) -> pl.Expr:
    return pl.col(name).ne_missing(pl.col(f"{name}{_RIGHT}")) if exact else _difference(name) > VOLUME_TOLERANCE


def _difference(name: str) -> pl.Expr:
    """The difference relative to the larger value; 0 if both are equal."""
    left, right = pl.col(name).cast(pl.Float64), pl.col(f"{name}{_RIGHT}").cast(pl.Float64)
    return pl.when(left != right).then((left - right).abs() / pl.max_horizontal(left.abs(), right.abs())).otherwise(0.0)
