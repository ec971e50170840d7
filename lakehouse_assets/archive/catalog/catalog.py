"""The catalog of an archive: what an exchange publishes, according to one walk of its bucket.

Its rows are spans (``spans.py``). Everything else (datasets, symbols, publication states, a matrix, the differences
from another catalog or from the matrix) is derived from the spans; nothing here makes a request.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

import polars as pl

from lakehouse_assets.archive.catalog.changes import CHANGE_SCHEMA, Change
from lakehouse_assets.archive.catalog.spans import COUNTS, DATASET
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.exchanges.layout import SymbolLocation
from lakehouse_assets.archive.matrix import ArchiveMatrix, DatasetEntry
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.errors import InputError

DEAD_DAYS = {Cadence.DAILY: 30, Cadence.MONTHLY: 92}
"""A dataset whose newest period ended longer ago is dead. Publications have resumed after stalls of 8 days, and a few
monthly intervals after months."""

QUIET_DAYS = {Cadence.DAILY: 7, Cadence.MONTHLY: 40}
"""A symbol that lags further behind its dataset's newest period is quiet: delisted, or no longer published."""

_UTC = pl.Datetime("us", "UTC")

UNRECOGNIZED_SCHEMA = pl.Schema(
    {
        "exchange": pl.String,
        "prefix": pl.String,
        "reason": pl.String,
        "known": pl.Boolean,
        "objects": pl.Int64,
        "bytes": pl.Int64,
        "exact": pl.Boolean,
        "example": pl.String,
        "last_modified": _UTC,
    }
)
"""Unrecognized keys: one row per prefix and reason.

``known``: a rule of the exchange's module explains them; otherwise they may be a new dataset. If not ``exact``,
``objects`` counts the first page only and is a lower bound.
"""


NO_DATASET = "no known data set lies there"
"""The reason of a folder that no rule of the exchange's module explains; it may be a new dataset. The lake's catalogs
contain this text, and catalogs are compared by it."""


class CatalogDepth(StrEnum):
    """How a catalog was made: by listing every key, or from folder names and a sample of each dataset."""

    EXACT = "exact"
    SHALLOW = "shallow"


class PublicationState(StrEnum):
    """Whether a dataset or symbol is still published."""

    LIVE = "live"
    QUIET = "quiet"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Catalog:
    """The result of one walk. ``markets`` and ``data_types`` are those that it was restricted to; None means all."""

    exchange: str
    taken_at: datetime
    depth: CatalogDepth
    spans: pl.DataFrame
    unrecognized: pl.DataFrame
    markets: tuple[str, ...] | None = None
    data_types: tuple[str, ...] | None = None
    requests: int = 0
    seconds: float = 0.0

    @property
    def today(self) -> date:
        """The exchange's date at the time of the walk."""
        return exchange_named(self.exchange).today(self.taken_at)

    def covers(self, market: str, data_type: str) -> bool:
        """Whether the walk included a market and data type."""
        return (self.markets is None or market in self.markets) and (
            self.data_types is None or data_type in self.data_types
        )

    def names_all_symbols(self, name: str) -> bool:
        """Whether the catalog has all symbols of a dataset (``um/klines/daily``). A shallow walk skips old months."""
        place = Dataset.parse(f"{self.exchange}/{name}").layout.symbol_location
        return self.depth is CatalogDepth.EXACT or place is not SymbolLocation.FILE_NAMES

    def datasets(self) -> pl.DataFrame:
        """One row per dataset: symbols (and how many are live), intervals, first and last day, objects, bytes, state.

        Unless every span is exact, objects and bytes are the mean of the sampled symbols times the number of symbols;
        they and the state are null if nothing was sampled. ``newest`` is the last day that is not in the future.
        """
        keys = DATASET
        summed = (
            self.symbols()
            .group_by(keys)
            .agg(
                pl.len().alias("symbols"),
                (pl.col("state") == PublicationState.LIVE).sum().alias("live"),
                pl.col("objects").count().alias("sampled"),
                pl.col("exact").all().alias("exact"),
                pl.col("first").min(),
                pl.col("newest").first(),
                pl.col("objects").sum(),
                pl.col("bytes").sum(),
            )
            .with_columns(
                pl.when("exact")
                .then(pl.col(name))
                .when(pl.col("sampled") > 0)
                .then((pl.col(name) / pl.col("sampled") * pl.col("symbols")).round().cast(pl.Int64))
                .alias(name)
                for name in ("objects", "bytes")
            )
        )
        intervals = self.spans.group_by(keys).agg(pl.col("interval").drop_nulls().unique().sort().alias("intervals"))
        state = (
            pl.when(pl.col("newest").is_null())
            .then(None)
            .when(pl.col("newest") >= self._since(DEAD_DAYS))
            .then(pl.lit(PublicationState.LIVE))
            .otherwise(pl.lit(PublicationState.DEAD))
        )
        return (
            summed.join(intervals, on=keys)
            .with_columns(state.alias("state"), pl.concat_str(DATASET, separator="/").alias("dataset"))
            .drop("sampled")
            .sort(keys)
        )

    def symbols(self) -> pl.DataFrame:
        """One row per dataset and symbol, over all spans and intervals: first and last day, counts, state.

        ``state`` is null if a shallow catalog did not sample the symbol.
        """
        keys = DATASET
        not_ahead = pl.col("last").filter(pl.col("last") <= pl.lit(self.today))
        return (
            self.spans.group_by(*keys, "symbol")
            .agg(
                pl.col("first").min(),
                pl.col("last").max(),
                not_ahead.max().alias("newest"),
                *(pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(name) for name in COUNTS),
                pl.col("exact").all(),
            )
            .with_columns(pl.col("newest").max().over(keys))
            .with_columns(
                pl.when(pl.col("last").is_null())
                .then(None)
                .when(pl.col("last") >= pl.col("newest") - _days(QUIET_DAYS))
                .then(pl.lit(PublicationState.LIVE))
                .otherwise(pl.lit(PublicationState.QUIET))
                .alias("state")
            )
            .sort(*keys, "symbol")
        )

    def matrix(self) -> ArchiveMatrix:
        """A matrix of everything in the catalog: every dataset with its intervals and all symbols.

        ``first_period`` is the first period in the catalog, but not earlier than the exchange's module declares. Raises
        InputError for an empty catalog.
        """
        entries = [self._entry(row) for row in self.datasets().to_dicts()]
        if not entries:
            raise InputError(
                f"No known data set of {self.exchange} was found{self._scope}; there is no matrix to make."
            )
        return ArchiveMatrix(entries=tuple(entries))

    def _entry(self, row: dict[str, object]) -> DatasetEntry:
        dataset = Dataset.parse(f"{self.exchange}/{row['dataset']}")
        published = dataset.publication
        in_catalog = row["intervals"]
        intervals = [name for name in published.intervals if isinstance(in_catalog, list) and name in in_catalog]
        fields: dict[str, object] = {"dataset": dataset}
        if published.intervals:
            fields["intervals"] = intervals or list(published.intervals)
        first = row["first"]
        if isinstance(first, date):
            last = published.ended or date.max
            fields["first_period"] = Period.containing(dataset.cadence, min(max(first, published.first), last))
        return DatasetEntry.model_validate(fields)

    @property
    def _scope(self) -> str:
        chosen = [*(self.markets or ()), *(self.data_types or ())]
        return f" in {', '.join(chosen)}" if chosen else ""

    def _since(self, days: dict[Cadence, int]) -> pl.Expr:
        return pl.lit(self.today) - _days(days)


