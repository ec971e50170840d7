"""Watching an archive for newly published periods: listing compared with manifest.

Never with what was seen last, so that a period whose run failed is seen again. While nothing is
new, a look costs one manifest read (two columns) and one listing of a few canary symbols.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from lakehouse_assets.archive.exchanges.grammar import Folder
from lakehouse_assets.archive.listing import Lister, content_digest, folders_of, selected_symbols
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence, Period, period_range
from lakehouse_assets.sync.manifest import Manifest
from lakehouse_assets.sync.plan import State

WINDOW = 31
"""Open periods that one look considers."""

NEWEST = 3
"""Periods that every look considers (open ones), and of which objects may still come (whole ones)."""

SPLIT = 250
"""Periods apart at which two listings cost fewer requests than one: a page holds 500 with sidecars."""

_LOOK_BACK = {Cadence.DAILY: 31, Cadence.MONTHLY: 3}
"""Periods before the followed ones that may still tell how many objects are usual."""


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


@dataclass(frozen=True, slots=True)
class Followed:
    """The followed periods as the manifest has them, ascending.

    ``open`` are not whole in it, ``recent`` are the newest whole ones, ``objects`` tells how many
    objects each whole period has.
    """

    open: tuple[Period, ...]
    recent: tuple[Period, ...]
    objects: Mapping[str, int]

    def usual(self, period: Period) -> int | None:
        before = [text for text in self.objects if text < str(period)]
        return self.objects[max(before)] if before else None


def newest_period(entry: DatasetEntry, today: date) -> Period:
    """The last period that was over before ``today`` (the exchange's date), or the last one ever published."""
    newest = Period.containing(entry.dataset.cadence, today).shifted(-1)
    last = entry.last_period
    return newest if last is None else min(newest, last)


def followed_periods(entry: DatasetEntry, manifest: Manifest, *, since: date, today: date) -> Followed:
    """Every period from the one that contains ``since`` to the last that is over."""
    cadence = entry.dataset.cadence
    first = max(entry.first_period, Period.containing(cadence, since))
    newest = newest_period(entry, today)
    if newest < first:
        return Followed((), (), {})
    states = manifest.states(str(first.shifted(-_LOOK_BACK[cadence])))
    counted = states.group_by("period").agg(
        pl.col("state").is_in([State.PRESENT.value, State.VANISHED.value]).all().alias("whole"),
        pl.col("objects").filter(pl.col("state") == State.PRESENT).sum(),
    )
    objects = dict(counted.filter("whole").select("period", "objects").iter_rows())
    periods = period_range(first, newest)
    return Followed(
        tuple(period for period in periods if str(period) not in objects),
        tuple(period for period in periods[-NEWEST:] if str(period) in objects),
        objects,
    )


def open_periods(periods: Sequence[Period], *, skip: Collection[str], before: str | None = None) -> list[Period]:
    """The open periods of one look, at most WINDOW, ascending, without ``skip`` (in hand).

    The newest are always among them; of the rest the newest before ``before``, so that a stretch
    that the exchange never published does not hide what is older. After the oldest, from anew.
    """
    wanted = [period for period in periods if str(period) not in skip]
    rest = wanted[:-NEWEST]
    older = [period for period in rest if before is None or str(period) < before] or rest
    return [*older[NEWEST - WINDOW :], *wanted[-NEWEST:]]


def canaries_moved(entry: DatasetEntry, source: Lister, periods: Sequence[Period]) -> bool:
    """Whether any canary has any of the periods. Without a canary in the filter, yes."""
    if not periods:
        return False
    canaries = [
        symbol
        for symbol in entry.dataset.source.canaries.get(entry.dataset.market, ())
        if entry.symbols.selects(symbol)
    ]
    return not canaries or _list(entry, source, periods, canaries).height > 0


def published_periods(
    entry: DatasetEntry, source: Lister, manifest: Manifest, followed: Followed, periods: Sequence[Period]
) -> list[Published]:
    """Those of ``periods`` that the source has, and those of the recent whole ones of which it now
    has more or other objects than the manifest; newest first. Lists every selected symbol."""
    asked = sorted({*periods, *followed.recent})
    if not asked:
        return []
    symbols = source.symbols(entry.dataset, intervals=entry.intervals, first=asked[0], last=asked[-1])
    listed = _list(entry, source, asked, selected_symbols(symbols, entry.symbols.selects))
    moved_on = _differing(listed, manifest, [str(period) for period in followed.recent])
    published = []
    for period in reversed(asked):
        objects = listed.filter(pl.col("period") == str(period))
        if objects.height and (period not in followed.recent or str(period) in moved_on):
            published.append(Published(period, objects.height, content_digest(objects), followed.usual(period)))
    return published


def _differing(listed: pl.DataFrame, manifest: Manifest, periods: Sequence[str]) -> set[str]:
    """Of whole periods those of which the listing has content that the manifest does not know."""
    if not periods:
        return set()
    known = manifest.read(periods).filter(pl.col("state") == State.PRESENT)
    sides = listed.filter(pl.col("period").is_in(list(periods))).join(
        known.select("key", "source_etag", "sidecar_source_etag"), on="key", how="left"
    )
    # A sidecar that the source no longer lists is kept, and no reason to copy anything.
    news = pl.col("etag").ne_missing(pl.col("source_etag")) | (
        pl.col("sidecar_etag").is_not_null() & pl.col("sidecar_etag").ne_missing(pl.col("sidecar_source_etag"))
    )
    return set(sides.filter(news)["period"])


def _list(entry: DatasetEntry, source: Lister, periods: Sequence[Period], symbols: Sequence[str]) -> pl.DataFrame:
    folders: list[Folder] = []
    for first, last in _stretches(periods):
        folders += folders_of(entry.dataset, symbols=symbols, intervals=entry.intervals, first=first, last=last)
    return source.objects(entry.dataset, folders).objects.filter(
        pl.col("period").is_in([str(period) for period in periods])
    )


def _stretches(periods: Sequence[Period]) -> list[tuple[Period, Period]]:
    """First and last of every stretch of ascending periods that one listing covers best."""
    stretches = [(periods[0], periods[0])]
    for period in periods[1:]:
        first, last = stretches[-1]
        if period > last.shifted(SPLIT):
            stretches.append((period, period))
        else:
            stretches[-1] = (first, period)
    return stretches
