"""The engine: one sync of a range of periods, from the first listing to the commits to the manifest.

    list source and lake -> for each window: read the manifest -> plan -> move -> list the lake again -> commit

A window is a run of periods that is planned and recorded at once. A long range therefore takes little more memory than
a short one, and finished windows are recorded before the next one begins. A sync that is stopped anywhere, even by
SIGKILL, leaves a lake that the next plan can read: S3 writes are atomic, so complete objects count, nothing is
half-written, and the next run does the rest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import polars as pl

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.errors import StoreError
from lakehouse_assets.lake.digests import LAKE_FILE_SCHEMA, LakeEtags
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest, ManifestSnapshot
from lakehouse_assets.lake.report import LEFT_OUT_NAMED, SyncReport
from lakehouse_assets.lake.store.conditional_writes import require_conditional_writes
from lakehouse_assets.lake.sync_log import SyncLogWriter
from lakehouse_assets.lake.withdrawal import WithdrawalLimits
from lakehouse_assets.observability.telemetry.metrics import STAGE_SECONDS, timed
from lakehouse_assets.observability.telemetry.tracing import span
from lakehouse_assets.sync.cost import Estimate, Prices, estimate
from lakehouse_assets.sync.listings import ListingSnapshot, PackedSnapshot, SnapshotReader
from lakehouse_assets.sync.movers.base import OUTCOME_SCHEMA, TransferOptions
from lakehouse_assets.sync.movers.executor import TransferExecutor
from lakehouse_assets.sync.movers.outcomes import overtaken, unexpected, with_outcomes
from lakehouse_assets.sync.movers.preserve import preserved_places
from lakehouse_assets.sync.plan import Plan, PlanSummary, make_plan
from lakehouse_assets.sync.progress import OnProgress, ProgressCounter, Stage
from lakehouse_assets.sync.reconcile import classify, manifest_rows, period_reports, with_places
from lakehouse_assets.sync.scope import Scope

MAX_REPLANS = 2
"""How often a sync plans again for files that another run wrote first; files still open after that have failed."""


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Limits of a sync; see TransferOptions and WithdrawalLimits.

    ``list_concurrency`` is the number of parallel requests per listed side. A window, which is planned and recorded at
    once, has at most ``window_objects`` objects, but at least one period. ``withdrawal_limits`` decide which gaps in a
    listing are implausible.
    """

    transfer: TransferOptions = field(default_factory=TransferOptions)
    list_concurrency: int = 32
    window_objects: int = 12_000
    withdrawal_limits: WithdrawalLimits = field(default_factory=WithdrawalLimits)
    prices: Prices = field(default_factory=Prices)


