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
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

import polars as pl

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.exchanges.grammar import Folder
from lakehouse_assets.archive.listing import Lister, Listing, folders_of, selected_symbols
from lakehouse_assets.archive.matrix import DatasetEntry, SyncMode
from lakehouse_assets.archive.period import Period
from lakehouse_assets.archive.store_errors import StoreFault
from lakehouse_assets.errors import InputError, StoreError
from lakehouse_assets.observability.metrics import STAGE_SECONDS, timed
from lakehouse_assets.observability.tracing import span
from lakehouse_assets.sync.history import record_history
from lakehouse_assets.sync.keep import kept_places
from lakehouse_assets.sync.lake import Lake
from lakehouse_assets.sync.manifest import Known, Manifest
from lakehouse_assets.sync.moving import Moving
from lakehouse_assets.sync.plan import Plan, PlanSummary, make_plan
from lakehouse_assets.sync.reconcile import (
    OUTCOME_SCHEMA,
    judge,
    manifest_rows,
    period_reports,
    with_places,
)
from lakehouse_assets.sync.report import SyncReport
from lakehouse_assets.sync.spending import Estimate, Prices, estimate
from lakehouse_assets.sync.transfer import TransferOptions

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
class Scope:
    """What to sync: periods of one matrix entry. ``symbols`` and ``intervals`` narrow the copies,
    not the judgement: a period is complete by the entry, whatever a run was narrowed to."""

    entry: DatasetEntry
    periods: tuple[Period, ...]
    symbols: tuple[str, ...] = ()
    intervals: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.periods:
            raise InputError(f"No period of {self.entry.dataset} was given.")
        unknown = sorted(set(self.intervals) - set(self.entry.intervals))
        if unknown:
            raise InputError(
                f"{self.entry.dataset} is not collected at interval {unknown[0]!r}; the matrix has "
                f"{', '.join(self.entry.intervals) or 'no intervals'}."
            )
        refused = [symbol for symbol in self.symbols if not self.entry.symbols.selects(symbol)]
        if refused:
            raise InputError(f"{self.entry.dataset}: the matrix does not select the symbol {refused[0]!r}.")

    @property
    def names(self) -> list[str]:
        """The periods' texts, sorted."""
        return sorted(str(period) for period in self.periods)

    @property
    def narrowed(self) -> bool:
        return bool(self.symbols or self.intervals)


