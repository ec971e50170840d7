"""Moving a plan's copies: keep what is replaced, try the movers in order, record each outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_random_exponential

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.archive.store_errors import StoreFault
from lakehouse_assets.sync.keep import keep_former, superseded_keys
from lakehouse_assets.sync.lake import Lake, versioning_of
from lakehouse_assets.sync.modes import Route, another_mode_may_help, route_of
from lakehouse_assets.sync.plan import State
from lakehouse_assets.sync.reconcile import OUTCOME_SCHEMA
from lakehouse_assets.sync.transfer import Copy, Outcome, Throttle, TransferOptions

OnSettled = Callable[[int], None]
"""Called with the bytes of each file whose copy succeeded or finally failed."""


@dataclass(frozen=True, slots=True)
class Moving:
    """How a dataset's files are moved from its source into a lake."""

    dataset: Dataset
    source: Bucket
    lake: Lake
    options: TransferOptions

    def move(self, copies: pl.DataFrame, mode: SyncMode, on_settled: OnSettled) -> tuple[pl.DataFrame, str | None]:
        """Move a plan's copies in batches.

        Returns OUTCOME_SCHEMA, one row per file tried, and why direct was not used where it was
        not. Stops after a batch of which nothing got through: the rest would only take longer to
        fail. Raises InputError for a mode that cannot work here.
        """
        throttle = Throttle(self.source.at_most(self.options.workers))
        route = route_of(
            mode, self.source, self.lake, self.options, throttle=throttle, try_first=self._smallest(copies)
        )
        frames: list[pl.DataFrame] = []
        for batch in copies.iter_slices(self.options.batch_objects):
            frames.append(self._move_batch(batch, route, throttle, on_settled))
            if frames[-1]["fault"].null_count() == 0:
                break
        return pl.concat(frames) if frames else OUTCOME_SCHEMA.to_frame(), route.note

    def _smallest(self, copies: pl.DataFrame) -> Copy | None:
        """An object for a probe: one that replaces nothing."""
        missing = copies.filter(pl.col("reason") == State.MISSING).sort("size").head(1)
        return next(iter(self._copies(missing).values()), None)

    def _copies(self, frame: pl.DataFrame) -> dict[str, Copy]:
        return {
            key: Copy(key, self.lake.key(self.dataset.lake_key(key)), size, etag, is_sidecar=is_sidecar)
            for key, size, etag, is_sidecar in frame.select("key", "size", "etag", "is_sidecar").iter_rows()
        }

    def _move_batch(self, batch: pl.DataFrame, route: Route, throttle: Throttle, on_settled: OnSettled) -> pl.DataFrame:
        places, not_kept = self._keep(batch.filter(pl.col("reason") == State.CHANGED))
        planned = self._copies(batch)
        copies = [copy for key, copy in planned.items() if key not in not_kept]
        for key in not_kept:
            on_settled(planned[key].size)
        settled = self._settle(copies, route, throttle, on_settled)
        outcomes = [
            (
                key,
                settled[key].mode if key in settled else None,
                str(not_kept[key]) if key in not_kept else _text(settled[key].fault),
                etag,
                lake_etag,
                places.get(key),
                *_seen(settled.get(key)),
            )
            for key, etag, lake_etag in batch.select("key", "etag", "lake_etag").iter_rows()
        ]
        return pl.DataFrame(outcomes, schema=OUTCOME_SCHEMA, orient="row")

    def _settle(
        self, copies: list[Copy], route: Route, throttle: Throttle, on_settled: OnSettled
    ) -> dict[str, Outcome]:
        """Every copy's last outcome, transient failures tried again with growing pauses."""
        settled: dict[str, Outcome] = {}

        def attempt() -> bool:
            """Try what is open; whether another attempt could help."""
            open_copies = [c for c in copies if c.source_key not in settled or _is_transient(settled[c.source_key])]
            outcomes = _try_movers(open_copies, route, on_settled)
            throttle.observe(outcomes.values())
            settled.update(outcomes)
            got_through = any(outcome.fault is None for outcome in outcomes.values())
            transient = [outcome for outcome in outcomes.values() if _is_transient(outcome)]
            passing = any(o.fault is not None and o.fault.is_passing for o in transient)
            return bool(transient) and (got_through or passing)

        Retrying(
            retry=retry_if_result(bool),
            wait=wait_random_exponential(multiplier=0.5, max=30),
            stop=stop_after_attempt(self.options.attempts),
            retry_error_callback=lambda _state: None,
        )(attempt)
        for outcome in settled.values():
            if outcome.fault is not None:
                on_settled(outcome.copy.size)
        return settled

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


def _try_movers(copies: Sequence[Copy], route: Route, on_settled: OnSettled) -> dict[str, Outcome]:
    """One pass through the route; each mover gets what the one before could not do and it might."""

    def on_outcome(outcome: Outcome) -> None:
        if outcome.fault is None:
            on_settled(outcome.copy.size)

    settled: dict[str, Outcome] = {}
    remaining = copies
    for mover in route.movers:
        if not remaining:
            break
        outcomes = mover.move(remaining, on_outcome)
        settled |= {outcome.copy.source_key: outcome for outcome in outcomes}
        remaining = [o.copy for o in outcomes if o.fault is not None and another_mode_may_help(o.fault)]
    return settled


def _is_transient(outcome: Outcome) -> bool:
    return outcome.fault is not None and not (outcome.fault.is_final or outcome.fault.is_of_object)


def _seen(outcome: Outcome | None) -> tuple[str | None, str | None, bytes | None]:
    """SHA-256, MD5 and (of a sidecar) the body, where the bytes passed through this machine."""
    if outcome is None or outcome.seen is None:
        return None, None, None
    return outcome.seen.sha256, outcome.seen.md5, outcome.seen.body


def _text(fault: StoreFault | None) -> str | None:
    return None if fault is None else str(fault)
