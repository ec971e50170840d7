"""Whether what a source lists no longer was withdrawn, or its listing is not to be believed.

Exchanges withdraw a file now and then. When a listing lacks many of those that were there, or all of several, it is
taken for an outage: nothing is recorded as withdrawn, the periods are not complete, and it is asked again. The same
some hours later is believed, and so is a person who says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.lake.states import ObjectState


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalLimits:
    """A listing is doubted that lacks more than ``objects`` and more than a ``share`` of the objects that were there
    (of sidecars likewise), until it has lacked them for ``hours``. One that is empty where it was not is doubted
    whatever the number, but for a single object."""

    objects: int = 10
    share: float = 0.1
    hours: float = 6.0

    @classmethod
    def none(cls) -> WithdrawalLimits:
        """Whatever is not listed was withdrawn."""
        return cls(share=1.0)

    def is_too_much(self, lacking: int, were_there: int) -> bool:
        """Whether so many are too many to be believed."""
        return lacking > self.objects and lacking > self.share * were_there

    def of(self, rows: pl.DataFrame, entry: DatasetEntry, now: datetime) -> pl.DataFrame:
        """Plan rows with ``doubted`` and ``sidecar_doubted``: what is lacking and not believed to be withdrawn."""
        symbols = [symbol for symbol in rows["symbol"].unique().drop_nulls() if entry.symbols.selects(symbol)]
        is_asked = pl.col("symbol").is_in(symbols) & (
            pl.col("interval").is_null() | pl.col("interval").is_in(list(entry.intervals))
        )
        was_there = is_asked & pl.col("known_state").is_not_null() & (pl.col("known_state") != ObjectState.WITHDRAWN)
        sidecar_was_there = was_there & pl.col("known_sidecar_lake_etag").is_not_null()
        since = pl.lit(now - timedelta(hours=self.hours))
        is_open = ~(pl.col("known_missed_at") <= since).fill_null(value=False)
        return rows.with_columns(
            # What never came into the lake is counted as well: a listing that lacks it is no better.
            doubted=self._too_many(was_there, pl.col("size").is_null(), is_open),
            sidecar_doubted=self._too_many(
                sidecar_was_there & ~pl.col("known_sidecar_withdrawn").fill_null(value=False),
                pl.col("size").is_not_null() & (pl.col("sidecar_state") == ObjectState.WITHDRAWN),
                is_open,
            ),
        )

    def _too_many(self, was_there: pl.Expr, is_gone: pl.Expr, is_open: pl.Expr) -> pl.Expr:
        lacking = (was_there & is_gone & is_open).fill_null(value=False)
        is_empty = pl.col("size").is_null().all() & (lacking.sum() > 1)
        many = ((lacking.sum() > self.objects) | is_empty) & (
            lacking.sum() > self.share * was_there.fill_null(value=False).sum()
        )
        return lacking & many
