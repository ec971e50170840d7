"""The engine: one sync of a range of periods, from the first listing to the manifest's commits.

    list source and lake -> for each part: read the manifest -> plan -> move -> list the lake again -> manifest

A part is as many periods as are planned at a time, so that a long range takes little more memory than
a short one, and what is done is recorded before the next part begins. Stopped anywhere, even by
SIGKILL, a sync leaves the lake as a plan can read it: whole objects count, nothing is half-written
(S3 writes are atomic), and the next run does the rest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

import polars as pl

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.errors import StoreError
from lakehouse_assets.lake.digests import LakeEtags
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
from lakehouse_assets.sync.movers.preserve import kept_places
from lakehouse_assets.sync.plan import Plan, PlanSummary, make_plan
from lakehouse_assets.sync.reconcile import (
    classify,
    manifest_rows,
    period_reports,
    with_places,
)
from lakehouse_assets.sync.scope import Scope

LOOKS_ANEW = 2
"""How often a sync looks again at files that another run was faster to write; what is still open then has failed."""

_log = logging.getLogger(__name__)


class Stage(StrEnum):
    """Where a sync is."""

    LISTING = "listing"
    LISTED = "listed"
    MOVING = "moving"
    MOVED = "moved"
    COMMITTING = "committing"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class Progress:
    """Files (objects and sidecars) and bytes settled so far, of those that the parts so far had to move; ``mode`` is
    the first of the route, None before there is one."""

    stage: Stage
    mode: SyncMode | None = None
    files_done: int = 0
    files_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Limits of a sync; see TransferOptions and Doubt. ``list_concurrency`` requests per listed side; a part is
    planned and recorded at a time and has ``part_objects`` at most, though never less than a period."""

    transfer: TransferOptions = field(default_factory=TransferOptions)
    list_concurrency: int = 32
    part_objects: int = 12_000
    doubt: WithdrawalLimits = field(default_factory=WithdrawalLimits)
    prices: Prices = field(default_factory=Prices)


