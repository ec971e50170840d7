"""Quality checks of a table's rows, per period, symbol and interval.

`check_rows` checks one period of one table. All functions are pure: they take frames and return frames.
tables/quality/comparison.py compares tables with each other.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum

import polars as pl

from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.period import Period
from lakehouse_assets.tables.quality.grid import GROUP, find_gaps, grid_bounds, on_grid, within_bounds
from lakehouse_assets.tables.quality.outages import known_outages, with_outages
from lakehouse_assets.tables.quality.relations import BROKEN, broken_relations
from lakehouse_assets.tables.schemas.model import TableSchema
from lakehouse_assets.tables.schemas.readers import UTC_MICROSECONDS


class Level(StrEnum):
    """``ok``; ``explained``: a known outage explains all missing rows; ``warning``: unusual data; ``error``: rows are
    missing, duplicate or impossible."""

    OK = "ok"
    EXPLAINED = "explained"
    WARNING = "warning"
    ERROR = "error"


GAP = pl.Struct(
    {
        "after": UTC_MICROSECONDS,
        "before": UTC_MICROSECONDS,
        "missing": pl.Int64(),
        "place": pl.String(),
        "outage": pl.String(),
    }
)
"""A gap as of GAPS in tables/quality/grid.py, and ``outage``, the source of the outage that explains it.

