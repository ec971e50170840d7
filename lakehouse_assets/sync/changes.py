"""Detects changes in an archive by comparing its listing with the manifest.

It is never compared with an earlier listing, so a period whose run failed is detected again. While nothing is new, only
a few canary symbols are listed. Folders are listed in batches, each over a window of periods; a caller can stop between
two batches, so an archive of any size is checked in steps of a few seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

import polars as pl

from lakehouse_assets.archive.exchanges.layout import Folder
from lakehouse_assets.archive.listing import CONTENT_LINE, Lister, folders_of, selected_symbols
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence, Period, period_range
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.manifest_cache import ManifestSummary
from lakehouse_assets.lake.states import FILE_PREFIXES, ObjectState

NEWEST = 3
"""So many of the newest complete periods may still get more objects."""

LOOK_BACK = 100
WINDOW = 31
"""So many of the open periods among the last LOOK_BACK are checked for publication; the rescan checks older ones."""

WINDOW_PERIODS = 250
"""Periods that one listing covers best: a page has 500 objects with sidecars."""

BATCH_FOLDERS = 256
"""Folders of a batch; callers check their time budget between two batches."""


@dataclass(frozen=True, slots=True)
class TrackedPeriods:
    """The newest of the tracked periods, which are those from ``since`` to ``newest``. Ascending.

    ``open`` are not complete in the manifest, at most WINDOW; ``recent`` are the newest complete ones.
    """

    since: Period
    newest: Period
    open: tuple[Period, ...]
    recent: tuple[Period, ...]


@dataclass(frozen=True, slots=True)
class FolderBatch:
    """Folders in the order of their keys, and the batch's range of keys (``end`` excluded; None: no end).

    The range starts where the previous batch ended, so that manifest rows of a withdrawn folder belong to a batch, too.
    """

    folders: tuple[Folder, ...]
    first: str
    end: str | None


@dataclass(frozen=True, slots=True)
class PeriodContent:
    """The listed content of a period so far.

    ``digest`` depends only on the content, not on the batches it was listed in. ``differs``: the manifest has other
    content, less, or objects that the archive no longer lists.
    """

    objects: int = 0
    digest: int = 0
    differs: bool = False

    def with_more(self, more: PeriodContent) -> PeriodContent:
        return PeriodContent(
            self.objects + more.objects, (self.digest + more.digest) % 2**64, self.differs or more.differs
        )

    @property
    def fingerprint(self) -> str:
        return f"{self.digest:016x}"


def newest_period(entry: DatasetEntry, today: date) -> Period:
    """The last period that ended before ``today`` (the exchange's date), or the last one of an ended archive."""
    newest = Period.containing(entry.dataset.cadence, today).shifted(-1)
    last = entry.last_period
    return newest if last is None else min(newest, last)


def requested_periods(entry: DatasetEntry, first: str, last: str) -> list[Period]:
    """Periods from ``first`` to ``last``. For a daily cadence, a month as ``last`` means its days that have ended.

    Raises InputError for periods before the entry's first one, and for periods that have not ended.
    """
    dataset = entry.dataset
    newest = newest_period(entry, dataset.source.today(datetime.now(UTC)))
    start, end = dataset.period(first), dataset.period(last)
    if dataset.cadence is Cadence.DAILY and len(last) == len("YYYY-MM"):
        month_end = Period.containing(Cadence.MONTHLY, end.start).next().start - timedelta(days=1)
        end = Period(Cadence.DAILY, month_end)
        if start <= newest < end and newest.month == end.month:
            end = newest
    periods = period_range(start, end)
    if start < entry.first_period:
        raise InputError(f"{dataset} begins with {entry.first_period}; {start} is before that.")
    if end > newest:
        why = f"ended with {newest}" if newest == entry.last_period else f"is published up to {newest}"
        raise InputError(f"{dataset} {why}; {end} is after that.")
    return periods


def tracked_periods(entry: DatasetEntry, known: ManifestSummary, *, since: date, today: date) -> TrackedPeriods:
    """The tracked periods: from the one that contains ``since`` to the last that has ended."""
    cadence = entry.dataset.cadence
    first = max(entry.first_period, Period.containing(cadence, since))
    newest = newest_period(entry, today)
    nearest = max(first, newest.shifted(-LOOK_BACK))
    periods = period_range(nearest, newest) if nearest <= newest else []
    return TrackedPeriods(
        since=first,
        newest=newest,
        open=tuple(period for period in periods if str(period) not in known.complete)[-WINDOW:],
        recent=tuple(period for period in periods[-NEWEST:] if str(period) in known.complete),
    )


def rescanned_periods(entry: DatasetEntry, known: ManifestSummary, tracked: TrackedPeriods) -> list[Period]:
    """Every period that a rescan lists, ascending: the tracked ones, and older ones that are complete in the lake."""
    first, newest = tracked.since, tracked.newest
    complete = [entry.dataset.period(text) for text in known.complete]
    older = [period for period in complete if entry.first_period <= period < first and period <= newest]
    return [*older, *(period_range(first, newest) if first <= newest else ())]


def usual_objects(known: ManifestSummary, period: Period) -> int | None:
    """The number of objects of the latest complete period before this one; None without one."""
    earlier = [text for text in known.complete if text < str(period)]
    return known.complete[max(earlier)] if earlier else None


def seen_by_canaries(entry: DatasetEntry, source: Lister, periods: Sequence[Period]) -> set[str] | None:
    """The periods that any canary symbol has; None if the entry selects no canary."""
    symbols = [
        symbol
        for symbol in entry.dataset.source.canaries.get(entry.dataset.market, ())
        if entry.symbols.selects(symbol)
    ]
    return published_of(entry, source, symbols, periods) if symbols else None


def published_of(entry: DatasetEntry, source: Lister, symbols: Sequence[str], periods: Sequence[Period]) -> set[str]:
    """The (ascending) periods that any of the symbols has."""
    return set(_listed(entry, source, folders_holding(entry, symbols, periods), periods)["period"])


def listed_symbols(entry: DatasetEntry, source: Lister, periods: Sequence[Period]) -> tuple[str, ...]:
    """The archive's symbols that the entry selects; at least those of the (ascending) periods."""
    if not periods:
        return ()
    symbols = source.symbols(entry.dataset, intervals=entry.intervals, first=periods[0], last=periods[-1])
    return selected_symbols(symbols, entry.symbols.selects)


def folders_holding(entry: DatasetEntry, symbols: Sequence[str], periods: Sequence[Period]) -> list[Folder]:
    """Folders of the (ascending) periods, each with the window to list."""
    return [
        folder
        for first, last in _listing_windows(periods)
        for folder in folders_of(entry.dataset, symbols=symbols, intervals=entry.intervals, first=first, last=last)
    ]


def folder_batches(folders: Sequence[Folder], *, after: str = "") -> Iterator[FolderBatch]:
    """The folders in batches, at least one; ``after`` is the ``end`` of the last finished batch."""
    ordered = sorted((folder for folder in folders if folder.first >= after), key=lambda folder: folder.first)
    cuts = [*range(0, len(ordered), BATCH_FOLDERS)] or [0]
    for cut in cuts:
        following = ordered[cut + BATCH_FOLDERS : cut + BATCH_FOLDERS + 1]
        yield FolderBatch(
            tuple(ordered[cut : cut + BATCH_FOLDERS]),
            ordered[cut].first if cut else after,
            following[0].first if following else None,
        )


def compare(
    entry: DatasetEntry,
    source: Lister,
    manifest: Manifest,
    batch: FolderBatch,
    periods: Sequence[Period],
    *,
    since: Period | None = None,
) -> dict[str, PeriodContent]:
    """List a batch of folders and compare the periods' objects with the manifest, by period.

    Before ``since``, a new object counts only if the manifest has its series (symbol and interval) in periods of that
    time: a gap that was filled counts, objects of a wider matrix or of a new symbol do not.
    """
    texts = [str(period) for period in periods]
    listed = _listed(entry, source, batch.folders, periods)
    known = manifest.contents(texts, first=batch.first, end=batch.end)
    known = known.filter(
        pl.col("symbol").is_in([symbol for symbol in known["symbol"].unique() if entry.symbols.selects(symbol)]),
        pl.col("interval").is_null() | pl.col("interval").is_in(entry.intervals),
    )
    series = (
        known.filter(pl.col("period") < str(since or ""))
        .select("symbol", "interval", pl.lit(value=True).alias("in_series"))
        .unique()
    )
    rows = (
        listed.select("key", "period", "symbol", "interval", "size", "etag", "sidecar_etag")
        .join(
            known.select("key", "period", "state", "size", "source_etag", "sidecar_source_etag", "missed_at"),
            on="key",
            how="full",
            coalesce=True,
        )
        .with_columns(pl.coalesce("period", "period_right").alias("period"))
        .join(series, on=["symbol", "interval"], how="left", nulls_equal=True)
        .with_columns(_differs(since).alias("differs"))
    )
    differing = set(rows.filter("differs")["period"])
    contents = {
        period: PeriodContent(len(lines), sum(map(_digest, lines)) % 2**64, period in differing)
        for period, lines in _lines(listed)
    }
    return contents | {period: PeriodContent(differs=True) for period in differing - contents.keys()}


def _differs(since: Period | None) -> pl.Expr:
    present, size = pl.col("state") == ObjectState.PRESENT, pl.col("size")
    # A withdrawn sidecar stays in the lake and is no reason to copy anything; nor is an ETag that is not listed.
    rewritten = (size != pl.col("size_right")) | pl.any_horizontal(
        pl.col(f"{prefix}etag").is_not_null() & pl.col(f"{prefix}etag").ne_missing(pl.col(f"{prefix}source_etag"))
        for prefix in FILE_PREFIXES
    )
    is_wanted = (pl.col("period") >= str(since or "")) | pl.col("in_series").fill_null(value=False)
    return (
        pl.when(size.is_null())
        .then(pl.col("state") != ObjectState.WITHDRAWN)
        .when(pl.col("state").is_null())
        .then(is_wanted)
        .otherwise(~present | rewritten | pl.col("missed_at").is_not_null())
    )


def _listed(entry: DatasetEntry, source: Lister, folders: Sequence[Folder], periods: Sequence[Period]) -> pl.DataFrame:
    objects = source.objects(entry.dataset, folders).objects
    return objects.filter(pl.col("period").is_in([str(period) for period in periods]))


def _lines(listed: pl.DataFrame) -> Iterator[tuple[str, list[str]]]:
    """A line per object that changes with its content, by period."""
    content = listed.select("period", CONTENT_LINE.alias("line")).sort("period")
    for period, rows in groupby(content.iter_rows(), key=lambda row: row[0]):
        yield period, [line for _, line in rows]


def _digest(line: str) -> int:
    """Digests are summed over objects, so neither the order of the listing nor its batches matter."""
    return int.from_bytes(hashlib.sha256(line.encode()).digest()[:8])


def _listing_windows(periods: Sequence[Period]) -> list[tuple[Period, Period]]:
    """First and last period of each window of ascending periods that one listing covers best."""
    windows: list[tuple[Period, Period]] = []
    for period in periods:
        if windows and period <= windows[-1][1].shifted(WINDOW_PERIODS):
            windows[-1] = (windows[-1][0], period)
        else:
            windows.append((period, period))
    return windows
