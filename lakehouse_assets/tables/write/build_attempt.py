"""One attempt at reading and writing periods: the order of reading, and the outcome of each object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import polars as pl
from deltalake.transaction import AddAction

from lakehouse_assets.archive.exchanges.grammar import Exchange
from lakehouse_assets.archive.period import Cadence, Period, month_expr
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.sync.integrity.verify import Finding
from lakehouse_assets.tables.delta import Commit
from lakehouse_assets.tables.inputs import Inputs
from lakehouse_assets.tables.lineage import LINEAGE_SCHEMA, ObjectUsage
from lakehouse_assets.tables.quality.lifetimes import LIFETIME_SCHEMA
from lakehouse_assets.tables.quality.measure import Measurer
from lakehouse_assets.tables.read.fetch import FetchResult, InputObject, MismatchError, UnreadError
from lakehouse_assets.tables.table import PERIOD


class FoundObject(NamedTuple):
    """A finding, with the cadence and the archive period of its object: they select the manifest's rows."""

    cadence: Cadence
    archive_period: str
    finding: Finding


Findings = dict[str, FoundObject]
"""Findings by key."""


@dataclass(slots=True)
class PeriodCounts:
    """Row counts and times per period, for an archive object that fills several periods."""

    time_column: str
    counts: list[pl.DataFrame] = field(default_factory=list)

    def observe(self, frame: pl.DataFrame) -> None:
        times = pl.col(self.time_column)
        self.counts.append(
            frame.group_by(PERIOD).agg(rows=pl.len().cast(pl.Int64), first_time=times.min(), last_time=times.max())
        )

    def by_period(self) -> dict[str, tuple[int, datetime, datetime]]:
        """Row count, first and last time of each period."""
        if not self.counts:
            return {}
        summed = (
            pl.concat(self.counts)
            .group_by(PERIOD)
            .agg(pl.col("rows").sum(), pl.col("first_time").min(), pl.col("last_time").max())
        )
        return {period: (rows, first, last) for period, rows, first, last in summed.iter_rows()}