class Engine:
    """Syncs datasets of one source bucket into one lake."""

    def __init__(self, source: Bucket, lake: Lake, options: EngineOptions | None = None) -> None:
        self._source = source
        self._lake = lake
        self._options = options or EngineOptions()
        self._etags = LakeEtags(lake)
        self._snapshots = SnapshotReader(source, lake, concurrency=self._options.list_concurrency)

    def plan(self, scope: Scope) -> Plan:
        """The plan of :meth:`sync` as of now. Writes nothing."""
        snapshot = self._snapshots.read(scope).unpacked()
        return self._planned(scope, snapshot, self._options.withdrawal_limits)[2]

    def estimate(self, plan: Plan) -> Estimate:
        """The estimated cost of a plan."""
        return self._estimate([plan.summary()], plan.listing_requests)

    def _estimate(self, plans: Iterable[PlanSummary], listing_requests: int) -> Estimate:
        objects = files = size = 0
        for summary in plans:
            objects += summary.objects
            files += summary.objects + summary.sidecars
            size += summary.bytes
        source, lake = self._source, self._lake.bucket
        return estimate(
            self._options.prices,
            objects=objects,
            files=files,
            size=size,
            listing_requests=listing_requests,
            across_regions=source.is_on_aws and lake.is_on_aws and source.effective_region != lake.effective_region,
        )

    def check(self, scope: Scope) -> SyncReport:
        """Report the periods as the lake has them now. Writes nothing."""

        def check_window(window: Scope, snapshot: ListingSnapshot) -> SyncReport:
            started = time.monotonic()
            snapshot, _, plan = self._planned(window, snapshot, self._options.withdrawal_limits)
            rows = self._classified(window, plan, OUTCOME_SCHEMA.to_frame(), run_id=None)
            return _report(window, snapshot, rows, started)

        return self._by_window(scope, check_window)

    def record(self, scope: Scope, *, run_id: str | None = None) -> SyncReport:
        """Record what the lake has of the periods, without copying anything."""

        def record_window(window: Scope, snapshot: ListingSnapshot) -> SyncReport:
            started = time.monotonic()
            snapshot, known, plan = self._planned(window, snapshot, self._options.withdrawal_limits)
            outcomes = OUTCOME_SCHEMA.to_frame()
            rows = self._classified(window, plan, outcomes, run_id)
            transfer = _Transfer(snapshot, known, outcomes, rows, self._options.withdrawal_limits)
            return _report(window, snapshot, self._commit(window, transfer, run_id), started)

        return self._by_window(scope, record_window)

    def sync(
        self,
        scope: Scope,
        *,
        mode: SyncMode | None = None,
        run_id: str | None = None,
        on_progress: OnProgress = lambda _progress: None,
        approve: Callable[[Estimate], None] | None = None,
        accept_withdrawals: bool = False,
    ) -> SyncReport:
        """Copy the periods into the lake, and record what the lake has afterwards.

        ``mode`` defaults to the entry's. ``approve`` gets the estimated cost of the whole scope before anything is
        copied, and may raise. With ``accept_withdrawals``, every known object that the source does not list counts as
        withdrawn, whatever their number.

        Objects that could not be moved are in the report, not raised. Raises StoreError when source, lake or manifest
        cannot be read or written, and before the first copy to a store that cannot commit safely. Even then, copies
        that are proven to be in the lake are recorded if the lake allows it.
        """
        limits = WithdrawalLimits.none() if accept_withdrawals else self._options.withdrawal_limits
        executor = TransferExecutor(
            scope.entry.dataset, self._source, self._lake, self._options.transfer, mode or scope.entry.mode
        )
        progress = ProgressCounter(on_progress)
        sync_log = SyncLogWriter(self._lake, run_id)

        def sync_window(window: Scope, snapshot: ListingSnapshot) -> SyncReport:
            started = time.monotonic()
            transfer = self._transfer(executor, window, snapshot, progress, limits=limits, run_id=run_id)
            progress.enter(Stage.MOVED)
            progress.enter(Stage.COMMITTING)
            try:
                with _stage(window, "commit"):
                    rows = self._commit(window, transfer, run_id)
            except StoreError:
                if transfer.source_error is None:
                    raise
                raise transfer.source_error from None
            progress.enter(Stage.COMMITTED)
            report = _report(window, transfer.snapshot, rows, started)
            sync_log.record(report)
            if transfer.source_error is not None:
                raise transfer.source_error
            return report

        def on_listed(packed: PackedSnapshot, windows: Sequence[Scope]) -> None:
            if approve is not None:
                # Windows are planned again when they are copied: nothing is copied before the whole scope is approved.
                plans = (
                    self._plan(window, packed.of(window), self._manifest(window).read(window.names), limits).summary()
                    for window in windows
                )
                approve(self._estimate(plans, packed.requests))
            progress.enter(Stage.LISTED)

        progress.enter(Stage.LISTING)
        report = self._by_window(scope, sync_window, on_listed=on_listed)
        return replace(report, mode_note=executor.note)

    def _by_window(
        self,
        scope: Scope,
        work: Callable[[Scope, ListingSnapshot], SyncReport],
        on_listed: Callable[[PackedSnapshot, Sequence[Scope]], None] = lambda _packed, _windows: None,
    ) -> SyncReport:
        """List the scope, run ``work`` for each of its windows, and combine their reports."""
        started = time.monotonic()
        with _stage(scope, "list"):
            packed = self._snapshots.read(scope)
        windows = packed.windows(self._options.window_objects)
        on_listed(packed, windows)
        listing_seconds = time.monotonic() - started
        reports = [work(window, packed.of(window)) for window in windows]
        return SyncReport(
            dataset=scope.entry.dataset.name,
            periods=tuple(
                replace(period, seconds=period.seconds + listing_seconds / len(scope.periods))
                for report in reports
                for period in report.periods
            ),
            seconds=time.monotonic() - started,
            listing_requests=packed.requests + sum(report.listing_requests for report in reports),
            unrecognized=tuple((unrecognized.key, unrecognized.reason) for unrecognized in packed.unrecognized.named),
            unrecognized_total=packed.unrecognized.total,
            left_out=packed.left_out[:LEFT_OUT_NAMED],
            left_out_total=len(packed.left_out),
        )

    def _manifest(self, scope: Scope) -> Manifest:
        return Manifest(self._lake, scope.entry.dataset)

    def _planned(
        self, window: Scope, snapshot: ListingSnapshot, limits: WithdrawalLimits
    ) -> tuple[ListingSnapshot, ManifestSnapshot, Plan]:
        """The manifest's rows, a listing that is no older than they are, and the plan from both.

        In a long range, the listing may be hours old and another run may have replaced listed objects since. Such a
        listing, and an implausible one, is made again.
        """
        known = self._manifest(window).snapshot(window.names)
        plan = self._plan(window, snapshot, known.rows, limits)
        if snapshot.contradicts(known.rows) or plan.is_implausible:
            snapshot = self._snapshots.read(window).unpacked()
            plan = self._plan(window, snapshot, known.rows, limits)
        return snapshot, known, plan

    def _transfer(
        self,
        executor: TransferExecutor,
        window: Scope,
        snapshot: ListingSnapshot,
        progress: ProgressCounter,
        *,
        limits: WithdrawalLimits,
        run_id: str | None,
    ) -> _Transfer:
        """Move the files that the window lacks, and classify what the lake has afterwards.

        Files that another run wrote first are listed and planned again: either they have the source's content now, or
        the other run's content is preserved and replaced.
        """
        with _stage(window, "plan"):
            snapshot, known, plan = self._planned(window, snapshot, limits)
            copies = plan.copies()
            del plan  # a kilobyte per object
        if not copies.is_empty():
            require_conditional_writes(self._lake)
        outcomes = OUTCOME_SCHEMA.to_frame()
        replans = 0
        while True:
            with _stage(window, "move"):
                moved = self._move(executor, copies, progress)
            with _stage(window, "look_again"):
                snapshot, moved, source_error = self._snapshots.refresh(window, snapshot, moved)
                outcomes = pl.concat([outcomes.join(moved, on="key", how="anti"), moved])
                rows = self._classified(window, self._plan(window, snapshot, known.rows, limits), outcomes, run_id)
            files = overtaken(rows)
            if files.is_empty() or source_error is not None or replans == MAX_REPLANS:
                return _Transfer(snapshot, known, outcomes, rows, limits, source_error)
            replans += 1
            with _stage(window, "plan"):
                snapshot, known, plan = self._planned(window, snapshot, limits)
                copies = plan.copies().filter(pl.col("key").is_in(files.to_list()))

    def _plan(self, scope: Scope, snapshot: ListingSnapshot, known: pl.DataFrame, limits: WithdrawalLimits) -> Plan:
        def plan(*, lake_has_md5: bool) -> Plan:
            return make_plan(
                snapshot.source,
                snapshot.lake,
                known,
                entry=scope.entry,
                limits=limits,
                now=_now(),
                symbols=scope.symbols,
                intervals=scope.intervals,
                lake_has_md5=lake_has_md5,
            )

        planned = plan(lake_has_md5=True)
        return planned if self._are_md5(scope, planned.disputed()) else plan(lake_has_md5=False)

    def _classified(self, scope: Scope, plan: Plan, outcomes: pl.DataFrame, run_id: str | None) -> pl.DataFrame:
        """CLASSIFIED_SCHEMA."""
        rows = with_outcomes(plan.rows, outcomes)
        return classify(rows, lake_has_md5=self._are_md5(scope, unexpected(rows)), now=_now(), run_id=run_id)

    def _are_md5(self, scope: Scope, files: pl.DataFrame) -> bool:
        """Whether the lake's ETags of these files (FILE_SCHEMA) are MD5 sums; reads the lake only if there are any."""
        if files.is_empty():
            return True
        place = pl.lit(scope.entry.dataset.lake_root) + pl.col("key")
        return self._etags.are_md5(files.select("etag", "size", place=place).match_to_schema(LAKE_FILE_SCHEMA))

    def _move(self, executor: TransferExecutor, copies: pl.DataFrame, progress: ProgressCounter) -> pl.DataFrame:
        """Move a plan's copies (COPY_SCHEMA); returns OUTCOME_SCHEMA."""
        progress.expect(copies)
        return executor.move(copies.sort("period", "key"), lambda size: progress.settled(size, executor.mode))

    def _commit(self, scope: Scope, transfer: _Transfer, run_id: str | None) -> pl.DataFrame:
        """Replace the periods' manifest rows by what the listing shows; returns the classified rows.

        When another run committed since the manifest was read, it has changed the lake too: both are read again.
        """
        committed = transfer.rows
        is_first = True

        def build(current: pl.DataFrame) -> pl.DataFrame:
            nonlocal committed, is_first
            if is_first and current.equals(transfer.known.rows):
                rows = transfer.rows
            else:
                snapshot = self._snapshots.read(scope).unpacked()
                plan = self._plan(scope, snapshot, current, transfer.limits)
                rows = self._classified(scope, plan, transfer.outcomes, run_id)
            is_first = False
            replaced = rows.filter("taken_over").select("key", etag="known_lake_etag", size="known_size")
            committed = with_places(rows, preserved_places(scope.entry.dataset, self._lake, replaced))
            return manifest_rows(committed)

        self._manifest(scope).replace(scope.names, build, known=transfer.known, run_id=run_id)
        return committed