def _days(by_cadence: dict[Cadence, int]) -> pl.Expr:
    days = pl.col("cadence").replace_strict(
        {cadence.value: days for cadence, days in by_cadence.items()}, return_dtype=pl.Int64
    )
    return pl.duration(days=days)


# Differences


_Row = tuple[Change, str, str, list[str], date | None]


def changes_between(before: Catalog, now: Catalog) -> pl.DataFrame:
    """What changed from one catalog to the next, CHANGE_SCHEMA. Compares only what both walks included."""
    old, new = (
        {row["dataset"]: row for row in catalog.datasets().to_dicts() if _both_cover(before, now, row)}
        for catalog in (before, now)
    )
    rows: list[_Row] = [(Change.NEW_DATASET, new[name]["market"], "", [name], None) for name in new.keys() - old.keys()]
    rows += [
        (Change.DATASET_GONE, old[name]["market"], "", [name], old[name]["newest"]) for name in old.keys() - new.keys()
    ]
    shared = new.keys() & old.keys()
    # A sample may lack an interval that a complete listing has.
    comparable = before.depth is CatalogDepth.EXACT or now.depth is CatalogDepth.SHALLOW
    for name in shared:
        old_row, new_row = old[name], new[name]
        if None not in (old_row["state"], new_row["state"]) and old_row["state"] != new_row["state"]:
            kind = Change.DATASET_DEAD if new_row["state"] == PublicationState.DEAD else Change.DATASET_BACK
            rows.append((kind, new_row["market"], "", [name], new_row["newest"]))
        if old_row["intervals"] and comparable:
            added = set(new_row["intervals"]) - set(old_row["intervals"])
            rows += [(Change.NEW_INTERVAL, new_row["market"], interval, [name], None) for interval in added]
    rows += _new_prefixes(before, now)
    return pl.concat([_changes(rows), *_symbol_changes(before, now, shared)]).sort("kind", "market", "name")


def _both_cover(before: Catalog, now: Catalog, row: dict[str, str]) -> bool:
    return all(catalog.covers(row["market"], row["data_type"]) for catalog in (before, now))


