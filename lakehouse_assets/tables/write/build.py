"""Building a table: periods of archive objects become files of the table, in one commit each.

Periods are replaced as a whole and only where their content changed. Periods of one month that share
files (small data, or a monthly archive that fills many days) go into one commit, others into one each.
A bad archive is quarantined and the rest written; an archive that cannot be fetched fails its periods and
no others. Whoever loses the race to commit looks at everything again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.matrix import OnBadFile
from lakehouse_assets.archive.period import Cadence, month_of
from lakehouse_assets.lake.commit import commit_attempts
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.observability.telemetry.metrics import TABLE_SECONDS, timed
from lakehouse_assets.observability.telemetry.tracing import span
from lakehouse_assets.sync.integrity.verify import FOUND_SCHEMA, Verifier
from lakehouse_assets.tables.delta import RETENTION_DAYS, Commit, files_of, open_or_create, open_table, still_there
from lakehouse_assets.tables.held import WITNESS, held_periods, shared_span
from lakehouse_assets.tables.inputs import Bad, Inputs, inputs_of
from lakehouse_assets.tables.lineage import ObjectUsage, lineage_of, outdated_periods
from lakehouse_assets.tables.quality.measure import Measurer, quality_of, quality_records
from lakehouse_assets.tables.quality.neighbours import Surroundings
from lakehouse_assets.tables.quality.rows import QUALITY_SCHEMA
from lakehouse_assets.tables.read.archives import BadArchiveError
from lakehouse_assets.tables.read.fetch import Fetcher, Item, UnreadError
from lakehouse_assets.tables.report import BuildReport, BuildState, PeriodBuild, Problem
from lakehouse_assets.tables.schemas.model import SizeClass
from lakehouse_assets.tables.snapshot import snapshot_id
from lakehouse_assets.tables.table import MONTH, PERIOD, TableEntry
from lakehouse_assets.tables.write.build_attempt import BuildAttempt, Counts, Findings, placed, streams
from lakehouse_assets.tables.write.files import FileWriter
from lakehouse_assets.tables.write.replace import Replacer, counted

_NOT_HELD = "the table did not hold what its lineage says"
_COMMIT_LOST = (
    "its commit is gone from the table's log: another writer's took its place, so the lake's store does not keep "
    "conditional writes (see `lakehouse doctor`); materialize it again"
)
_COMMIT_DEADLINE_SECONDS = 1800.0
"""A lost race means reading the archives again, so attempts take their time."""


class TableBuilder:
    """Builds one table in one lake."""

    def __init__(self, source: Bucket, lake: Lake, entry: TableEntry, *, retention_days: int = RETENTION_DAYS) -> None:
        self._lake = lake
        self._entry = entry
        self._table = entry.table
        self._retention_days = retention_days
        self._datasets = {cadence: each.dataset for cadence, each in entry.entries.items()}
        self._verifier = Verifier(source, lake)
        self._fetcher = Fetcher(lake, entry.table.schema, self._verifier)
        self._files = FileWriter(lake, entry.table)
        self._replacer = Replacer(lake, entry.table, self._files)
        self._lineage = lineage_of(lake, entry.table)
        self._quality = quality_of(lake, entry.table)

    def build(self, periods: Sequence[str], *, again: bool = False, run_id: str | None = None) -> BuildReport:
        """Bring ``periods`` of the table to what the manifests say; ``again``: also where nothing changed.

        Raises StoreError when the lake cannot be read or written at all.
        """
        started = time.monotonic()
        results: list[_Result] = []
        wanted = sorted(set(periods))
        around = Surroundings(self._lake, self._table, self._datasets, wanted)
        for month, texts in groupby(wanted, key=month_of):
            for group in self._groups(month, list(texts)):
                with (
                    span("write_table", table=self._table.name, first_period=group[0], last_period=group[-1]),
                    timed(TABLE_SECONDS, **self._table.attributes),
                ):
                    results.append(self._build_group(month, group, around, again=again, run_id=run_id))
        measured = pl.concat([QUALITY_SCHEMA.to_frame(), *(result.quality for result in results)])
        quality = around.judged_anew(measured, run_id=run_id)
        found = open_table(self._lake, self._table.place)
        files = None if found is None else files_of(found)
        return BuildReport(
            table=self._table.name,
            periods=tuple(period for result in results for period in result.periods_after(files)),
            snapshot=None if found is None else snapshot_id(self._table, found),
            table_rows=0 if files is None else int(files["num_records"].sum()),
            seconds=time.monotonic() - started,
            bytes_read=sum(result.bytes_read for result in results),
            bytes_written=sum(result.bytes_written for result in results),
            quality=quality,
            outdated=outdated_periods(self._lineage, self._table),
        )

    def _groups(self, month: str, periods: list[str]) -> list[list[str]]:
        """Periods that are written together: all, where they share files, else one by one."""
        inputs = inputs_of(self._table, self._manifests(month, periods), periods, {})
        intervals = inputs.used["interval"].unique()
        if self._table.cadence is Cadence.MONTHLY or (inputs.used["cadence"] == Cadence.MONTHLY).any():
            return [periods]
        if any(self._table.schema.size_class_of(interval) is SizeClass.SMALL for interval in intervals):
            return [periods]
        return [[period] for period in periods]

    def _build_group(
        self, month: str, periods: list[str], around: Surroundings, *, again: bool, run_id: str | None
    ) -> _Result:
        try:
            return commit_attempts(_COMMIT_DEADLINE_SECONDS)(self._build_once, month, periods, around, again, run_id)
        except (DeltaError, OSError, pl.exceptions.PolarsError) as error:
            raise self._lake.error(f"Writing {month} of the table", self._table.place, error) from error

    def _build_once(
        self, month: str, periods: list[str], around: Surroundings, again: bool, run_id: str | None
    ) -> _Result:
        # Opened before anything is read, so that whatever is committed meanwhile is a conflict.
        table = open_or_create(self._lake, self._table, retention_days=self._retention_days)
        files = files_of(table, month=month)
        before = self._lineage.read(periods)
        held = self._held(table, files, periods, before)
        work = self._settle(month, periods, before, held, again=again)
        attempt, todo = work.attempt, work.todo
        committed = None
        if todo:
            metadata = {"run_id": run_id or "", "periods": todo}
            committed, attempt.actions = self._replacer.replace(
                table, files, todo, attempt.actions, month=month, metadata=metadata
            )
        self._record_findings(attempt, run_id)
        quality = QUALITY_SCHEMA.to_frame()
        if committed is not None:
            quality = around.judged(attempt.quality(), month, attempt.seen(around.exchange))
            self._quality.replace(todo, quality_records(quality, committed, run_id), run_id=run_id)
            lineage = attempt.lineage(work.inputs.of(todo), work.digests, committed, run_id=run_id)
            # Last, since it says that the period is done.
            self._lineage.replace(todo, lineage, run_id=run_id)
        stays = before.filter(pl.col(PERIOD).is_in(held - set(todo))).group_by(PERIOD).agg(pl.col("rows").sum())
        lost = set(before[PERIOD]) - held
        rows = dict(stays.iter_rows()) | counted(table, lost - set(todo)) | attempt.rows_by_period()
        return _Result(
            month=month,
            committed=committed if attempt.actions else None,
            periods=[
                _period_build(
                    period,
                    work.inputs.of([period]),
                    work.state(period),
                    rows=rows.get(period, 0),
                    content=work.digests.get(period),
                    reason=work.unread.get(period) or (_NOT_HELD if period in lost else None),
                )
                for period in periods
            ],
            quality=quality,
            bytes_read=attempt.bytes_read,
            bytes_written=sum(action.size for action in attempt.actions) if todo else 0,
        )

    def _held(self, table: DeltaTable, files: pl.DataFrame, periods: list[str], before: pl.DataFrame) -> set[str]:
        """Those of the periods whose rows the table has as the lineage says."""
        span = shared_span(files, periods)
        there = still_there(self._lake, self._table, files)
        if span is None:
            return held_periods(table, there, before)
        first, last = min(span[0], *periods), max(span[1], *periods)
        return held_periods(table, there, self._lineage.read(since=first, until=last, columns=WITNESS))

    def _settle(
        self, month: str, periods: list[str], before: pl.DataFrame, held: Collection[str], *, again: bool
    ) -> _Work:
        """Read and write what changed, until all that was found bad or unread on the way is taken into account."""
        manifests = self._manifests(month, periods)
        recorded = dict(before.select(PERIOD, "content").unique().iter_rows())
        known = {} if again else {period: content for period, content in recorded.items() if period in held}
        bad = {} if again else self._still_bad(manifests, periods, before)
        unread: dict[str, str] = {}
        findings: Findings = {}
        while True:
            inputs = inputs_of(self._table, manifests, periods, bad)
            digests = inputs.digests()
            blocked = set(inputs.lacking[PERIOD]) if self._blocks else set()
            changed = [period for period in periods if period in digests and digests[period] != known.get(period)]
            todo = [period for period in changed if period not in blocked and period not in unread]
            if not todo:
                return _Work(
                    inputs, digests, todo, blocked, unread, BuildAttempt(Measurer(self._table.schema), findings)
                )
            attempt = self._read_and_write(month, inputs.of(todo), findings)
            bad, unread = {**bad, **attempt.bad}, {**unread, **attempt.unread}
            after = inputs_of(self._table, manifests, periods, bad)
            as_if_known = not attempt.spoiled and set(after.of(todo).used["key"]) == attempt.read_keys
            if not attempt.unread and (not attempt.bad or (as_if_known and not self._blocks)):
                return _Work(after, after.digests(), todo, blocked, unread, attempt)

    def _still_bad(self, manifests: dict[Cadence, pl.DataFrame], periods: list[str], before: pl.DataFrame) -> Bad:
        """Objects that were found unreadable, but for those of periods that are as they were no more: a later
        version of this project may read them."""
        bad = _bad_of(before)
        if not bad:
            return bad
        known = dict(before.select(PERIOD, "content").unique().iter_rows())
        now = inputs_of(self._table, manifests, periods, bad).digests()
        return _bad_of(
            before.filter(pl.col(PERIOD).is_in([each for each in periods if now.get(each) == known.get(each)]))
        )

    @property
    def _blocks(self) -> bool:
        return self._entry.on_bad_file is OnBadFile.BLOCK

    def _manifests(self, month: str, periods: Sequence[str]) -> dict[Cadence, pl.DataFrame]:
        return {
            cadence: Manifest(self._lake, dataset).read(list(periods) if cadence is Cadence.DAILY else [month])
            for cadence, dataset in self._datasets.items()
        }

    # Reading and writing

    def _read_and_write(self, month: str, inputs: Inputs, findings: Findings) -> BuildAttempt:
        """Write files of all inputs; nothing is committed. What they are found to be is added to ``findings``."""
        attempt = BuildAttempt(Measurer(self._table.schema), findings)
        for (interval,), objects in inputs.used.sort("interval").group_by("interval", maintain_order=True):
            small = self._table.schema.size_class_of(interval) is SizeClass.SMALL
            for stream in streams(objects, small=small):
                frames = self._frames(stream, attempt)
                frames = attempt.measurer.watch(frames)
                frames = self._by_symbol(frames) if small else (frame for _symbol, frame in frames)
                attempt.actions += self._files.write(frames, interval=interval, month=month)
        return attempt

    def _frames(self, objects: pl.DataFrame, attempt: BuildAttempt) -> Iterator[tuple[str, pl.DataFrame]]:
        """Symbol and frame with the column period, in order; what cannot be used is noted in ``attempt``."""
        wanted = {row["key"]: row["wanted"] for row in objects.select("key", "wanted").iter_rows(named=True)}
        time_column = self._table.schema.time_column
        timezone = exchange_named(self._table.exchange).timezone
        items = ((self._dataset(row), Item(row)) for row in objects.drop("wanted").iter_rows(named=True))
        for fetched in self._fetcher.in_order(items):
            row = fetched.item.row
            periods, archive_period = wanted[row["key"]], row["archive_period"]
            counts = None if periods == [archive_period] else Counts(time_column)
            try:
                if fetched.error is not None:
                    raise fetched.error
                for frame in fetched.frames:
                    rows = placed(frame, archive_period, periods, time_column, timezone)
                    if counts is not None:
                        counts.observe(rows)
                    yield row["symbol"], rows
            except (BadArchiveError, UnreadError) as error:
                attempt.note(fetched, periods, error)
            else:
                attempt.took(fetched, periods, counts)

    def _by_symbol(self, frames: Iterator[tuple[str, pl.DataFrame]]) -> Iterator[pl.DataFrame]:
        """All frames of a symbol as one, by time."""
        for _symbol, of_symbol in groupby(frames, key=lambda pair: pair[0]):
            yield self._fetcher.sorted(pl.concat([frame for _, frame in of_symbol]))

    def _dataset(self, row: dict[str, object]) -> Dataset:
        return self._datasets[Cadence(str(row["cadence"]))]

    def _record_findings(self, attempt: BuildAttempt, run_id: str | None) -> None:
        for cadence, dataset in self._datasets.items():
            found = [(period, finding) for of, period, finding in attempt.findings.values() if of is cadence]
            if found:
                periods = sorted({period for period, _ in found})
                frame = pl.DataFrame([finding for _, finding in found], schema=FOUND_SCHEMA, orient="row")
                self._verifier.record(dataset, periods, frame, run_id=run_id)


@dataclass(frozen=True, slots=True)
class _Work:
    """``todo`` are the periods whose files ``attempt`` has written, all of them without what is bad in ``inputs``."""

    inputs: Inputs
    digests: dict[str, str]
    todo: list[str]
    blocked: set[str]
    unread: dict[str, str]
    attempt: BuildAttempt

    def state(self, period: str) -> BuildState:
        if period in self.todo:
            return BuildState.WRITTEN
        if period in self.unread:
            return BuildState.FAILED
        if period in self.blocked:
            return BuildState.BLOCKED
        return BuildState.UNCHANGED if period in self.digests else BuildState.EMPTY


@dataclass(frozen=True, slots=True)
class _Result:
    """What a group of periods of a month came to; ``committed`` where files were put into the table."""

    month: str
    periods: list[PeriodBuild]
    committed: Commit | None
    quality: pl.DataFrame
    bytes_read: int
    bytes_written: int

    def periods_after(self, files: pl.DataFrame | None) -> list[PeriodBuild]:
        """The periods, given the files of the table when all was done: where the commit was lost, they failed."""
        newest = None if files is None else files.filter(pl.col(MONTH) == self.month)["written"].max()
        if self.committed is None or (isinstance(newest, int) and newest >= self.committed.file_time):
            return self.periods
        return [
            replace(period, state=BuildState.FAILED, reason=_COMMIT_LOST)
            if period.state is BuildState.WRITTEN
            else period
            for period in self.periods
        ]


def _bad_of(lineage: pl.DataFrame) -> Bad:
    """Objects that were found unreadable; one that is not as published is judged by its manifest alone."""
    rows = lineage.filter(
        (pl.col("state") == ObjectUsage.QUARANTINED) & pl.col("integrity").ne_missing(Integrity.MISMATCH.value)
    )
    return {(key, etag): note for key, etag, note in rows.select("key", "etag", "note").iter_rows()}


def _period_build(
    period: str, inputs: Inputs, state: BuildState, *, rows: int, content: str | None, reason: str | None
) -> PeriodBuild:
    lacking = set(inputs.lacking["key"])
    troubles = [
        Problem(
            key=row["key"],
            symbol=row["symbol"],
            interval=row["interval"],
            use=(ObjectUsage.MISSING if row["lake_etag"] is None else ObjectUsage.QUARANTINED).value,
            reason=row["reason"] or "it is not in the lake",
            filled=row["key"] not in lacking,
        )
        for row in pl.concat([inputs.unusable, inputs.lacking]).unique("key").sort("key").iter_rows(named=True)
    ]
    if state is BuildState.BLOCKED:
        reason = f"{len(lacking)} archives are quarantined or missing, and the matrix says block"
    cadences = dict(inputs.used.group_by("cadence").len().iter_rows())
    return PeriodBuild(
        period=period,
        state=state,
        rows=rows,
        daily=cadences.get(Cadence.DAILY, 0),
        monthly=cadences.get(Cadence.MONTHLY, 0),
        troubles=tuple(troubles),
        content=content,
        reason=reason,
    )
