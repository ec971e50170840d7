"""Building a table: periods of archive objects become files of the table, in one commit each.

Periods are replaced as a whole and only where their content changed. Periods of one month that share
files (small data, or a monthly archive that fills many days) go into one commit, others into one each.
A bad archive is quarantined and the rest written; an archive that cannot be fetched fails its periods and
no others. Whoever loses the race to commit looks at everything again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.matrix import OnBadFile
from lakehouse_assets.archive.period import Cadence, Period, period_range
from lakehouse_assets.archive.store_errors import fault_of
from lakehouse_assets.errors import StoreError
from lakehouse_assets.observability.metrics import TABLE_SECONDS, timed
from lakehouse_assets.observability.tracing import span
from lakehouse_assets.sync.commit import commit_attempts
from lakehouse_assets.sync.integrity import Integrity
from lakehouse_assets.sync.lake import Lake
from lakehouse_assets.sync.manifest import Manifest
from lakehouse_assets.sync.verify import FOUND_SCHEMA, Verifier
from lakehouse_assets.tables.attempt import Attempt, Counts, Findings, placed, streams
from lakehouse_assets.tables.delta import RETENTION_DAYS, commit, files_of, open_or_create, open_table
from lakehouse_assets.tables.fetch import Fetcher, Item, UnreadError
from lakehouse_assets.tables.files import FileWriter
from lakehouse_assets.tables.inputs import Bad, Inputs, inputs_of
from lakehouse_assets.tables.lineage import Use, lineage_of, outdated_periods
from lakehouse_assets.tables.measure import Measurer, quality_of, quality_records
from lakehouse_assets.tables.neighbours import Surroundings
from lakehouse_assets.tables.quality import QUALITY_SCHEMA
from lakehouse_assets.tables.reading import BadArchiveError
from lakehouse_assets.tables.report import BuildReport, BuildState, PeriodBuild, Trouble
from lakehouse_assets.tables.schemas.model import SizeClass
from lakehouse_assets.tables.snapshot import snapshot_id
from lakehouse_assets.tables.table import MONTH, PERIOD, TableEntry

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
        self._lineage = lineage_of(lake, entry.table)
        self._quality = quality_of(lake, entry.table)

    def build(self, periods: Sequence[str], *, again: bool = False, run_id: str | None = None) -> BuildReport:
        """Bring ``periods`` of the table to what the manifests say; ``again``: also where nothing changed.

        Raises StoreError when the lake cannot be read or written at all.
        """
        started = time.monotonic()
        done: list[PeriodBuild] = []
        read = written = 0
        measured = [QUALITY_SCHEMA.to_frame()]
        wanted = sorted(set(periods))
        around = Surroundings(self._lake, self._table, self._datasets, wanted)
        for month, texts in groupby(wanted, key=lambda period: period[:7]):
            for group in self._groups(month, list(texts)):
                with (
                    span("write_table", table=self._table.name, first_period=group[0], last_period=group[-1]),
                    timed(TABLE_SECONDS, **self._table.attributes),
                ):
                    result = self._build_group(month, group, around, again=again, run_id=run_id)
                done += result.periods
                read, written = read + result.bytes_read, written + result.bytes_written
                measured.append(result.quality)
        quality = around.judged_anew(pl.concat(measured), run_id=run_id)
        found = open_table(self._lake, self._table.place)
        return BuildReport(
            table=self._table.name,
            periods=tuple(done),
            snapshot=None if found is None else snapshot_id(self._table, found),
            table_rows=0 if found is None else int(files_of(found)["num_records"].sum()),
            seconds=time.monotonic() - started,
            bytes_read=read,
            bytes_written=written,
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
            place = self._lake.url(self._table.place)
            raise StoreError(f"Writing {month} of the table {place} failed: {fault_of(error)}.") from error

    def _build_once(
        self, month: str, periods: list[str], around: Surroundings, again: bool, run_id: str | None
    ) -> _Result:
        # Opened before anything is read, so that whatever is committed meanwhile is a conflict.
        table = open_or_create(self._lake, self._table, retention_days=self._retention_days)
        before = self._lineage.read(periods)
        work = self._settle(month, periods, before, again=again)
        attempt, todo = work.attempt, work.todo
        if todo:
            self._commit(table, month, todo, attempt, run_id)
        self._record_findings(attempt, run_id)
        quality = QUALITY_SCHEMA.to_frame()
        if todo:
            quality = around.judged(attempt.quality(), month, attempt.seen(around.exchange))
            self._quality.replace(todo, quality_records(quality, run_id), run_id=run_id)
            lineage = attempt.lineage(work.inputs.of(todo), work.digests, run_id=run_id)
            # Last, since it says that the period is done.
            self._lineage.replace(todo, lineage, run_id=run_id)
        stays = before.filter(~pl.col(PERIOD).is_in(todo)).group_by(PERIOD).agg(pl.col("rows").sum())
        rows = dict(stays.iter_rows()) | attempt.rows_by_period()
        return _Result(
            periods=[
                _period_build(
                    period,
                    work.inputs.of([period]),
                    work.state(period),
                    rows=rows.get(period, 0),
                    content=work.digests.get(period),
                    reason=work.unread.get(period),
                )
                for period in periods
            ],
            quality=quality,
            bytes_read=attempt.bytes_read,
            bytes_written=sum(action.size for action in attempt.actions) if todo else 0,
        )

    def _settle(self, month: str, periods: list[str], before: pl.DataFrame, *, again: bool) -> _Work:
        """Read and write what changed, until all that was found bad or unread on the way is taken into account."""
        manifests = self._manifests(month, periods)
        known = {} if again else dict(before.select(PERIOD, "content").unique().iter_rows())
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
                return _Work(inputs, digests, todo, blocked, unread, Attempt(Measurer(self._table.schema), findings))
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

    def _read_and_write(self, month: str, inputs: Inputs, findings: Findings) -> Attempt:
        """Write files of all inputs; nothing is committed. What they are found to be is added to ``findings``."""
        attempt = Attempt(Measurer(self._table.schema), findings)
        for (interval,), objects in inputs.used.sort("interval").group_by("interval", maintain_order=True):
            small = self._table.schema.size_class_of(interval) is SizeClass.SMALL
            for stream in streams(objects, small=small):
                frames = self._frames(stream, attempt)
                frames = attempt.measurer.watch(frames)
                frames = self._by_symbol(frames) if small else (frame for _symbol, frame in frames)
                attempt.actions += self._files.write(frames, interval=interval, month=month)
        return attempt

    def _frames(self, objects: pl.DataFrame, attempt: Attempt) -> Iterator[tuple[str, pl.DataFrame]]:
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

    # Committing

    def _commit(self, table: DeltaTable, month: str, periods: list[str], attempt: Attempt, run_id: str | None) -> None:
        files = files_of(table, month=month)
        touched = [
            any(first <= period <= last for period in periods)
            for first, last in files.select("first_period", "last_period").iter_rows()
        ]
        replaced = files.filter(pl.Series(touched, dtype=pl.Boolean))
        for row in replaced.iter_rows(named=True):
            if not self._holds_only(row, periods):
                attempt.actions += self._without(row, periods)
        commit(
            table,
            self._table,
            month=month,
            add=attempt.actions,
            remove=replaced,
            metadata={"run_id": run_id or "", "periods": periods},
        )

    def _holds_only(self, file: dict[str, str], periods: list[str]) -> bool:
        first, last = (Period.parse(file[name], self._table.cadence) for name in ("first_period", "last_period"))
        return {str(period) for period in period_range(first, last)} <= set(periods)

    def _without(self, file: dict[str, str], periods: list[str]) -> list[AddAction]:
        """A file that also holds other periods is written again, with those alone."""
        rows = (
            pl.scan_parquet(
                self._lake.url(f"{self._table.place}/{file['path']}"),
                storage_options=self._lake.delta_options,
                hive_partitioning=False,
            )
            .filter(~pl.col(PERIOD).is_in(periods))
            .collect()
        )
        missing = [
            pl.lit(file.get(name) if name == "interval" else None, dtype).alias(name)
            for name, dtype in self._table.schema.polars.items()
            if name not in rows.columns
        ]
        return self._files.write([rows.with_columns(missing)], interval=file["interval"], month=file[MONTH])

    def _record_findings(self, attempt: Attempt, run_id: str | None) -> None:
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
    attempt: Attempt

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
    """What a group of periods came to."""

    periods: list[PeriodBuild]
    quality: pl.DataFrame
    bytes_read: int
    bytes_written: int


def _bad_of(lineage: pl.DataFrame) -> Bad:
    """Objects that were found unreadable; one that is not as published is judged by its manifest alone."""
    rows = lineage.filter(
        (pl.col("state") == Use.QUARANTINED) & pl.col("integrity").ne_missing(Integrity.MISMATCH.value)
    )
    return {(key, etag): note for key, etag, note in rows.select("key", "etag", "note").iter_rows()}


def _period_build(
    period: str, inputs: Inputs, state: BuildState, *, rows: int, content: str | None, reason: str | None
) -> PeriodBuild:
    lacking = set(inputs.lacking["key"])
    troubles = [
        Trouble(
            key=row["key"],
            symbol=row["symbol"],
            interval=row["interval"],
            use=(Use.MISSING if row["lake_etag"] is None else Use.QUARANTINED).value,
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
