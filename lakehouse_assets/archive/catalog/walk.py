"""Discovery: walking an exchange's bucket into a catalog, whatever its layout.

Folders are found by delimiter listings from the bucket's root, so that what no module knows is
named, too. At the depth where a layout's symbols (or months) are folders, each is a *unit*: an exact
walk lists it whole, page by page, and keeps only spans and counters, never keys; a shallow one takes
the unit's name and looks into a sample. Requests at a time are bounded; the walk raises at the first
listing that fails, since a part of a catalog would look like a part of the archive gone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeAlias

import polars as pl

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.catalog.catalog import (
    NO_DATASET,
    UNRECOGNIZED_SCHEMA,
    Catalog,
    Depth,
)
from lakehouse_assets.archive.catalog.sampling import Sampler
from lakehouse_assets.archive.catalog.spans import SPAN_SCHEMA, merged_spans
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.exchanges.grammar import Exchange, Layout, SymbolPlace, UnrecognizedKey
from lakehouse_assets.archive.key_pages import KeyPages
from lakehouse_assets.archive.listing import Lister, read_keys
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.errors import InputError

CONCURRENCY = 32

_UNITE_ABOVE = 200_000
_UNRECOGNIZED_READ = 200
_REASONS = 500
_PEEKS = 100


@dataclass(frozen=True, slots=True)
class Progress:
    """What a walk has seen so far."""

    requests: int
    keys: int


OnProgress: TypeAlias = Callable[[Progress], None]


def discover(
    exchange: str,
    bucket: Bucket,
    *,
    markets: Sequence[str] | None = None,
    data_types: Sequence[str] | None = None,
    depth: Depth = Depth.EXACT,
    concurrency: int = CONCURRENCY,
    now: datetime | None = None,
    on_progress: OnProgress = lambda _progress: None,
) -> Catalog:
    """Walk ``bucket``, which holds the exchange's archive, and return what is there.

    ``markets`` and ``data_types`` narrow it (unknown ones raise InputError). ``concurrency`` is cut to what
    the bucket allows. ``now`` is the catalog's time, by default the present. Raises StoreError.
    """
    found = exchange_named(exchange)
    wanted = _wanted(found, markets, data_types)
    started = time.monotonic()
    pages, concurrency = KeyPages(bucket), bucket.at_most(concurrency)
    walk = _Walk(found, pages, wanted, depth=depth, concurrency=concurrency, on_progress=on_progress)
    walk.run()
    taken_at = now or datetime.now(UTC)
    if depth is Depth.EXACT:
        spans = walk.spans()
    else:
        sampler = Sampler(pages, Lister(bucket, concurrency=concurrency), found.today(taken_at))
        spans = sampler.spans(walk.units, concurrency=concurrency)
    return Catalog(
        exchange=exchange,
        taken_at=taken_at,
        depth=depth,
        spans=_finished(spans, exchange),
        strays=walk.strays(),
        markets=None if markets is None else tuple(markets),
        data_types=None if data_types is None else tuple(data_types),
        requests=pages.requests,
        seconds=time.monotonic() - started,
    )


def _wanted(exchange: Exchange, markets: Sequence[str] | None, data_types: Sequence[str] | None) -> list[Dataset]:
    for market in markets or ():
        if market not in exchange.markets:
            raise InputError(f"{exchange.name} has no market {market!r}; it has {', '.join(exchange.markets)}.")
    known = dict.fromkeys(p.data_type for p in exchange.publications if markets is None or p.market in markets)
    for data_type in data_types or ():
        if data_type not in known:
            where = "/".join([exchange.name, ",".join(markets or ())]).rstrip("/")
            raise InputError(f"{where} has no data type {data_type!r}; it has {', '.join(known)}.")
    return [
        dataset
        for dataset in _datasets(exchange)
        if (markets is None or dataset.market in markets) and (data_types is None or dataset.data_type in data_types)
    ]


def _datasets(exchange: Exchange) -> list[Dataset]:
    return [Dataset(exchange.name, p.market, p.data_type, p.cadence) for p in exchange.publications]


def _finished(spans: pl.DataFrame, exchange: str) -> pl.DataFrame:
    return spans.with_columns(pl.lit(exchange).alias("exchange")).select(SPAN_SCHEMA.names()).cast(SPAN_SCHEMA)


# The walk

_Task: TypeAlias = "Callable[[], _Found]"


@dataclass(slots=True)
class _UnrecognizedCount:
    known: bool
    example: str
    objects: int = 0
    bytes: int = 0
    exact: bool = True
    last_modified: datetime | None = None


@dataclass(slots=True)
class _Found:
    """What one task brings: spans, strays by prefix and reason, and what is still to do."""

    spans: list[pl.DataFrame] = field(default_factory=list)
    strays: dict[tuple[str, str], _UnrecognizedCount] = field(default_factory=dict)
    tasks: list[_Task] = field(default_factory=list)
    units: list[tuple[Dataset, str]] = field(default_factory=list)


class _Walk:
    """One walk; tasks run in threads and touch nothing of it but the counters."""

    def __init__(
        self,
        exchange: Exchange,
        pages: KeyPages,
        wanted: Sequence[Dataset],
        *,
        depth: Depth,
        concurrency: int,
        on_progress: OnProgress,
    ) -> None:
        self.concurrency = concurrency
        self.units: dict[Dataset, list[str]] = {}
        self._exchange = exchange
        self._pages = pages
        self._all = [(dataset, dataset.layout.head, _unit_depth(dataset.layout)) for dataset in _datasets(exchange)]
        self._wanted = frozenset(wanted)
        self._depth = depth
        self._on_progress = on_progress
        self._spans: list[pl.DataFrame] = []
        self._span_rows = 0
        self._strays: dict[tuple[str, str], _UnrecognizedCount] = {}

    def run(self) -> None:
        tasks: deque[_Task] = deque([partial(self._folder, "")])
        running: set[Future[_Found]] = set()
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="walk")
        try:
            while tasks or running:
                # Few more than run: what waits is a name each, what is submitted costs more.
                while tasks and len(running) < 2 * self.concurrency:
                    running.add(pool.submit(tasks.popleft()))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    found = future.result()
                    tasks.extend(found.tasks)
                    self._take(found)
                self._on_progress(Progress(self._pages.requests, self._pages.keys))
        finally:
            pool.shutdown(cancel_futures=True)

    def spans(self) -> pl.DataFrame:
        if not self._spans:
            return SPAN_SCHEMA.to_frame()
        # A sidecar alone tells of no object.
        return merged_spans(pl.concat(self._spans)).filter(pl.col("objects") > 0).with_columns(exact=pl.lit(value=True))

    def strays(self) -> pl.DataFrame:
        rows = [
            (
                self._exchange.name,
                prefix,
                reason,
                stray.known,
                stray.objects,
                stray.bytes,
                stray.exact,
                stray.example,
                stray.last_modified,
            )
            for (prefix, reason), stray in sorted(self._strays.items())
        ]
        return pl.DataFrame(rows, schema=UNRECOGNIZED_SCHEMA, orient="row")

    def _take(self, found: _Found) -> None:
        for dataset, unit in found.units:
            self.units.setdefault(dataset, []).append(unit)
        for place, stray in found.strays.items():
            _add(self._strays, place, stray)
        self._spans += found.spans
        self._span_rows += sum(frame.height for frame in found.spans)
        if self._span_rows > _UNITE_ABOVE:
            united = merged_spans(pl.concat(self._spans)).drop("span")
            self._spans = [united]
            self._span_rows = 0

    # Tasks

    def _folder(self, prefix: str) -> _Found:
        """List a folder by delimiter: keys that lie right in it, and what to do with each folder below."""
        found = _Found()
        unknown: list[str] = []
        datasets = [dataset for dataset, head, _ in self._all if head.startswith(prefix) or prefix.startswith(head)]
        for page in self._pages.folder(prefix):
            self._read(page.keys, datasets, prefix, found)
            unknown += [each for each in page.folders if not self._go_on(each, found)]
        found.tasks += [partial(self._peek, each) for each in unknown[:_PEEKS]]
        if len(unknown) > _PEEKS:
            count = _UnrecognizedCount(known=False, example=unknown[_PEEKS], objects=len(unknown) - _PEEKS, exact=False)
            found.strays[prefix, f"{NO_DATASET} (folders beyond the first {_PEEKS})"] = count
        return found

    def _go_on(self, prefix: str, found: _Found) -> bool:
        """Add what is to be done below a folder; False where no known data set lies."""
        inside = [(dataset, depth) for dataset, head, depth in self._all if prefix.startswith(head)]
        above = [dataset for dataset, head, _ in self._all if head.startswith(prefix)]
        if not inside and not above:
            return False
        deepest = max((depth for dataset, depth in inside if dataset in self._wanted), default=0)
        leads_on = any(dataset in self._wanted and dataset.layout.head != prefix for dataset in above)
        if leads_on or prefix.count("/") < deepest:
            found.tasks.append(partial(self._folder, prefix))
        elif deepest:
            datasets = [dataset for dataset, _ in inside]
            found.units += [(dataset, prefix) for dataset in datasets if dataset in self._wanted]
            if self._depth is Depth.EXACT:
                found.tasks.append(partial(self._unit, prefix, datasets))
        return True

    def _unit(self, prefix: str, datasets: Sequence[Dataset]) -> _Found:
        """List everything below a folder that belongs to known data sets."""
        found = _Found()
        for keys in self._pages.below(prefix):
            self._read(keys, datasets, _parent(prefix), found)
        return found

    def _peek(self, prefix: str) -> _Found:
        """The first page of a folder that no known data set is in."""
        keys, is_all = self._pages.first(prefix, "")
        example = prefix if keys.is_empty() else keys.item(0, "key")
        known = next(
            (
                rule
                for rule in self._exchange.unrecognized_rules
                if not rule.last_resort and (match := rule.pattern.match(example)) and match.end() <= len(prefix)
            ),
            None,
        )
        count = _UnrecognizedCount(
            known=known is not None,
            example=example,
            objects=keys.height,
            bytes=int(keys["size"].sum()),
            exact=is_all,
            last_modified=_latest(keys),
        )
        return _Found(strays={(prefix, known.reason if known else NO_DATASET): count})

    # Reading keys

    def _read(self, keys: pl.DataFrame, datasets: Sequence[Dataset], place: str, found: _Found) -> None:
        """Add the spans of a page, and its strays as of ``place``."""
        for dataset in datasets:
            if keys.is_empty():
                return
            rows = read_keys(dataset, keys)
            mine = rows.filter("fits")
            if not mine.is_empty() and dataset in self._wanted:
                found.spans.append(spans_of(dataset, mine))
            keys = keys.filter(~rows["fits"])
        for position, (key, size, modified) in enumerate(keys.select("key", "size", "last_modified").iter_rows()):
            if position == _UNRECOGNIZED_READ:
                rest = _UnrecognizedCount(known=False, example=key, objects=keys.height - position)
                _add(found.strays, (place, "not of a known data set's form, like others beside it"), rest)
                return
            parsed = self._exchange.parse(key)
            if isinstance(parsed, UnrecognizedKey):
                known = any(rule.reason == parsed.reason for rule in self._exchange.unrecognized_rules)
                stray = _UnrecognizedCount(known, key, objects=1, bytes=size, last_modified=modified)
                _add(found.strays, (place, parsed.reason), stray)


def _unit_depth(layout: Layout) -> int:
    """Slashes in the prefix of a unit: down to the symbol's folder, else to the last one."""
    folder = layout.template[: layout.template.rindex("/") + 1]
    if layout.symbol_place is SymbolPlace.FOLDERS:
        folder = folder[: folder.index("/", folder.index("{symbol}")) + 1]
    return folder.count("/")


