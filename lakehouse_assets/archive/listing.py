"""Listing a range of a dataset's periods, in a source or in a lake, into frames.

Folders are listed concurrently, each from the first key of the range to the last, so a day of
a symbol costs one request however long its history is. obstore lists; it refuses a whole prefix
for one key that it cannot represent (a newline, an empty path segment), and then boto3 lists
that prefix instead. A listing is whole or it raises: a part of one would look like missing data.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import obstore
import polars as pl
from obstore.exceptions import InvalidPathError

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges.grammar import ALL_SYMBOLS, Folder, Layout, Stray, SymbolPlace, compiled
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.archive.store_errors import CLIENT_ERRORS, store_error
from lakehouse_assets.errors import StoreError
from lakehouse_assets.observability.metrics import LISTING_KEYS, LISTING_REQUESTS, LISTING_SECONDS, count, timed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PAGE = 1000
"""Keys per page: S3's ceiling."""

FOLDERS_PARSED = 64
"""Folders whose pages become objects at once: one query each would take longer than the requests do."""

KEYS_PARSED = 8 * PAGE
"""Keys at which that is enough: a folder may hold ten years."""

KEY_SCHEMA = pl.Schema(
    {
        "key": pl.String,
        "size": pl.Int64,
        "etag": pl.String,
        "last_modified": pl.Datetime("us", "UTC"),
    }
)
"""One row per key as the store lists it; ``size`` in bytes, ETags without quotes."""

_PAGE_SCHEMA = {
    "path": pl.String,
    "size": pl.UInt64,
    "e_tag": pl.String,
    "last_modified": pl.Datetime("us", "UTC"),
}
"""A page as obstore's Arrow batches have it; ETags in quotes."""

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


_Listed = tuple[Folder, tuple[list[pl.DataFrame], int]]
"""A folder, the pages of it and what they cost."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Archive objects of a range, strays met on the way, and what it cost.

    ``objects`` has OBJECT_SCHEMA and one row per key; ``key`` is the source key, also when a
    lake was listed.
    """

    objects: pl.DataFrame
    strays: tuple[Stray, ...]
    requests: int


