"""Listing a range of a dataset's periods, in a source or in a lake, into frames.

Folders are listed concurrently, each from the first key of the range to the last, so a day of
a symbol costs one request however long its history is. A listing is whole or it raises
(``key_pages.py``): a part of one would look like missing data.
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
from lakehouse_assets.archive.exchanges.grammar import (
    ALL_SYMBOLS,
    Folder,
    Layout,
    SymbolPlace,
    UnrecognizedKey,
    compiled,
)
from lakehouse_assets.archive.key_pages import KeyPages
from lakehouse_assets.archive.list_page import KEY_SCHEMA, PAGE
from lakehouse_assets.archive.period import Cadence, Period
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
"""Folders whose pages become objects at once: one query each would take longer than the requests do."""

KEYS_PARSED = 8 * PAGE
"""Keys at which that is enough: a folder may hold ten years."""

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
"""One row per archive object, its sidecar beside it (null where there is none).

``interval`` is null where the data type has none, ``part`` (such as the hour) where a period is one
object. ``symbol`` is ``*`` where an object holds all of them.

In a lake's listing a sidecar may be there before its object, as a killed run leaves it: then the
object's ``size``, ``etag`` and ``last_modified`` are null.
"""

_DASHED = {Cadence.DAILY: ("^(....)(..)(..)$", "${1}-${2}-${3}"), Cadence.MONTHLY: ("^(....)(..)$", "${1}-${2}")}
"""How the digits of a date become a period's text."""

IDENTITY = ("period", "symbol", "interval", "part")


@dataclass(frozen=True, slots=True)
class Listing:
    """Archive objects of a range, strays met on the way, and what it cost.

    ``objects`` has OBJECT_SCHEMA and one row per key; ``key`` is the source key, also when a
    lake was listed. ``strays`` are the first ones of ``strays_total``.
    """

    objects: pl.DataFrame
    strays: tuple[UnrecognizedKey, ...]
    requests: int
    strays_total: int = 0


@dataclass(frozen=True, slots=True)
class SymbolNames:
    """Symbols of a dataset, sorted, and the names in their place that are none by the exchange's grammar."""

    symbols: tuple[str, ...]
    odd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pages:
    """A folder's pages, how many there were, and the strays of those that were read already."""

    keys: list[pl.DataFrame]
    requests: int
    strays: UnrecognizedKeys


_Listed = tuple[Folder, _Pages]


