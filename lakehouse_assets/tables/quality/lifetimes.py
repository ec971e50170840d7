"""When symbols begin and end: which gaps at the bounds of a period are rows that are missing.

A symbol's first period begins late, and its last one ends early; nothing was due before and after. What is
known of it changes: a backfill brings earlier periods, the next day shows whether the symbol goes on. So the gaps are
kept, with their place, and judged again when a period near them is built (tables/quality/neighbours.py).

A symbol is there from the first to the last period around in which it has an archive (where a monthly archive
fills days: rows). Without an earlier period it begins where its rows do. After its last row it has ended where a later
period is known of other symbols, or on the day of its delivery; else it is ``undecided``, a warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.archive.catalog.symbols import symbol_facts
from lakehouse_assets.tables.quality.rows import GAP, with_levels
from lakehouse_assets.tables.schema import TableSchema

SPANS = pl.Schema({"symbol": pl.String(), "first": pl.String(), "last": pl.String()})
"""Periods of which a symbol is known to have been there, as texts of the table's cadence."""

_COUNTED = ("start", "within", "end")
_PLACE = pl.col("place")


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """What is known of symbols around some periods: SPANS, a row each, and the last period that is known of."""

    spans: pl.DataFrame
    known_to: str

    @classmethod
    def of(cls, evidence: Iterable[pl.DataFrame], asked_to: str) -> Lifetimes:
        """From frames of SPANS, any number of rows per symbol. ``asked_to`` is the last period that was asked for."""
        spans = (
            pl.concat([SPANS.to_frame(), *evidence]).group_by("symbol").agg(pl.col("first").min(), pl.col("last").max())
        )
        last = spans["last"].max()
        return cls(spans, max(asked_to, last) if isinstance(last, str) else asked_to)


def judged(results: pl.DataFrame, schema: TableSchema, lifetimes: Lifetimes) -> pl.DataFrame:
    """Results of the checks (QUALITY_SCHEMA) by what is known of their symbols now.

    Judging again what was judged with less known comes to the same as judging it now.
    """
    if results["gaps"].is_null().all():
        return results
    marked = results.with_row_index(":row").join(lifetimes.spans, on="symbol", how="left")
    gaps = marked.select(":row", "period", "symbol", "first", "last", "gaps", has_rows=pl.col("rows") > 0)
    gaps = gaps.explode("gaps").filter(pl.col("gaps").is_not_null()).unnest("gaps")
    gaps = gaps.with_columns(place=_placed(gaps, schema, lifetimes.known_to))
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


def _placed(gaps: pl.DataFrame, schema: TableSchema, known_to: str) -> pl.Expr:
    """Where each gap is: a bound counts where the symbol was there beyond it.

    What was found out before is kept: a gap ``before_first`` has rows after it, one ``after_last`` rows before it, also
    where these are no longer around.
    """
    period = pl.col("period")
    earlier = (pl.col("first") < period).fill_null(value=False)
    later = (pl.col("last") > period).fill_null(value=False)
    is_open = (period >= known_to) & ~_delivered(gaps, schema)
    at_end = pl.when(later).then(pl.lit("end")).when(is_open).then(pl.lit("undecided")).otherwise(pl.lit("after_last"))
    at_start = pl.when(earlier).then(pl.lit("start")).otherwise(pl.lit("before_first"))
    was_there = earlier | _PLACE.is_in(["after_last", "undecided"])
    will_be = later | (_PLACE == "before_first")
    inside = period.is_between("first", "last").fill_null(value=False)
    of_empty = (
        pl.when(inside | (was_there & will_be)).then(pl.lit("start")).when(was_there).then(at_end).when(will_be)
        .then(pl.lit("before_first")).otherwise(_PLACE)
    )  # fmt: skip
    return (
        pl.when(_PLACE == "within").then(_PLACE)
        .when(~pl.col("has_rows")).then(of_empty)
        .when(_PLACE.is_in(["start", "before_first"])).then(at_start)
        .otherwise(at_end)
    )  # fmt: skip


def _delivered(gaps: pl.DataFrame, schema: TableSchema) -> pl.Expr:
    """Whether a symbol is a contract whose last day the period holds."""
    days = {
        symbol: str(facts.delivery)
        for symbol in gaps.filter(_PLACE.is_in(["end", "undecided"]))["symbol"].unique()
        if (facts := symbol_facts(schema.exchange, schema.market, symbol)).delivery is not None
    }
    day = pl.col("symbol").replace_strict(days, default=None, return_dtype=pl.String)
    period = pl.col("period")
    return (day.str.slice(0, period.str.len_chars()) <= period).fill_null(value=False)
