"""Lists a range of a dataset's periods, in a source or in a lake, into frames.

Folders are listed concurrently, each from the first to the last key of the range, so a day of a symbol costs one
request however long its history is. A listing is complete or raises (``key_pages.py``), since a partial one would look
like missing data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import polars as pl

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges.grammar import UnrecognizedKey
from lakehouse_assets.archive.exchanges.layout import ALL_SYMBOLS, Folder, Layout, SymbolLocation, compiled
from lakehouse_assets.archive.key_pages import KeyPages
from lakehouse_assets.archive.list_page import KEY_SCHEMA, PAGE
from lakehouse_assets.archive.period import Cadence, Period, month_expr
from lakehouse_assets.archive.unrecognized import UnrecognizedKeys
from lakehouse_assets.errors import ErrorKind, Side, StoreError
from lakehouse_assets.observability.telemetry.metrics import (
    LISTING_KEYS,
    LISTING_REQUESTS,
    LISTING_SECONDS,
    count,
    timed,
)

FOLDERS_PARSED = 64
"""Folders whose pages are parsed together: one query per folder would take longer than the requests."""

KEYS_PARSED = 8 * PAGE
"""Keys after which a batch is parsed, however few folders it has: a folder may hold ten years."""

OBJECT_SCHEMA = pl.Schema(
    {
        "period": pl.String,
        "symbol": pl.String,
        "interval": pl.String,
        "part": pl.String,
        **KEY_SCHEMA,
        "sidecar_size": pl.Int64,
        "sidecar_etag": pl.String,
        "sidecar_last_modified": pl.Datetime("us", "UTC"),
    }
)
"""One row per archive object with its sidecar (null if it has none).

``interval`` is null if the data type has none, ``part`` (such as the hour) if a period is one object. ``symbol`` is
``*`` if an object contains all symbols.

In the listing of a lake, a killed run may have left a sidecar without its object: then the object's ``size``, ``etag``
and ``last_modified`` are null.
"""

_DASHED = {Cadence.DAILY: ("^(....)(..)(..)$", "${1}-${2}-${3}"), Cadence.MONTHLY: ("^(....)(..)$", "${1}-${2}")}
"""Pattern and replacement that turn the digits of a date into a period's text."""

IDENTITY = ("period", "symbol", "interval", "part")


@dataclass(frozen=True, slots=True)
class Listing:
    """Archive objects of a range, unrecognized keys beside them, and the number of requests.

    ``objects`` has OBJECT_SCHEMA and one row per key; ``key`` is the source key, also in the listing of a lake.
    ``unrecognized`` are the first of ``unrecognized_total`` unrecognized keys.
    """

    objects: pl.DataFrame
    unrecognized: tuple[UnrecognizedKey, ...]
    requests: int
    unrecognized_total: int = 0


@dataclass(frozen=True, slots=True)
class SymbolNames:
    """The symbols of a dataset, sorted; ``odd`` are names in their place that do not match the exchange's grammar."""

    symbols: tuple[str, ...]
    odd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pages:
    """A folder's pages, the number of requests, and the unrecognized keys of the pages that were parsed already."""

    keys: list[pl.DataFrame]
    requests: int
    unrecognized: UnrecognizedKeys


_Listed = tuple[Folder, _Pages]


