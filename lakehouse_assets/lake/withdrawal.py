"""Whether objects that a source no longer lists were withdrawn, or its listing is implausible.

Exchanges withdraw a file now and then. A listing that lacks many of the known objects, or all of several, is taken
for an outage: nothing is recorded as withdrawn, the periods are not complete, and they are listed again later. The
gap is accepted once it has lasted some hours, or when an operator accepts withdrawals.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.lake.states import ObjectState

IMPLAUSIBLE_SCHEMA = pl.Schema({"implausible": pl.Boolean, "sidecar_implausible": pl.Boolean})
"""Whether the source's listing lacks the object (or only its sidecar) implausibly: it is not taken for withdrawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalLimits:
    """When a listing is implausible.

    It lacks more than ``objects`` and more than a ``share`` of the known objects (or sidecars), and has lacked them for
    less than ``hours``. A listing that is empty although several objects are known is implausible whatever their
    number.
    """

    objects: int = 10
    share: float = 0.1
    hours: float = 6.0

    @classmethod
    def none(cls) -> WithdrawalLimits:
        """No limits: every object that is not listed counts as withdrawn."""
        return cls(share=1.0)

    def is_too_much(self, lacking: int, were_there: int) -> bool:
        """Whether so many missing objects, of those that were there, are implausible."""
        return lacking > self.objects and lacking > self.share * were_there

    def with_implausible(self, rows: pl.DataFrame, entry: DatasetEntry, now: datetime) -> pl.DataFrame:
        """Add IMPLAUSIBLE_SCHEMA to compared rows (sync/plan.py)."""
        symbols = [symbol for symbol in rows["symbol"].unique().drop_nulls() if entry.symbols.selects(symbol)]
        is_asked = pl.col("symbol").is_in(symbols) & (
            pl.col("interval").is_null() | pl.col("interval").is_in(list(entry.intervals))
        )
        was_there = is_asked & pl.col("known_state").is_not_null() & (pl.col("known_state") != ObjectState.WITHDRAWN)
        sidecar_was_there = was_there & pl.col("known_sidecar_lake_etag").is_not_null()
        since = pl.lit(now - timedelta(hours=self.hours))
        is_recent = ~(pl.col("known_missed_at") <= since).fill_null(value=False)
        return rows.with_columns(
            # Objects that never reached the lake count too: a listing that lacks them is no more plausible.
            implausible=self._too_many(was_there, pl.col("size").is_null(), is_recent),
            sidecar_implausible=self._too_many(
                sidecar_was_there & ~pl.col("known_sidecar_withdrawn").fill_null(value=False),
                pl.col("size").is_not_null() & (pl.col("sidecar_state") == ObjectState.WITHDRAWN),
                is_recent,
            ),
        )

    def _too_many(self, was_there: pl.Expr, is_gone: pl.Expr, is_recent: pl.Expr) -> pl.Expr:
        lacking = (was_there & is_gone & is_recent).fill_null(value=False)
        is_empty = pl.col("size").is_null().all() & (lacking.sum() > 1)
        many = ((lacking.sum() > self.objects) | is_empty) & (
            lacking.sum() > self.share * was_there.fill_null(value=False).sum()
        )
        return lacking & many
