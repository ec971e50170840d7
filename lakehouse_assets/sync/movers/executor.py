"""Moves a plan's copies: preserve former bytes, try the movers of the route in order, record each outcome."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import polars as pl
from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_random_exponential

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.errors import StoreFault
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.lake.lake import Lake, versioning_of
from lakehouse_assets.lake.states import ObjectState
from lakehouse_assets.observability.telemetry.metrics import (
    BATCH_SECONDS,
    FALLBACKS,
    RETRIES,
    THROTTLED,
    TRANSFERRED,
    count,
    timed,
)
from lakehouse_assets.observability.telemetry.tracing import span
from lakehouse_assets.sync.movers.base import OUTCOME_SCHEMA, Copy, Outcome, TransferOptions
from lakehouse_assets.sync.movers.flow_control import AdaptiveConcurrency
from lakehouse_assets.sync.movers.multipart_cleanup import abort_leftovers
from lakehouse_assets.sync.movers.preserve import preserve_former
from lakehouse_assets.sync.movers.routing import (
    Route,
    another_mode_may_help,
    is_everywhere,
    refuses_direct,
    route_of,
    without_direct,
)

_log = logging.getLogger(__name__)

OnSettled = Callable[[int], None]
"""Called with the bytes of each file whose copy succeeded or finally failed."""


class TransferExecutor:
    """Moves a dataset's files from their source into a lake, by one route for all windows of a sync.

    Sends no request to any store before there is something to move.
    """

    def __init__(self, dataset: Dataset, source: Bucket, lake: Lake, options: TransferOptions, mode: SyncMode) -> None:
        self._dataset = dataset
        self._source = source
        self._lake = lake
        self._options = options
        self._mode = mode
        self._concurrency = AdaptiveConcurrency(source.at_most(options.workers))
        self._route: Route | None = None
        self._probe_outcome: Outcome | None = None
        self._direct_worked = False
        self._cleaned_up = False
        self._failures = 0
        self._stopped_by: StoreFault | None = None

    @property
    def note(self) -> str | None:
        """Why direct mode was not used; None if it was."""
        return None if self._route is None else self._route.note

    @property
    def mode(self) -> SyncMode | None:
        """The first mode of the route; None before the first file was moved."""
        return self._route.movers[0].mode if self._route is not None and self._route.movers else None

    def move(self, copies: pl.DataFrame, on_settled: OnSettled) -> pl.DataFrame:
        """Move a plan's copies (COPY_SCHEMA) in batches; returns OUTCOME_SCHEMA, one row per file.

        After ``failures_in_a_row`` failures without a success between them, or one failure that every other file would
        meet too, the rest is not tried, in later calls either: it would only take longer to fail. Files that are gone
        or changed do not count. Raises InputError for a mode that cannot work between these stores.
        """
        if copies.is_empty():
            return OUTCOME_SCHEMA.to_frame()
        if self._route is None:
            self._route = route_of(
                self._mode,
                self._source,
                self._lake,
                self._options,
                concurrency=self._concurrency,
                try_first=self._smallest(copies),
            )
            self._probe_outcome = self._route.probed
        self._clean_up(copies)
        return pl.concat(self._outcomes(batch, on_settled) for batch in copies.iter_slices(self._options.batch_objects))

    def _outcomes(self, batch: pl.DataFrame, on_settled: OnSettled) -> pl.DataFrame:
        if self._stopped_by is not None:
            return _not_tried(batch, self._stopped_by, on_settled)
        return self._move_batch(batch, on_settled)

    def _clean_up(self, copies: pl.DataFrame) -> None:
        """Abort unfinished uploads, once per sync, before the first object that may be moved in parts."""
        threshold = min(self._options.part_bytes, self._options.large_bytes)
        if self._cleaned_up or not copies.select((pl.col("size") > threshold).any()).item():
            return
        self._cleaned_up = True
        for below in (self._dataset.lake_prefix, self._dataset.superseded_prefix):
            abort_leftovers(self._lake, below, deadline_seconds=self._options.deadline_seconds)

    def _smallest(self, copies: pl.DataFrame) -> Copy | None:
        """A file for the probe: the smallest one that replaces nothing."""
        missing = copies.filter(pl.col("reason") == ObjectState.MISSING).sort("size").head(1)
        return next(iter(self._copies(missing).values()), None)

    def _copies(self, frame: pl.DataFrame) -> dict[str, Copy]:
        return {
            key: Copy(
                key,
                self._lake.key(self._dataset.lake_key(key)),
                size,
                etag,
                is_sidecar=is_sidecar,
                replaces=lake_etag,
                was_there=was_there,
            )
            for key, size, etag, is_sidecar, lake_etag, was_there in frame.select(
                "key", "size", "etag", "is_sidecar", "lake_etag", "was_there"
            ).iter_rows()
        }

    def _move_batch(self, batch: pl.DataFrame, on_settled: OnSettled) -> pl.DataFrame:
        places, not_preserved = self._preserve(batch.filter(pl.col("reason") == ObjectState.CHANGED))
        planned = self._copies(batch)
        copies = [copy for key, copy in planned.items() if key not in not_preserved]
        for key in not_preserved:
            on_settled(planned[key].size)
        settled, retries = self._settle(copies, on_settled)
        faults = not_preserved | {key: outcome.fault for key, outcome in settled.items()}
        outcomes = [
            (
                key,
                settled[key].mode if key in settled else None,
                _text(fault),
                fault is not None and fault.is_overtaking,
                etag,
                settled[key].written_etag if key in settled else None,
                lake_etag,
                places.get(key),
                *_seen(settled.get(key)),
                retries[key],
            )
            for key, etag, lake_etag in batch.select("key", "etag", "lake_etag").iter_rows()
            for fault in (faults[key],)
        ]
        self._stop_if_hopeless(list(faults.values()))
        return pl.DataFrame(outcomes, schema=OUTCOME_SCHEMA, orient="row")

    def _stop_if_hopeless(self, faults: Sequence[StoreFault | None]) -> None:
        """After a batch with these faults, decide whether the next one is tried."""
        failed = [fault for fault in faults if fault is not None and not fault.is_of_object]
        if not failed or None in faults:
            self._failures = 0
            return
        self._failures += len(failed)
        if self._failures >= self._options.failures_in_a_row or is_everywhere(failed[-1]):
            self._stopped_by = failed[-1]

    def _settle(self, copies: list[Copy], on_settled: OnSettled) -> tuple[dict[str, Outcome], Counter[str]]:
        """The last outcome and the number of retries of every copy. Pauses between attempts grow."""
        settled = self._settled_by_probe(copies, on_settled)
        retries: Counter[str] = Counter()

        def attempt() -> bool:
            """Try the open copies; returns whether another attempt could help."""
            open_copies = [c for c in copies if c.source_key not in settled or _is_transient(settled[c.source_key])]
            if any(copy.source_key in settled for copy in open_copies):
                retries.update(copy.source_key for copy in open_copies)
                count(RETRIES, len(open_copies), exchange=self._exchange)
            outcomes = self._try_movers(open_copies, on_settled)
            self._concurrency.observe(outcomes.values())
            throttled = sum(o.fault is not None and o.fault.is_throttle for o in outcomes.values())
            count(THROTTLED, throttled, exchange=self._exchange)
            settled.update(outcomes)
            any_succeeded = any(outcome.fault is None for outcome in outcomes.values())
            transient = [outcome for outcome in outcomes.values() if _is_transient(outcome)]
            passing = any(o.fault is not None and o.fault.is_passing for o in transient)
            return bool(transient) and (any_succeeded or passing)

        Retrying(
            retry=retry_if_result(bool),
            wait=wait_random_exponential(multiplier=0.5, max=30),
            stop=stop_after_attempt(self._options.attempts),
            retry_error_callback=lambda _state: None,
        )(attempt)
        for outcome in settled.values():
            if outcome.fault is not None:
                on_settled(outcome.copy.size)
        return settled, retries

    def _settled_by_probe(self, copies: Sequence[Copy], on_settled: OnSettled) -> dict[str, Outcome]:
        """The outcome of the probe's copy, once: the file need not be copied again."""
        probed = self._probe_outcome
        if probed is None or probed.copy not in copies:
            return {}
        self._probe_outcome = None
        self._direct_worked |= probed.mode is SyncMode.DIRECT
        self._count(probed.mode, [probed])
        on_settled(probed.copy.size)
        return {probed.copy.source_key: probed}

    def _try_movers(self, copies: Sequence[Copy], on_settled: OnSettled) -> dict[str, Outcome]:
        """One pass through the route; each mover gets the failed copies of the previous one that it might do."""

        def on_outcome(outcome: Outcome) -> None:
            if outcome.fault is None:
                on_settled(outcome.copy.size)

        settled: dict[str, Outcome] = {}
        refused: dict[str, StoreFault] = {}
        remaining = copies
        for mover in self._route.movers if self._route is not None else ():
            if not remaining:
                break
            if remaining is not copies:
                count(FALLBACKS, len(remaining), exchange=self._exchange, mode=mover.mode.value)
            with self._measured(mover.mode):
                outcomes = mover.move(remaining, on_outcome)
            self._count(mover.mode, outcomes)
            settled |= {outcome.copy.source_key: outcome for outcome in outcomes}
            failed = [(o.copy, o.fault) for o in outcomes if o.fault is not None and another_mode_may_help(o.fault)]
            remaining = [copy for copy, _ in failed]
            if mover.mode is SyncMode.DIRECT:
                self._direct_worked |= any(outcome.fault is None for outcome in outcomes)
                refused = {copy.source_key: fault for copy, fault in failed if refuses_direct(fault)}
        self._give_up_direct([fault for key, fault in refused.items() if settled[key].fault is None])
        return settled

    @property
    def _exchange(self) -> str:
        return self._dataset.exchange

    @contextmanager
    def _measured(self, mode: SyncMode) -> Generator[None]:
        with (
            span("batch", dataset=self._dataset.name, mode=mode.value),
            timed(BATCH_SECONDS, exchange=self._exchange, mode=mode.value),
        ):
            yield

    def _count(self, mode: SyncMode, outcomes: Sequence[Outcome]) -> None:
        failed = sum(outcome.fault is not None for outcome in outcomes)
        _log.info("%s: %d files copied by %s, %d failed", self._dataset, len(outcomes) - failed, mode, failed)
        for outcome, files in (("copied", len(outcomes) - failed), ("failed", failed)):
            count(TRANSFERRED, files, exchange=self._exchange, mode=mode.value, outcome=outcome)

    def _give_up_direct(self, refusals: Sequence[StoreFault]) -> None:
        """Drop direct mode if no direct copy of this sync worked and another mode copied files that it was refused."""
        if self._mode is SyncMode.AUTO and self._route is not None and refusals and not self._direct_worked:
            self._route = without_direct(self._route, self._source, self._lake, str(refusals[0]))

    def _preserve(self, changed: pl.DataFrame) -> tuple[dict[str, str], dict[str, StoreFault]]:
        """The places of former bytes that we preserved, and the faults of those that we could not."""
        if changed.is_empty() or versioning_of(self._lake).enabled:
            return {}, {}
        places, faults = preserve_former(self._dataset, self._lake, changed, self._options)
        reworded = {
            key: StoreFault(
                fault.code, f"its former bytes could not be preserved, so it was not replaced: {fault.message}"
            )
            for key, fault in faults.items()
        }
        return places, reworded


def _is_transient(outcome: Outcome) -> bool:
    return outcome.fault is not None and not (outcome.fault.is_final or outcome.fault.is_of_object)


def _seen(outcome: Outcome | None) -> tuple[str | None, str | None, bytes | None]:
    """SHA-256, MD5 and (for a sidecar) the body, if the bytes passed through this machine."""
    if outcome is None or outcome.seen is None:
        return None, None, None
    return outcome.seen.sha256, outcome.seen.md5, outcome.seen.body


def _text(fault: StoreFault | None) -> str | None:
    return None if fault is None else str(fault)


def _not_tried(batch: pl.DataFrame, cause: StoreFault, on_settled: OnSettled) -> pl.DataFrame:
    for size in batch["size"]:
        on_settled(size)
    fault = pl.lit(str(StoreFault.not_tried(cause)))
    outcomes = batch.select("key", "etag", former_etag="lake_etag", fault=fault)
    return outcomes.match_to_schema(OUTCOME_SCHEMA, missing_columns="insert")