class Lister:
    """Lists one bucket with one connection pool and a limited number of concurrent requests.

    ``root`` is the prefix of every source key: empty for a source, the lake's prefix for a lake. ``concurrency`` is
    reduced to the bucket's limit.
    """

    def __init__(self, bucket: Bucket, *, root: str = "", concurrency: int = 32) -> None:
        self._bucket = bucket
        self._root = root
        self._concurrency = bucket.at_most(concurrency)
        self._pages = KeyPages(bucket)

    def symbols(
        self,
        dataset: Dataset,
        *,
        intervals: Sequence[str] = (),
        first: Period | None = None,
        last: Period | None = None,
    ) -> tuple[str, ...]:
        """The symbols of :meth:`names`."""
        return self.names(dataset, intervals=intervals, first=first, last=last).symbols

    def names(
        self,
        dataset: Dataset,
        *,
        intervals: Sequence[str] = (),
        first: Period | None = None,
        last: Period | None = None,
    ) -> SymbolNames:
        """The symbols of the dataset, and names in their place that are not symbols.

        If symbols are folders, the result covers all periods. If they are the beginnings of file names in folders of
        months, it covers the given range of periods and intervals (by default all). If every object contains all
        symbols, it is ``*`` alone.
        """
        layout = dataset.layout
        if layout.symbol_location is SymbolLocation.NOWHERE:
            return SymbolNames((ALL_SYMBOLS,))
        if layout.symbol_location is SymbolLocation.FOLDERS:
            names = set(self._folders(layout.root))
        else:
            with ThreadPoolExecutor(max_workers=self._concurrency) as pool:
                months = self._months(dataset, intervals, first, last)
                names = set().union(*pool.map(lambda month: set(self._beginnings(month, layout.symbol_end)), months))
        symbols = {name for name in names if compiled(layout.symbol).fullmatch(name)}
        return SymbolNames(tuple(sorted(symbols)), tuple(sorted(names - symbols - _known_folders(dataset, names))))

    def objects(self, dataset: Dataset, folders: Sequence[Folder]) -> Listing:
        """Archive objects of ``folders``, filtered by each folder's range and symbols.

        A folder with several symbols may include other periods of its month.
        """
        batches = list(self.batches(dataset, folders))
        unrecognized = UnrecognizedKeys()
        for batch in batches:
            unrecognized.add(batch.unrecognized, batch.unrecognized_total)
        return Listing(
            pl.concat([OBJECT_SCHEMA.to_frame(), *(batch.objects for batch in batches)]),
            tuple(unrecognized.named),
            sum(batch.requests for batch in batches),
            unrecognized.total,
        )

    def batches(self, dataset: Dataset, folders: Sequence[Folder]) -> Iterator[Listing]:
        """As :meth:`objects`, in batches of folders, in order."""
        wanted = list({symbol for folder in folders if folder.symbols for symbol in folder.symbols})
        place = {"exchange": dataset.exchange, "side": "lake" if self._root else "source"}
        with timed(LISTING_SECONDS, **place), ThreadPoolExecutor(max_workers=self._concurrency) as pool:
            for batch in _batched(zip(folders, pool.map(partial(self._keys, dataset), folders), strict=True)):
                keys = self._in_range((folder, pages.keys) for folder, pages in batch)
                unrecognized = UnrecognizedKeys()
                for _, pages in batch:
                    unrecognized.add(pages.unrecognized.named, pages.unrecognized.total)
                objects = _parse(dataset, keys, unrecognized, lone_sidecars=bool(self._root))
                self._require_etags(objects)
                requests = sum(pages.requests for _, pages in batch)
                count(LISTING_REQUESTS, requests, **place)
                count(LISTING_KEYS, keys.height, **place)
                if wanted:
                    objects = objects.filter(pl.col("symbol").is_in(wanted))
                yield Listing(objects, tuple(unrecognized.named), requests, unrecognized.total)

    def _folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below a prefix of the source."""
        prefix = self._root + prefix
        folders = (folder for page in self._pages.folder(prefix) for folder in page.folders)
        return [folder.removeprefix(prefix).removesuffix("/") for folder in folders]

    def _months(
        self, dataset: Dataset, intervals: Sequence[str], first: Period | None, last: Period | None
    ) -> list[str]:
        """The existing folders of months in the range."""
        roots = [
            dataset.layout.month_root(interval) for interval in intervals or dataset.publication.intervals or (None,)
        ]
        start = "" if first is None else first.month.replace("-", "")
        end = "~" if last is None else last.month.replace("-", "")
        return [f"{root}{name}/" for root in roots for name in self._folders(root) if start <= name <= end]

    def _beginnings(self, prefix: str, end: str) -> Iterator[str]:
        """The distinct beginnings of the names below a prefix of the source, up to the character ``end``."""
        return self._pages.names_until(self._root + prefix, end)

    def _keys(self, dataset: Dataset, folder: Folder) -> _Pages:
        """Pages up to the first key past the folder's range. Of many pages, only keys of the dataset are kept."""
        parsed: list[pl.DataFrame] = []
        unparsed: list[pl.DataFrame] = []
        unrecognized = UnrecognizedKeys()
        requests = unparsed_keys = 0
        end = self._root + folder.last
        for page in self._pages.pages(self._root + folder.prefix, after=self._root + folder.first):
            requests += 1
            if page.keys.is_empty():
                continue
            unparsed.append(page.keys)
            unparsed_keys += page.keys.height
            if unparsed_keys >= KEYS_PARSED:
                rows = read_keys(dataset, self._in_range([(folder, unparsed)]))
                unrecognized.add_keys(dataset, rows.filter(~pl.col("fits"))["key"])
                parsed.append(rows.filter("fits").select(KEY_SCHEMA.names()))
                unparsed, unparsed_keys = [], 0
            last = page.keys.item(-1, "key")
            if last > end and not last.startswith(end):
                break
        return _Pages([*parsed, *unparsed], requests, unrecognized)

    def _require_etags(self, objects: pl.DataFrame) -> None:
        """Raises StoreError for a lake without ETags: nothing else identifies a copy's content."""
        without_etag = objects.filter(pl.col("size").is_not_null() & pl.col("etag").is_null())
        if self._root and not without_etag.is_empty():
            raise StoreError(
                "Listing",
                f"the store gives no ETag of {without_etag.item(0, 'key')!r}, so copies cannot be compared; "
                "use a store that gives ETags",
                side=Side.LAKE,
                bucket=self._bucket.name,
                key=self._root,
                kind=ErrorKind.UNSUPPORTED,
            )

    def _in_range(self, collected: Iterable[tuple[Folder, Sequence[pl.DataFrame]]]) -> pl.DataFrame:
        """The keys of each folder's pages within its range: KEY_SCHEMA, with source keys."""
        listed = [(folder, page) for folder, pages in collected for page in pages]
        if not listed:
            return KEY_SCHEMA.to_frame()
        ranges = pl.DataFrame(
            [(folder.first, folder.last, page.height) for folder, page in listed],
            schema={"first": pl.String, "last": pl.String, "height": pl.UInt32},
            orient="row",
        )
        key, first, last = pl.col("key"), pl.col("first"), pl.col("last")
        return (
            pl.concat([page for _, page in listed])
            .hstack(ranges.select(pl.col("first", "last").repeat_by("height").explode()))
            .lazy()
            .with_columns(pl.col("key").str.strip_prefix(self._root))
            .filter(key >= first, (key <= last) | key.str.starts_with(last))
            .select(KEY_SCHEMA.names())
            .collect()
        )


