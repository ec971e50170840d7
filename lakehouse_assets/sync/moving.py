"""Moving one batch of a plan: keep what is replaced, try the movers in order, record each outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.store_errors import StoreFault
from lakehouse_assets.sync.keep import keep_former, superseded_keys
from lakehouse_assets.sync.lake import Lake, versioning_of
from lakehouse_assets.sync.modes import another_mode_may_help
from lakehouse_assets.sync.plan import State
from lakehouse_assets.sync.reconcile import OUTCOME_SCHEMA
from lakehouse_assets.sync.transfer import Copy, Mover, Outcome, TransferOptions

OnSettled = Callable[[int], None]
"""Called with the bytes of each file whose copy succeeded or finally failed."""


@dataclass(frozen=True, slots=True)
class Moving:
    """How a dataset's files are moved into a lake."""

    dataset: Dataset
    lake: Lake
    movers: Sequence[Mover]
    options: TransferOptions

    def move(self, copies: pl.DataFrame, on_settled: OnSettled) -> pl.DataFrame:
        """Move a plan's copies in batches; returns OUTCOME_SCHEMA, one row per file tried.

        Stops after a batch of which nothing got through: the rest would only take longer to fail.
        """
        frames: list[pl.DataFrame] = []
        for batch in copies.iter_slices(self.options.batch_objects):
            frames.append(self._move_batch(batch, on_settled))
            if frames[-1]["fault"].null_count() == 0:
                break
        return pl.concat(frames) if frames else OUTCOME_SCHEMA.to_frame()

    def _move_batch(self, batch: pl.DataFrame, on_settled: OnSettled) -> pl.DataFrame:
        changed = batch.filter(pl.col("reason") == State.CHANGED)
        places, not_kept = self._keep(changed)
        copies = {
            key: Copy(key, self.lake.key(self.dataset.lake_key(key)), size)
            for key, size in batch.select("key", "size").iter_rows()
            if key not in not_kept
        }
        settled = self._try_movers(list(copies.values()), on_settled)
        outcomes = [
            (
                key,
                settled[key].mode if key in settled else None,
                str(not_kept[key]) if key in not_kept else _text(settled[key].fault),
                etag,
                lake_etag,
                places.get(key),
            )
            for key, etag, lake_etag in batch.select("key", "etag", "lake_etag").iter_rows()
        ]
        return pl.DataFrame(outcomes, schema=OUTCOME_SCHEMA, orient="row")

    def _keep(self, changed: pl.DataFrame) -> tuple[dict[str, str], dict[str, StoreFault]]:
        """Where former bytes were kept by us, and which could not be."""
        if changed.is_empty() or versioning_of(self.lake).enabled:
            return {}, {}
        faults = keep_former(self.dataset, self.lake, changed, self.options)
        reworded = {
            key: StoreFault(fault.code, f"its former bytes could not be kept, so it was not replaced: {fault.message}")
            for key, fault in faults.items()
        }
        return superseded_keys(self.dataset, changed), reworded

    def _try_movers(self, copies: list[Copy], on_settled: OnSettled) -> dict[str, Outcome]:
        settled: dict[str, Outcome] = {}
        remaining = copies
        for number, mover in enumerate(self.movers, start=1):
            is_last = number == len(self.movers)

            def on_outcome(outcome: Outcome, *, is_last: bool = is_last) -> None:
                if outcome.fault is None or is_last or not another_mode_may_help(outcome.fault):
                    on_settled(outcome.copy.size)

            outcomes = mover.move(remaining, on_outcome)
            settled |= {outcome.copy.source_key: outcome for outcome in outcomes}
            remaining = [o.copy for o in outcomes if o.fault is not None and another_mode_may_help(o.fault)]
            if not remaining:
                break
        return settled


def _text(fault: StoreFault | None) -> str | None:
    return None if fault is None else str(fault)
