"""Rows that are due at regular times: where some are missing.

Candles are due every interval, metrics every five minutes, funding rates every so many hours as each
row says itself. A gap is told by what was covered last before it and first after it: the last candle
before an outage ends early and says when, so that the gap shows the outage's true times.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from lakehouse_assets.tables.schema import TableSchema
from lakehouse_assets.tables.schemas.interval import duration
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
"""Nothing lies between ``after`` and ``before``, where ``missing`` rows were due. ``place`` is ``start`` or
``end`` for a gap that reaches the bounds of the period, and ``within`` otherwise."""

LATE = timedelta(minutes=1)
"""Funding rates and metrics are some milliseconds late, at times some seconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MONTH = timedelta(days=30)
"""How far months, which are numbered on the grid, lie apart there."""
_WEEKS = ("w", "week")
_MONDAY = timedelta(days=4)
"""1970-01-05: weeks begin on Mondays."""
_DAY = timedelta(days=1)
_CLOSES_BEFORE = timedelta(milliseconds=1)
"""A candle's close time is the last instant within it, in milliseconds or finer."""


def on_grid(frame: pl.DataFrame, schema: TableSchema, offset: timedelta = timedelta(0)) -> pl.DataFrame:
    """Where each row lies on the grid of its symbol and interval.

    ``offset`` is that of the exchange's days from UTC, to the east: days, weeks and months are its own.

    ``symbol interval time until``, ``at`` (the due time, in microseconds since 1970; a multiple of months for
    candles of months), ``step`` (microseconds to the next due time), ``off_grid``. ``at`` is the time rounded
    down for candles and windows, and to the nearest due time for what may be late.
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
        [_candles_of(part, interval, ends, offset) for (interval,), part in frame.group_by("interval")]
        or [_candles_of(frame, "1m", ends, offset)]
    )


def _candles_of(frame: pl.DataFrame, interval: str, ends: pl.Expr, offset: timedelta) -> pl.DataFrame:
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
    """A time at which a candle opens, since 1970; None where the exchange's reckoning is unknown: that of several days.

    Seven days are no week: Gate's ``7d`` of futures are counted from 1970 on, which was a Thursday, as the exchange
    says of its API, and of spot it says nothing.
    """
    if length <= _DAY:
        return timedelta(0)
    return _MONDAY if interval is not None and interval.endswith(_WEEKS) else None


def within(points: pl.DataFrame, bounds: pl.DataFrame) -> pl.DataFrame:
    """The rows of `on_grid` that are due within the bounds of `grid_bounds`."""
    return (
        points.join(bounds.select(*GROUP, "lower", "upper"), on=GROUP, nulls_equal=True)
        .filter(pl.col("at").is_between("lower", "upper", closed="left") | pl.col("lower").is_null())
        .drop("lower", "upper")
    )


def gaps(points: pl.DataFrame, bounds: pl.DataFrame) -> pl.DataFrame:
    """Where rows are missing (GAPS) between those `within` bounds, and between them and the bounds."""
    rows = points.unique([*GROUP, "at"], keep="first", maintain_order=True).sort(*GROUP, "at")
    between = rows.select(
        *GROUP,
        pl.col("until").shift().over(GROUP).alias("after"),
        pl.col("time").alias("before"),
        ((pl.col("at") - pl.col("at").shift().over(GROUP)) // pl.col("step") - 1).alias("missing"),
        pl.lit("within").alias("place"),
    )
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
    found = pl.concat([between, at_start, at_end]).filter(pl.col("missing") > 0)
    return found.match_to_schema(GAPS).sort(*GROUP, "after")


def grid_bounds(
    groups: pl.DataFrame, schema: TableSchema, start: datetime, end: datetime, offset: timedelta = timedelta(0)
) -> pl.DataFrame:
    """``start end``, and on the grid ``lower upper`` (excluded) and ``grid``, of each group.

    Both are null where the grid's origin is unknown. Rows that are labelled with the end of their step (metrics:
    from 00:05 to midnight) have their bounds there. ``offset``: as of `on_grid`.
    """
    rows = []
    for interval in groups["interval"].unique():
        length = duration(interval) if interval is not None else _step(schema)
        lower, upper = (_on_grid(moment + offset, interval, length) for moment in (start, end))
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


def _on_grid(moment: datetime, interval: str | None, length: timedelta | None) -> tuple[int | None, int]:
    """The first due time at or after a moment, and the step there."""
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
