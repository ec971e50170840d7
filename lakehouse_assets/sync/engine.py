"""The engine: one sync of a range of periods, from the first listing to the manifest's commit.

    list source and lake, read the manifest -> plan -> move -> list the lake again -> manifest

Stopped anywhere, even by SIGKILL, it leaves the lake as a plan can read it: whole objects count,
nothing is half-written (S3 writes are atomic), and the next run does the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import polars as pl

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.exchanges.grammar import Folder
from lakehouse_assets.archive.listing import Lister, Listing, folders_of, selected_symbols
from lakehouse_assets.archive.matrix import DatasetEntry, SyncMode
from lakehouse_assets.archive.period import Period
from lakehouse_assets.errors import InputError
from lakehouse_assets.sync.history import record_history
from lakehouse_assets.sync.lake import Lake
from lakehouse_assets.sync.manifest import Manifest
from lakehouse_assets.sync.moving import Moving
from lakehouse_assets.sync.plan import Plan, make_plan
from lakehouse_assets.sync.reconcile import OUTCOME_SCHEMA, Judgement, judge, manifest_rows, period_reports
from lakehouse_assets.sync.report import SyncReport
from lakehouse_assets.sync.transfer import TransferOptions


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
    """Files (objects and sidecars) and bytes settled so far, of those to move."""

    stage: Stage
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
    """The three sides of a plan and the folders that were listed for it."""

    folders: tuple[Folder, ...]
    source: Listing
    lake: Listing
    known: pl.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Limits of a sync; see TransferOptions. ``list_concurrency`` requests per listed side."""

    transfer: TransferOptions = field(default_factory=TransferOptions)
    list_concurrency: int = 32