class Engine:
    """Syncs datasets of one source bucket into one lake."""

    def __init__(self, source: Bucket, lake: Lake, options: EngineOptions | None = None) -> None:
        self._source = source
        self._lake = lake
        self._options = options or EngineOptions()
        self._etags = LakeEtags(lake)
        self._surveyor = SnapshotReader(source, lake, concurrency=self._options.list_concurrency)

    def plan(self, scope: Scope) -> Plan:
        """What :meth:`sync` would copy now. Writes nothing."""
        return self._planned(scope, self._surveyor.survey(scope).whole(), self._options.doubt)[2]

    def estimate(self, plan: Plan) -> Estimate:
        """What doing it would cost."""
        return self._estimate([plan.summary()], plan.listing_requests)

    def _estimate(self, plans: Iterable[PlanSummary], listing_requests: int) -> Estimate:
        objects = files = size = 0
        for counts in plans:
            objects += counts.objects
            files += counts.objects + counts.sidecars
            size += counts.bytes
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
        """Judge the periods as the lake stands. Writes nothing."""

        def judged(part: Scope, survey: ListingSnapshot) -> SyncReport:
            started = time.monotonic()
            survey, _, plan = self._planned(part, survey, self._options.doubt)
            rows = self._judged(part, plan, OUTCOME_SCHEMA.to_frame(), run_id=None)
            return _report(part, survey, rows, started)

        return self._in_parts(scope, judged)

    def record(self, scope: Scope, *, run_id: str | None = None) -> SyncReport:
        """Record what the lake holds of the periods, without copying anything."""

        def recorded(part: Scope, survey: ListingSnapshot) -> SyncReport:
            started = time.monotonic()
            survey, known, plan = self._planned(part, survey, self._options.doubt)
            nothing = OUTCOME_SCHEMA.to_frame()
            done = _Brought(survey, known, nothing, self._judged(part, plan, nothing, run_id), self._options.doubt)
            return _report(part, survey, self._commit(part, done, run_id), started)

        return self._in_parts(scope, recorded)

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
        """Bring the periods into the lake and record what the lake then holds.

        ``mode`` defaults to the entry's. ``approve`` is told the cost of all of it before anything is
        copied, and may raise. With ``accept_withdrawals`` whatever the source does not list was withdrawn, however much
        that is. Objects that could not be moved are in the report, not raised;
        StoreError is raised when source, lake or manifest cannot be read or written, and before anything
        is copied to a store on which nothing can be recorded safely. What was
        proven to be in the lake by then is recorded all the same, where the lake allows.
        """
        doubt = WithdrawalLimits.none() if accept_withdrawals else self._options.doubt
        moving = TransferExecutor(
            scope.entry.dataset, self._source, self._lake, self._options.transfer, mode or scope.entry.mode
        )
        counter = _Counter(on_progress)
        history = SyncLogWriter(self._lake, run_id)

        def synced(part: Scope, survey: ListingSnapshot) -> SyncReport:
            started = time.monotonic()
            done = self._bring(moving, part, survey, counter, doubt=doubt, run_id=run_id)
            counter.at(Stage.MOVED)
            counter.at(Stage.COMMITTING)
            try:
                with _stage(part, "commit"):
                    rows = self._commit(part, done, run_id)
            except StoreError:
                if done.lost is None:
                    raise
                raise done.lost from None
            counter.at(Stage.COMMITTED)
            report = _report(part, done.survey, rows, started)
            history.record(report)
            if done.lost is not None:
                raise done.lost
            return report

        def listed(range_: PackedSnapshot, parts: Sequence[Scope]) -> None:
            if approve is not None:
                # Planned once more than needed: of a range in parts none is copied before all are approved.
                plans = (
                    self._plan(p, range_.within(p), self._manifest(p).read(p.names), doubt).summary() for p in parts
                )
                approve(self._estimate(plans, range_.requests))
            counter.at(Stage.LISTED)

        counter.at(Stage.LISTING)
        report = self._in_parts(scope, synced, on_listed=listed)
        return replace(report, mode_note=moving.note)

    def _in_parts(
        self,
        scope: Scope,
        work: Callable[[Scope, ListingSnapshot], SyncReport],
        on_listed: Callable[[PackedSnapshot, Sequence[Scope]], None] = lambda _range, _parts: None,
    ) -> SyncReport:
        """Survey the scope, have each part worked on, and put the reports together."""
        started = time.monotonic()
        with _stage(scope, "list"):
            range_ = self._surveyor.survey(scope)
        parts = range_.parts(self._options.part_objects)
        on_listed(range_, parts)
        listed = time.monotonic() - started
        reports = [work(part, range_.within(part)) for part in parts]
        return SyncReport(
            dataset=scope.entry.dataset.name,
            periods=tuple(
                replace(period, seconds=period.seconds + listed / len(scope.periods))
                for report in reports
                for period in report.periods
            ),
            seconds=time.monotonic() - started,
            listing_requests=range_.requests + sum(report.listing_requests for report in reports),
            strays=tuple((stray.key, stray.reason) for stray in range_.strays.named),
            strays_total=range_.strays.total,
            left_out=range_.left_out[:LEFT_OUT_NAMED],
            left_out_total=len(range_.left_out),
        )

    def _manifest(self, scope: Scope) -> Manifest:
        return Manifest(self._lake, scope.entry.dataset)

    def _planned(
        self, part: Scope, survey: ListingSnapshot, doubt: WithdrawalLimits
    ) -> tuple[ListingSnapshot, ManifestSnapshot, Plan]:
        """The manifest's rows, a survey that is no older than they are, and what follows from both.

        Another run may have replaced what was listed, hours ago in a long range: what it kept of it
        must not be taken for what the lake has now. A listing that lacks much is asked for once more.
        """
        known = self._manifest(part).known(part.names)
        plan = self._plan(part, survey, known.rows, doubt)
        if survey.contradicts(known.rows) or plan.is_doubted:
            survey = self._surveyor.survey(part).whole()
            plan = self._plan(part, survey, known.rows, doubt)
        return survey, known, plan

    def _bring(
        self,
        moving: TransferExecutor,
        part: Scope,
        survey: ListingSnapshot,
        counter: _Counter,
        *,
        doubt: WithdrawalLimits,
        run_id: str | None,
    ) -> _Brought:
        """Move what the part lacks, and look at what the lake then has.

        Files that another run was faster to write are looked at anew: what it wrote is what the source has, or
        it is kept and replaced.
        """
        with _stage(part, "plan"):
            survey, known, plan = self._planned(part, survey, doubt)
            copies = plan.copies()
            del plan  # a kilobyte an object
        if not copies.is_empty():
            require_conditional_writes(self._lake)
        outcomes = OUTCOME_SCHEMA.to_frame()
        looks = 0
        while True:
            with _stage(part, "move"):
                moved = self._move(moving, copies, counter)
            with _stage(part, "look_again"):
                survey, moved, lost = self._surveyor.look_again(part, survey, moved)
                outcomes = pl.concat([outcomes.join(moved, on="key", how="anti"), moved])
                rows = self._judged(part, self._plan(part, survey, known.rows, doubt), outcomes, run_id)
            files = overtaken(rows)
            if files.is_empty() or lost is not None or looks == LOOKS_ANEW:
                return _Brought(survey, known, outcomes, rows, doubt, lost)
            looks += 1
            with _stage(part, "plan"):
                survey, known, plan = self._planned(part, survey, doubt)
                copies = plan.copies().filter(pl.col("key").is_in(files.to_list()))

    def _plan(self, scope: Scope, survey: ListingSnapshot, known: pl.DataFrame, doubt: WithdrawalLimits) -> Plan:
        def planned(*, lake_has_md5: bool) -> Plan:
            return make_plan(
                survey.source,
                survey.lake,
                known,
                layout=scope.entry.dataset.layout,
                symbols=scope.symbols,
                intervals=scope.intervals,
                lake_has_md5=lake_has_md5,
            )

        plan = planned(lake_has_md5=True)
        if not self._are_md5(scope, plan.disputed()):
            plan = planned(lake_has_md5=False)
        return replace(plan, rows=doubt.of(plan.rows, scope.entry, _now()))

    def _judged(self, scope: Scope, plan: Plan, outcomes: pl.DataFrame, run_id: str | None) -> pl.DataFrame:
        rows = with_outcomes(plan.rows, outcomes)
        return classify(rows, lake_has_md5=self._are_md5(scope, unexpected(rows)), now=_now(), run_id=run_id)

    def _are_md5(self, scope: Scope, files: pl.DataFrame) -> bool:
        """Whether the lake's ETags of these files are MD5 sums; asked only where something depends on it."""
        if files.is_empty():
            return True
        place = pl.lit(scope.entry.dataset.lake_root) + pl.col("key")
        return self._etags.are_md5(files.select("etag", "size", place=place))

    def _move(self, moving: TransferExecutor, copies: pl.DataFrame, counter: _Counter) -> pl.DataFrame:
        """Move what a plan asks for; returns OUTCOME_SCHEMA."""
        counter.expect(copies)
        return moving.move(copies.sort("period", "key"), lambda size: counter.settled(size, moving.mode))

    def _commit(self, scope: Scope, done: _Brought, run_id: str | None) -> pl.DataFrame:
        """Replace the periods' manifest rows by what the survey shows; returns the judged rows."""
        judged: list[pl.DataFrame] = []

        def build(current: pl.DataFrame) -> pl.DataFrame:
            if not judged and current.equals(done.known.rows):
                rows = done.rows
            else:
                # Another run that committed since the manifest was read has changed the lake too.
                after = self._surveyor.survey(scope).whole()
                rows = self._judged(scope, self._plan(scope, after, current, done.doubt), done.outcomes, run_id)
            replaced = rows.filter("taken_over").select("key", lake_etag="known_lake_etag", size="known_size")
            judged[:] = [with_places(rows, kept_places(scope.entry.dataset, self._lake, replaced))]
            return manifest_rows(judged[0])

        self._manifest(scope).replace(scope.names, build, known=done.known, run_id=run_id)
        return judged[0]


