"""Samples the units of a shallow walk: every symbol by name, and some symbols by their first and last keys.

Reading both ends of every symbol's folder would take as many requests as listing everything, since most folders are a
page or two. So an evenly spaced sample represents the rest, and symbols outside the sample stay unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import polars as pl

from lakehouse_assets.archive.catalog.spans import SPAN_SCHEMA
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges.layout import SymbolLocation, compiled
from lakehouse_assets.archive.key_pages import KeyPages
from lakehouse_assets.archive.listing import Lister, read_keys
from lakehouse_assets.archive.period import Cadence, Period

SAMPLES = 8
"""Sampled symbols of a dataset, besides the exchange's canaries."""

RECENT = {Cadence.DAILY: 14, Cadence.MONTHLY: 4}
"""Periods before today at which the search for a folder's last key begins."""

_DAYS = {Cadence.DAILY: 1, Cadence.MONTHLY: 31}


class Sampler:
    """Samples units; ``today`` is the exchange's date."""

    def __init__(self, pages: KeyPages, lister: Lister, today: date) -> None:
        self._pages = pages
        self._lister = lister
        self._today = today

    def spans(self, units: Mapping[Dataset, Sequence[str]], *, concurrency: int) -> pl.DataFrame:
        """Rows of SPAN_SCHEMA without ``exchange``: one per sampled symbol and interval, else one per symbol."""
        with ThreadPoolExecutor(concurrency, thread_name_prefix="sample") as pool:
            named = dict(zip(units, pool.map(self._symbols, units.keys(), units.values()), strict=True))
            samples = [
                (dataset, symbol)
                for dataset, symbols in named.items()
                if "{month}" not in dataset.layout.template
                for symbol in _sample(dataset, symbols)
            ]
            sampled = dict(zip(samples, pool.map(self._sampled_rows, samples), strict=True))
        rows = [
            {
                "market": dataset.market,
                "data_type": dataset.data_type,
                "cadence": dataset.cadence.value,
                "symbol": symbol,
                "span": 1,
                "exact": False,
                **ends,
            }
            for dataset, symbols in named.items()
            for symbol in symbols
            for ends in sampled.get((dataset, symbol)) or ({},)
        ]
        schema = {name: kind for name, kind in SPAN_SCHEMA.items() if name != "exchange"}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def _symbols(self, dataset: Dataset, prefixes: Sequence[str]) -> list[str]:
        layout = dataset.layout
        if layout.symbol_location is SymbolLocation.FOLDERS:
            names = sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in prefixes)
            return [name for name in names if compiled(layout.symbol).fullmatch(name)]
        if "{month}" not in layout.template:
            return list(self._lister.symbols(dataset))
        roots = [layout.month_root(interval) for interval in dataset.publication.intervals or (None,)]
        names = sorted(prefix.removeprefix(root).rstrip("/") for prefix in prefixes for root in roots)
        months = [name for name in names if re.fullmatch("[12][0-9]{3}(?:0[1-9]|1[0-2])", name)]
        if not months:
            return []
        newest = Period.parse(f"{months[-1][:4]}-{months[-1][4:]}", dataset.cadence)
        last = newest if dataset.cadence is Cadence.MONTHLY else newest.shifted(27)
        return list(self._lister.symbols(dataset, first=newest, last=last))

    def _sampled_rows(self, sample: tuple[Dataset, str]) -> list[dict[str, object]]:
        dataset, symbol = sample
        rows = [self._ends(dataset, symbol, interval) for interval in self._intervals(dataset, symbol)]
        return [row for row in rows if row]

    def _intervals(self, dataset: Dataset, symbol: str) -> Sequence[str | None]:
        template = dataset.layout.template
        if not dataset.publication.intervals:
            return (None,)
        if "/{interval}/" not in template:
            return dataset.publication.intervals
        prefix = template[: template.index("{interval}")].format(symbol=symbol)
        names = {folder[len(prefix) : -1] for page in self._pages.folder(prefix) for folder in page.folders}
        return [name for name in dataset.publication.intervals if name in names]

    def _ends(self, dataset: Dataset, symbol: str, interval: str | None) -> dict[str, object] | None:
        """First and last period of a folder, from its first page and a page near its end."""
        ends = _Ends(self._pages, dataset, symbol, interval)
        head = ends.page("")
        if not head.objects:
            return None
        tail = head if head.is_complete else ends.tail(head, self._today)
        days = (tail.last - head.first).days + 1
        days_on_page = max(1, (head.last - head.first).days + 1)
        objects = head.objects if head.is_complete else round(head.objects * days / days_on_page)
        return {
            "interval": interval,
            "first": head.first,
            "last": tail.last,
            "objects": objects,
            "bytes": round(head.bytes / head.objects * objects),
            "sidecars": round(head.sidecars / head.objects * objects),
            "sidecar_bytes": round(head.sidecar_bytes / head.objects * objects),
            "last_modified": tail.last_modified,
            "exact": head.is_complete,
        }