class Engine:
    """Syncs datasets of one source bucket into one lake."""

    def __init__(self, source: Bucket, lake: Lake, options: EngineOptions | None = None) -> None:
        self._source = source
        self._lake = lake
        self._options = options or EngineOptions()

    def plan(self, scope: Scope) -> Plan:
        """What :meth:`sync` would copy now. Writes nothing."""
        return self._plan(scope, self._survey(scope))

    def check(self, scope: Scope) -> SyncReport:
        """Judge the periods as the lake stands. Writes nothing."""
        started = time.monotonic()
        survey = self._survey(scope)
        judgement = judge(self._plan(scope, survey).rows, OUTCOME_SCHEMA.to_frame(), now=_now(), run_id=None)
        return self._report(scope, survey, judgement, started)

    def sync(
        self,
        scope: Scope,
        *,
        mode: SyncMode | None = None,
        run_id: str | None = None,
        on_progress: OnProgress = lambda _progress: None,
    ) -> SyncReport:
        """Bring the periods into the lake and record what the lake then holds.

        ``mode`` defaults to the entry's. Objects that could not be moved are in the report, not
        raised; StoreError is raised when source, lake or manifest cannot be read or written.
        """
        started = time.monotonic()
        on_progress(Progress(Stage.LISTING))
        survey = self._survey(scope)
        plan = self._plan(scope, survey)
        on_progress(Progress(Stage.LISTED))
        outcomes, note = self._move(scope, plan, mode or scope.entry.mode, on_progress)
        survey = self._look_again(scope, survey, outcomes)
        on_progress(Progress(Stage.MOVED))
        on_progress(Progress(Stage.COMMITTING))
        judgement = self._commit(scope, survey, outcomes, run_id)
        on_progress(Progress(Stage.COMMITTED))
        report = self._report(scope, survey, judgement, started, note)
        record_history(self._lake, report, run_id=run_id)
        return report

    def record(self, scope: Scope, *, run_id: str | None = None) -> SyncReport:
        """Record what the lake holds of the periods, without copying anything."""
        started = time.monotonic()
        survey = self._survey(scope)
        judgement = self._commit(scope, survey, OUTCOME_SCHEMA.to_frame(), run_id)
        return self._report(scope, survey, judgement, started)

    def _commit(self, scope: Scope, survey: _Survey, outcomes: pl.DataFrame, run_id: str | None) -> Judgement:
        """Replace the periods' manifest rows by what the survey shows; returns what was committed."""
        judged: list[Judgement] = []

        def build(current: pl.DataFrame) -> pl.DataFrame:
            # Another run that committed since the survey's manifest was read has changed the lake too.
            after = survey if not judged and current.equals(survey.known) else self._survey(scope)
            rows = self._plan(scope, _Survey(after.folders, after.source, after.lake, current)).rows
            judged.append(judge(rows, outcomes, now=_now(), run_id=run_id))
            return manifest_rows(judged[-1])

        Manifest(self._lake, scope.entry.dataset).replace(scope.names, build, run_id=run_id)
        return judged[-1]

    def _survey(self, scope: Scope) -> _Survey:
        dataset, entry = scope.entry.dataset, scope.entry
        source, lake = self._listers(scope)
        first, last = min(scope.periods), max(scope.periods)
        with ThreadPoolExecutor(max_workers=3) as pool:
            listed, in_lake = (
                pool.submit(side.symbols, dataset, intervals=entry.intervals, first=first, last=last)
                for side in (source, lake)
            )
            known = pool.submit(Manifest(self._lake, dataset).read, scope.names)
            symbols = selected_symbols(listed.result(), entry.symbols.selects, known.result()["symbol"])
            unknown = sorted(set(scope.symbols) - set(symbols))
            if unknown:
                raise InputError(f"{dataset} has no symbol {unknown[0]!r} in its archive.")

            def folders(names: Sequence[str]) -> list[Folder]:
                return folders_of(dataset, symbols=names, intervals=entry.intervals, first=first, last=last)

            there = folders(symbols)
            source_side = pool.submit(source.objects, dataset, there)
            here = set(in_lake.result())
            lake_side = pool.submit(lake.objects, dataset, folders([symbol for symbol in symbols if symbol in here]))
            return _Survey(
                tuple(there),
                _within(source_side.result(), scope.names),
                _within(lake_side.result(), scope.names),
                known.result(),
            )

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

    def _plan(self, scope: Scope, survey: _Survey) -> Plan:
        return make_plan(
            survey.source,
            survey.lake,
            survey.known,
            sidecar_suffix=scope.entry.dataset.source.sidecar_suffix,
            symbols=scope.symbols,
            intervals=scope.intervals,
        )

    def _move(
        self, scope: Scope, plan: Plan, mode: SyncMode, on_progress: OnProgress
    ) -> tuple[pl.DataFrame, str | None]:
        """Move what the plan asks for; returns OUTCOME_SCHEMA and why direct was not used."""
        copies = plan.copies().sort("period", "key")
        moving = Moving(scope.entry.dataset, self._source, self._lake, self._options.transfer)
        return moving.move(copies, mode, _counting(copies.height, int(copies["size"].sum()), on_progress))

    def _look_again(self, scope: Scope, before: _Survey, outcomes: pl.DataFrame) -> _Survey:
        """List the lake's touched folders again, and the source's where a copy differs from the plan."""
        if outcomes.is_empty():
            return before
        dataset = scope.entry.dataset
        source, lake = self._listers(scope)
        after = _within(lake.objects(dataset, _holding(before.folders, outcomes["key"])), scope.names)
        suffix = dataset.source.sidecar_suffix
        seen = pl.concat(
            [
                after.objects.select("key", "etag"),
                after.objects.select(pl.col("key") + suffix, pl.col("sidecar_etag").alias("etag")),
            ]
        )
        odd = outcomes.join(seen, on="key", how="left", suffix="_seen").filter(
            pl.col("fault").is_not_null() | pl.col("etag").ne_missing(pl.col("etag_seen"))
        )
        # Rewritten between listing and copy, or gone: only the source can say.
        asked = _holding(before.folders, odd["key"])
        again = _within(source.objects(dataset, asked), scope.names)
        return _Survey(
            before.folders,
            _replaced(before.source, again, asked),
            _replaced(before.lake, after, _holding(before.folders, outcomes["key"])),
            before.known,
        )

    def _report(
        self, scope: Scope, survey: _Survey, judgement: Judgement, started: float, note: str | None = None
    ) -> SyncReport:
        seconds = time.monotonic() - started
        return SyncReport(
            dataset=scope.entry.dataset.name,
            periods=period_reports(judgement, scope.names, seconds=seconds, narrowed=scope.narrowed),
            seconds=seconds,
            listing_requests=survey.source.requests + survey.lake.requests,
            strays=tuple((stray.key, stray.reason) for stray in survey.source.strays),
            mode_note=note,
        )


def _now() -> datetime:
    return datetime.now(UTC)


def _counting(files: int, total_bytes: int, on_progress: OnProgress) -> Callable[[int], None]:
    done = [0, 0]

    def settled(size: int) -> None:
        done[0] += 1
        done[1] += size
        on_progress(Progress(Stage.MOVING, done[0], files, done[1], total_bytes))

    return settled


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


def _within(listing: Listing, periods: Sequence[str]) -> Listing:
    """A range may have gaps: keep the periods that were asked for."""
    objects = listing.objects.filter(pl.col("period").is_in(list(periods)))
    return Listing(objects, listing.strays, listing.requests)
