"""The manifest: what was synced, one row per archive object, as a Delta table per dataset.

The lake's listing is the truth. The manifest records what a listing cannot show: the source's ETag of the copied
content, how it was moved, when and by which run. A commit replaces exactly the rows of the periods that were synced, as
one conditional write. After a commit conflict, the rows are read again and built anew.

The ``state`` of a row: ``present`` is in the lake as copied; ``missing`` and ``changed`` are listed by the source but
not (or not with their new content) in the lake; ``failed`` had an error in the last run; ``vanished`` was withdrawn:
the source no longer lists it, and the lake's copy stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.period import months_of
from lakehouse_assets.errors import StoreError
from lakehouse_assets.lake.commit import KEEP_LOG_FILES, commit_attempts, files_by_month, with_missing_columns
from lakehouse_assets.lake.delta.errors import READ_ERRORS, table_error
from lakehouse_assets.lake.delta.repair import restart_log
from lakehouse_assets.lake.delta.table import open_delta
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.store.conditional_writes import require_conditional_writes

_UTC = pl.Datetime("us", "UTC")

MANIFEST_SCHEMA = pl.Schema(
    {
        "month": pl.String,
        "period": pl.String,
        "symbol": pl.String,
        "interval": pl.String,
        "part": pl.String,
        "key": pl.String,
        "state": pl.String,
        "size": pl.Int64,
        "source_etag": pl.String,
        "source_last_modified": _UTC,
        "lake_etag": pl.String,
        "lake_last_modified": _UTC,
        "sidecar_size": pl.Int64,
        "sidecar_source_etag": pl.String,
        "sidecar_last_modified": _UTC,
        "sidecar_lake_etag": pl.String,
        "integrity": pl.String,
        "integrity_note": pl.String,
        "copy_differs": pl.Boolean,
        "sha256": pl.String,
        "md5": pl.String,
        "published_digest": pl.String,
        "verified_at": _UTC,
        "verified_etag": pl.String,
        "mode": pl.String,
        "synced_at": _UTC,
        "run_id": pl.String,
        "former_etag": pl.String,
        "former_sha256": pl.String,
        "superseded_key": pl.String,
        "error": pl.String,
        "seen_at": _UTC,
        "missed_at": _UTC,
        "sidecar_withdrawn": pl.Boolean,
    }
)
"""``month`` is the table's partition. ``key`` is the source's. Times are UTC, sizes bytes.

``integrity`` is an Integrity (lake/states.py), ``integrity_note`` the reason unless it is simply verified,
``copy_differs`` whether the lake's bytes differ from the source's. ``sha256`` and ``md5`` are of the bytes read at
``verified_at`` under the lake ETag ``verified_etag``; ``published_digest`` is the sidecar's.

``lake_etag`` is null if the lake does not have the recorded copy: somebody deleted or replaced it. ``seen_at`` is when
a commit last saw the copy in the lake; a sync that commits nothing does not update it.

``former_etag``, ``former_sha256`` and ``superseded_key`` are of the content that the present one replaced; the table's
history has earlier ones.

``missed_at`` is when an implausible listing first lacked the object or its sidecar (lake/withdrawal.py); null while it
is listed. ``sidecar_withdrawn``: the source lists the object without the sidecar that it had.
"""

RECORDED_SCHEMA = pl.Schema(
    {
        name: MANIFEST_SCHEMA[name]
        for name in (
            "key",
            "period",
            "symbol",
            "interval",
            "state",
            "size",
            "source_etag",
            "sidecar_source_etag",
            "missed_at",
        )
    }
)
"""The manifest's columns that a listing of the source is compared with."""

SYMBOL_PERIODS_SCHEMA = pl.Schema({"symbol": pl.String, "first": pl.String, "last": pl.String})
"""The first and the last period of each symbol."""

_COMMIT_DEADLINE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class ManifestSnapshot:
    """Manifest rows of some periods (MANIFEST_SCHEMA), and the table's version; None without a table."""

    rows: pl.DataFrame
    version: int | None


def manifest_remedy(dataset: Dataset) -> str:
    """The remedy for a damaged manifest."""
    return f"Rebuild it: lakehouse rebuild-manifests {dataset}."