def _batched(listed: Iterable[_Listed]) -> Iterator[list[_Listed]]:
    """Batches of folders to parse together."""
    batch: list[_Listed] = []
    keys = 0
    for folder, pages in listed:
        batch.append((folder, pages))
        keys += sum(page.height for page in pages.keys)
        if len(batch) == FOLDERS_PARSED or keys >= KEYS_PARSED:
            yield batch
            batch, keys = [], 0
    if batch:
        yield batch


def folders_of(
    dataset: Dataset, *, symbols: Iterable[str], intervals: Sequence[str], first: Period, last: Period
) -> list[Folder]:
    """The folders that hold a range of periods of the given symbols and intervals."""
    return dataset.layout.folders(symbols=symbols, intervals=intervals, first=first, last=last)


def selected_symbols(
    listed: Iterable[str], selects: Callable[[str], bool], also: Iterable[str] = ()
) -> tuple[str, ...]:
    """The symbols that a filter selects from a listing and from other sources (``also``)."""
    return tuple(sorted({symbol for symbol in (*listed, *also) if selects(symbol)}))


def content_digest(objects: pl.DataFrame) -> str:
    """SHA-256 (first 16 hex digits) over keys, sizes and source ETags, sidecars included, in any order of rows."""
    return _digest_of(objects.select(CONTENT_LINE.alias("line"))["line"].sort())


def content_digests(objects: pl.DataFrame, periods: Sequence[str]) -> dict[str, str]:
    """The content digest of each period's objects."""
    lines = objects.select("period", CONTENT_LINE.alias("line")).group_by("period").agg(pl.col("line").sort())
    return dict.fromkeys(periods, _digest_of(())) | {period: _digest_of(texts) for period, texts in lines.iter_rows()}


CONTENT_LINE = pl.concat_str(
    "key", "size", *(pl.col(name).fill_null("") for name in ("etag", "sidecar_etag")), separator="\t"
)
"""A text that changes with the object's content."""


