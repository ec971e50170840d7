"""Quality checks across periods: whether symbols continue, and whether a key is in two neighbouring periods.

Both are checked when a period is built. The quality records of the periods around it are updated, too. The cost is
bounded: two columns of the manifests of NEIGHBOURS periods on either side, as many quality records, and the rows
outside their own period, which the statistics of most files exclude.
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
from lakehouse_assets.tables.quality.lifetimes import LIFETIME_SCHEMA, Lifetimes, classify_gaps
from lakehouse_assets.tables.quality.measure import quality_of
from lakehouse_assets.tables.quality.overlaps import shared_keys
from lakehouse_assets.tables.quality.rows import QUALITY_SCHEMA, with_levels
from lakehouse_assets.tables.table import MONTH, PERIOD, Table

NEIGHBOURS = 7
"""Periods on either side: a symbol without archives for a week has ended, and begins anew afterwards."""
_DAYS_OF_MONTH = 31
_IDENTITY = (PERIOD, "symbol", "interval")
_log = logging.getLogger(__name__)


class NeighbourChecks:
    """Checks ``periods`` (sorted), which are built, against their neighbours. Manifests are read when needed."""

    def __init__(self, lake: Lake, table: Table, datasets: Mapping[Cadence, Dataset], periods: Sequence[str]) -> None:
        self._lake = lake
        self._table = table
        self._datasets = datasets
        self._periods = periods

    @property
    def exchange(self) -> Exchange:
        return exchange_named(self._table.exchange)

    def classify(self, results: pl.DataFrame, month: str, lifetimes: pl.DataFrame) -> pl.DataFrame:
        """Results of one month with their gaps classified. ``lifetimes`` (LIFETIME_SCHEMA) come from the rows.

        Raises StoreError.
        """
        return classify_gaps(results, self._table.schema, self._lifetimes(month, lifetimes))

    def update_records(self, results: pl.DataFrame, *, run_id: str | None) -> pl.DataFrame:
        """Update the records of the periods around ``results``, and the measure ``shared_keys`` of all.

        Call it when all periods are written. Returns the results and those that changed. A failure is logged and not
        raised, since the rows are written, and the next build of a period updates the records.
        """
        written = results[PERIOD].unique().to_list()
        if not written:
            return results
        try:
            changed = self._updated_records(written, run_id)
        except StoreError as error:
            _log.warning(
                "The quality records of the periods around %s of %s were not updated: %s",
                written[0],
                self._table,
                error,
            )
            return results
        return pl.concat([results.join(changed, on=_IDENTITY, how="anti", nulls_equal=True), changed])

    def _updated_records(self, written: Sequence[str], run_id: str | None) -> pl.DataFrame:
        table = self._table
        compared = _with_neighbours(table, written, 1)
        shared = shared_keys(self._lake, table, compared)
        fills_days = Cadence.MONTHLY in self._datasets and table.cadence is Cadence.DAILY
        others = _with_neighbours(table, written, _DAYS_OF_MONTH if fills_days else NEIGHBOURS) - set(written)

        def change(records: pl.DataFrame) -> pl.DataFrame:
            classified = [
                self._classified_records(month_records, str(month))
                for (month,), month_records in records.group_by(MONTH, maintain_order=True)
            ]
            joined = pl.concat([records.clear(), *classified]).join(
                shared, on=_IDENTITY, how="left", nulls_equal=True, maintain_order="left"
            )
            is_compared = pl.col(PERIOD).is_in(compared) & pl.lit(bool(table.schema.key))
            counted = joined.with_columns(
                shared_keys=pl.when(is_compared).then(pl.col("shared").fill_null(0)).otherwise("shared_keys")
            )
            return counted.with_columns(with_levels(counted, table.schema)["level"])

        records = quality_of(self._lake, table)
        return records.revise(sorted(others | set(shared[PERIOD])), change, run_id=run_id).select(
            QUALITY_SCHEMA.names()
        )

    def _classified_records(self, records: pl.DataFrame, month: str) -> pl.DataFrame:
        lifetimes = records.filter(pl.col("rows") > 0).select("symbol", first=PERIOD, last=PERIOD)
        return records.with_columns(self.classify(records, month, lifetimes).get_columns())

    def _lifetimes(self, month: str, from_rows: pl.DataFrame) -> Lifetimes:
        """The lifetimes by which periods of ``month`` are classified.

        A monthly archive of the month itself is no evidence, since the symbol may begin or end within it.
        """
        archive_month = pl.col("first")
        before = self._by_month.filter(archive_month < month).with_columns(_last_day(pl.col("last")).alias("last"))
        before = before.with_columns(pl.col("last").alias("first"))
        after = self._by_month.filter(archive_month > month).with_columns((pl.col("first") + "-01").alias("first"))
        after = after.with_columns(pl.col("first").alias("last"))
        return Lifetimes.of([self._by_period, before, after, from_rows], self._periods[-1])

    @cached_property
    def _by_period(self) -> pl.DataFrame:
        dataset = self._datasets.get(self._table.cadence)
        if dataset is None:
            return LIFETIME_SCHEMA.to_frame()
        return self._spans(dataset, surrounding_periods(*self._bounds, NEIGHBOURS))

    @cached_property
    def _by_month(self) -> pl.DataFrame:
        """A row per symbol and month, if monthly archives fill days."""
        dataset = self._datasets.get(Cadence.MONTHLY)
        if dataset is None or self._table.cadence is Cadence.MONTHLY:
            return LIFETIME_SCHEMA.to_frame()
        first, last = (Period.containing(Cadence.MONTHLY, period.start) for period in self._bounds)
        return pl.concat(self._spans(dataset, [month]) for month in surrounding_periods(first, last, 1))

    def _spans(self, dataset: Dataset, periods: Sequence[str]) -> pl.DataFrame:
        return Manifest(self._lake, dataset).spans(periods).select(LIFETIME_SCHEMA.names())

    @property
    def _bounds(self) -> tuple[Period, Period]:
        first, last = (Period.parse(period, self._table.cadence) for period in (self._periods[0], self._periods[-1]))
        return first, last


def surrounding_periods(first: Period, last: Period, count: int) -> list[str]:
    """Periods from ``count`` before the first to ``count`` after the last."""
    return [str(period) for period in period_range(first.shifted(-count), last.shifted(count))]


def _with_neighbours(table: Table, periods: Sequence[str], count: int) -> set[str]:
    """The periods, and ``count`` periods before and after each of them."""
    parsed = (Period.parse(period, table.cadence) for period in periods)
    return {str(period.shifted(step)) for period in parsed for step in range(-count, count + 1)}


def _last_day(month: pl.Expr) -> pl.Expr:
    return (month + "-01").str.to_date().dt.month_end().dt.to_string()