def _new_prefixes(before: Catalog, now: Catalog) -> list[_Row]:
    if (before.markets, before.data_types) != (now.markets, now.data_types):
        return []
    known = set(before.unrecognized.select("prefix", "reason").iter_rows())
    unknown = now.unrecognized.filter(~pl.col("known")).select("prefix", "reason")
    return [
        (Change.NEW_PREFIX, "", prefix, [], None)
        if reason == NO_DATASET
        else (Change.NEW_UNRECOGNIZED, "", f"{prefix} ({reason})", [], None)
        for prefix, reason in unknown.iter_rows()
        if (prefix, reason) not in known
    ]


def _symbol_changes(before: Catalog, now: Catalog, datasets: Collection[str]) -> list[pl.DataFrame]:
    """Symbols that are new, went quiet or are gone, in datasets that both catalogs have."""
    keys = (*DATASET, "symbol")
    named = pl.concat_str(DATASET, separator="/").alias("dataset")
    old, new = (
        catalog.symbols().with_columns(named).filter(pl.col("dataset").is_in(list(datasets)))
        for catalog in (before, now)
    )
    hidden = [name for name in datasets if now.names_all_symbols(name) and not before.names_all_symbols(name)]
    added = new.filter(~pl.col("dataset").is_in(hidden)).join(old, on=keys, how="anti")
    added = added.with_columns(pl.lit(None, pl.Date).alias("since"))
    both = new.join(old.select(*keys, pl.col("state").alias("was")), on=keys)
    quiet = both.filter(pl.col("was") == PublicationState.LIVE, pl.col("state") == PublicationState.QUIET).with_columns(
        pl.col("last").alias("since")
    )
    gone = old.join(new, on=keys, how="anti").with_columns(pl.col("last").alias("since"))
    changes = [(Change.NEW_SYMBOL, added), (Change.SYMBOL_QUIET, quiet)]
    if now.depth is CatalogDepth.EXACT:
        changes.append((Change.SYMBOL_GONE, gone))
    return [
        frame.group_by("market", pl.col("symbol").alias("name"))
        .agg(pl.col("dataset").sort().alias("datasets"), pl.col("since").max())
        .with_columns(pl.lit(kind.value).alias("kind"))
        .select(CHANGE_SCHEMA.names())
        .cast(CHANGE_SCHEMA)
        for kind, frame in changes
    ]


def against_matrix(catalog: Catalog, wanted: ArchiveMatrix) -> pl.DataFrame:
    """What the catalog has but the matrix does not, and the reverse, CHANGE_SCHEMA. Compares only what the walk
    included."""
    published = {row["dataset"]: row for row in catalog.datasets().to_dicts()}
    entries = {
        "/".join(entry.dataset.asset_key[1:]): entry
        for entry in wanted.entries
        if entry.dataset.exchange == catalog.exchange and catalog.covers(entry.dataset.market, entry.dataset.data_type)
    }
    rows: list[_Row] = [
        (
            Change.NOT_COLLECTED,
            published[name]["market"],
            "",
            [name],
            published[name]["newest"] if published[name]["state"] == PublicationState.DEAD else None,
        )
        for name in published.keys() - entries.keys()
    ]
    rows += [
        (Change.NOT_PUBLISHED, entries[name].dataset.market, "", [name], None)
        for name in entries.keys() - published.keys()
    ]
    rows += [row for name, dataset in published.items() for row in _earlier(catalog, name, dataset, entries.get(name))]
    for name in entries.keys() & published.keys():
        entry, intervals = entries[name], published[name]["intervals"]
        market = entry.dataset.market
        surplus = [interval for interval in intervals if interval not in entry.intervals]
        rows += [(Change.INTERVAL_NOT_COLLECTED, market, interval, [name], None) for interval in surplus]
        if intervals or catalog.depth is CatalogDepth.EXACT:
            missing = [interval for interval in entry.intervals if interval not in intervals]
            rows += [(Change.INTERVAL_NOT_PUBLISHED, market, interval, [name], None) for interval in missing]
        if not catalog.names_all_symbols(name):
            continue
        symbols = catalog.spans.filter(pl.concat_str(DATASET, separator="/") == name)["symbol"].unique()
        if not any(entry.symbols.selects(symbol) for symbol in symbols):
            rows.append((Change.NO_SYMBOL, market, str(entry.symbols), [name], None))
    return _changes(rows).sort("kind", "market", "datasets", "name")


def _earlier(catalog: Catalog, name: str, row: dict[str, Any], entry: DatasetEntry | None) -> list[_Row]:
    """The change of a dataset with periods before the first declared one, or else before the matrix's first period."""
    if row["first"] is None:
        return []
    dataset = Dataset.parse(f"{catalog.exchange}/{name}")
    first, known = (Period.containing(dataset.cadence, day) for day in (row["first"], dataset.publication.first))
    if first < known:
        return [(Change.EARLIER, dataset.market, f"{first} (known: {known})", [name], None)]
    if entry is not None and first < entry.first_period:
        return [(Change.EARLIER_NOT_COLLECTED, dataset.market, f"{first} to {entry.first_period}", [name], None)]
    return []


def _changes(rows: Sequence[_Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=CHANGE_SCHEMA, orient="row")
