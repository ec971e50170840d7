"""Walks an exchange's bucket into a catalog, whatever its layout.

Folders are found by delimiter listings from the bucket's root, so that unrecognized folders are reported, too. At the
depth where a layout's symbols (or months) are folders, each folder is a *unit*. An exact walk lists units completely,
page by page, and keeps only spans and counters, never keys. A shallow walk keeps the units' names and samples some.
Concurrent requests are limited. The walk raises at the first failed listing, since an incomplete catalog would look
like an archive from which objects were withdrawn.
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
    CatalogDepth,
)
from lakehouse_assets.archive.catalog.sampling import Sampler
from lakehouse_assets.archive.catalog.spans import SPAN_SCHEMA, merged_spans
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.exchanges.grammar import Exchange, UnrecognizedKey
from lakehouse_assets.archive.exchanges.layout import Layout, SymbolLocation
from lakehouse_assets.archive.key_pages import KeyPages
from lakehouse_assets.archive.listing import Lister, read_keys
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.errors import InputError

CONCURRENCY = 32

_MERGE_ABOVE = 200_000
_UNRECOGNIZED_READ = 200
_REASONS = 500
_PEEKS = 100


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a walk."""

    requests: int
    keys: int


OnProgress: TypeAlias = Callable[[Progress], None]