@dataclass(frozen=True, slots=True)
class _Survey:
    """Both listings of some periods, the folders listed for them and the pages that it took."""

    folders: tuple[Folder, ...]
    source: Listing
    lake: Listing
    symbols: tuple[str, ...]

    @property
    def requests(self) -> int:
        return self.source.requests + self.lake.requests


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Limits of a sync; see TransferOptions. ``list_concurrency`` requests per listed side; a part is
    planned and recorded at a time and has ``part_objects`` at most, though never less than a period."""

    transfer: TransferOptions = field(default_factory=TransferOptions)
    list_concurrency: int = 32
    part_objects: int = 12_000
    prices: Prices = field(default_factory=Prices)


class Engine:
    """Syncs datasets of one source bucket into one lake."""

    def __init__(self, source: Bucket, lake: Lake, options: EngineOptions | None = None) -> None:
        self._source = source
        self._lake = lake
        self._options = options or EngineOptions()

    def plan(self, scope: Scope) -> Plan:
        """What :meth:`sync` would copy now. Writes nothing."""
        return _plan(scope, self._survey(scope), self._manifest(scope).read(scope.names))

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

        def judged(part: Scope, survey: _Survey) -> SyncReport:
            started = time.monotonic()
            plan = _plan(part, survey, self._manifest(part).read(part.names))
            rows = judge(plan.rows, OUTCOME_SCHEMA.to_frame(), now=_now(), run_id=None)
            return _report(part, survey, rows, started)

        return self._in_parts(scope, judged)

    def record(self, scope: Scope, *, run_id: str | None = None) -> SyncReport:
        """Record what the lake holds of the periods, without copying anything."""

        def recorded(part: Scope, survey: _Survey) -> SyncReport:
            started = time.monotonic()
            known = self._manifest(part).known(part.names)
            return _report(part, survey, self._commit(part, survey, known, OUTCOME_SCHEMA.to_frame(), run_id), started)

        return self._in_parts(scope, recorded)

    def sync(
        self,
        scope: Scope,
        *,
        mode: SyncMode | None = None,
        run_id: str | None = None,
        on_progress: OnProgress = lambda _progress: None,
        approve: Callable[[Estimate], None] | None = None,
    ) -> SyncReport:
        """Bring the periods into the lake and record what the lake then holds.

        ``mode`` defaults to the entry's. ``approve`` is told the cost of all of it before anything is
        copied, and may raise. Objects that could not be moved are in the report, not raised;
        StoreError is raised when source, lake or manifest cannot be read or written. What was
        proven to be in the lake by then is recorded all the same, where the lake allows.
        """
        moving = Moving(scope.entry.dataset, self._source, self._lake, self._options.transfer, mode or scope.entry.mode)
        counter = _Counter(on_progress)

        def synced(part: Scope, survey: _Survey) -> SyncReport:
            started = time.monotonic()
            with _stage(part, "plan"):
                known = self._manifest(part).known(part.names)
                plan = _plan(part, survey, known.rows)
            with _stage(part, "move"):
                outcomes = self._move(moving, plan, counter)
            with _stage(part, "look_again"):
                survey, outcomes, lost = self._look_again(part, survey, outcomes)
            counter.at(Stage.MOVED)
            counter.at(Stage.COMMITTING)
            try:
                with _stage(part, "commit"):
                    rows = self._commit(part, survey, known, outcomes, run_id)
            except StoreError:
                if lost is None:
                    raise
                raise lost from None
            counter.at(Stage.COMMITTED)
            report = _report(part, survey, rows, started)
            record_history(self._lake, report, run_id=run_id)
            if lost is not None:
                raise lost
            return report

        def listed(survey: _Survey, parts: Sequence[Scope]) -> None:
            if approve is not None:
                # Planned once more than needed: of a range in parts none is copied before all are approved.
                plans = (_plan(p, _within(p, survey), self._manifest(p).read(p.names)).summary() for p in parts)
                approve(self._estimate(plans, survey.requests))
            counter.at(Stage.LISTED)

        counter.at(Stage.LISTING)
        report = self._in_parts(scope, synced, on_listed=listed)
        return replace(report, mode_note=moving.note)

    def _in_parts(
        self,
        scope: Scope,
        work: Callable[[Scope, _Survey], SyncReport],
        on_listed: Callable[[_Survey, Sequence[Scope]], None] = lambda _survey, _parts: None,
    ) -> SyncReport:
        """Survey the scope, have each part worked on, and put the reports together."""
        started = time.monotonic()
        with _stage(scope, "list"):
            survey = self._survey(scope)
        parts = list(_parts(scope, survey, self._options.part_objects))
        on_listed(survey, parts)
        listed = time.monotonic() - started
        reports = [work(part, _within(part, survey)) for part in parts]
        return SyncReport(
            dataset=scope.entry.dataset.name,
            periods=tuple(
                replace(period, seconds=period.seconds + listed / len(scope.periods))
                for report in reports
                for period in report.periods
            ),
            seconds=time.monotonic() - started,
            listing_requests=survey.requests + sum(report.listing_requests for report in reports),
            strays=tuple((stray.key, stray.reason) for stray in survey.source.strays),
        )

    def _manifest(self, scope: Scope) -> Manifest:
        return Manifest(self._lake, scope.entry.dataset)

    def _survey(self, scope: Scope) -> _Survey:
        dataset, entry = scope.entry.dataset, scope.entry
        source, lake = self._listers(scope)
        first, last = min(scope.periods), max(scope.periods)
        with ThreadPoolExecutor(max_workers=3) as pool:
            listed, in_lake = (
                pool.submit(side.symbols, dataset, intervals=entry.intervals, first=first, last=last)
                for side in (source, lake)
            )
            known = pool.submit(self._manifest(scope).symbols, scope.names)
            symbols = selected_symbols(listed.result(), entry.symbols.selects, known.result())
            unknown = sorted(set(scope.symbols) - set(symbols))
            if unknown:
                raise InputError(f"{dataset} has no symbol {unknown[0]!r} in its archive.")
            there = _folders(scope, symbols)
            source_side = pool.submit(source.objects, dataset, there)
            here = set(in_lake.result())
            lake_side = pool.submit(
                lake.objects, dataset, _folders(scope, [symbol for symbol in symbols if symbol in here])
            )
            return _Survey(there, _only(source_side.result(), scope), _only(lake_side.result(), scope), tuple(symbols))

    def _listers(self, scope: Scope) -> tuple[Lister, Lister]:
        concurrency = self._options.list_concurrency
        return (
            Lister(self._source, concurrency=concurrency),
            Lister(
                self._lake.bucket,
                root=self._lake.key(scope.entry.dataset.lake_root),
                concurrency=concurrency,
            ),
        )

    def _move(self, moving: Moving, plan: Plan, counter: _Counter) -> pl.DataFrame:
        """Move what the plan asks for; returns OUTCOME_SCHEMA."""
        copies = plan.copies().sort("period", "key")
        counter.expect(copies)
        return moving.move(copies, lambda size: counter.settled(size, moving.mode))

    def _look_again(
        self, scope: Scope, before: _Survey, outcomes: pl.DataFrame
    ) -> tuple[_Survey, pl.DataFrame, StoreError | None]:
        """List the lake's touched folders again, and the source's where a copy differs from the plan.

        A source that can no longer be asked takes nothing from what is proven: its StoreError is
        returned, and the outcomes that only it could have explained have failed.
        """
        if outcomes.is_empty():
            return before, outcomes, None
        dataset = scope.entry.dataset
        source, lake = self._listers(scope)
        touched = _holding(before.folders, outcomes["key"])
        lake_now = _replaced(before.lake, _only(lake.objects(dataset, touched), scope), touched)
        odd = _odd(outcomes, lake_now.objects, dataset.source.sidecar_suffix)
        asked = _holding(before.folders, outcomes.filter(odd)["key"])
        try:
            source_now = _replaced(before.source, _only(source.objects(dataset, asked), scope), asked)
        except StoreError as error:
            proven = pl.col("fault").is_not_null() | (pl.col("md5") == pl.col("etag")).fill_null(value=False)
            unasked = pl.lit(str(StoreFault("NotAsked", "the source could not be asked what it has now")))
            outcomes = outcomes.with_columns(fault=pl.when(odd & ~proven).then(unasked).otherwise("fault"))
            return replace(before, lake=lake_now), outcomes, error
        return replace(before, source=source_now, lake=lake_now), outcomes, None

    def _commit(
        self, scope: Scope, survey: _Survey, known: Known, outcomes: pl.DataFrame, run_id: str | None
    ) -> pl.DataFrame:
        """Replace the periods' manifest rows by what the survey shows; returns the judged rows."""
        judged: list[pl.DataFrame] = []

        def build(current: pl.DataFrame) -> pl.DataFrame:
            # Another run that committed since the manifest was read has changed the lake too.
            unchanged = not judged and current.equals(known.rows)
            after = survey if unchanged else self._survey(scope)
            rows = judge(_plan(scope, after, current).rows, outcomes, now=_now(), run_id=run_id)
            replaced = rows.filter("taken_over").select("key", pl.col("known_lake_etag").alias("lake_etag"))
            judged[:] = [with_places(rows, kept_places(scope.entry.dataset, self._lake, replaced))]
            return manifest_rows(judged[0])

        self._manifest(scope).replace(scope.names, build, known=known, run_id=run_id)
        return judged[0]


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