class Manifest:
    """One dataset's manifest in one lake."""

    def __init__(self, lake: Lake, dataset: Dataset) -> None:
        self._lake = lake
        self._dataset = dataset
        self._url = lake.url(dataset.manifest_prefix)

    def read(self, periods: Sequence[str]) -> pl.DataFrame:
        """Rows of the given periods (all periods when empty), MANIFEST_SCHEMA; empty without a table."""
        return self.snapshot(periods).rows

    def snapshot(self, periods: Sequence[str]) -> ManifestSnapshot:
        """As :meth:`read`, with the version that :meth:`replace` compares."""
        return self._snapshot(self.table(), periods)

    def symbols(self, periods: Sequence[str]) -> list[str]:
        """Symbols of the given periods' rows, unordered. Reads three columns only."""
        table = self.table()
        if table is None:
            return []
        return self.collect(_scan(table, periods).select(pl.col("symbol").unique()))["symbol"].to_list()

    def spans(self, periods: Sequence[str]) -> pl.DataFrame:
        """The first and the last of the given periods in which a symbol has rows of any state,
        SYMBOL_PERIODS_SCHEMA."""
        table = self.table()
        period = pl.col("period")
        try:
            scan = MANIFEST_SCHEMA.to_frame().lazy() if table is None else _scan(table, periods)
            windows = scan.group_by("symbol").agg(period.min().alias("first"), period.max().alias("last")).collect()
        except READ_ERRORS as error:
            raise self.read_error(error) from error
        return windows.match_to_schema(SYMBOL_PERIODS_SCHEMA)

    def contents(self, periods: Sequence[str], *, first: str = "", end: str | None = None) -> pl.DataFrame:
        """Rows of the periods with a ``key`` from ``first`` on and before ``end``, RECORDED_SCHEMA."""
        table = self.table()
        if table is None:
            return RECORDED_SCHEMA.to_frame()
        within = pl.col("key") >= first if end is None else (pl.col("key") >= first) & (pl.col("key") < end)
        rows = with_missing_columns(_scan(table, periods), MANIFEST_SCHEMA)
        return self.collect(rows.filter(within).select(RECORDED_SCHEMA.names()))

    def months(self) -> tuple[dict[str, frozenset[str]], Callable[[Sequence[str]], pl.LazyFrame]]:
        """The data files of each month, and a function that scans the rows of some months, both of one version.

        A month with the same files has the same rows. :meth:`collect` reads a scan.
        """
        table = self.table()
        if table is None:
            return {}, lambda _months: MANIFEST_SCHEMA.to_frame().lazy()

        def scan(months: Sequence[str]) -> pl.LazyFrame:
            return with_missing_columns(
                pl.scan_delta(table).filter(pl.col("month").is_in(list(months))), MANIFEST_SCHEMA
            )

        return files_by_month(table), scan

    def read_through(self) -> None:
        """Read every row, a month at a time, and discard it. Raises DamagedError for an unreadable table."""
        files, scan = self.months()
        for month in files:
            self.collect(scan([month]))

    def restart(self) -> None:
        """Start a damaged manifest again in its place, without rows. Raises StoreError."""
        restart_log(self._lake, self._dataset.manifest_prefix, MANIFEST_SCHEMA)

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """Read a query on a scan of this manifest. Raises StoreError."""
        try:
            return rows.collect()
        except READ_ERRORS as error:
            raise self.read_error(error) from error

    def replace(
        self,
        periods: Sequence[str],
        build: Callable[[pl.DataFrame], pl.DataFrame],
        *,
        known: ManifestSnapshot | None = None,
        run_id: str | None,
    ) -> pl.DataFrame:
        """Replace the rows of ``periods`` by ``build(current rows)`` and return them.

        ``build`` is called again with the newer rows if another run committed first, so it must list the lake itself.
        Nothing is committed if nothing differs. With ``known`` (of the same periods), ``build`` gets those rows first,
        and the table is opened only if the result differs from them.
        """
        attempts = commit_attempts(_COMMIT_DEADLINE_SECONDS)
        built = None if known is None else (known, _fitting(build(known.rows)))
        if built is not None and _same_but_for_seen_at(built[1], built[0].rows):
            return built[1]
        try:
            return attempts(self._replace_once, periods, build, built, run_id)
        except (DeltaError, OSError) as error:
            raise self._error("Writing", error) from error

    def _replace_once(
        self,
        periods: Sequence[str],
        build: Callable[[pl.DataFrame], pl.DataFrame],
        built: tuple[ManifestSnapshot, pl.DataFrame] | None,
        run_id: str | None,
    ) -> pl.DataFrame:
        """One attempt; ``built`` has the snapshot that rows were already built from, and those rows."""
        table = self.table()
        version = None if table is None else table.version()
        if built is not None and built[0].version == version:
            rows = built[1]
        else:
            current = self._snapshot(table, periods).rows
            rows = _fitting(build(current))
            if _same_but_for_seen_at(rows, current):
                return rows
        require_conditional_writes(self._lake)
        write_deltalake(
            table if table is not None else self._create(),
            rows,
            mode="overwrite",
            schema_mode="merge",
            predicate=_predicate(periods),
            writer_properties=WriterProperties(compression="ZSTD"),
            commit_properties=CommitProperties(custom_metadata={"run_id": run_id or ""}),
            post_commithook_properties=KEEP_LOG_FILES,
        )
        return rows

    def _snapshot(self, table: DeltaTable | None, periods: Sequence[str]) -> ManifestSnapshot:
        try:
            return _snapshot(table, periods)
        except READ_ERRORS as error:
            raise self.read_error(error) from error

    @property
    def url(self) -> str:
        return self._url

    def table(self) -> DeltaTable | None:
        """The table's latest version, opened with current credentials; None if nothing was ever synced."""
        try:
            return open_delta(self._lake, self._dataset.manifest_prefix)
        except READ_ERRORS as error:
            raise self.read_error(error) from error

    def _create(self) -> DeltaTable:
        return DeltaTable.create(
            self._url,
            schema=Schema.from_arrow(MANIFEST_SCHEMA),
            mode="ignore",
            partition_by=["month"],
            storage_options=self._lake.delta_options,
        )

    def read_error(self, error: Exception) -> StoreError:
        return self._error("Reading", error)

    def _error(self, verb: str, error: Exception) -> StoreError:
        place = self._dataset.manifest_prefix
        return table_error(f"{verb} the manifest", self._lake, place, error, remedy=manifest_remedy(self._dataset))


