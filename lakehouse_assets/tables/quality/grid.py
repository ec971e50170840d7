"""Finds missing rows of tables whose rows are due at regular times.

Candles are due every interval, metrics every five minutes, funding rates after the hours that each row states. A gap
reaches from the end of the row before it to the time of the row after it. The last candle before an outage has an
early close time, so the gap shows the true times of the outage.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from lakehouse_assets.tables.schemas.interval import duration
from lakehouse_assets.tables.schemas.model import TableSchema
from lakehouse_assets.tables.schemas.readers import UTC_MICROSECONDS

GROUP = ("symbol", "interval")
GAPS = pl.Schema(
    {
        "symbol": pl.String(),
        "interval": pl.String(),
        "after": UTC_MICROSECONDS,
        "before": UTC_MICROSECONDS,
        "missing": pl.Int64(),
        "place": pl.String(),
    }
)
"""Between ``after`` and ``before`` are no rows, and ``missing`` rows were due. ``place`` is ``start`` or ``end`` for a
gap at a bound of the period, and ``within`` otherwise."""

LATE = timedelta(minutes=1)
"""Tolerance for funding rates and metrics, which are late by milliseconds, sometimes by seconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MONTH = timedelta(days=30)
"""The grid step of months, which are numbered instead of measured."""
_WEEKS = ("w", "week")
_MONDAY = timedelta(days=4)
"""1970-01-05: weeks begin on Mondays."""
_DAY = timedelta(days=1)
_CLOSES_BEFORE = timedelta(milliseconds=1)
"""A candle's close time is its last instant, with milliseconds or finer."""


