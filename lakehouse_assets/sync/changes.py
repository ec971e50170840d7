"""Watching an archive: its listing compared with the manifest, never with what was seen last.

So a period whose run failed is seen again. While nothing is new, a look costs one listing of a
few canary symbols. Whatever is listed is listed folder by folder over a range of periods, in parts
that a caller can stop between: an archive of any size is watched in steps of a few seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

import polars as pl

from lakehouse_assets.archive.exchanges.grammar import Folder
from lakehouse_assets.archive.listing import CONTENT_LINE, Lister, folders_of, selected_symbols
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence, Period, period_range
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.manifest_cache import ManifestSummary
from lakehouse_assets.lake.states import ObjectState

NEWEST = 3
"""Whole periods of which objects may still come."""

LOOK_BACK = 100
WINDOW = 31
"""Of the last LOOK_BACK periods, this many open ones may be published any time; older ones are the rescan's."""

STRETCH = 250
"""Periods that one listing covers best: with sidecars, a page holds 500."""

PART_FOLDERS = 256
"""Folders listed between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class TrackedPeriods:
    """The newest of the periods that are followed, from ``since`` to ``newest``, ascending.

    ``open`` are not whole in the manifest, at most WINDOW; ``recent`` are the newest whole ones.
    """

    since: Period
    newest: Period
    open: tuple[Period, ...]
    recent: tuple[Period, ...]


@dataclass(frozen=True, slots=True)
class FolderBatch:
    """Folders in the order of their keys, and the range of keys that is theirs (``end`` excluded, None: no end).

    The range begins where the part before ended, so that what the manifest knows of a folder that is
    gone falls into a part, too.
    """

    folders: tuple[Folder, ...]
    first: str
    end: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of a period so far. ``digest`` is the same for the same content, in whatever parts
    it was listed; ``differs``: the manifest knows other content, or less, or what the archive has no longer."""

    objects: int = 0
    digest: int = 0
    differs: bool = False

    def with_more(self, more: Found) -> Found:
        return Found(self.objects + more.objects, (self.digest + more.digest) % 2**64, self.differs or more.differs)

    @property
    def fingerprint(self) -> str:
        return f"{self.digest:016x}"


def newest_period(entry: DatasetEntry, today: date) -> Period:
    """The last period that was over before ``today`` (the exchange's date), or the last one ever published."""
    newest = Period.containing(entry.dataset.cadence, today).shifted(-1)
    last = entry.last_period
    return newest if last is None else min(newest, last)