def _digest_of(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def read_keys(dataset: Dataset, keys: pl.DataFrame) -> pl.DataFrame:
    """Parse keys (a column ``key``, and any others) by a dataset's layout.

    Adds IDENTITY, ``date`` (the period's first day), ``is_sidecar``, and ``fits``: whether the key belongs to the
    dataset. If it does not, the other columns are meaningless.
    """
    rows = keys.with_columns(
        pl.col("key").str.extract_groups(f"^(?:{dataset.layout.pattern})$").alias("parsed")
    ).unnest("parsed")
    defaults = {"symbol": ALL_SYMBOLS, "interval": None, "part": None, "sidecar": None}
    rows = rows.with_columns(
        pl.lit(value, pl.String).alias(name) for name, value in defaults.items() if name not in rows.columns
    )
    if dataset.layout.period_format != dataset.cadence.key_format:
        digits, dashed = _DASHED[dataset.cadence]
        rows = rows.with_columns(pl.col("period").str.replace(digits, dashed))
    period_date = pl.col("period") if dataset.cadence is Cadence.DAILY else pl.col("period") + "-01"
    day = period_date.str.to_date("%Y-%m-%d", strict=False)
    fits = pl.col("symbol").is_not_null() & day.is_not_null()
    month = month_expr(pl.col("period")).str.replace("-", "", literal=True)
    for field, in_file_name in {"symbol": pl.col("symbol"), "interval": pl.col("interval"), "month": month}.items():
        if f"folder_{field}" in rows.columns:
            fits &= pl.col(f"folder_{field}") == in_file_name
    if dataset.publication.intervals:
        fits &= pl.col("interval").is_in(dataset.publication.intervals)
    is_sidecar = pl.col("sidecar").is_not_null() & (pl.col("sidecar") != "")
    return rows.with_columns(
        day.alias("date"), is_sidecar.alias("is_sidecar"), fits.fill_null(value=False).alias("fits")
    )


def sidecar_keys(layout: Layout) -> pl.Expr:
    """The key of the sidecar of each object's ``key``; null if the exchange publishes no sidecars."""
    if not layout.sidecar_suffix:
        return pl.lit(None, pl.String)
    return pl.col("key").str.strip_suffix(layout.sidecar_drops) + layout.sidecar_suffix


def _parse(
    dataset: Dataset, keys: pl.DataFrame, unrecognized: UnrecognizedKeys, *, lone_sidecars: bool
) -> pl.DataFrame:
    """The archive objects of listed keys, with their sidecars; other keys are added to ``unrecognized``.

    A sidecar without its object is unrecognized, or with ``lone_sidecars`` a row of its own.
    """
    rows = read_keys(dataset, keys)
    fits, is_sidecar = pl.col("fits"), pl.col("is_sidecar")
    unrecognized.add_keys(dataset, rows.filter(~fits)["key"])
    rows = rows.filter(fits)
    layout = dataset.layout
    sidecars = rows.filter(is_sidecar).select(
        *IDENTITY,
        pl.col("key").str.strip_suffix(layout.sidecar_suffix) + layout.sidecar_drops,
        pl.col("size").alias("sidecar_size"),
        pl.col("etag").alias("sidecar_etag"),
        pl.col("last_modified").alias("sidecar_last_modified"),
    )
    objects = rows.filter(~is_sidecar).join(sidecars.drop(IDENTITY), on="key", how="left", maintain_order="left")
    orphans = sidecars.join(objects, on="key", how="anti")
    if lone_sidecars:
        objects = pl.concat([objects, orphans], how="diagonal")
    else:
        unrecognized.add(
            UnrecognizedKey(layout.sidecar_of(key), "it is a sidecar without its object") for key in orphans["key"]
        )
    return objects.select(OBJECT_SCHEMA.names()).cast(OBJECT_SCHEMA)


def _known_folders(dataset: Dataset, names: Iterable[str]) -> set[str]:
    """Folders beside those of symbols that the exchange's module knows: of other datasets, or ignored by a rule."""
    root, source = dataset.layout.root, dataset.source
    heads = [layout.head for layout in source.layouts.values()]
    return {
        name
        for name in names
        if any(head.startswith(f"{root}{name}/") for head in heads)
        or any(not rule.last_resort and rule.pattern.match(f"{root}{name}/") for rule in source.unrecognized_rules)
    }