def discover(
    exchange: str,
    bucket: Bucket,
    *,
    markets: Sequence[str] | None = None,
    data_types: Sequence[str] | None = None,
    depth: CatalogDepth = CatalogDepth.EXACT,
    concurrency: int = CONCURRENCY,
    now: datetime | None = None,
    on_progress: OnProgress = lambda _progress: None,
) -> Catalog:
    """Walk ``bucket``, which contains the exchange's archive, and return its catalog.

    ``markets`` and ``data_types`` restrict the walk (unknown ones raise InputError). ``concurrency`` is reduced to the
    bucket's limit. ``now`` is the catalog's time, by default the current time. Raises StoreError.
    """
    source = exchange_named(exchange)
    wanted = _wanted(source, markets, data_types)
    started = time.monotonic()
    pages, concurrency = KeyPages(bucket), bucket.at_most(concurrency)
    walk = _Walk(source, pages, wanted, depth=depth, concurrency=concurrency, on_progress=on_progress)
    walk.run()
    taken_at = now or datetime.now(UTC)
    if depth is CatalogDepth.EXACT:
        spans = walk.spans()
    else:
        sampler = Sampler(pages, Lister(bucket, concurrency=concurrency), source.today(taken_at))
        spans = sampler.spans(walk.units, concurrency=concurrency)
    return Catalog(
        exchange=exchange,
        taken_at=taken_at,
        depth=depth,
        spans=_finished(spans, exchange),
        unrecognized=walk.unrecognized(),
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

_Task: TypeAlias = "Callable[[], _TaskResult]"


@dataclass(slots=True)
class _UnrecognizedCount:
    known: bool
    example: str
    objects: int = 0
    bytes: int = 0
    exact: bool = True
    last_modified: datetime | None = None


class _UnrecognizedCounts(dict[tuple[str, str], _UnrecognizedCount]):
    """Counts by prefix and reason; beyond _REASONS of them, further ones share one count."""

    def count(self, place: tuple[str, str], more: _UnrecognizedCount) -> None:
        if place not in self and len(self) >= _REASONS:
            place = ("", "strays of further kinds")
            more.known = False
        total = self.setdefault(place, _UnrecognizedCount(more.known, more.example))
        total.objects += more.objects
        total.bytes += more.bytes
        total.exact = total.exact and more.exact
        if more.last_modified and (total.last_modified is None or more.last_modified > total.last_modified):
            total.last_modified = more.last_modified


@dataclass(slots=True)
class _TaskResult:
    """The result of one task: spans, unrecognized keys by prefix and reason, units, and further tasks."""

    spans: list[pl.DataFrame] = field(default_factory=list)
    unrecognized: _UnrecognizedCounts = field(default_factory=_UnrecognizedCounts)
    tasks: list[_Task] = field(default_factory=list)
    units: list[tuple[Dataset, str]] = field(default_factory=list)


class _Walk:
    """One walk. Tasks run in threads and share nothing but the counters of requests and keys."""

    def __init__(
        self,
        exchange: Exchange,
        pages: KeyPages,
        wanted: Sequence[Dataset],
        *,
        depth: CatalogDepth,
        concurrency: int,
        on_progress: OnProgress,
    ) -> None:
        self.concurrency = concurrency
        self.units: dict[Dataset, list[str]] = {}
        self._exchange = exchange
        self._pages = pages
        self._layouts = [(dataset, dataset.layout.head, _unit_depth(dataset.layout)) for dataset in _datasets(exchange)]
        self._wanted = frozenset(wanted)
        self._depth = depth
        self._on_progress = on_progress
        self._spans: list[pl.DataFrame] = []
        self._span_rows = 0
        self._unrecognized = _UnrecognizedCounts()

    def run(self) -> None:
        tasks: deque[_Task] = deque([partial(self._folder, "")])
        running: set[Future[_TaskResult]] = set()
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="walk")
        try:
            while tasks or running:
                # Submit few more than can run: a waiting task is a name, a submitted one takes more memory.
                while tasks and len(running) < 2 * self.concurrency:
                    running.add(pool.submit(tasks.popleft()))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    tasks.extend(result.tasks)
                    self._collect(result)
                self._on_progress(Progress(self._pages.requests, self._pages.keys))
        finally:
            pool.shutdown(cancel_futures=True)

    def spans(self) -> pl.DataFrame:
        if not self._spans:
            return SPAN_SCHEMA.to_frame()
        # A sidecar without its object makes no span.
        return merged_spans(pl.concat(self._spans)).filter(pl.col("objects") > 0).with_columns(exact=pl.lit(value=True))

    def unrecognized(self) -> pl.DataFrame:
        """UNRECOGNIZED_SCHEMA."""
        rows = [
            (
                self._exchange.name,
                prefix,
                reason,
                count.known,
                count.objects,
                count.bytes,
                count.exact,
                count.example,
                count.last_modified,
            )
            for (prefix, reason), count in sorted(self._unrecognized.items())
        ]
        return pl.DataFrame(rows, schema=UNRECOGNIZED_SCHEMA, orient="row")

    def _collect(self, result: _TaskResult) -> None:
        for dataset, unit in result.units:
            self.units.setdefault(dataset, []).append(unit)
        for place, count in result.unrecognized.items():
            self._unrecognized.count(place, count)
        self._spans += result.spans
        self._span_rows += sum(frame.height for frame in result.spans)
        if self._span_rows > _MERGE_ABOVE:
            merged = merged_spans(pl.concat(self._spans)).drop("span")
            self._spans = [merged]
            self._span_rows = 0

    # Tasks

    def _folder(self, prefix: str) -> _TaskResult:
        """List a folder by delimiter: read the keys directly in it, and plan tasks for the folders in it."""
        result = _TaskResult()
        unknown: list[str] = []
        datasets = [dataset for dataset, head, _ in self._layouts if head.startswith(prefix) or prefix.startswith(head)]
        for page in self._pages.folder(prefix):
            self._read(page.keys, datasets, prefix, result)
            unknown += [folder for folder in page.folders if not self._descend(folder, result)]
        result.tasks += [partial(self._peek, folder) for folder in unknown[:_PEEKS]]
        if len(unknown) > _PEEKS:
            count = _UnrecognizedCount(known=False, example=unknown[_PEEKS], objects=len(unknown) - _PEEKS, exact=False)
            result.unrecognized[prefix, f"{NO_DATASET} (folders beyond the first {_PEEKS})"] = count
        return result

    def _descend(self, prefix: str, result: _TaskResult) -> bool:
        """Add the tasks and units of a folder to the result; False if the folder belongs to no known dataset."""
        inside = [(dataset, depth) for dataset, head, depth in self._layouts if prefix.startswith(head)]
        above = [dataset for dataset, head, _ in self._layouts if head.startswith(prefix)]
        if not inside and not above:
            return False
        deepest = max((depth for dataset, depth in inside if dataset in self._wanted), default=0)
        has_wanted_below = any(dataset in self._wanted and dataset.layout.head != prefix for dataset in above)
        if has_wanted_below or prefix.count("/") < deepest:
            result.tasks.append(partial(self._folder, prefix))
        elif deepest:
            datasets = [dataset for dataset, _ in inside]
            result.units += [(dataset, prefix) for dataset in datasets if dataset in self._wanted]
            if self._depth is CatalogDepth.EXACT:
                result.tasks.append(partial(self._unit, prefix, datasets))
        return True

    def _unit(self, prefix: str, datasets: Sequence[Dataset]) -> _TaskResult:
        """List everything below a folder of known datasets."""
        result = _TaskResult()
        for keys in self._pages.below(prefix):
            self._read(keys, datasets, _parent(prefix), result)
        return result

    def _peek(self, prefix: str) -> _TaskResult:
        """The first page of a folder that belongs to no known dataset."""
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
        place = (prefix, known.reason if known else NO_DATASET)
        return _TaskResult(unrecognized=_UnrecognizedCounts({place: count}))

    # Reading keys

    def _read(self, keys: pl.DataFrame, datasets: Sequence[Dataset], place: str, result: _TaskResult) -> None:
        """Add the spans of a page to the result, and its unrecognized keys under the prefix ``place``."""
        for dataset in datasets:
            if keys.is_empty():
                return
            rows = read_keys(dataset, keys)
            own_rows = rows.filter("fits")
            if not own_rows.is_empty() and dataset in self._wanted:
                result.spans.append(spans_of(dataset, own_rows))
            keys = keys.filter(~rows["fits"])
        for position, (key, size, modified) in enumerate(keys.select("key", "size", "last_modified").iter_rows()):
            if position == _UNRECOGNIZED_READ:
                rest = _UnrecognizedCount(known=False, example=key, objects=keys.height - position)
                result.unrecognized.count((place, "not of a known data set's form, like others beside it"), rest)
                return
            parsed = self._exchange.parse(key)
            if isinstance(parsed, UnrecognizedKey):
                known = any(rule.reason == parsed.reason for rule in self._exchange.unrecognized_rules)
                count = _UnrecognizedCount(known, key, objects=1, bytes=size, last_modified=modified)
                result.unrecognized.count((place, parsed.reason), count)


def _unit_depth(layout: Layout) -> int:
    """Number of slashes in the prefix of a unit, which is the symbol's folder, else the last folder."""
    folder = layout.template[: layout.template.rindex("/") + 1]
    if layout.symbol_location is SymbolLocation.FOLDERS:
        folder = folder[: folder.index("/", folder.index("{symbol}")) + 1]
    return folder.count("/")


def _parent(prefix: str) -> str:
    return prefix[: prefix.rstrip("/").rfind("/") + 1]


def _latest(keys: pl.DataFrame) -> datetime | None:
    latest = keys["last_modified"].max()
    return latest if isinstance(latest, datetime) else None


def spans_of(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """The spans of a dataset's keys that read_keys has parsed."""
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
