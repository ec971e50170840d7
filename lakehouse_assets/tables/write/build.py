"""Builds a table: loads archive objects into the table, period by period.

A period is replaced completely, and only if its content changed. Periods of one month that share files (small data, or
a monthly archive that fills several days) are committed together, other periods one by one. A bad archive object is
quarantined and the others are written; an object that cannot be fetched fails its own periods only. After a commit
conflict, inputs are read and files are built again.
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
from lakehouse_assets.observability.telemetry.metrics import TABLE_SECONDS, timed
from lakehouse_assets.observability.telemetry.tracing import span
from lakehouse_assets.sync.integrity.verify import FINDING_SCHEMA, Verifier
from lakehouse_assets.tables.delta import RETENTION_DAYS, Commit, existing_files, files_of, open_or_create, open_table
from lakehouse_assets.tables.inputs import Inputs, inputs_of
from lakehouse_assets.tables.lineage import ObjectUsage, lineage_of, outdated_periods
from lakehouse_assets.tables.lineage_check import CHECK_COLUMNS, intact_periods, window_sharing_files
from lakehouse_assets.tables.outdated import known_bad, read_manifests
from lakehouse_assets.tables.quality.measure import Measurer, quality_of, quality_records
from lakehouse_assets.tables.quality.neighbours import NeighbourChecks
from lakehouse_assets.tables.quality.rows import QUALITY_SCHEMA
from lakehouse_assets.tables.read.fetch import Fetcher, InputObject, UnreadError
from lakehouse_assets.tables.read.unpack import BadArchiveError
from lakehouse_assets.tables.report import BuildReport, BuildState, PeriodBuild, Problem
from lakehouse_assets.tables.schemas.model import SizeClass
from lakehouse_assets.tables.snapshot import snapshot_id
from lakehouse_assets.tables.table import MONTH, PERIOD, TableEntry
from lakehouse_assets.tables.write.build_attempt import BuildAttempt, Findings, PeriodCounts, file_streams, with_periods
from lakehouse_assets.tables.write.files import FileWriter
from lakehouse_assets.tables.write.replace import Replacer, count_rows

_NOT_INTACT = "the rows in the table differed from its lineage"
_COMMIT_LOST = (
    "its commit is missing from the table's log: another writer's commit replaced it, so the lake's store does not "
    "support conditional writes (see `lakehouse doctor`); materialize the period again"
)
_COMMIT_DEADLINE_SECONDS = 1800.0
"""Long, because archives are read again after a commit conflict."""


class TableBuilder:
    """Builds one table in one lake."""

    def __init__(self, source: Bucket, lake: Lake, entry: TableEntry, *, retention_days: int = RETENTION_DAYS) -> None:
        self._lake = lake
        self._entry = entry
        self._table = entry.table
        self._retention_days = retention_days
        self._datasets = {cadence: dataset_entry.dataset for cadence, dataset_entry in entry.entries.items()}
        self._verifier = Verifier(source, lake)
        self._fetcher = Fetcher(lake, entry.table.schema, self._verifier)
        self._files = FileWriter(lake, entry.table)
        self._replacer = Replacer(lake, entry.table, self._files)
        self._lineage = lineage_of(lake, entry.table)
        self._quality = quality_of(lake, entry.table)

    def build(self, periods: Sequence[str], *, force: bool = False, run_id: str | None = None) -> BuildReport:
        """Update ``periods`` of the table from the manifests; ``force`` rewrites unchanged periods, too.

        Raises InputError when the stored table has other columns, StoreError when the lake cannot be read or written.
        """
        started = time.monotonic()
        results: list[_GroupResult] = []
        wanted = sorted(set(periods))
        neighbours = NeighbourChecks(self._lake, self._table, self._datasets, wanted)
        for month, month_periods in groupby(wanted, key=month_of):
            for group in self._groups(month, list(month_periods)):
                with (
                    span("write_table", table=self._table.name, first_period=group[0], last_period=group[-1]),
                    timed(TABLE_SECONDS, **self._table.attributes),
                ):
                    results.append(self._build_group(month, group, neighbours, force=force, run_id=run_id))
        measured = pl.concat([QUALITY_SCHEMA.to_frame(), *(result.quality for result in results)])
        quality = neighbours.update_records(measured, run_id=run_id)
        delta = open_table(self._lake, self._table.place)
        files = None if delta is None else files_of(delta)
        return BuildReport(
            table=self._table.name,
            periods=tuple(period for result in results for period in result.final_periods(files)),
            snapshot=None if delta is None else snapshot_id(self._table, delta),
            table_rows=0 if files is None else int(files["num_records"].sum()),
            seconds=time.monotonic() - started,
            bytes_read=sum(result.bytes_read for result in results),
            bytes_written=sum(result.bytes_written for result in results),
            quality=quality,
            outdated=outdated_periods(self._lineage, self._table),
        )

    def _groups(self, month: str, periods: list[str]) -> list[list[str]]:
        """The periods of a month in groups that are written together: one group if they share files."""
        inputs = inputs_of(self._table, self._manifests(month, periods), periods, {})
        intervals = inputs.used["interval"].unique()
        if self._table.cadence is Cadence.MONTHLY or (inputs.used["cadence"] == Cadence.MONTHLY).any():
            return [periods]
        if any(self._table.schema.size_class_of(interval) is SizeClass.SMALL for interval in intervals):
            return [periods]
        return [[period] for period in periods]

    def _build_group(
        self, month: str, periods: list[str], neighbours: NeighbourChecks, *, force: bool, run_id: str | None
    ) -> _GroupResult:
        attempts = commit_attempts(_COMMIT_DEADLINE_SECONDS)
        try:
            return attempts(self._build_once, month, periods, neighbours, force, run_id)
        except (DeltaError, OSError, pl.exceptions.PolarsError) as error:
            raise self._lake.error(f"Writing {month} of the table", self._table.place, error) from error

    def _build_once(
        self, month: str, periods: list[str], neighbours: NeighbourChecks, force: bool, run_id: str | None
    ) -> _GroupResult:
        # Opened before anything is read, so that every commit from now on is a conflict.
        delta = open_or_create(self._lake, self._table, retention_days=self._retention_days)
        files = files_of(delta, month=month)
        before = self._lineage.read(periods)
        intact = self._intact(delta, files, periods, before)
        prepared = self._prepare(month, periods, before, intact, force=force)
        attempt, todo = prepared.attempt, prepared.todo
        committed = None
        if todo:
            metadata = {"run_id": run_id or "", "periods": todo}
            committed, attempt.actions = self._replacer.replace(
                delta, files, todo, attempt.actions, month=month, metadata=metadata
            )
        self._record_findings(attempt, run_id)
        quality = QUALITY_SCHEMA.to_frame()
        if committed is not None:
            quality = self._write_records(month, prepared, neighbours, committed, run_id)
        kept = before.filter(pl.col(PERIOD).is_in(intact - set(todo))).group_by(PERIOD).agg(pl.col("rows").sum())
        lost = set(before[PERIOD]) - intact
        rows = dict(kept.iter_rows()) | count_rows(delta, lost - set(todo)) | attempt.rows_by_period()
        return _GroupResult(
            month=month,
            committed=committed if attempt.actions else None,
            periods=[
                _period_build(
                    period,
                    prepared.inputs.of([period]),
                    prepared.state(period),
                    rows=rows.get(period, 0),
                    content=prepared.digests.get(period),
                    reason=prepared.unread.get(period) or (_NOT_INTACT if period in lost else None),
                )
                for period in periods
            ],
            quality=quality,
            bytes_read=attempt.bytes_read,
            bytes_written=sum(action.size for action in attempt.actions) if todo else 0,
        )

    def _write_records(
        self, month: str, prepared: _Prepared, neighbours: NeighbourChecks, committed: Commit, run_id: str | None
    ) -> pl.DataFrame:
        """Write quality records and lineage of the committed periods, and return the quality results."""
        attempt, todo = prepared.attempt, prepared.todo
        quality = neighbours.classify(attempt.quality(), month, attempt.lifetimes(neighbours.exchange))
        self._quality.replace(todo, quality_records(quality, committed, run_id), run_id=run_id)
        lineage = attempt.lineage(prepared.inputs.of(todo), prepared.digests, committed, run_id=run_id)
        # The lineage comes last, since it marks the period as done.
        self._lineage.replace(todo, lineage, run_id=run_id)
        return quality

    def _intact(self, delta: DeltaTable, files: pl.DataFrame, periods: list[str], before: pl.DataFrame) -> set[str]:
        """The periods whose rows in the table are as the lineage records them."""
        window = window_sharing_files(files, periods)
        existing = existing_files(self._lake, self._table, files)
        if window is None:
            return intact_periods(delta, existing, before)
        first, last = min(window[0], *periods), max(window[1], *periods)
        return intact_periods(delta, existing, self._lineage.read(since=first, until=last, columns=CHECK_COLUMNS))

    def _prepare(
        self, month: str, periods: list[str], before: pl.DataFrame, intact: Collection[str], *, force: bool
    ) -> _Prepared:
        """Write the files of changed periods. Repeat it without the objects that turn out to be bad or unread."""
        manifests = self._manifests(month, periods)
        recorded = dict(before.select(PERIOD, "content").unique().iter_rows())
        known = {} if force else {period: content for period, content in recorded.items() if period in intact}
        bad = {} if force else known_bad(self._table, manifests, periods, before)
        unread: dict[str, str] = {}
        findings: Findings = {}
        while True:
            inputs = inputs_of(self._table, manifests, periods, bad)
            digests = inputs.digests()
            blocked = set(inputs.lacking[PERIOD]) if self._blocks else set()
            changed = [period for period in periods if period in digests and digests[period] != known.get(period)]
            todo = [period for period in changed if period not in blocked and period not in unread]
            if not todo:
                return _Prepared(
                    inputs, digests, todo, blocked, unread, BuildAttempt(Measurer(self._table.schema), findings)
                )
            attempt = self._read_and_write(month, inputs.of(todo), findings)
            findings = attempt.findings
            bad, unread = {**bad, **attempt.bad}, {**unread, **attempt.unread}
            after = inputs_of(self._table, manifests, periods, bad)
            # Without the bad objects, the same files would have been written.
            is_final = not attempt.tainted and set(after.of(todo).used["key"]) == attempt.read_keys
            if not attempt.unread and (not attempt.bad or (is_final and not self._blocks)):
                return _Prepared(after, after.digests(), todo, blocked, unread, attempt)

    @property
    def _blocks(self) -> bool:
        return self._entry.on_bad_file is OnBadFile.BLOCK

    def _manifests(self, month: str, periods: Sequence[str]) -> dict[Cadence, pl.DataFrame]:
        manifests = {cadence: Manifest(self._lake, dataset) for cadence, dataset in self._datasets.items()}
        return read_manifests(manifests, month, periods)

    # Reading and writing

    def _read_and_write(self, month: str, inputs: Inputs, findings: Findings) -> BuildAttempt:
        """Write the files of all inputs, without a commit. The attempt continues the ``findings`` of earlier ones."""
        attempt = BuildAttempt(Measurer(self._table.schema), {**findings})
        for (interval,), objects in inputs.used.sort("interval").group_by("interval", maintain_order=True):
            small = self._table.schema.size_class_of(interval) is SizeClass.SMALL
            for stream in file_streams(objects, small=small):
                frames = self._frames(stream, attempt)
                frames = attempt.measurer.observe(frames)
                frames = self._by_symbol(frames) if small else (frame for _symbol, frame in frames)
                attempt.actions += self._files.write(frames, interval=interval, month=month)
        return attempt

    def _frames(self, objects: pl.DataFrame, attempt: BuildAttempt) -> Iterator[tuple[str, pl.DataFrame]]:
        """Symbols with frames that have the column period, in order. ``attempt`` records the outcome of each object."""
        wanted = {row["key"]: row["wanted"] for row in objects.select("key", "wanted").iter_rows(named=True)}
        time_column = self._table.schema.time_column
        timezone = exchange_named(self._table.exchange).timezone
        requests = ((self._dataset(row), InputObject(row)) for row in objects.drop("wanted").iter_rows(named=True))
        for fetched in self._fetcher.in_order(requests):
            row = fetched.archive_object.row
            periods, archive_period = wanted[row["key"]], row["archive_period"]
            counts = None if periods == [archive_period] else PeriodCounts(time_column)
            try:
                if fetched.error is not None:
                    raise fetched.error
                for frame in fetched.frames:
                    rows = with_periods(frame, archive_period, periods, time_column, timezone)
                    if counts is not None:
                        counts.observe(rows)
                    yield row["symbol"], rows
            except (BadArchiveError, UnreadError) as error:
                attempt.add_failure(fetched, periods, error)
            else:
                attempt.add_written(fetched, periods, counts)

    def _by_symbol(self, frames: Iterator[tuple[str, pl.DataFrame]]) -> Iterator[pl.DataFrame]:
        """All frames of a symbol as one frame, sorted by time."""
        for _symbol, pairs in groupby(frames, key=lambda pair: pair[0]):
            yield self._fetcher.sorted(pl.concat([frame for _, frame in pairs]))

    def _dataset(self, row: dict[str, object]) -> Dataset:
        return self._datasets[Cadence(str(row["cadence"]))]

    def _record_findings(self, attempt: BuildAttempt, run_id: str | None) -> None:
        for cadence, dataset in self._datasets.items():
            findings = [
                (period, row) for row_cadence, period, row in attempt.findings.values() if row_cadence is cadence
            ]
            if findings:
                periods = sorted({period for period, _ in findings})
                frame = pl.DataFrame([row for _, row in findings], schema=FINDING_SCHEMA, orient="row")
                self._verifier.record(dataset, periods, frame, run_id=run_id)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """``todo`` are the periods whose files ``attempt`` has written, from the usable objects of ``inputs``."""

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
class _GroupResult:
    """The outcome for a group of periods of a month. ``committed`` is None if no files were added to the table."""

    month: str
    periods: list[PeriodBuild]
    committed: Commit | None
    quality: pl.DataFrame
    bytes_read: int
    bytes_written: int

    def final_periods(self, files: pl.DataFrame | None) -> list[PeriodBuild]:
        """The periods, failed if their commit is lost, given the table's files at the end of the build."""
        newest = None if files is None else files.filter(pl.col(MONTH) == self.month)["written"].max()
        if self.committed is None or (isinstance(newest, int) and newest >= self.committed.file_time):
            return self.periods
        return [
            replace(period, state=BuildState.FAILED, reason=_COMMIT_LOST)
            if period.state is BuildState.WRITTEN
            else period
            for period in self.periods
        ]


def _period_build(
    period: str, inputs: Inputs, state: BuildState, *, rows: int, content: str | None, reason: str | None
) -> PeriodBuild:
    lacking = set(inputs.lacking["key"])
    problems = [
        Problem(
            key=row["key"],
            symbol=row["symbol"],
            interval=row["interval"],
            usage=(ObjectUsage.MISSING if row["lake_etag"] is None else ObjectUsage.QUARANTINED).value,
            reason=row["reason"] or "it is not in the lake",
            filled=row["key"] not in lacking,
        )
        for row in pl.concat([inputs.unusable, inputs.lacking]).unique("key").sort("key").iter_rows(named=True)
    ]
    if state is BuildState.BLOCKED:
        reason = f"{len(lacking)} archive objects are quarantined or missing (on_bad_file: block)"
    cadences = dict(inputs.used.group_by("cadence").len().iter_rows())
    return PeriodBuild(
        period=period,
        state=state,
        rows=rows,
        daily=cadences.get(Cadence.DAILY, 0),
        monthly=cadences.get(Cadence.MONTHLY, 0),
        problems=tuple(problems),
        content=content,
        reason=reason,
    )