``place`` may also be ``before_first`` or ``after_last`` (no row was due before a symbol's first or after its last row),
or ``undecided`` (the next period will show whether the symbol continues). See tables/quality/lifetimes.py.
"""

QUALITY_SCHEMA = pl.Schema(
    {
        "period": pl.String(),
        "symbol": pl.String(),
        "interval": pl.String(),
        "level": pl.String(),
        "rows": pl.Int64(),
        "expected": pl.Int64(),
        "missing": pl.Int64(),
        "explained": pl.Int64(),
        "outside": pl.Int64(),
        "duplicates": pl.Int64(),
        "off_grid": pl.Int64(),
        "impossible_prices": pl.Int64(),
        "negative_sizes": pl.Int64(),
        "id_gaps": pl.Int64(),
        "ids_missing": pl.Int64(),
        "out_of_order": pl.Int64(),
        "first_time": UTC_MICROSECONDS,
        "last_time": UTC_MICROSECONDS,
        "gaps": pl.List(GAP),
        "undecided": pl.Int64(),
        "shared_keys": pl.Int64(),
        "broken": pl.List(BROKEN),
    }
)
"""One row per period, symbol and interval. A measure that does not apply to a table is null.

``expected``: distinct due times that rows have, plus ``missing`` and ``explained`` (missing in a known outage) rows.
``outside``: rows of another period. ``duplicates``: rows with the key of another row. ``off_grid``: rows that are not
at a due time. ``impossible_prices``: candles whose low is above, or whose high is below another of their prices; trades
with a price of zero or less. ``id_gaps``: gaps in the ids, ``ids_missing``: the ids in them. ``out_of_order``: rows
whose time is before that of a lower id. ``undecided``: rows that are missing after the last row if the symbol
continues. ``shared_keys``: rows whose key a row of the previous or next period has, too. ``broken``: relations between
columns that more rows violate than allowed. ``first_time`` and ``last_time`` are UTC.

For tables without fixed due times, ``expected`` and ``missing`` count windows (TableSchema.at_least_every).
"""

_ERRORS = ("missing", "outside", "duplicates", "shared_keys", "impossible_prices", "negative_sizes")
_WARNINGS = ("off_grid", "id_gaps", "out_of_order", "undecided")
_PRICES = ("open", "high", "low", "close")


def check_rows(
    frame: pl.DataFrame,
    *,
    schema: TableSchema,
    period: Period,
    files: Collection[tuple[str, str | None]] = (),
) -> pl.DataFrame:
    """Check the rows of one period of the exchange's calendar (QUALITY_SCHEMA).

    ``files`` are the (symbol, interval) of the archives that were read, so that archives without rows are checked, too.
    Every symbol is taken to exist all the time; tables/quality/lifetimes.py corrects the result.
    """
    start, end = exchange_named(schema.exchange).bounds(period)
    offset = datetime.combine(period.start, time(tzinfo=UTC)) - start
    if not schema.has_interval:
        frame = frame.with_columns(pl.lit(None, pl.String()).alias("interval"))
    groups = _groups(frame, files)
    measured = groups.join(_measures(frame, schema, start, end), on=GROUP, how="left", nulls_equal=True)
    measured = measured.join(broken_relations(frame, schema), on=GROUP, how="left", nulls_equal=True)
    if schema.is_regular:
        bounds = grid_bounds(groups, schema, start, end, offset)
        points = within_bounds(on_grid(frame, schema, offset), bounds)
        gaps = with_outages(find_gaps(points, bounds), known_outages(schema.exchange, schema.market))
        measured = _with_gaps(measured, points, gaps)
    measured = measured.with_columns(
        pl.col("rows").fill_null(0),
        pl.col("broken").fill_null(pl.lit([], pl.List(BROKEN))),
        period=pl.lit(str(period)),
        shared_keys=pl.lit(0 if schema.key else None),
    )
    return with_levels(measured, schema)


@dataclass(frozen=True, slots=True)
class QualitySummary:
    """Totals of quality results. ``levels`` counts results by level; ``broken`` counts rows once per violated relation;
    ``worst`` has the results of the highest level with most missing rows."""

    levels: dict[str, int]
    rows: int
    missing: int
    explained: int
    undecided: int
    shared_keys: int
    broken: int
    worst: pl.DataFrame

    @property
    def level(self) -> Level:
        """The highest level of any result."""
        return max((Level(level) for level, count in self.levels.items() if count), key=_RANK.index, default=Level.OK)


_RANK = (Level.OK, Level.EXPLAINED, Level.WARNING, Level.ERROR)


def summarize(results: pl.DataFrame, *, worst: int = 10) -> QualitySummary:
    """Sum up rows of QUALITY_SCHEMA; ``worst`` limits the rows of the summary's ``worst``."""
    counts = dict(results.group_by("level").len().iter_rows())
    rank = pl.col("level").replace_strict({level.value: number for number, level in enumerate(_RANK)})
    bad = results.filter(rank > _RANK.index(Level.EXPLAINED))
    return QualitySummary(
        levels={level.value: counts.get(level.value, 0) for level in _RANK},
        rows=int(results["rows"].sum()),
        missing=int(results["missing"].sum()),
        explained=int(results["explained"].sum()),
        undecided=int(results["undecided"].sum()),
        shared_keys=int(results["shared_keys"].sum()),
        broken=int(results["broken"].explode().struct.field("rows").sum()),
        worst=bad.sort(rank, "missing", descending=True, nulls_last=True).head(worst),
    )


def _groups(frame: pl.DataFrame, files: Collection[tuple[str, str | None]]) -> pl.DataFrame:
    read = pl.DataFrame(list(files), schema=dict.fromkeys(GROUP, pl.String()), orient="row")
    return pl.concat([frame.select(GROUP), read]).unique().sort(GROUP)


def _measures(frame: pl.DataFrame, schema: TableSchema, start: datetime, end: datetime) -> pl.DataFrame:
    """The measures that need no grid, per group."""
    time = pl.col("time")
    sizes = [name for name in schema.polars if name.endswith(("size", "volume"))]
    measures = {
        "rows": pl.len(),
        "first_time": time.min(),
        "last_time": time.max(),
        "outside": (~_due(schema).is_between(start, end, closed="right" if schema.labels_end else "left")).sum(),
    }
    if schema.key:
        measures["duplicates"] = pl.len() - pl.struct(schema.key).n_unique()
    if sizes:
        measures["negative_sizes"] = pl.any_horizontal(pl.col(name) < 0 for name in sizes).sum()
    if set(_PRICES) <= schema.polars.keys():
        is_lowest = pl.col("low") <= pl.min_horizontal(_PRICES)
        is_highest = pl.col("high") >= pl.max_horizontal(_PRICES)
        measures["impossible_prices"] = (~(is_lowest & is_highest)).sum()
    elif "price" in schema.polars:
        measures["impossible_prices"] = (pl.col("price") <= 0).sum()
    if schema.id_column:
        measures |= _id_measures(schema.id_column, consecutive=schema.ids_are_consecutive)
    return frame.group_by(GROUP).agg(**measures)


def _due(schema: TableSchema) -> pl.Expr:
    """A row's time; with a fixed step the nearest due time, since rows may be slightly early or late."""
    if schema.step is None:
        return pl.col("time")
    step = schema.step // timedelta(microseconds=1)
    return ((pl.col("time").to_physical() + step // 2) // step * step).cast(UTC_MICROSECONDS)


def _id_measures(column: str, *, consecutive: bool) -> dict[str, pl.Expr]:
    ids = pl.col(column)
    steps = ids.sort().diff()
    measures = {"out_of_order": (pl.col("time").sort_by(column).diff() < timedelta(0)).sum()}
    if consecutive:
        measures |= {"id_gaps": (steps > 1).sum(), "ids_missing": (steps.filter(steps > 1) - 1).sum()}
    return measures


def _with_gaps(measured: pl.DataFrame, points: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """Add ``expected missing explained off_grid gaps`` from the rows on the grid and the gaps between them."""
    missing = pl.col("missing")
    by_group = (
        gaps.sort(*GROUP, "after")
        .group_by(GROUP)
        .agg(
            missing.filter(pl.col("outage").is_null()).sum().alias("missing"),
            missing.filter(pl.col("outage").is_not_null()).sum().alias("explained"),
            pl.struct(*GAP.to_schema()).alias("gaps"),
        )
    )
    due = points.group_by(GROUP).agg(due=pl.col("at").n_unique(), off_grid=pl.col("off_grid").sum())
    return (
        measured.join(by_group, on=GROUP, how="left", nulls_equal=True)
        .join(due, on=GROUP, how="left", nulls_equal=True)
        .with_columns(
            pl.col("missing", "explained", "due", "off_grid").fill_null(0),
            pl.col("gaps").fill_null(pl.lit([], pl.List(GAP))),
        )
        .with_columns(expected=pl.col("due") + pl.col("missing") + pl.col("explained"))
    )


def with_levels(measured: pl.DataFrame, schema: TableSchema) -> pl.DataFrame:
    """All columns of QUALITY_SCHEMA, null if not measured, and the level that results from them."""
    lenient = () if schema.gaps_are_faults else ("missing",)
    errors = [name for name in _ERRORS if name not in lenient]
    absent = {name: pl.lit(None, dtype) for name, dtype in QUALITY_SCHEMA.items() if name not in measured.columns}
    is_unusual = pl.any_horizontal(pl.col(name).fill_null(0) > 0 for name in (*_WARNINGS, *lenient))
    level = (
        pl.when(pl.any_horizontal(pl.col(name).fill_null(0) > 0 for name in errors))
        .then(pl.lit(Level.ERROR.value))
        .when(is_unusual | (pl.col("broken").list.len().fill_null(0) > 0))
        .then(pl.lit(Level.WARNING.value))
        .when(pl.col("explained").fill_null(0) > 0)
        .then(pl.lit(Level.EXPLAINED.value))
        .otherwise(pl.lit(Level.OK.value))
    )
    return (
        measured.with_columns(**absent)
        .with_columns(level=level)
        .select(QUALITY_SCHEMA.names())
        .cast(dict(QUALITY_SCHEMA))
    )
