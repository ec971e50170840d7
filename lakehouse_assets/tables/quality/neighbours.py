"""What periods of a table say of each other: whether symbols go on, and whether a row is in two of them.

Both are asked when a period is built, of the periods before and after it as well, whose quality records are
corrected. Cost is bounded: manifests of AROUND periods on either side (two columns), quality records of as many, and of
the table's rows only those that lie outside their own period, which the files' statistics rule out for most files.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.exchanges.grammar import Exchange
from lakehouse_assets.archive.period import Cadence, Period, period_range
from lakehouse_assets.errors import StoreError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.tables.quality.lifetimes import SPANS, Lifetimes, judged
from lakehouse_assets.tables.quality.measure import quality_of
from lakehouse_assets.tables.quality.overlaps import shared_keys
from lakehouse_assets.tables.quality.rows import QUALITY_SCHEMA, with_levels
from lakehouse_assets.tables.table import MONTH, PERIOD, Table

AROUND = 7
"""Periods before and after: a symbol whose archives stop for a week has ended, and begins anew afterwards."""
_MONTH = 31
_PART = (PERIOD, "symbol", "interval")
_log = logging.getLogger(__name__)


class Surroundings:
    """What is known around ``periods`` (sorted) that are to be built; asked of the manifests when it is needed."""

    def __init__(self, lake: Lake, table: Table, datasets: Mapping[Cadence, Dataset], periods: Sequence[str]) -> None:
        self._lake = lake
        self._table = table
        self._datasets = datasets
        self._periods = periods

    @property
    def exchange(self) -> Exchange:
        return exchange_named(self._table.exchange)

    def judged(self, results: pl.DataFrame, month: str, seen: pl.DataFrame) -> pl.DataFrame:
        """Results of one month by what is known now; ``seen`` (SPANS) is what rows themselves show of symbols.

        Raises StoreError.
        """
        return judged(results, self._table.schema, self._lifetimes(month, seen))

    def judged_anew(self, results: pl.DataFrame, *, run_id: str | None) -> pl.DataFrame:
        """After all is written: judge the periods around those of ``results`` again, and all by the keys they share.

        Records are corrected; returns the results with those that changed. Where that fails, it is logged: the
        next period to be built does it, and the rows are written.
        """
        written = results[PERIOD].unique().to_list()
        if not written:
            return results
        try:
            changed = self._corrected(written, run_id)
        except StoreError as error:
            _log.warning("The periods around %s of %s were not judged again: %s", written[0], self._table, error)
            return results
        return pl.concat([results.join(changed, on=_PART, how="anti", nulls_equal=True), changed])

    def _corrected(self, written: Sequence[str], run_id: str | None) -> pl.DataFrame:
        table = self._table
        compared = _near(table, written, 1)
        shared = shared_keys(self._lake, table, compared)
        reach = _MONTH if Cadence.MONTHLY in self._datasets and table.cadence is Cadence.DAILY else AROUND
        others = _near(table, written, reach) - set(written)

        def change(records: pl.DataFrame) -> pl.DataFrame:
            parts = [
                self._judged_records(of_month, str(month))
                for (month,), of_month in records.group_by(MONTH, maintain_order=True)
            ]
            found = pl.concat([records.clear(), *parts]).join(
                shared, on=_PART, how="left", nulls_equal=True, maintain_order="left"
            )
            is_compared = pl.col(PERIOD).is_in(compared) & pl.lit(bool(table.schema.key))
            counted = found.with_columns(
                shared_keys=pl.when(is_compared).then(pl.col("found").fill_null(0)).otherwise("shared_keys")
            )
            return counted.with_columns(with_levels(counted, table.schema)["level"])

        records = quality_of(self._lake, table)
        return records.revise(sorted(others | set(shared[PERIOD])), change, run_id=run_id).select(
            QUALITY_SCHEMA.names()
        )

    def _judged_records(self, records: pl.DataFrame, month: str) -> pl.DataFrame:
        seen = records.filter(pl.col("rows") > 0).select("symbol", first=PERIOD, last=PERIOD)
        return records.with_columns(self.judged(records, month, seen).get_columns())

    def _lifetimes(self, month: str, seen: pl.DataFrame) -> Lifetimes:
        """As periods of ``month`` are to be judged by; ``seen`` (SPANS) is what rows themselves show.

        A monthly archive of the month itself says nothing, since the symbol may begin or end within it.
        """
        of = pl.col("first")
        before = self._by_month.filter(of < month).with_columns(_last_day(pl.col("last")).alias("last"))
        before = before.with_columns(pl.col("last").alias("first"))
        after = self._by_month.filter(of > month).with_columns((pl.col("first") + "-01").alias("first"))
        after = after.with_columns(pl.col("first").alias("last"))
        return Lifetimes.of([self._by_period, before, after, seen], self._periods[-1])

    @cached_property
    def _by_period(self) -> pl.DataFrame:
        dataset = self._datasets.get(self._table.cadence)
        return SPANS.to_frame() if dataset is None else self._spans(dataset, around(*self._bounds, AROUND))

    @cached_property
    def _by_month(self) -> pl.DataFrame:
        """A row per symbol and month, where monthly archives fill days."""
        dataset = self._datasets.get(Cadence.MONTHLY)
        if dataset is None or self._table.cadence is Cadence.MONTHLY:
            return SPANS.to_frame()
        first, last = (Period.containing(Cadence.MONTHLY, period.start) for period in self._bounds)
        return pl.concat(self._spans(dataset, [month]) for month in around(first, last, 1))

    def _spans(self, dataset: Dataset, periods: Sequence[str]) -> pl.DataFrame:
        return Manifest(self._lake, dataset).spans(periods).select(SPANS.names())

    @property
    def _bounds(self) -> tuple[Period, Period]:
        first, last = (Period.parse(period, self._table.cadence) for period in (self._periods[0], self._periods[-1]))
        return first, last


def around(first: Period, last: Period, count: int) -> list[str]:
    """Periods from ``count`` before the first to ``count`` after the last."""
    return [str(period) for period in period_range(first.shifted(-count), last.shifted(count))]


def _near(table: Table, periods: Sequence[str], count: int) -> set[str]:
    """The periods, and up to ``count`` before and after each."""
    parsed = (Period.parse(period, table.cadence) for period in periods)
    return {str(period.shifted(step)) for period in parsed for step in range(-count, count + 1)}


def _last_day(month: pl.Expr) -> pl.Expr:
    return (month + "-01").str.to_date().dt.month_end().dt.to_string()