def asked_periods(entry: DatasetEntry, first: str, last: str) -> list[Period]:
    """Periods from ``first`` to ``last``; a month given for days means its days that are over.

    Raises InputError for periods before the entry's first one, and for ones that are not over.
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


def followed_periods(entry: DatasetEntry, known: ManifestSummary, *, since: date, today: date) -> TrackedPeriods:
    """The periods from the one that contains ``since`` to the last that is over."""
    cadence = entry.dataset.cadence
    first = max(entry.first_period, Period.containing(cadence, since))
    newest = newest_period(entry, today)
    nearest = max(first, newest.shifted(-LOOK_BACK))
    periods = period_range(nearest, newest) if nearest <= newest else []
    return TrackedPeriods(
        since=first,
        newest=newest,
        open=tuple(period for period in periods if str(period) not in known.whole)[-WINDOW:],
        recent=tuple(period for period in periods[-NEWEST:] if str(period) in known.whole),
    )


def rescanned_periods(entry: DatasetEntry, known: ManifestSummary, followed: TrackedPeriods) -> list[Period]:
    """Every period that a rescan looks at, ascending: the followed ones, and what was once brought in whole."""
    first, newest = followed.since, followed.newest
    whole = [entry.dataset.period(text) for text in known.whole]
    older = [period for period in whole if entry.first_period <= period < first and period <= newest]
    return [*older, *(period_range(first, newest) if first <= newest else ())]


def usual_objects(known: ManifestSummary, period: Period) -> int | None:
    """The number of objects of the latest whole period before, None when there is none."""
    before = [text for text in known.whole if text < str(period)]
    return known.whole[max(before)] if before else None


def seen_by_canaries(entry: DatasetEntry, source: Lister, periods: Sequence[Period]) -> set[str] | None:
    """Those of the periods that any canary has; None when the entry selects no canary."""
    symbols = [
        symbol
        for symbol in entry.dataset.source.canaries.get(entry.dataset.market, ())
        if entry.symbols.selects(symbol)
    ]
    return published_of(entry, source, symbols, periods) if symbols else None


def published_of(entry: DatasetEntry, source: Lister, symbols: Sequence[str], periods: Sequence[Period]) -> set[str]:
    """Those of the (ascending) periods that any of the symbols has."""
    return set(_listed(entry, source, folders_holding(entry, symbols, periods), periods)["period"])


def listed_symbols(entry: DatasetEntry, source: Lister, periods: Sequence[Period]) -> tuple[str, ...]:
    """The symbols of the archive that the entry selects; at least those of the (ascending) periods."""
    if not periods:
        return ()
    listed = source.symbols(entry.dataset, intervals=entry.intervals, first=periods[0], last=periods[-1])
    return selected_symbols(listed, entry.symbols.selects)


def folders_holding(entry: DatasetEntry, symbols: Sequence[str], periods: Sequence[Period]) -> list[Folder]:
    """Folders that hold any of the (ascending) periods; near ones are covered by one range."""
    return [
        folder
        for first, last in _stretches(periods)
        for folder in folders_of(entry.dataset, symbols=symbols, intervals=entry.intervals, first=first, last=last)
    ]


def parts_of(folders: Sequence[Folder], *, after: str = "") -> Iterator[FolderBatch]:
    """The folders in parts; ``after`` is the ``end`` of the last part that is done. There is always a part."""
    ordered = sorted((folder for folder in folders if folder.first >= after), key=lambda folder: folder.first)
    cuts = [*range(0, len(ordered), PART_FOLDERS)] or [0]
    for cut in cuts:
        following = ordered[cut + PART_FOLDERS : cut + PART_FOLDERS + 1]
        yield FolderBatch(
            tuple(ordered[cut : cut + PART_FOLDERS]),
            ordered[cut].first if cut else after,
            following[0].first if following else None,
        )


def compare(
    entry: DatasetEntry,
    source: Lister,
    manifest: Manifest,
    part: FolderBatch,
    periods: Sequence[Period],
    *,
    since: Period | None = None,
) -> dict[str, Found]:
    """What a part of the archive has of the periods, beside what the manifest knows of it.

    Before ``since`` a new object counts only where its series (symbol and interval) is known of those
    periods: a hole that was filled, but not what a wider matrix or a new symbol would bring.
    """
    texts = [str(period) for period in periods]
    listed = _listed(entry, source, part.folders, periods)
    known = manifest.contents(texts, first=part.first, end=part.end)
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
    found = {
        period: Found(len(lines), sum(map(_digest, lines)) % 2**64, period in differing)
        for period, lines in _lines(listed)
    }
    return found | {period: Found(differs=True) for period in differing - found.keys()}


def _differs(since: Period | None) -> pl.Expr:
    present, size = pl.col("state") == ObjectState.PRESENT, pl.col("size")
    # A sidecar that the source no longer lists is kept, and no reason to copy anything; nor is an untold ETag.
    rewritten = (size != pl.col("size_right")) | pl.any_horizontal(
        pl.col(f"{each}etag").is_not_null() & pl.col(f"{each}etag").ne_missing(pl.col(f"{each}source_etag"))
        for each in ("", "sidecar_")
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
    """One text per object that changes with its content, by period."""
    content = listed.select("period", CONTENT_LINE.alias("line")).sort("period")
    for period, rows in groupby(content.iter_rows(), key=lambda row: row[0]):
        yield period, [line for _, line in rows]


def _digest(line: str) -> int:
    """Summed up over objects: the order they are listed in does not matter, nor the parts."""
    return int.from_bytes(hashlib.sha256(line.encode()).digest()[:8])


def _stretches(periods: Sequence[Period]) -> list[tuple[Period, Period]]:
    """First and last of every stretch of ascending periods that one listing covers best."""
    stretches: list[tuple[Period, Period]] = []
    for period in periods:
        if stretches and period <= stretches[-1][1].shifted(STRETCH):
            stretches[-1] = (stretches[-1][0], period)
        else:
            stretches.append((period, period))
    return stretches