@dataclass(frozen=True, slots=True)
class _Brought:
    """What a part's transfer came to: both sides, the manifest's rows before, OUTCOME_SCHEMA, and the rows judged.

    ``doubt`` is what a listing was believed by, ``lost`` why the source could no longer be asked.
    """

    survey: ListingSnapshot
    known: ManifestSnapshot
    outcomes: pl.DataFrame
    rows: pl.DataFrame
    doubt: WithdrawalLimits
    lost: StoreError | None = None


class _Counter:
    """Tells the progress of a sync: the same counts through all of its parts."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._tell = on_progress
        self._mode: SyncMode | None = None
        self._files = self._of_files = self._bytes = self._of_bytes = 0

    def at(self, stage: Stage) -> None:
        self._tell(Progress(stage, self._mode, self._files, self._of_files, self._bytes, self._of_bytes))

    def expect(self, copies: pl.DataFrame) -> None:
        """Files that a part has to move."""
        self._of_files += copies.height
        self._of_bytes += int(copies["size"].sum())

    def settled(self, size: int, mode: SyncMode | None) -> None:
        self._mode = mode
        self._files += 1
        self._bytes += size
        self.at(Stage.MOVING)


@contextmanager
def _stage(scope: Scope, name: str) -> Generator[None]:
    """A span and a measured time of one stage; periods by their ends, never by their number."""
    started = time.monotonic()
    with (
        span(name, dataset=scope.entry.dataset.name, first_period=scope.names[0], last_period=scope.names[-1]),
        timed(STAGE_SECONDS, exchange=scope.entry.dataset.exchange, stage=name),
    ):
        yield
    first, last, seconds = scope.names[0], scope.names[-1], time.monotonic() - started
    _log.info("%s %s to %s: %s, %.2f s", scope.entry.dataset, first, last, name, seconds)


def _now() -> datetime:
    return datetime.now(UTC)


def _report(scope: Scope, survey: ListingSnapshot, rows: pl.DataFrame, started: float) -> SyncReport:
    seconds = time.monotonic() - started
    return SyncReport(
        dataset=scope.entry.dataset.name,
        periods=period_reports(rows, scope.names, seconds=seconds, narrowed=scope.narrowed),
        seconds=seconds,
        listing_requests=survey.requests,
    )