class Lister:
    """Lists one bucket with one connection pool and a bounded number of requests at a time.

    ``root`` is put before every source key: empty for a source, the lake's prefix for a lake.
    ``concurrency`` is cut to what the bucket allows.
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
        """As :meth:`names`, without those that are no symbol."""
        return self.names(dataset, intervals=intervals, first=first, last=last).symbols

    def names(
        self,
        dataset: Dataset,
        *,
        intervals: Sequence[str] = (),
        first: Period | None = None,
        last: Period | None = None,
    ) -> SymbolNames:
        """Symbols of the dataset, and what is none.

        Where symbols have folders, those of any time. Where they are the beginnings of file names in
        folders of months, those of the range (without one: of any time) and the intervals (all).
        ``*`` alone where every object holds all symbols.
        """
        layout = dataset.layout
        if layout.symbol_place is SymbolPlace.NOWHERE:
            return SymbolNames((ALL_SYMBOLS,))
        if layout.symbol_place is SymbolPlace.FOLDERS:
            names = set(self._folders(layout.root))
        else:
            with ThreadPoolExecutor(max_workers=self._concurrency) as pool:
                months = self._months(dataset, intervals, first, last)
                names = set().union(*pool.map(lambda month: set(self._beginnings(month, layout.symbol_end)), months))
        symbols = {name for name in names if compiled(layout.symbol).fullmatch(name)}
        return SymbolNames(tuple(sorted(symbols)), tuple(sorted(names - symbols - _passed_by(dataset, names))))

    def objects(self, dataset: Dataset, folders: Sequence[Folder]) -> Listing:
        """Archive objects of ``folders``, narrowed to each folder's range and symbols.

        A folder that spans several symbols may bring other periods of its month.
        """
        listed = list(self.batches(dataset, folders))
        strays = UnrecognizedKeys()
        for batch in listed:
            strays.add(batch.strays, batch.strays_total)
        return Listing(
            pl.concat([OBJECT_SCHEMA.to_frame(), *(batch.objects for batch in listed)]),
            tuple(strays.named),
            sum(batch.requests for batch in listed),
            strays.total,
        )

    def batches(self, dataset: Dataset, folders: Sequence[Folder]) -> Iterator[Listing]:
        """As :meth:`objects`, some folders at a time, in order."""
        wanted = list({symbol for folder in folders if folder.symbols for symbol in folder.symbols})
        place = {"exchange": dataset.exchange, "side": "lake" if self._root else "source"}
        with timed(LISTING_SECONDS, **place), ThreadPoolExecutor(max_workers=self._concurrency) as pool:
            for some in _batched(zip(folders, pool.map(partial(self._keys, dataset), folders), strict=True)):
                keys = self._narrowed((folder, pages.keys) for folder, pages in some)
                strays = UnrecognizedKeys()
                for _, pages in some:
                    strays.add(pages.strays.named, pages.strays.total)
                objects = _parse(dataset, keys, strays, lone_sidecars=bool(self._root))
                self._believe(objects)
                requests = sum(pages.requests for _, pages in some)
                count(LISTING_REQUESTS, requests, **place)
                count(LISTING_KEYS, keys.height, **place)
                if wanted:
                    objects = objects.filter(pl.col("symbol").is_in(wanted))
                yield Listing(objects, tuple(strays.named), requests, strays.total)

    def _folders(self, prefix: str) -> list[str]:
        """SymbolNames of the folders right below a prefix of the source."""
        prefix = self._root + prefix
        found = (folder for page in self._pages.folder(prefix) for folder in page.folders)
        return [folder.removeprefix(prefix).removesuffix("/") for folder in found]

    def _months(
        self, dataset: Dataset, intervals: Sequence[str], first: Period | None, last: Period | None
    ) -> list[str]:
        """Folders of the months that are there and in the range."""
        roots = [
            dataset.layout.month_root(interval) for interval in intervals or dataset.publication.intervals or (None,)
        ]
        least = "" if first is None else first.month.replace("-", "")
        most = "~" if last is None else last.month.replace("-", "")
        return [f"{root}{name}/" for root in roots for name in self._folders(root) if least <= name <= most]

    def _beginnings(self, prefix: str, end: str) -> Iterator[str]:
        """What the names below a prefix of the source begin with, up to a character."""
        return self._pages.names_until(self._root + prefix, end)

    def _keys(self, dataset: Dataset, folder: Folder) -> _Pages:
        """Pages up to the first key past the folder's range. Of many only what is of the dataset is held."""
        read: list[pl.DataFrame] = []
        kept: list[pl.DataFrame] = []
        strays = UnrecognizedKeys()
        requests = held = 0
        beyond = self._root + folder.last
        for page in self._pages.pages(self._root + folder.prefix, after=self._root + folder.first):
            requests += 1
            if page.keys.is_empty():
                continue
            kept.append(page.keys)
            held += page.keys.height
            if held >= KEYS_PARSED:
                rows = read_keys(dataset, self._narrowed([(folder, kept)]))
                strays.add_keys(dataset, rows.filter(~pl.col("fits"))["key"])
                read.append(rows.filter("fits").select(KEY_SCHEMA.names()))
                kept, held = [], 0
            last = page.keys.item(-1, "key")
            if last > beyond and not last.startswith(beyond):
                break
        return _Pages([*read, *kept], requests, strays)

    def _believe(self, objects: pl.DataFrame) -> None:
        """Raises StoreError for a lake that tells no ETags: nothing else tells one copy from another."""
        untold = objects.filter(pl.col("size").is_not_null() & pl.col("etag").is_null())
        if self._root and not untold.is_empty():
            raise StoreError(
                "Listing",
                f"the store gives no ETag of {untold.item(0, 'key')!r}, without which copies cannot be compared; "
                "use a store that gives ETags",
                side=Side.LAKE,
                bucket=self._bucket.name,
                key=self._root,
                kind=ErrorKind.UNSUPPORTED,
            )

    def _narrowed(self, collected: Iterable[tuple[Folder, Sequence[pl.DataFrame]]]) -> pl.DataFrame:
        """Each folder's pages as KEY_SCHEMA, with source keys, without what lies past its range."""
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
    """Folders to parse together."""
    batch: list[_Listed] = []
    keys = 0
    for one in listed:
        batch.append(one)
        keys += sum(page.height for page in one[1].keys)
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
    """Listed symbols that a filter selects, and ``also`` those that are known from elsewhere."""
    return tuple(sorted({symbol for symbol in (*listed, *also) if selects(symbol)}))


