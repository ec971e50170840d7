"""Both sides of a range: what the source lists and what the lake lists, and the same again after a transfer.

Folders are by symbol, so a range is listed as a whole and then cut into parts by period. It is packed
as it comes, by month: some 30 bytes an object and side instead of 270.
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
from lakehouse_assets.archive.exchanges.grammar import Folder, Layout
from lakehouse_assets.archive.listing import (
    OBJECT_SCHEMA,
    Lister,
    Listing,
    folders_of,
    selected_symbols,
    sidecar_keys,
)
from lakehouse_assets.archive.period import Period
from lakehouse_assets.archive.unrecognized import UnrecognizedKeys
from lakehouse_assets.errors import InputError, StoreError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.sync.scope import Scope


@dataclass(frozen=True, slots=True)
class ListingSnapshot:
    """Both listings of some periods, the folders listed for them and the pages that it took."""

    folders: tuple[Folder, ...]
    source: Listing
    lake: Listing
    symbols: tuple[str, ...]

    @property
    def requests(self) -> int:
        return self.source.requests + self.lake.requests

    def contradicts(self, known: pl.DataFrame) -> bool:
        """Whether manifest rows tell of another object in the lake than is listed here, or of one that is not."""
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
    """Both listings of a whole scope, packed by month. ``requests`` are the pages that it took; ``left_out`` are names
    in the place of symbols that the entry would select and that are none."""

    scope: Scope
    symbols: tuple[str, ...]
    left_out: tuple[str, ...]
    source: _PackedListing
    lake: _PackedListing

    @property
    def requests(self) -> int:
        return self.source.requests + self.lake.requests

    @property
    def strays(self) -> UnrecognizedKeys:
        """Of the source."""
        return self.source.strays

    def whole(self) -> ListingSnapshot:
        survey = self.within(self.scope)
        source = replace(survey.source, strays=tuple(self.strays.named), strays_total=self.strays.total)
        return replace(survey, source=replace(source, requests=self.requests))

    def within(self, part: Scope) -> ListingSnapshot:
        """A part of it, without the pages, which are counted with the whole."""
        names = part.names
        return ListingSnapshot(
            _folders(part, self.symbols), self.source.listing(names), self.lake.listing(names), self.symbols
        )

    def parts(self, most: int) -> list[Scope]:
        """The scope cut into consecutive periods of which either side lists at most so many objects."""
        objects = self.source.counts | self.lake.counts  # the larger of the two
        parts: list[Scope] = []
        periods: list[Period] = []
        held = 0
        for period in sorted(self.scope.periods):
            here = objects[str(period)]
            if periods and held + here > most:
                parts.append(replace(self.scope, periods=tuple(periods)))
                periods, held = [], 0
            periods.append(period)
            held += here
        return [*parts, replace(self.scope, periods=tuple(periods))]


class _PackedListing:
    """One side's objects of some periods, packed by month as they come; ``counts`` are by period."""

    def __init__(self, periods: Sequence[str], batches: Iterable[Listing]) -> None:
        self._months: dict[str, list[bytes]] = {}
        self.counts: Counter[str] = Counter()
        self.strays = UnrecognizedKeys()
        self.requests = 0
        for batch in batches:
            self.strays.add(batch.strays, batch.strays_total)
            self.requests += batch.requests
            # A range may have gaps.
            rows = batch.objects.filter(pl.col("period").is_in(periods))
            self.counts.update(dict(rows.group_by("period").len().iter_rows()))
            by_month = rows.with_columns(month=pl.col("period").str.head(7)).partition_by(
                "month", as_dict=True, include_key=False
            )
            for (month,), some in by_month.items():
                self._months.setdefault(str(month), []).append(_packed(some))

    def listing(self, periods: Sequence[str]) -> Listing:
        packed = [some for month in sorted({period[:7] for period in periods}) for some in self._months.get(month, ())]
        rows = [pl.read_ipc(io.BytesIO(some)).filter(pl.col("period").is_in(periods)) for some in packed]
        return Listing(pl.concat([OBJECT_SCHEMA.to_frame(), *rows]), (), 0)