@dataclass(slots=True)
class BuildAttempt:
    """The files of an attempt, and the outcome of each object.

    ``bad`` are objects (key, lake ETag) that are not usable, ``unread`` periods whose objects could not be fetched,
    each with the reason. ``tainted``: the files contain rows of such an object. ``findings`` include those of earlier
    attempts.
    """

    measurer: Measurer
    findings: Findings
    actions: list[AddAction] = field(default_factory=list)
    bad: dict[tuple[str, str], str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    tainted: bool = False
    bytes_read: int = 0
    read_keys: set[str] = field(default_factory=set)
    _lineage: list[dict[str, Any]] = field(default_factory=list)
    _filled: list[tuple[str, str, datetime, datetime]] = field(default_factory=list)

    def add_written(self, fetched: FetchResult, periods: Sequence[str], counts: PeriodCounts | None) -> None:
        """Record an object whose rows are in the files. ``counts`` are given if it fills several periods."""
        archive_object = fetched.archive_object
        row = archive_object.row
        self.read_keys.add(archive_object.key)
        self.bytes_read += archive_object.size
        self._add_finding(archive_object, fetched.finding)
        all_rows = (fetched.rows, fetched.first_time, fetched.last_time)
        by_period = {} if counts is None else counts.by_period()
        if counts is not None and fetched.first_time is not None and fetched.last_time is not None:
            self._filled.append((row["symbol"], row["archive_period"], fetched.first_time, fetched.last_time))
        for period in periods:
            rows, first, last = all_rows if counts is None else by_period.get(period, (0, None, None))
            self._lineage.append(
                {
                    "period": period,
                    "symbol": row["symbol"],
                    "interval": row["interval"],
                    "state": ObjectUsage.WRITTEN.value,
                    "cadence": row["cadence"],
                    "key": row["key"],
                    "etag": row["lake_etag"],
                    "sha256": fetched.sha256,
                    "integrity": self._integrity(row),
                    "rows": rows,
                    "first_time": first,
                    "last_time": last,
                    "note": None,
                }
            )

    def add_failure(self, fetched: FetchResult, periods: Sequence[str], error: LakehouseError) -> None:
        """Record an object that could not be used."""
        archive_object = fetched.archive_object
        self.tainted |= fetched.error is None
        if isinstance(error, UnreadError):
            self.unread |= dict.fromkeys(periods, str(error))
            return
        self.bad[archive_object.key, str(archive_object.row["lake_etag"])] = str(error)
        self._add_finding(archive_object, error.finding if isinstance(error, MismatchError) else fetched.finding)

    def quality(self) -> pl.DataFrame:
        """The results of the checks (QUALITY_SCHEMA), including archives without rows."""
        empty = [(row["period"], row["symbol"], row["interval"]) for row in self._lineage if not row["rows"]]
        return self.measurer.results(empty)

    def lifetimes(self, exchange: Exchange) -> pl.DataFrame:
        """The days of the first and last row of archives that fill several periods (LIFETIME_SCHEMA)."""
        rows = [
            (symbol, *(_day_within(exchange.today(moment), archive_period) for moment in times))
            for symbol, archive_period, *times in self._filled
        ]
        return pl.DataFrame(rows, schema=LIFETIME_SCHEMA, orient="row")

    def rows_by_period(self) -> dict[str, int]:
        """The number of written rows of each period."""
        summed: dict[str, int] = {}
        for row in self._lineage:
            summed[row["period"]] = summed.get(row["period"], 0) + row["rows"]
        return summed

    def lineage(
        self, inputs: Inputs, digests: Mapping[str, str], committed: Commit, *, run_id: str | None
    ) -> pl.DataFrame:
        """The lineage (LINEAGE_SCHEMA) of all objects of the inputs, including unusable and missing ones."""
        rows = list(self._lineage)
        unusable = pl.concat([inputs.unusable, inputs.lacking.filter(pl.col("lake_etag").is_null())])
        rows += [
            {
                **{name: row[name] for name in ("period", "symbol", "interval", "cadence", "key")},
                "integrity": self._integrity(row),
                "state": (ObjectUsage.MISSING if row["lake_etag"] is None else ObjectUsage.QUARANTINED).value,
                "etag": row["lake_etag"],
                "sha256": row["sha256"],
                "rows": 0,
                "first_time": None,
                "last_time": None,
                "note": row["reason"],
            }
            for row in unusable.iter_rows(named=True)
        ]
        object_columns = {name: LINEAGE_SCHEMA[name] for name in LINEAGE_SCHEMA if name not in _COMMIT_COLUMNS}
        return pl.DataFrame(rows, schema=object_columns, orient="row").with_columns(
            month=month_expr(pl.col("period")),
            content=pl.col("period").replace_strict(digests, default=None, return_dtype=pl.String),
            run_id=pl.lit(run_id, pl.String),
            written_at=pl.lit(datetime.now(UTC), LINEAGE_SCHEMA["written_at"]),
            committed_at=pl.from_epoch(pl.lit(committed.file_time), "ms").dt.replace_time_zone("UTC"),
            **committed.columns,
        )

    def _add_finding(self, archive_object: InputObject, finding: Finding | None) -> None:
        if finding is not None:
            row = archive_object.row
            found = FoundObject(Cadence(row["cadence"]), str(row["archive_period"]), finding)
            self.findings[archive_object.key] = found

    def _integrity(self, row: Mapping[str, Any]) -> str:
        """The integrity of an object, after this attempt's findings."""
        found = self.findings.get(row["key"])
        return row["integrity"] if found is None else found.finding.integrity


def _day_within(day: date, month: str) -> str:
    """The day, or the nearest day in the month: rows outside the archive's month are no evidence."""
    first = Period.parse(month, Cadence.MONTHLY)
    return str(min(max(day, first.start), first.end - timedelta(days=1)))


_COMMIT_COLUMNS = ("month", "content", "run_id", "written_at", "table_id", "version", "committed_at")


def file_streams(objects: pl.DataFrame, *, small: bool) -> Iterator[pl.DataFrame]:
    """Objects in reading order, a frame per sequence of table files. ``wanted`` are the periods to take from each.

    Small data: all periods together, by symbol. Large data: a frame per day, and one for all monthly objects.
    """
    other_columns = [pl.col(name).first() for name in objects.columns if name not in {"key", "period"}]
    by_key = objects.group_by("key", maintain_order=True).agg(
        *other_columns, pl.col("period").min(), pl.col("period").sort().alias("wanted")
    )
    by_symbol = ["symbol", "archive_period"]
    if small:
        yield by_key.sort(by_symbol)
        return
    daily = by_key.filter(pl.col("archive_period") == pl.col("period"))
    for _, day_objects in daily.sort("period", *by_symbol).group_by("period", maintain_order=True):
        yield day_objects
    filling = by_key.filter(pl.col("archive_period") != pl.col("period"))
    if filling.height:
        yield filling.sort(by_symbol)


def with_periods(
    frame: pl.DataFrame, archive_period: str, wanted: Sequence[str], time_column: str, timezone: str
) -> pl.DataFrame:
    """The rows of an archive object with their period; of a monthly object that fills days, only the wanted days.

    The day of a row is that of its time in the exchange's time zone. A row of the monthly object with a time outside
    the month gets the month's nearest day.
    """
    if list(wanted) == [archive_period]:
        return frame.hstack([pl.Series(PERIOD, [archive_period]).new_from_index(0, frame.height)])
    first = pl.lit(f"{archive_period}-01").str.to_date()
    day = pl.col(time_column).dt.convert_time_zone(timezone).dt.date().clip(first, first.dt.month_end())
    return frame.with_columns(day.dt.to_string("%Y-%m-%d").alias(PERIOD)).filter(pl.col(PERIOD).is_in(list(wanted)))