def _parent(prefix: str) -> str:
    return prefix[: prefix.rstrip("/").rfind("/") + 1]


def _latest(keys: pl.DataFrame) -> datetime | None:
    latest = keys["last_modified"].max()
    return latest if isinstance(latest, datetime) else None


def spans_of(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """Spans of a dataset's keys, as read by read_keys."""
    is_object = ~pl.col("is_sidecar")
    zero = pl.lit(0, pl.Int64)
    spans = merged_spans(
        rows.select(
            "symbol",
            "interval",
            pl.col("date").alias("first"),
            (pl.col("date").dt.month_end() if dataset.cadence is Cadence.MONTHLY else pl.col("date")).alias("last"),
            is_object.cast(pl.Int64).alias("objects"),
            pl.when(is_object).then("size").otherwise(zero).alias("bytes"),
            pl.col("is_sidecar").cast(pl.Int64).alias("sidecars"),
            pl.when(is_object).then(zero).otherwise("size").alias("sidecar_bytes"),
            pl.when(is_object).then("last_modified").alias("last_modified"),
        ),
        ("symbol", "interval"),
    )
    return spans.select(
        pl.lit(dataset.market).alias("market"),
        pl.lit(dataset.data_type).alias("data_type"),
        pl.lit(dataset.cadence.value).alias("cadence"),
        pl.exclude("span"),
    )


def _add(strays: dict[tuple[str, str], _UnrecognizedCount], place: tuple[str, str], more: _UnrecognizedCount) -> None:
    """Count more of a kind; beyond _REASONS kinds, under one."""
    if place not in strays and len(strays) >= _REASONS:
        place = ("", "strays of further kinds")
        more.known = False
    count = strays.setdefault(place, _UnrecognizedCount(more.known, more.example))
    count.objects += more.objects
    count.bytes += more.bytes
    count.exact = count.exact and more.exact
    if more.last_modified and (count.last_modified is None or more.last_modified > count.last_modified):
        count.last_modified = more.last_modified
