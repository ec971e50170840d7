"""The coverage of one dataset as one self-contained page: a heat map of symbols and periods.

Rows are run-length encoded, and the page draws only the visible part, so that five years of days of 700 symbols take
a few hundred kilobytes and show at once. Symbol names and notes are hostile input: they reach the page as JSON, and
the page writes them as text only.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import resources

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.period import period_range
from lakehouse_assets.lake.coverage import CoverageStatus

MAX_DETAILED_CELLS = 20_000
"""Incomplete cells whose counts and notes the page carries; the others show their state only."""

_LETTERS = {cover.value: letter for cover, letter in zip(CoverageStatus, "abcde", strict=True)}
_NEVER_SYNCED = "."


def coverage_page(dataset: Dataset, covered: pl.DataFrame, *, now: datetime | None = None) -> str:
    """The page's HTML. ``covered`` has COVERAGE_SCHEMA."""
    document = json.dumps(
        _document(dataset, covered, now or datetime.now(UTC)), ensure_ascii=False, separators=(",", ":")
    )
    # Inside a script element only "</" and "<!--" could end it.
    safe = document.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return _template().replace("/*DATA*/", safe)


def _document(dataset: Dataset, covered: pl.DataFrame, now: datetime) -> dict[str, object]:
    periods = _periods(dataset, covered)
    incomplete = covered.filter(
        ~pl.col("cover").is_in([CoverageStatus.COMPLETE.value, CoverageStatus.NOT_PUBLISHED.value])
    )
    summary = f"{covered['symbol'].n_unique()} symbols, as of {now:%Y-%m-%d %H:%M} UTC."
    if incomplete.height > MAX_DETAILED_CELLS:
        summary += f" Details are shown for {MAX_DETAILED_CELLS} of {incomplete.height} incomplete cells."
    return {
        "title": f"Coverage of {dataset}",
        "summary": summary,
        "periods": periods,
        "counts": dict(covered.group_by("cover").len().iter_rows()),
        "rows": _rows(covered, periods),
        "exceptions": {
            f"{symbol} {period}": [present, expected, note]
            for symbol, period, present, expected, note in incomplete.head(MAX_DETAILED_CELLS)
            .select("symbol", "period", "present", "expected", "note")
            .iter_rows()
        },
    }


def _periods(dataset: Dataset, covered: pl.DataFrame) -> list[str]:
    if covered.is_empty():
        return []
    first, last = covered["period"].min(), covered["period"].max()
    return [str(period) for period in period_range(dataset.period(str(first)), dataset.period(str(last)))]


def _rows(covered: pl.DataFrame, periods: list[str]) -> list[tuple[str, str]]:
    """The runs of equal states of each symbol: ``a12c.3`` is twelve complete, one missing, three never synced."""
    places = pl.DataFrame(
        {"period": periods, "place": range(len(periods))}, schema={"period": pl.String, "place": pl.Int64}
    )
    runs = (
        covered.lazy()
        .join(places.lazy(), on="period")
        .sort("symbol", "place")
        .with_columns(pl.col("cover").replace_strict(_LETTERS, return_dtype=pl.String).alias("letter"))
        .with_columns(
            (
                (pl.col("symbol") != pl.col("symbol").shift())
                | (pl.col("letter") != pl.col("letter").shift())
                | (pl.col("place") != pl.col("place").shift() + 1)
            )
            .fill_null(value=True)
            .cum_sum()
            .alias("run")
        )
        .group_by("run", maintain_order=True)
        .agg(pl.col("symbol", "letter", "place").first(), pl.len().alias("times"))
        .with_columns((pl.col("place") + pl.col("times")).shift().over("symbol").fill_null(0).alias("after"))
        .with_columns((pl.col("place") - pl.col("after")).alias("gap"))
        .select(
            "symbol",
            pl.concat_str(
                pl.when(pl.col("gap") > 0).then(pl.format("{}{}", pl.lit(_NEVER_SYNCED), "gap")).otherwise(pl.lit("")),
                pl.format("{}{}", "letter", "times"),
            ).alias("text"),
        )
        .group_by("symbol", maintain_order=True)
        .agg(pl.col("text").str.join(""))
        .collect()
    )
    return list(runs.iter_rows())


def _template() -> str:
    return resources.files(__package__ or "").joinpath("coverage_page.html").read_text(encoding="utf-8")