class SnapshotReader:
    """Lists a source and a lake; ``concurrency`` requests at a time on each side."""

    def __init__(self, source: Bucket, lake: Lake, *, concurrency: int) -> None:
        self._source = source
        self._lake = lake
        self._concurrency = concurrency

    def survey(self, scope: Scope) -> PackedSnapshot:
        """Raises InputError for a symbol that there is not, StoreError where a side cannot be listed."""
        dataset, entry = scope.entry.dataset, scope.entry
        source, lake = self._listers(scope)
        first, last = min(scope.periods), max(scope.periods)
        with ThreadPoolExecutor(max_workers=3) as pool:
            listed, in_lake = (
                pool.submit(side.names, dataset, intervals=entry.intervals, first=first, last=last)
                for side in (source, lake)
            )
            known = pool.submit(Manifest(self._lake, dataset).symbols, scope.names)
            names = listed.result()
            symbols = selected_symbols(names.symbols, entry.symbols.selects, known.result())
            unknown = sorted(set(scope.symbols) - set(symbols))
            if unknown:
                raise InputError(f"{dataset} has no symbol {unknown[0]!r} in its archive.")
            here = set(in_lake.result().symbols)
            held = [symbol for symbol in symbols if symbol in here]
            source_side, lake_side = (
                pool.submit(_PackedListing, scope.names, side.batches(dataset, _folders(scope, some)))
                for side, some in ((source, symbols), (lake, held))
            )
            left_out = selected_symbols(names.odd, entry.symbols.selects)
            return PackedSnapshot(scope, symbols, left_out, source_side.result(), lake_side.result())

    def look_again(
        self, scope: Scope, before: ListingSnapshot, outcomes: pl.DataFrame
    ) -> tuple[ListingSnapshot, pl.DataFrame, StoreError | None]:
        """List the lake's touched folders again, and the source's where a copy differs from the plan.

        A source that can no longer be asked takes nothing from what is proven: its StoreError is
        returned, and the outcomes that only it could have explained have failed.
        """
        if outcomes.is_empty():
            return before, outcomes, None
        dataset = scope.entry.dataset
        source, lake = self._listers(scope)
        touched = _holding(before.folders, outcomes["key"])
        lake_now = _replaced(before.lake, _only(lake.objects(dataset, touched), scope), touched)
        odd = _odd(outcomes, lake_now.objects, dataset.layout)
        asked = _holding(before.folders, outcomes.filter(odd)["key"])
        try:
            source_now = _replaced(before.source, _only(source.objects(dataset, asked), scope), asked)
        except StoreError as error:
            proven = pl.col("fault").is_not_null() | (pl.col("md5") == pl.col("etag")).fill_null(value=False)
            unasked = pl.lit(str(StoreFault("NotAsked", "the source could not be asked what it has now")))
            outcomes = outcomes.with_columns(fault=pl.when(odd & ~proven).then(unasked).otherwise("fault"))
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


def _odd(outcomes: pl.DataFrame, lake: pl.DataFrame, layout: Layout) -> pl.Series:
    """Of each outcome whether it failed or left another ETag in the lake than was planned.

    It was rewritten between listing and copy, or is gone: only the source can say.
    """
    seen = pl.concat(
        [
            lake.select("key", "etag"),
            lake.select(sidecar_keys(layout).alias("key"), pl.col("sidecar_etag").alias("etag")),
        ]
    ).drop_nulls()
    sides = outcomes.select("key", "etag", "fault").join(
        seen, on="key", how="left", suffix="_seen", maintain_order="left"
    )
    return sides.select(pl.col("fault").is_not_null() | pl.col("etag").ne_missing(pl.col("etag_seen"))).to_series()


def _folder(column: str = "key") -> pl.Expr:
    return pl.col(column).str.replace(r"[^/]*$", "")


def _holding(folders: Sequence[Folder], keys: pl.Series) -> list[Folder]:
    """The folders that hold any of the keys."""
    touched = set(keys.to_frame("key").select(_folder()).to_series())
    return [folder for folder in folders if folder.prefix in touched]


def _replaced(listing: Listing, again: Listing, asked: Sequence[Folder]) -> Listing:
    """A listing with some of its folders listed again."""
    prefixes = [folder.prefix for folder in asked]
    kept = listing.objects.filter(~_folder().is_in(prefixes))
    return replace(listing, objects=pl.concat([kept, again.objects]), requests=listing.requests + again.requests)


def _only(listing: Listing, scope: Scope) -> Listing:
    """The periods that were asked for: a range may have gaps."""
    return replace(listing, objects=listing.objects.filter(pl.col("period").is_in(scope.names)))