def on_grid(frame: pl.DataFrame, schema: TableSchema, offset: timedelta = timedelta(0)) -> pl.DataFrame:
    """The position of each row on the grid of its symbol and interval.

    The columns are ``symbol interval time until``, ``at`` (the due time in microseconds since 1970; a multiple of
    _MONTH for candles of months), ``step`` (microseconds to the next due time) and ``off_grid``. ``at`` is the time
    rounded down for candles and windows, and rounded to the nearest due time for rows that may be late. ``offset`` is
    the exchange's offset from UTC, positive to the east: its days, weeks and months begin there.
    """
    if schema.has_interval:
        return _candles(frame, offset)
    grid = _us(_step(schema))
    step = pl.col("funding_interval_hours") * grid if schema.has_own_step else pl.lit(grid)
    time = pl.col("time").to_physical() + _us(offset)
    is_window = schema.at_least_every is not None
    at = (time if is_window else time + grid // 2) // grid * grid
    return frame.select(
        "symbol",
        pl.lit(None, pl.String()).alias("interval"),
        "time",
        pl.col("time").alias("until"),
        at.alias("at"),
        step.alias("step"),
        pl.lit(value=False).alias("off_grid") if is_window else ((time - at).abs() > _us(LATE)).alias("off_grid"),
    )


def _step(schema: TableSchema) -> timedelta:
    return schema.step or schema.at_least_every or timedelta(hours=1)


def _candles(frame: pl.DataFrame, offset: timedelta) -> pl.DataFrame:
    ends = pl.col("close_time") if "close_time" in frame.columns else pl.lit(None, UTC_MICROSECONDS)
    return pl.concat(
        [_interval_candles(candles, interval, ends, offset) for (interval,), candles in frame.group_by("interval")]
        or [_interval_candles(frame, "1m", ends, offset)]
    )


def _interval_candles(frame: pl.DataFrame, interval: str, ends: pl.Expr, offset: timedelta) -> pl.DataFrame:
    length = duration(interval)
    local = pl.col("time") + offset
    time = local.to_physical()
    if length is None:
        step = _us(_MONTH)
        at = (local.dt.year().cast(pl.Int64) * 12 + local.dt.month()) * step
        off_grid = local != local.dt.truncate("1mo")
        full = local.dt.offset_by(interval.replace("mon", "mo")) - offset
    else:
        step = _us(length)
        origin = _origin(interval, length)
        phase = (time - (time.min() if origin is None else _us(origin))) % step
        at, off_grid, full = time - phase, phase != 0, pl.col("time") + length
    return frame.select(
        "symbol",
        "interval",
        "time",
        pl.when(ends < full - _CLOSES_BEFORE).then(ends).otherwise(full).alias("until"),
        at.alias("at"),
        pl.lit(step, pl.Int64()).alias("step"),
        off_grid.alias("off_grid"),
    )


def _origin(interval: str | None, length: timedelta) -> timedelta | None:
    """A time since 1970 at which a candle opens; None for intervals of several days, whose origin is unknown.

    Seven days are not a week: Gate counts ``7d`` futures candles from 1970-01-01, a Thursday, according to its API
    documentation, which does not mention spot.
    """
    if length <= _DAY:
        return timedelta(0)
    return _MONDAY if interval is not None and interval.endswith(_WEEKS) else None


def within_bounds(points: pl.DataFrame, bounds: pl.DataFrame) -> pl.DataFrame:
    """The rows of `on_grid` that are due within the bounds of `grid_bounds`."""
    return (
        points.join(bounds.select(*GROUP, "lower", "upper"), on=GROUP, nulls_equal=True)
        .filter(pl.col("at").is_between("lower", "upper", closed="left") | pl.col("lower").is_null())
        .drop("lower", "upper")
    )


def find_gaps(points: pl.DataFrame, bounds: pl.DataFrame) -> pl.DataFrame:
    """The gaps (GAPS) between rows that are `within_bounds`, and between these and the bounds."""
    rows = points.unique([*GROUP, "at"], keep="first", maintain_order=True).sort(*GROUP, "at")
    between = rows.select(
        *GROUP,
        pl.col("until").shift().over(GROUP).alias("after"),
        pl.col("time").alias("before"),
        ((pl.col("at") - pl.col("at").shift().over(GROUP)) // pl.col("step") - 1).alias("missing"),
        pl.lit("within").alias("place"),
    )
    gaps = pl.concat([between, *_gaps_at_bounds(rows, bounds)]).filter(pl.col("missing") > 0)
    return gaps.match_to_schema(GAPS).sort(*GROUP, "after")


def _gaps_at_bounds(rows: pl.DataFrame, bounds: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The gaps before the first row, which is the complete period if it has no rows, and after the last row."""
    edges = rows.group_by(GROUP).agg(
        first=pl.col("at").min(),
        first_time=pl.col("time").first(),
        first_step=pl.col("step").first(),
        last=pl.col("at").max(),
        last_until=pl.col("until").last(),
        last_step=pl.col("step").last(),
    )
    edges = bounds.join(edges, on=GROUP, how="left", nulls_equal=True)
    empty = pl.col("first").is_null()
    at_start = edges.select(
        *GROUP,
        pl.col("start").alias("after"),
        pl.when(empty).then("end").otherwise("first_time").alias("before"),
        pl.when(empty)
        .then((pl.col("upper") - pl.col("lower")) // pl.col("grid"))
        .otherwise((pl.col("first") - pl.col("lower")) // pl.col("first_step"))
        .alias("missing"),
        pl.lit("start").alias("place"),
    )
    at_end = edges.select(
        *GROUP,
        pl.col("last_until").alias("after"),
        pl.col("end").alias("before"),
        (-((pl.col("last") - pl.col("upper")) // pl.col("last_step")) - 1).alias("missing"),
        pl.lit("end").alias("place"),
    )
    return at_start, at_end


def grid_bounds(
    groups: pl.DataFrame, schema: TableSchema, start: datetime, end: datetime, offset: timedelta = timedelta(0)
) -> pl.DataFrame:
    """The bounds of each group: ``start end``, and on the grid ``lower``, ``upper`` (excluded) and ``grid``, the step.

    ``lower`` and ``upper`` are null when the grid's origin is unknown. When rows have the end of their step as time
    (metrics: from 00:05 to midnight), the bounds are moved accordingly. ``offset`` is the one of `on_grid`.
    """
    rows = []
    for interval in groups["interval"].unique():
        length = duration(interval) if interval is not None else _step(schema)
        lower, upper = (_next_due(moment + offset, interval, length) for moment in (start, end))
        rows.append((interval, *lower, *upper[:1]))
    grids = pl.DataFrame(
        rows, {"interval": pl.String, "lower": pl.Int64, "grid": pl.Int64, "upper": pl.Int64}, orient="row"
    )
    shift = pl.col("grid") if schema.labels_end else pl.lit(0, pl.Int64())
    return groups.join(grids, on="interval", nulls_equal=True).with_columns(
        pl.col("lower") + shift,
        pl.col("upper") + shift,
        start=pl.lit(start, UTC_MICROSECONDS),
        end=pl.lit(end, UTC_MICROSECONDS),
    )


def _next_due(moment: datetime, interval: str | None, length: timedelta | None) -> tuple[int | None, int]:
    """The first due time at or after a moment, and the step."""
    if length is None:
        month = moment.year * 12 + moment.month
        begins = moment == moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return (month if begins else month + 1) * _us(_MONTH), _us(_MONTH)
    origin = _origin(interval, length)
    if origin is None:
        return None, _us(length)
    steps = -((_EPOCH + origin - moment) // length)
    return _us(origin + steps * length), _us(length)


def _us(length: timedelta) -> int:
    return length // _MICROSECOND
