"""The listings of source and lake for a range of periods, and their refresh after a transfer.

Folders are by symbol, so the complete range is listed first and cut into windows of periods afterwards. Objects are
packed by month as their pages arrive: about 30 bytes per object and side instead of 270.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import polars as pl

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.errors import StoreFault
from lakehouse_assets.archive.exchanges.layout import Folder, Layout
from lakehouse_assets.archive.listing import (
    OBJECT_SCHEMA,
    Lister,
    Listing,
    folders_of,
    selected_symbols,
    sidecar_keys,
)
from lakehouse_assets.archive.period import Period, month_expr, months_of
from lakehouse_assets.archive.unrecognized import UnrecognizedKeys
from lakehouse_assets.errors import InputError, StoreError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.sync.scope import Scope


@dataclass(frozen=True, slots=True)
class ListingSnapshot:
    """The listings of source and lake for some periods, and the folders and symbols that were listed."""

    folders: tuple[Folder, ...]
    source: Listing
    lake: Listing
    symbols: tuple[str, ...]

    @property
    def requests(self) -> int:
        return self.source.requests + self.lake.requests

    def contradicts(self, known: pl.DataFrame) -> bool:
        """Whether manifest rows record another object in the lake than is listed here, or one that is not listed."""
        sides = known.select("key", "lake_etag", "sidecar_lake_etag").join(
            self.lake.objects.select("key", "etag", "sidecar_etag"), on="key", how="left"
        )
        differs = (
            pl.col(known_etag).is_not_null() & pl.col(known_etag).ne_missing(pl.col(etag))
            for known_etag, etag in (("lake_etag", "etag"), ("sidecar_lake_etag", "sidecar_etag"))
        )
        return sides.select(pl.any_horizontal(differs).any()).item()


@dataclass(frozen=True, slots=True)
class PackedSnapshot:
    """The listings of a complete scope, packed by month.

    ``requests`` is the number of pages. ``left_out`` are folder names that the entry would select as symbols, but that
    are not symbols by the exchange's grammar.
    """

    scope: Scope
    symbols: tuple[str, ...]
    left_out: tuple[str, ...]
    source: _PackedListing
    lake: _PackedListing

    @property
    def requests(self) -> int:
        return self.source.requests + self.lake.requests

    @property
    def unrecognized(self) -> UnrecognizedKeys:
        """Unrecognized keys of the source."""
        return self.source.unrecognized

    def unpacked(self) -> ListingSnapshot:
        """The complete scope, with the number of requests and the unrecognized keys."""
        snapshot = self.of(self.scope)
        source = replace(
            snapshot.source, unrecognized=tuple(self.unrecognized.named), unrecognized_total=self.unrecognized.total
        )
        return replace(snapshot, source=replace(source, requests=self.requests))

    def of(self, window: Scope) -> ListingSnapshot:
        """The listings of a window of the scope. Its ``requests`` is 0: pages are counted once, for the scope."""
        names = window.names
        return ListingSnapshot(
            _folders(window, self.symbols), self.source.listing(names), self.lake.listing(names), self.symbols
        )

    def windows(self, max_objects: int) -> list[Scope]:
        """The scope cut into windows of consecutive periods.

        Each side lists at most ``max_objects`` in a window, unless a single period has more.
        """
        counts = self.source.counts | self.lake.counts  # the larger of the two
        windows: list[Scope] = []
        periods: list[Period] = []
        objects = 0
        for period in sorted(self.scope.periods):
            period_objects = counts[str(period)]
            if periods and objects + period_objects > max_objects:
                windows.append(replace(self.scope, periods=tuple(periods)))
                periods, objects = [], 0
            periods.append(period)
            objects += period_objects
        return [*windows, replace(self.scope, periods=tuple(periods))]


class _PackedListing:
    """One side's objects of some periods, packed by month as they arrive; ``counts`` has the objects per period."""

    def __init__(self, periods: Sequence[str], batches: Iterable[Listing]) -> None:
        self._months: dict[str, list[bytes]] = {}
        self.counts: Counter[str] = Counter()
        self.unrecognized = UnrecognizedKeys()
        self.requests = 0
        for batch in batches:
            self.unrecognized.add(batch.unrecognized, batch.unrecognized_total)
            self.requests += batch.requests
            # The periods of a scope may have gaps; a listing has none.
            rows = batch.objects.filter(pl.col("period").is_in(periods))
            self.counts.update(dict(rows.group_by("period").len().iter_rows()))
            by_month = rows.with_columns(month=month_expr(pl.col("period"))).partition_by(
                "month", as_dict=True, include_key=False
            )
            for (month,), month_rows in by_month.items():
                self._months.setdefault(str(month), []).append(_packed(month_rows))

    def listing(self, periods: Sequence[str]) -> Listing:
        bodies = [body for month in months_of(periods) for body in self._months.get(month, ())]
        rows = [pl.read_ipc(io.BytesIO(body)).filter(pl.col("period").is_in(periods)) for body in bodies]
        return Listing(pl.concat([OBJECT_SCHEMA.to_frame(), *rows]), (), 0)