class Lister:
    """Lists one bucket with one connection pool and a bounded number of requests at a time.

    ``root`` is put before every source key: empty for a source, the lake's prefix for a lake.
    ``concurrency`` is cut to what the bucket allows.
    """

    def __init__(self, bucket: Bucket, *, root: str = "", concurrency: int = 32) -> None:
        self._bucket = bucket
        self._root = root
        self._concurrency = bucket.at_most(concurrency)
        self._store = bucket.object_store()

    @cached_property
    def _client(self) -> S3Client:
        """Made when it is needed: that takes longer than most listings."""
        return self._bucket.boto3_client()

    def symbols(
        self,
        dataset: Dataset,
        *,
        intervals: Sequence[str] = (),
        first: Period | None = None,
        last: Period | None = None,
    ) -> tuple[str, ...]:
        """Symbols of the dataset, sorted. Names that are no symbol are left out.

        Where symbols have folders, those of any time. Where they are the beginnings of file names in
        folders of months, those of the range (without one: of any time) and the intervals (all).
        ``*`` alone where every object holds all symbols.
        """
        layout = dataset.layout
        if layout.symbol_place is SymbolPlace.NOWHERE:
            return (ALL_SYMBOLS,)
        if layout.symbol_place is SymbolPlace.FOLDERS:
            names = set(self._folders(layout.root))
        else:
            with ThreadPoolExecutor(max_workers=self._concurrency) as pool:
                months = self._months(dataset, intervals, first, last)
                names = set().union(*pool.map(lambda month: set(self._beginnings(month, layout.symbol_end)), months))
        return tuple(sorted(name for name in names if compiled(layout.symbol).fullmatch(name)))

    def objects(self, dataset: Dataset, folders: Sequence[Folder]) -> Listing:
        """Archive objects of ``folders``, narrowed to each folder's range and symbols.

        A folder that spans several symbols may bring other periods of its month.
        """
        listed = list(self.batches(dataset, folders))
        return Listing(
            pl.concat([OBJECT_SCHEMA.to_frame(), *(batch.objects for batch in listed)]),
            tuple(stray for batch in listed for stray in batch.strays),
            sum(batch.requests for batch in listed),
        )

    def batches(self, dataset: Dataset, folders: Sequence[Folder]) -> Iterator[Listing]:
        """As :meth:`objects`, some folders at a time, in order."""
        wanted = list({symbol for folder in folders if folder.symbols for symbol in folder.symbols})
        place = {"exchange": dataset.exchange, "side": "lake" if self._root else "source"}
        with timed(LISTING_SECONDS, **place), ThreadPoolExecutor(max_workers=self._concurrency) as pool:
            for some in _batched(zip(folders, pool.map(self._keys, folders), strict=True)):
                keys = self._narrowed((folder, pages) for folder, (pages, _) in some)
                objects, strays = _parse(dataset, keys, lone_sidecars=bool(self._root))
                requests = sum(pages for _, (_, pages) in some)
                count(LISTING_REQUESTS, requests, **place)
                count(LISTING_KEYS, keys.height, **place)
                if wanted:
                    objects = objects.filter(pl.col("symbol").is_in(wanted))
                yield Listing(objects, strays, requests)

    def _folders(self, prefix: str) -> list[str]:
        """Names of the folders right below a prefix of the source."""
        prefix = self._root + prefix
        try:
            found: Iterable[str] = obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]
        except InvalidPathError:
            found = self._boto3_folders(prefix)
        except CLIENT_ERRORS as error:
            raise store_error(f"Listing {self._bucket.url}/{prefix}", error) from error
        return [folder.rstrip("/").rsplit("/", 1)[-1] for folder in found]

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
        """What the names below a prefix begin with, up to a character.

        Each page begins after the last name of the one before it, and not where its token says:
        SeaweedFS' token of a page that ends with such a name lists it again, for ever. A store that does
        not know such delimiters lists the keys themselves.
        """
        prefix = self._root + prefix
        after = prefix
        while True:
            try:
                page = self._client.list_objects_v2(
                    Bucket=self._bucket.name, Prefix=prefix, Delimiter=end, StartAfter=after
                )
            except CLIENT_ERRORS as error:
                raise store_error(f"Listing {self._bucket.url}/{prefix}", error) from error
            found = [folder["Prefix"] for folder in page.get("CommonPrefixes", ())]
            keys = [entry["Key"] for entry in page.get("Contents", ())]
            yield from (name.removeprefix(prefix).partition(end)[0] for name in (*found, *keys))
            if not page["IsTruncated"]:
                return
            if not (found or keys):
                raise StoreError(f"Listing {self._bucket.url}/{prefix} failed: a page that is not the last is empty.")
            # The first key that could follow those that begin so.
            after = max(*(name[:-1] + chr(ord(end) + 1) for name in found), *keys, "")

    def _keys(self, folder: Folder) -> tuple[list[pl.DataFrame], int]:
        try:
            return self._collect(folder, self._obstore_pages(folder))
        except InvalidPathError:
            pass
        except CLIENT_ERRORS as error:
            raise store_error(f"Listing {self._bucket.url}/{self._root}{folder.prefix}", error) from error
        return self._collect(folder, self._boto3_pages(folder))

    def _collect(self, folder: Folder, pages: Iterator[pl.DataFrame]) -> tuple[list[pl.DataFrame], int]:
        """Pages up to the first key past the folder's range, and what they cost."""
        kept: list[pl.DataFrame] = []
        beyond = self._root + folder.last
        for page in pages:
            kept.append(page)
            last = page.item(-1, "path")
            if last > beyond and not last.startswith(beyond):
                break
        return kept, max(1, math.ceil(sum(page.height for page in kept) / PAGE))

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
            pl.concat([page for _, page in listed], how="diagonal")
            .hstack(ranges.select(pl.col("first", "last").repeat_by("height").explode()))
            .lazy()
            .with_columns(
                pl.col("path").str.strip_prefix(self._root).alias("key"),
                pl.col("size").cast(pl.Int64),
                pl.col("e_tag").str.strip_chars('"').alias("etag"),
            )
            .filter(key >= first, (key <= last) | key.str.starts_with(last))
            .select(KEY_SCHEMA.names())
            .collect()
        )

    def _obstore_pages(self, folder: Folder) -> Iterator[pl.DataFrame]:
        # The prefix ends with a slash: obstore matches whole path segments only.
        stream = obstore.list(
            self._store,
            prefix=self._root + folder.prefix,
            offset=self._root + folder.first,
            chunk_size=PAGE,
            return_arrow=True,
        )
        for batch in stream:
            page = pl.DataFrame(batch)
            if page.height:
                yield page

    def _boto3_pages(self, folder: Folder) -> Iterator[pl.DataFrame]:
        paginator = self._client.get_paginator("list_objects_v2")
        pages = paginator.paginate(
            Bucket=self._bucket.name,
            Prefix=self._root + folder.prefix,
            StartAfter=self._root + folder.first,
        )
        for page in self._boto3(pages, folder.prefix):
            if page.get("Contents"):
                yield pl.DataFrame(
                    [(entry["Key"], entry["Size"], entry["ETag"], entry["LastModified"]) for entry in page["Contents"]],
                    schema=_PAGE_SCHEMA,
                    orient="row",
                )

    def _boto3_folders(self, prefix: str) -> Iterator[str]:
        paginator = self._client.get_paginator("list_objects_v2")
        for page in self._boto3(paginator.paginate(Bucket=self._bucket.name, Prefix=prefix, Delimiter="/"), prefix):
            yield from (folder["Prefix"] for folder in page.get("CommonPrefixes", ()))

    def _boto3(self, pages: Iterable[Any], prefix: str) -> Iterator[Any]:
        try:
            yield from pages
        except CLIENT_ERRORS as error:
            raise store_error(f"Listing {self._bucket.url}/{self._root}{prefix}", error) from error