def _plan(scope: Scope, survey: _Survey, known: pl.DataFrame) -> Plan:
    return make_plan(
        survey.source,
        survey.lake,
        known,
        sidecar_suffix=scope.entry.dataset.source.sidecar_suffix,
        symbols=scope.symbols,
        intervals=scope.intervals,
    )


def _report(scope: Scope, survey: _Survey, rows: pl.DataFrame, started: float) -> SyncReport:
    seconds = time.monotonic() - started
    return SyncReport(
        dataset=scope.entry.dataset.name,
        periods=period_reports(rows, scope.names, seconds=seconds, narrowed=scope.narrowed),
        seconds=seconds,
        listing_requests=survey.requests,
    )


def _folders(scope: Scope, symbols: Sequence[str]) -> tuple[Folder, ...]:
    first, last = min(scope.periods), max(scope.periods)
    entry = scope.entry
    return tuple(folders_of(entry.dataset, symbols=symbols, intervals=entry.intervals, first=first, last=last))


def _parts(scope: Scope, survey: _Survey, most: int) -> Iterator[Scope]:
    """The scope cut into consecutive periods of which either side lists at most so many objects."""
    objects: Counter[str] = Counter()
    for side in (survey.source, survey.lake):
        objects |= Counter(dict(side.objects.group_by("period").len().iter_rows()))  # the larger of the two
    part: list[Period] = []
    held = 0
    for period in sorted(scope.periods):
        here = objects[str(period)]
        if part and held + here > most:
            yield replace(scope, periods=tuple(part))
            part, held = [], 0
        part.append(period)
        held += here
    yield replace(scope, periods=tuple(part))


