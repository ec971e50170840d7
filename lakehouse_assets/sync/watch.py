"""Watching an archive for newly published periods: listing compared with manifest.

Never with what was seen last, so that a period whose run failed is seen again. A few canary
symbols tell whether anything new is there before everything is listed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from lakehouse_assets.archive.listing import Lister, folders_of, selected_symbols
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Period, period_range
from lakehouse_assets.sync.manifest import Manifest
from lakehouse_assets.sync.plan import State

WINDOW = 31
"""Open periods that one look considers, newest first; older ones follow as these are done."""

_DONE = (State.PRESENT.value, State.VANISHED.value)


@dataclass(frozen=True, slots=True)
class Published:
    """A period that the source has and the lake has not, or not whole.

    ``fingerprint`` changes when the source's listing of the period does. ``usual`` is the number
    of objects of the latest whole period before it, None when there is none.
    """

    period: Period
    objects: int
    fingerprint: str
    usual: int | None

    @property
    def looks_whole(self) -> bool:
        """At least 95 % of what the period before had."""
        return self.usual is not None and self.objects >= 0.95 * self.usual


def newest_period(entry: DatasetEntry, today: date) -> Period:
    """The last period that was over before ``today`` (a UTC date), or the last one ever published."""
    newest = Period.containing(entry.dataset.cadence, today).shifted(-1)
    last = entry.last_period
    return newest if last is None else min(newest, last)


def open_periods(entry: DatasetEntry, known: pl.DataFrame, *, since: date, today: date) -> list[Period]:
    """Periods from ``since`` on that the manifest does not hold whole; the newest WINDOW, ascending."""
    first = max(entry.first_period, Period.containing(entry.dataset.cadence, since))
    newest = newest_period(entry, today)
    if newest < first:
        return []
    done = set(_whole(known)["period"])
    return [period for period in period_range(first, newest) if str(period) not in done][-WINDOW:]


def published_periods(
    entry: DatasetEntry, source: Lister, manifest: Manifest, *, since: date, today: date, skip: Sequence[str] = ()
) -> list[Published]:
    """Open periods that the source has published, oldest first; ``skip`` names periods in hand.

    Costs one manifest read and one request per canary while nothing is new.
    """
    known = manifest.read(())
    periods = [p for p in open_periods(entry, known, since=since, today=today) if str(p) not in skip]
    if not periods or not _canaries_moved(entry, source, periods):
        return []
    listed = _list(entry, source, periods, selected_symbols(source.symbols(entry.dataset), entry.symbols.selects))
    usual = _whole(known)
    published = []
    for period in periods:
        objects = listed.filter(pl.col("period") == str(period))
        if objects.height:
            before = usual.filter(pl.col("period") < str(period)).sort("period").tail(1)["objects"].to_list()
            published.append(Published(period, objects.height, fingerprint(objects), before[0] if before else None))
    return published


def fingerprint(objects: pl.DataFrame) -> str:
    """A short digest of what a listing says of a period: keys and contents, sidecars included."""
    lines = objects.select(
        pl.concat_str("key", "size", "etag", pl.col("sidecar_etag").fill_null(""), separator="\t").alias("line")
    )["line"].sort()
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _whole(known: pl.DataFrame) -> pl.DataFrame:
    """Periods of which the manifest holds every object: ``period`` and ``objects``."""
    return (
        known.group_by("period")
        .agg(
            pl.col("state").is_in(_DONE).all().alias("whole"),
            (pl.col("state") == State.PRESENT).sum().alias("objects"),
        )
        .filter("whole")
    )


def _canaries_moved(entry: DatasetEntry, source: Lister, periods: Sequence[Period]) -> bool:
    """Whether any canary has any of the periods. Without a canary in the filter, yes."""
    canaries = [
        symbol
        for symbol in entry.dataset.source.canaries.get(entry.dataset.market, ())
        if entry.symbols.selects(symbol)
    ]
    return not canaries or _list(entry, source, periods, canaries).height > 0


def _list(entry: DatasetEntry, source: Lister, periods: Sequence[Period], symbols: Sequence[str]) -> pl.DataFrame:
    folders = folders_of(entry.dataset, symbols=symbols, intervals=entry.intervals, first=periods[0], last=periods[-1])
    return source.objects(entry.dataset, folders).objects.filter(
        pl.col("period").is_in([str(period) for period in periods])
    )
