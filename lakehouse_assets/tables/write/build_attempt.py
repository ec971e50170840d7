"""One attempt at reading and writing periods: what is read in which order, and what came of it."""

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
from lakehouse_assets.tables.quality.lifetimes import SPANS
from lakehouse_assets.tables.quality.measure import Measurer
from lakehouse_assets.tables.read.fetch import Fetched, Item, MismatchError, UnreadError
from lakehouse_assets.tables.table import PERIOD


class FoundObject(NamedTuple):
    """A finding, with the cadence and the archive period of its object: they select the manifest's rows."""

    cadence: Cadence
    archive_period: str
    finding: Finding


Findings = dict[str, FoundObject]
"""Findings by key."""


@dataclass(slots=True)
class Counts:
    """Rows and times per period of an archive object that fills several, as its frames pass."""

    time_column: str
    parts: list[pl.DataFrame] = field(default_factory=list)

    def observe(self, frame: pl.DataFrame) -> None:
        times = pl.col(self.time_column)
        self.parts.append(
            frame.group_by(PERIOD).agg(rows=pl.len().cast(pl.Int64), first_time=times.min(), last_time=times.max())
        )

    def by_period(self) -> dict[str, tuple[int, datetime, datetime]]:
        if not self.parts:
            return {}
        summed = (
            pl.concat(self.parts)
            .group_by(PERIOD)
            .agg(pl.col("rows").sum(), pl.col("first_time").min(), pl.col("last_time").max())
        )
        return {period: (rows, first, last) for period, rows, first, last in summed.iter_rows()}