def content_digest(objects: pl.DataFrame) -> str:
    """SHA-256 (first 16 hex digits) over keys, sizes and source ETags, sidecars included; any order of rows."""
    return _digest_of(objects.select(CONTENT_LINE.alias("line"))["line"].sort())


def content_digests(objects: pl.DataFrame, periods: Sequence[str]) -> dict[str, str]:
    """The content digest of each period's objects."""
    lines = objects.select("period", CONTENT_LINE.alias("line")).group_by("period").agg(pl.col("line").sort())
    return dict.fromkeys(periods, _digest_of(())) | {period: _digest_of(some) for period, some in lines.iter_rows()}


CONTENT_LINE = pl.concat_str(
    "key", "size", *(pl.col(f"{each}etag").fill_null("") for each in ("", "sidecar_")), separator="\t"
)
"""A text that changes with an object's content."""


def _digest_of(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def read_keys(dataset: Dataset, keys: pl.DataFrame) -> pl.DataFrame:
    """Every row of ``keys`` (a column ``key``, and any others) with what its key says of a dataset's object.

    Adds IDENTITY, ``date`` (the period's first day), ``is_sidecar``, and ``fits``: whether it is of the dataset at all;
    where it is not, the others mean nothing.
    """
    rows = keys.with_columns(
        pl.col("key").str.extract_groups(f"^(?:{dataset.layout.pattern})$").alias("parsed")
    ).unnest("parsed")
    lacking = {"symbol": ALL_SYMBOLS, "interval": None, "part": None, "sidecar": None}
    rows = rows.with_columns(
        pl.lit(value, pl.String).alias(name) for name, value in lacking.items() if name not in rows.columns
    )
    if dataset.layout.period_format != dataset.cadence.key_format:
        digits, dashed = _DASHED[dataset.cadence]
        rows = rows.with_columns(pl.col("period").str.replace(digits, dashed))
    period_date = pl.col("period") if dataset.cadence is Cadence.DAILY else pl.col("period") + "-01"
    day = period_date.str.to_date("%Y-%m-%d", strict=False)
    fits = pl.col("symbol").is_not_null() & day.is_not_null()
    month = pl.col("period").str.slice(0, 7).str.replace("-", "", literal=True)
    for twin, said in {"symbol": pl.col("symbol"), "interval": pl.col("interval"), "month": month}.items():
        if f"folder_{twin}" in rows.columns:
            fits &= pl.col(f"folder_{twin}") == said
    if dataset.publication.intervals:
        fits &= pl.col("interval").is_in(dataset.publication.intervals)
    is_sidecar = pl.col("sidecar").is_not_null() & (pl.col("sidecar") != "")
    return rows.with_columns(
        day.alias("date"), is_sidecar.alias("is_sidecar"), fits.fill_null(value=False).alias("fits")
    )


def sidecar_keys(layout: Layout) -> pl.Expr:
    """Of each object's ``key`` that of its sidecar; null where the exchange publishes none."""
    if not layout.sidecar_suffix:
        return pl.lit(None, pl.String)
    return pl.col("key").str.strip_suffix(layout.sidecar_drops) + layout.sidecar_suffix


def _parse(dataset: Dataset, keys: pl.DataFrame, strays: UnrecognizedKeys, *, lone_sidecars: bool) -> pl.DataFrame:
    """The archive objects of listed keys (sidecars joined on); the others are added to the strays.

    A sidecar without its object is a stray, or a row of its own where ``lone_sidecars``.
    """
    rows = read_keys(dataset, keys)
    fits, is_sidecar = pl.col("fits"), pl.col("is_sidecar")
    strays.add_keys(dataset, rows.filter(~fits)["key"])
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
        strays.add(
            UnrecognizedKey(layout.sidecar_of(key), "it is a sidecar without its object") for key in orphans["key"]
        )
    return objects.select(OBJECT_SCHEMA.names()).cast(OBJECT_SCHEMA)


def _passed_by(dataset: Dataset, names: Iterable[str]) -> set[str]:
    """Folders beside the symbols' that the exchange's module knows: of other data sets, or passed by for a reason."""
    root, source = dataset.layout.root, dataset.source
    heads = [layout.head for layout in source.layouts.values()]
    return {
        name
        for name in names
        if any(head.startswith(f"{root}{name}/") for head in heads)
        or any(not rule.last_resort and rule.pattern.match(f"{root}{name}/") for rule in source.unrecognized_rules)
    }