def _same_but_for_seen_at(rows: pl.DataFrame, others: pl.DataFrame) -> bool:
    """Whether rows are equal except for ``seen_at``: a sync that changes nothing else commits nothing."""
    return rows.drop("seen_at").equals(others.drop("seen_at"))


def _fitting(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows in the table's schema and order, as :meth:`Manifest.read` returns them."""
    return rows.select(MANIFEST_SCHEMA.names()).cast(MANIFEST_SCHEMA).sort("period", "key")


def _snapshot(table: DeltaTable | None, periods: Sequence[str]) -> ManifestSnapshot:
    if table is None:
        return ManifestSnapshot(MANIFEST_SCHEMA.to_frame(), None)
    # A table made by an earlier version lacks columns that were added later; the next write adds them.
    return ManifestSnapshot(
        _fitting(with_missing_columns(_scan(table, periods), MANIFEST_SCHEMA).collect()), table.version()
    )


def _scan(table: DeltaTable, periods: Sequence[str]) -> pl.LazyFrame:
    """The rows of some periods; of all without any."""
    scan = pl.scan_delta(table)
    if not periods:
        return scan
    return scan.filter(pl.col("month").is_in(months_of(periods)), pl.col("period").is_in(list(periods)))


def _predicate(periods: Sequence[str]) -> str:
    """The rows of some periods in SQL. Periods consist of digits and dashes by their type, so nothing needs
    escaping."""
    months = ", ".join(f"'{month}'" for month in months_of(periods))
    days = ", ".join(f"'{period}'" for period in sorted(periods))
    return f"month IN ({months}) AND period IN ({days})"