@dataclass(slots=True)
class BuildAttempt:
    """``bad`` are objects (key, lake ETag) that cannot be used, ``unread`` the periods whose objects could not be
    fetched, each with a reason. ``spoiled``: rows of such an object are among the files already. ``findings`` are
    shared with the attempts before."""

    measurer: Measurer
    findings: Findings
    actions: list[AddAction] = field(default_factory=list)
    bad: dict[tuple[str, str], str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    spoiled: bool = False
    bytes_read: int = 0
    read_keys: set[str] = field(default_factory=set)
    _lineage: list[dict[str, Any]] = field(default_factory=list)
    _filled: list[tuple[str, str, datetime, datetime]] = field(default_factory=list)

    def took(self, fetched: Fetched, periods: Sequence[str], counts: Counts | None) -> None:
        """An object's rows are in the files; ``counts`` tell them by period where it fills several."""
        row = fetched.item.row
        self.read_keys.add(fetched.item.key)
        self.bytes_read += fetched.item.size
        self._find(fetched.item, fetched.finding)
        whole = (fetched.rows, fetched.first_time, fetched.last_time)
        by_period = {} if counts is None else counts.by_period()
        if counts is not None and fetched.first_time is not None and fetched.last_time is not None:
            self._filled.append((row["symbol"], row["archive_period"], fetched.first_time, fetched.last_time))
        for period in periods:
            rows, first, last = whole if counts is None else by_period.get(period, (0, None, None))
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

    def note(self, fetched: Fetched, periods: Sequence[str], error: LakehouseError) -> None:
        """An object could not be used."""
        item = fetched.item
        self.spoiled |= fetched.error is None
        if isinstance(error, UnreadError):
            self.unread |= dict.fromkeys(periods, str(error))
            return
        self.bad[item.key, str(item.row["lake_etag"])] = str(error)
        self._find(item, error.finding if isinstance(error, MismatchError) else fetched.finding)

    def quality(self) -> pl.DataFrame:
        """What was measured of the rows, QUALITY_SCHEMA; archives without rows included."""
        empty = [(row["period"], row["symbol"], row["interval"]) for row in self._lineage if not row["rows"]]
        return self.measurer.results(empty)

    def seen(self, exchange: Exchange) -> pl.DataFrame:
        """Of archives that fill several periods: SPANS, the days from their first to their last row."""
        rows = [
            (symbol, *(_within(exchange.today(moment), archive_period) for moment in times))
            for symbol, archive_period, *times in self._filled
        ]
        return pl.DataFrame(rows, schema=SPANS, orient="row")

    def rows_by_period(self) -> dict[str, int]:
        summed: dict[str, int] = {}
        for row in self._lineage:
            summed[row["period"]] = summed.get(row["period"], 0) + row["rows"]
        return summed

    def lineage(
        self, inputs: Inputs, digests: Mapping[str, str], committed: Commit, *, run_id: str | None
    ) -> pl.DataFrame:
        """Rows of LINEAGE_SCHEMA about all objects of the inputs, unusable and missing ones included."""
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
        given = {name: LINEAGE_SCHEMA[name] for name in LINEAGE_SCHEMA if name not in _OF_THE_WRITE}
        return pl.DataFrame(rows, schema=given, orient="row").with_columns(
            month=month_expr(pl.col("period")),
            content=pl.col("period").replace_strict(digests, default=None, return_dtype=pl.String),
            run_id=pl.lit(run_id, pl.String),
            written_at=pl.lit(datetime.now(UTC), LINEAGE_SCHEMA["written_at"]),
            committed_at=pl.from_epoch(pl.lit(committed.file_time), "ms").dt.replace_time_zone("UTC"),
            **committed.columns,
        )

    def _find(self, item: Item, finding: Finding | None) -> None:
        if finding is not None:
            self.findings[item.key] = FoundObject(
                Cadence(item.row["cadence"]), str(item.row["archive_period"]), finding
            )

    def _integrity(self, row: Mapping[str, Any]) -> str:
        """As it is known after this attempt."""
        found = self.findings.get(row["key"])
        return row["integrity"] if found is None else found.finding.integrity


def _within(day: date, month: str) -> str:
    """A day, or the nearest one in the month: what is not of the archive's month says nothing."""
    first = Period.parse(month, Cadence.MONTHLY)
    return str(min(max(day, first.start), first.end - timedelta(days=1)))


_OF_THE_WRITE = ("month", "content", "run_id", "written_at", "table_id", "version", "committed_at")


def streams(objects: pl.DataFrame, *, small: bool) -> Iterator[pl.DataFrame]:
    """Objects in the order in which they are read, a frame per run of files; adds ``wanted``, the periods to take.

    Small data: by symbol, all periods together. Large data: a run per day, and one for all monthly objects.
    """
    first_of = [pl.col(name).first() for name in objects.columns if name not in {"key", "period"}]
    items = objects.group_by("key", maintain_order=True).agg(
        *first_of, pl.col("period").min(), pl.col("period").sort().alias("wanted")
    )
    by_symbol = ["symbol", "archive_period"]
    if small:
        yield items.sort(by_symbol)
        return
    daily = items.filter(pl.col("archive_period") == pl.col("period"))
    for _, of_period in daily.sort("period", *by_symbol).group_by("period", maintain_order=True):
        yield of_period
    filling = items.filter(pl.col("archive_period") != pl.col("period"))
    if filling.height:
        yield filling.sort(by_symbol)


def placed(
    frame: pl.DataFrame, archive_period: str, wanted: Sequence[str], time_column: str, timezone: str
) -> pl.DataFrame:
    """Rows of an archive object with their period; of a monthly one that fills days, the wanted days only.

    The day of a row is its time's in the exchange's zone; a time outside the month counts to the month's nearest
    day, as the row is the month's whatever it says.
    """
    if list(wanted) == [archive_period]:
        return frame.hstack([pl.Series(PERIOD, [archive_period]).new_from_index(0, frame.height)])
    first = pl.lit(f"{archive_period}-01").str.to_date()
    day = pl.col(time_column).dt.convert_time_zone(timezone).dt.date().clip(first, first.dt.month_end())
    return frame.with_columns(day.dt.to_string("%Y-%m-%d").alias(PERIOD)).filter(pl.col(PERIOD).is_in(list(wanted)))