def _within(part: Scope, survey: _Survey) -> _Survey:
    """A part of a survey; the pages were counted with the whole."""
    sides = (replace(_only(side, part), requests=0) for side in (survey.source, survey.lake))
    return _Survey(_folders(part, survey.symbols), *sides, survey.symbols)


def _odd(outcomes: pl.DataFrame, lake: pl.DataFrame, sidecar_suffix: str) -> pl.Series:
    """Of each outcome whether it failed or left another ETag in the lake than was planned.

    It was rewritten between listing and copy, or is gone: only the source can say.
    """
    seen = pl.concat(
        [
            lake.select("key", "etag"),
            lake.select(pl.col("key") + sidecar_suffix, pl.col("sidecar_etag").alias("etag")),
        ]
    ).drop_nulls("etag")  # where there are no sidecars, the suffix is empty too
    sides = outcomes.select("key", "etag", "fault").join(
        seen, on="key", how="left", suffix="_seen", maintain_order="left"
    )
    return sides.select(pl.col("fault").is_not_null() | pl.col("etag").ne_missing(pl.col("etag_seen"))).to_series()


def _folder(column: str = "key") -> pl.Expr:
    return pl.col(column).str.replace(r"[^/]*$", "")


def _holding(folders: Sequence[Folder], keys: pl.Series) -> list[Folder]:
    """The folders that hold any of the keys."""
    touched = set(keys.to_frame("key").select(_folder()).to_series())
    return [folder for folder in folders if folder.prefix in touched]


def _replaced(listing: Listing, again: Listing, asked: Sequence[Folder]) -> Listing:
    """A listing with some of its folders listed again."""
    prefixes = [folder.prefix for folder in asked]
    kept = listing.objects.filter(~_folder().is_in(prefixes))
    return Listing(pl.concat([kept, again.objects]), listing.strays, listing.requests + again.requests)


def _only(listing: Listing, scope: Scope) -> Listing:
    """A range may have gaps: keep the periods that were asked for. A listing of no others is not copied."""
    asked = listing.objects["period"].is_in(scope.names)
    return listing if asked.all() else replace(listing, objects=listing.objects.filter(asked))