def _batched(listed: Iterable[_Listed]) -> Iterator[list[_Listed]]:
    """Folders to parse together."""
    batch: list[_Listed] = []
    keys = 0
    for one in listed:
        batch.append(one)
        _, (pages, _) = one
        keys += sum(page.height for page in pages)
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
    return _digest_of(objects.select(_CONTENT_LINE.alias("line"))["line"].sort())


def content_digests(objects: pl.DataFrame, periods: Sequence[str]) -> dict[str, str]:
    """The content digest of each period's objects."""
    lines = objects.select("period", _CONTENT_LINE.alias("line")).group_by("period").agg(pl.col("line").sort())
    return dict.fromkeys(periods, _digest_of(())) | {period: _digest_of(some) for period, some in lines.iter_rows()}


_CONTENT_LINE = pl.concat_str("key", "size", "etag", pl.col("sidecar_etag").fill_null(""), separator="\t")


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


def _parse(dataset: Dataset, keys: pl.DataFrame, *, lone_sidecars: bool) -> tuple[pl.DataFrame, tuple[Stray, ...]]:
    """Split listed keys into archive objects (sidecars joined on) and strays.

    A sidecar without its object is a stray, or a row of its own where ``lone_sidecars``.
    """
    rows = read_keys(dataset, keys)
    fits, is_sidecar = pl.col("fits"), pl.col("is_sidecar")
    strays = [stray for key in rows.filter(~fits)["key"] if (stray := _stray(dataset, key))]
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
        strays += [Stray(layout.sidecar_of(key), "it is a sidecar without its object") for key in orphans["key"]]
    return objects.select(OBJECT_SCHEMA.names()).cast(OBJECT_SCHEMA), tuple(strays)


def _stray(dataset: Dataset, key: str) -> Stray | None:
    """None for an object of another data set that shares the folder."""
    parsed = dataset.source.parse(key)
    return parsed if isinstance(parsed, Stray) else None