@dataclass(frozen=True, slots=True)
class _Transfer:
    """The result of a window's transfer.

    ``snapshot`` lists both sides after it, ``known`` has the manifest's rows before it, ``outcomes`` has
    OUTCOME_SCHEMA, ``rows`` CLASSIFIED_SCHEMA. ``limits`` are those that the listing was checked by.
    ``source_error``: the source could not be listed any more.
    """

    snapshot: ListingSnapshot
    known: ManifestSnapshot
    outcomes: pl.DataFrame
    rows: pl.DataFrame
    limits: WithdrawalLimits
    source_error: StoreError | None = None


@contextmanager
def _stage(scope: Scope, name: str) -> Generator[None]:
    """Trace, time and log one stage, with the first and the last period: a list of all would have no bound."""
    started = time.monotonic()
    first, last = scope.names[0], scope.names[-1]
    with (
        span(name, dataset=scope.entry.dataset.name, first_period=first, last_period=last),
        timed(STAGE_SECONDS, exchange=scope.entry.dataset.exchange, stage=name),
    ):
        yield
    _log.info("%s %s to %s: %s, %.2f s", scope.entry.dataset, first, last, name, time.monotonic() - started)


def _now() -> datetime:
    return datetime.now(UTC)


def _report(scope: Scope, snapshot: ListingSnapshot, rows: pl.DataFrame, started: float) -> SyncReport:
    seconds = time.monotonic() - started
    return SyncReport(
        dataset=scope.entry.dataset.name,
        periods=period_reports(rows, scope.names, seconds=seconds, partial=scope.partial),
        seconds=seconds,
        listing_requests=snapshot.requests,
    )