@dataclass(frozen=True, slots=True)
class _Page:
    """The dataset's keys on one page of a folder; ``first`` and ``last`` are days of objects. ``is_complete``: there is
    no further page."""

    objects: int
    bytes: int
    sidecars: int
    sidecar_bytes: int
    first: date
    last: date
    last_modified: Any
    is_complete: bool


class _Ends:
    """One folder: its pages, and the search for its last period."""

    def __init__(self, pages: KeyPages, dataset: Dataset, symbol: str, interval: str | None) -> None:
        self._pages = pages
        self._dataset = dataset
        first = Period.containing(dataset.cadence, dataset.publication.first)
        folder = dataset.layout.folder_of(symbol=symbol, interval=interval, first=first, last=first)
        self._prefix = folder.prefix
        self._stem = folder.first.removesuffix(dataset.layout.period_text(first))

    def page(self, text: str) -> _Page:
        """The page of the folder's keys after its stem and ``text``."""
        keys, is_complete = self._pages.first(self._prefix, self._stem + text)
        rows = read_keys(self._dataset, keys).filter("fits")
        objects, sidecars = rows.filter(~pl.col("is_sidecar")), rows.filter("is_sidecar")
        first, last = _range(objects["date"])
        if self._dataset.cadence is Cadence.MONTHLY and objects.height:
            last = Period(Cadence.MONTHLY, last).end - timedelta(days=1)
        return _Page(
            objects=objects.height,
            bytes=int(objects["size"].sum()),
            sidecars=sidecars.height,
            sidecar_bytes=int(sidecars["size"].sum()),
            first=first,
            last=last,
            last_modified=objects["last_modified"].max(),
            is_complete=is_complete,
        )

    def tail(self, head: _Page, today: date) -> _Page:
        """The page with the folder's last period: the page of recent keys, or one found by bisection before it."""
        cadence = self._dataset.cadence
        high = Period.containing(cadence, today).shifted(-RECENT[cadence])
        recent = self._after(high)
        if recent.objects:
            return recent
        last_page, low = head, Period.containing(cadence, head.last)
        while low.next() < high:
            middle = low.shifted((high.start - low.start).days // _DAYS[cadence] // 2 or 1)
            page = self._after(middle)
            if page.objects:
                last_page, low = page, Period.containing(cadence, page.last)
            else:
                high = middle
        return last_page

    def _after(self, period: Period) -> _Page:
        return self.page(self._dataset.layout.period_text(period))


def _range(days: pl.Series) -> tuple[date, date]:
    first, last = days.min(), days.max()
    return (first, last) if isinstance(first, date) and isinstance(last, date) else (date.min, date.min)


def _sample(dataset: Dataset, symbols: Sequence[str]) -> list[str]:
    """Evenly spaced symbols, and the canaries among the symbols."""
    step = max(1, len(symbols) / SAMPLES)
    spaced = [symbols[int(position * step)] for position in range(min(SAMPLES, len(symbols)))]
    canaries = [symbol for symbol in dataset.source.canaries.get(dataset.market, ()) if symbol in symbols]
    return list(dict.fromkeys((*spaced, *canaries)))
