"""Summaries of the manifests by period, cached between ticks of the sensor.

A tick asks every manifest which periods are complete. Of ten years of rows, only the months whose files changed are
read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import polars as pl
from deltalake import DeltaTable

from lakehouse_assets.lake.commit import files_by_month, with_missing_columns
from lakehouse_assets.lake.delta.errors import READ_ERRORS
from lakehouse_assets.lake.delta.latest import LatestTables
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA, Manifest
from lakehouse_assets.lake.states import ObjectState

_COUNTS = pl.Schema(
    {
        "month": pl.String,
        "period": pl.String,
        "state": pl.String,
        "objects": pl.UInt32,
        "missed": pl.UInt32,
        "published": MANIFEST_SCHEMA["source_last_modified"],
    }
)


@dataclass(frozen=True)
class ManifestSummary:
    """One manifest, by period.

    ``counts`` has a row per ``period`` and ``state``: the number of ``objects``, how many of them are ``missed``
    (absent from a listing that was rejected as implausible), and ``published``, the median of their last-modified times
    at the source (UTC). ``symbols``: every symbol that has a row.
    """

    counts: pl.DataFrame
    symbols: frozenset[str]

    @cached_property
    def complete(self) -> dict[str, int]:
        """The number of present objects of each complete period: all its objects are in the lake or withdrawn."""
        by_period = self.counts.group_by("period").agg(
            (pl.col("state").is_in([ObjectState.PRESENT.value, ObjectState.WITHDRAWN.value]) & (pl.col("missed") == 0))
            .all()
            .alias("complete"),
            pl.col("objects").filter(pl.col("state") == ObjectState.PRESENT).sum(),
        )
        return dict(by_period.filter("complete").select("period", "objects").sort("period").iter_rows())

    @cached_property
    def published(self) -> dict[str, datetime]:
        """When each period was published: the median over its objects. Periods ascend."""
        present = self.counts.filter(pl.col("state") == ObjectState.PRESENT, pl.col("published").is_not_null())
        return dict(present.select("period", "published").sort("period").iter_rows())


@dataclass
class _CachedManifest:
    """A manifest as of its last read; ``files`` are the table's data files by month."""

    table: DeltaTable
    version: int
    files: dict[str, frozenset[str]]
    summary: ManifestSummary


@dataclass
class ManifestCache:
    """Reads each month of each manifest once. For one process; threads may read different manifests concurrently."""

    _tables: LatestTables = field(default_factory=LatestTables)
    _kept: dict[str, _CachedManifest] = field(default_factory=dict)
    _seen: dict[str, set[str]] = field(default_factory=dict)

    def new_symbols(self, dataset: str, symbols: Sequence[str], known: frozenset[str]) -> list[str]:
        """The listed symbols without a row in the manifest, each returned once; none while the manifest is empty."""
        seen = self._seen.setdefault(dataset, set())
        new = [symbol for symbol in symbols if symbol not in known and symbol not in seen] if known else []
        seen.update(new)
        return new

    def known(self, manifest: Manifest) -> ManifestSummary:
        """The summary of a manifest. Raises StoreError if it cannot be read."""
        kept = self._kept.get(manifest.url)
        try:
            table = self._tables.of(manifest.url, manifest.table)
            if table is None:
                self._kept.pop(manifest.url, None)
                return ManifestSummary(_COUNTS.to_frame(), frozenset())
            return self._read(manifest.url, table, kept)
        except READ_ERRORS as error:
            raise manifest.read_error(error) from error

    def _read(self, url: str, table: DeltaTable, kept: _CachedManifest | None) -> ManifestSummary:
        if kept is not None and kept.table is table and kept.version == table.version():
            return kept.summary
        files = files_by_month(table)
        files_before = kept.files if kept is not None else {}
        changed = [month for month, names in files.items() if files_before.get(month) != names]
        counts, symbols = _summarized_months(table, changed)
        if kept is not None:
            unchanged = pl.col("month").is_in(list(files)) & ~pl.col("month").is_in(changed)
            counts = pl.concat([kept.summary.counts.filter(unchanged), counts])
            symbols |= kept.summary.symbols
        summary = ManifestSummary(counts, symbols)
        self._kept[url] = _CachedManifest(table, table.version(), files, summary)
        return summary


def _summarized_months(table: DeltaTable, months: list[str]) -> tuple[pl.DataFrame, frozenset[str]]:
    if not months:
        return _COUNTS.to_frame(), frozenset()
    scan = with_missing_columns(pl.scan_delta(table).filter(pl.col("month").is_in(months)), MANIFEST_SCHEMA)
    counts = scan.group_by("month", "period", "state").agg(
        pl.len().alias("objects"),
        pl.col("missed_at").count().alias("missed"),
        pl.col("source_last_modified").median().alias("published"),
    )
    counts, symbols = pl.collect_all([counts, scan.select(pl.col("symbol").unique())])
    return counts.select(_COUNTS.names()).cast(_COUNTS), frozenset(symbols["symbol"].drop_nulls())