class SnapshotReader:
    """Lists a source and a lake, with ``concurrency`` parallel requests per side."""

    def __init__(self, source: Bucket, lake: Lake, *, concurrency: int) -> None:
        self._source = source
        self._lake = lake
        self._concurrency = concurrency

    def read(self, scope: Scope) -> PackedSnapshot:
        """List both sides. Raises InputError for an unknown symbol, StoreError if a side cannot be listed."""
        dataset, entry = scope.entry.dataset, scope.entry
        source, lake = self._listers(scope)
        first, last = min(scope.periods), max(scope.periods)
        with ThreadPoolExecutor(max_workers=3) as pool:
            source_names, lake_names = (
                pool.submit(side.names, dataset, intervals=entry.intervals, first=first, last=last)
                for side in (source, lake)
            )
            known_symbols = pool.submit(Manifest(self._lake, dataset).symbols, scope.names)
            names = source_names.result()
            symbols = selected_symbols(names.symbols, entry.symbols.selects, known_symbols.result())
            unknown = sorted(set(scope.symbols) - set(symbols))
            if unknown:
                raise InputError(f"{dataset} has no symbol {unknown[0]!r} in its archive.")
            in_lake = set(lake_names.result().symbols)
            lake_symbols = [symbol for symbol in symbols if symbol in in_lake]
            source_side, lake_side = (
                pool.submit(_PackedListing, scope.names, side.batches(dataset, _folders(scope, side_symbols)))
                for side, side_symbols in ((source, symbols), (lake, lake_symbols))
            )
            left_out = selected_symbols(names.odd, entry.symbols.selects)
            return PackedSnapshot(scope, symbols, left_out, source_side.result(), lake_side.result())

    def refresh(
        self, scope: Scope, before: ListingSnapshot, outcomes: pl.DataFrame
    ) -> tuple[ListingSnapshot, pl.DataFrame, StoreError | None]:
        """List the folders of moved files in the lake again, and in the source if a copy differs from the plan.

        Takes and returns outcomes of OUTCOME_SCHEMA. If the source cannot be listed any more, its StoreError is
        returned as well: proven copies stay, and copies that only a new listing could have explained have failed.
        """
        if outcomes.is_empty():
            return before, outcomes, None
        dataset = scope.entry.dataset
        source, lake = self._listers(scope)
        touched = _holding(before.folders, outcomes["key"])
        lake_now = _replaced(before.lake, _only(lake.objects(dataset, touched), scope), touched)
        differs = _differs_from_plan(outcomes, lake_now.objects, dataset.layout)
        source_folders = _holding(before.folders, outcomes.filter(differs)["key"])
        try:
            source_now = _replaced(before.source, _only(source.objects(dataset, source_folders), scope), source_folders)
        except StoreError as error:
            proven = pl.col("fault").is_not_null() | (pl.col("md5") == pl.col("etag")).fill_null(value=False)
            unlisted = pl.lit(str(StoreFault("NotAsked", "the source could not be listed again after the copy")))
            outcomes = outcomes.with_columns(fault=pl.when(differs & ~proven).then(unlisted).otherwise("fault"))
            return replace(before, lake=lake_now), outcomes, error
        return replace(before, source=source_now, lake=lake_now), outcomes, None

    def _listers(self, scope: Scope) -> tuple[Lister, Lister]:
        return (
            Lister(self._source, concurrency=self._concurrency),
            Lister(
                self._lake.bucket, root=self._lake.key(scope.entry.dataset.lake_root), concurrency=self._concurrency
            ),
        )


def _packed(rows: pl.DataFrame) -> bytes:
    body = io.BytesIO()
    rows.write_ipc(body, compression="zstd")
    return body.getvalue()


def _folders(scope: Scope, symbols: Sequence[str]) -> tuple[Folder, ...]:
    first, last = min(scope.periods), max(scope.periods)
    entry = scope.entry
    return tuple(folders_of(entry.dataset, symbols=symbols, intervals=entry.intervals, first=first, last=last))


def _differs_from_plan(outcomes: pl.DataFrame, lake: pl.DataFrame, layout: Layout) -> pl.Series:
    """Whether each outcome failed or left another ETag in the lake than was planned.

    The source's file was then rewritten or withdrawn after the listing, or it was not: only a new listing tells.
    """
    listed = pl.concat(
        [
            lake.select("key", "etag"),
            lake.select(sidecar_keys(layout).alias("key"), pl.col("sidecar_etag").alias("etag")),
        ]
    ).drop_nulls()
    sides = outcomes.select("key", "etag", "fault").join(
        listed, on="key", how="left", suffix="_listed", maintain_order="left"
    )
    return sides.select(pl.col("fault").is_not_null() | pl.col("etag").ne_missing(pl.col("etag_listed"))).to_series()


def _folder(column: str = "key") -> pl.Expr:
    return pl.col(column).str.replace(r"[^/]*$", "")


def _holding(folders: Sequence[Folder], keys: pl.Series) -> list[Folder]:
    """The folders of the keys."""
    touched = set(keys.to_frame("key").select(_folder()).to_series())
    return [folder for folder in folders if folder.prefix in touched]


def _replaced(listing: Listing, newer: Listing, folders: Sequence[Folder]) -> Listing:
    """A listing with some of its folders replaced by newer listings of them."""
    prefixes = [folder.prefix for folder in folders]
    others = listing.objects.filter(~_folder().is_in(prefixes))
    return replace(listing, objects=pl.concat([others, newer.objects]), requests=listing.requests + newer.requests)


def _only(listing: Listing, scope: Scope) -> Listing:
    """The periods of the scope, which may have gaps; a listing has none."""
    return replace(listing, objects=listing.objects.filter(pl.col("period").is_in(scope.names)))
