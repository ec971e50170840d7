"""When symbols begin and end, and which gaps at the bounds of a period are therefore missing rows.

In a symbol's first period rows begin late, and in its last one they end early; none were due before and after. This
knowledge changes: a backfill adds earlier periods, and the next day shows whether the symbol continues. So gaps
are stored with their place, and classified again when a period near them is built (tables/quality/neighbours.py).

A symbol exists from the first to the last neighbouring period in which it has an archive (or rows, where a monthly
archive fills days). Without an earlier period, it begins with its first row. After its last row it has ended if a
later period is known of other symbols, or on its day of delivery; otherwise the end is ``undecided``, a warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.archive.catalog.symbols import symbol_facts
from lakehouse_assets.tables.quality.rows import GAP, with_levels
from lakehouse_assets.tables.schemas.model import TableSchema

LIFETIME_SCHEMA = pl.Schema({"symbol": pl.String(), "first": pl.String(), "last": pl.String()})
"""The first and last period in which a symbol is known to exist, as texts of the table's cadence."""

_COUNTED = ("start", "within", "end")
_PLACE = pl.col("place")


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """The lifetimes of symbols around some periods (LIFETIME_SCHEMA, a row per symbol), and the last known period."""

    symbols: pl.DataFrame
    known_until: str

    @classmethod
    def of(cls, evidence: Iterable[pl.DataFrame], built_until: str) -> Lifetimes:
        """From frames of LIFETIME_SCHEMA with any number of rows per symbol. ``built_until`` is the last period that
        is built."""
        symbols = (
            pl.concat([LIFETIME_SCHEMA.to_frame(), *evidence])
            .group_by("symbol")
            .agg(pl.col("first").min(), pl.col("last").max())
        )
        last = symbols["last"].max()
        return cls(symbols, max(built_until, last) if isinstance(last, str) else built_until)


def classify_gaps(results: pl.DataFrame, schema: TableSchema, lifetimes: Lifetimes) -> pl.DataFrame:
    """Results of the checks (QUALITY_SCHEMA) with their gaps classified by the lifetimes of their symbols.

    Classifying earlier results again gives the same as classifying with the current knowledge only.
    """
    if results["gaps"].is_null().all():
        return results
    marked = results.with_row_index(":row").join(lifetimes.symbols, on="symbol", how="left")
    gaps = marked.select(":row", "period", "symbol", "first", "last", "gaps", has_rows=pl.col("rows") > 0)
    gaps = gaps.explode("gaps").filter(pl.col("gaps").is_not_null()).unnest("gaps")
    gaps = gaps.with_columns(place=_gap_place(gaps, schema, lifetimes.known_until))
    counted = _PLACE.is_in(_COUNTED)
    missing, outage = pl.col("missing"), pl.col("outage")
    sums = gaps.group_by(":row", maintain_order=True).agg(
        missing.filter(counted & outage.is_null()).sum().alias(":missing"),
        missing.filter(counted & outage.is_not_null()).sum().alias(":explained"),
        missing.filter((_PLACE == "undecided") & outage.is_null()).sum().alias(":undecided"),
        pl.struct(*GAP.to_schema()).alias(":gaps"),
    )
    due = pl.col("expected") - pl.col("missing") - pl.col("explained")
    measured = pl.col("gaps").is_not_null()
    changed = (
        marked.with_columns(due=due)
        .join(sums, on=":row", how="left", maintain_order="left")
        .with_columns(
            *(
                pl.when(measured).then(pl.col(f":{name}").fill_null(0)).alias(name)
                for name in ("missing", "explained", "undecided")
            ),
            pl.coalesce(":gaps", "gaps").alias("gaps"),
        )
        .with_columns(expected=pl.col("due") + pl.col("missing") + pl.col("explained"))
    )
    return with_levels(changed.select(results.columns), schema)


def _gap_place(gaps: pl.DataFrame, schema: TableSchema, known_until: str) -> pl.Expr:
    """The place of each gap: a gap at a bound has missing rows if the symbol exists beyond the bound.

    The stored place is evidence, too: a gap ``before_first`` has rows after it, a gap ``after_last`` rows before it,
    even if these are not in the neighbouring periods that were read.
    """
    period = pl.col("period")
    earlier = (pl.col("first") < period).fill_null(value=False)
    later = (pl.col("last") > period).fill_null(value=False)
    is_open = (period >= known_until) & ~_is_delivered(gaps, schema)
    at_end = pl.when(later).then(pl.lit("end")).when(is_open).then(pl.lit("undecided")).otherwise(pl.lit("after_last"))
    at_start = pl.when(earlier).then(pl.lit("start")).otherwise(pl.lit("before_first"))
    existed_before = earlier | _PLACE.is_in(["after_last", "undecided"])
    exists_after = later | (_PLACE == "before_first")
    inside = period.is_between("first", "last").fill_null(value=False)
    without_rows = (
        pl.when(inside | (existed_before & exists_after)).then(pl.lit("start"))
        .when(existed_before).then(at_end)
        .when(exists_after).then(pl.lit("before_first"))
        .otherwise(_PLACE)
    )  # fmt: skip
    return (
        pl.when(_PLACE == "within").then(_PLACE)
        .when(~pl.col("has_rows")).then(without_rows)
        .when(_PLACE.is_in(["start", "before_first"])).then(at_start)
        .otherwise(at_end)
    )  # fmt: skip


def _is_delivered(gaps: pl.DataFrame, schema: TableSchema) -> pl.Expr:
    """Whether the symbol is a contract whose day of delivery is in the period or before it."""
    days = {
        symbol: str(facts.delivery)
        for symbol in gaps.filter(_PLACE.is_in(["end", "undecided"]))["symbol"].unique()
        if (facts := symbol_facts(schema.exchange, schema.market, symbol)).delivery is not None
    }
    day = pl.col("symbol").replace_strict(days, default=None, return_dtype=pl.String)
    period = pl.col("period")
    return (day.str.slice(0, period.str.len_chars()) <= period).fill_null(value=False)
