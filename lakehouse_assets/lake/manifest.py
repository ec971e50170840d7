"""The manifest: what was synced, one row per archive object, as a Delta table per dataset.

The lake's listing is the truth; the manifest is the memory of what a listing cannot say: the
source's ETag of the copied content, the way it was moved, when and by which run. A commit
replaces exactly the rows of the periods that it judged, as one conditional write; whoever loses
the race to commit reads again and builds its rows anew.

Rows of ``state`` ``present`` are in the lake as copied; ``missing`` and ``changed`` are known of
the source but not (or not in their new content) in the lake; ``failed`` had an error in the last
run; ``vanished`` are kept in the lake although the source no longer lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.errors import StoreError
from lakehouse_assets.lake.commit import DELETES_NOTHING, commit_attempts, files_by_month, with_all
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

``integrity`` is a state of sync/integrity/sidecars.py, ``integrity_note`` says why where it is not simply
good, ``copy_differs`` whether the lake's bytes were found to differ from the source's.
``sha256`` and ``md5`` are of the bytes read at ``verified_at`` under the lake ETag
``verified_etag``; ``published_digest`` is what the sidecar said.

``lake_etag`` is null where the lake does not have the copy that the row tells of: somebody deleted or replaced
it. ``seen_at`` is when a commit last saw it there; a look that finds nothing to record leaves it as it is.

``former_etag`` and ``superseded_key`` tell of the content that the present one replaced; the
table's history has the ones before.

``missed_at`` is when a listing first lacked what was there (the object or its sidecar) and was not believed
(lake/withdrawal.py); null while it is listed. ``sidecar_withdrawn``: the source lists the object without the sidecar
that it had.
"""

CONTENT_COLUMNS = (
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
_COMMIT_DEADLINE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class ManifestSnapshot:
    """Manifest rows of some periods, and the table's version that has them; None where there is no table."""

    rows: pl.DataFrame
    version: int | None


def manifest_remedy(dataset: Dataset) -> str:
    """What mends a damaged manifest."""
    return f"Rebuild it: lakehouse rebuild-manifests {dataset}."


class Manifest:
    """One dataset's manifest in one lake."""

    def __init__(self, lake: Lake, dataset: Dataset) -> None:
        self._lake = lake
        self._dataset = dataset
        self._url = lake.url(dataset.manifest_prefix)

    def read(self, periods: Sequence[str]) -> pl.DataFrame:
        """Rows of the given periods (all periods when empty), MANIFEST_SCHEMA; empty without a table."""
        return self.known(periods).rows

    def known(self, periods: Sequence[str]) -> ManifestSnapshot:
        """As :meth:`read`, with the version that :meth:`replace` compares."""
        return self._known(self.table(), periods)

    def symbols(self, periods: Sequence[str]) -> list[str]:
        """Symbols of the given periods' rows, in no order. Reads three columns."""
        table = self.table()
        if table is None:
            return []
        return self.collect(_scan(table, periods).select(pl.col("symbol").unique()))["symbol"].to_list()

    def spans(self, periods: Sequence[str]) -> pl.DataFrame:
        """``symbol first last``: in which of the given periods it has archives, whatever became of them."""
        table = self.table()
        period = pl.col("period")
        try:
            scan = MANIFEST_SCHEMA.to_frame().lazy() if table is None else _scan(table, periods)
            return scan.group_by("symbol").agg(period.min().alias("first"), period.max().alias("last")).collect()
        except READ_ERRORS as error:
            raise self.read_error(error) from error

    def contents(self, periods: Sequence[str], *, first: str = "", end: str | None = None) -> pl.DataFrame:
        """CONTENT_COLUMNS of the periods' rows that have a ``key`` from ``first`` on and before ``end``."""
        table = self.table()
        if table is None:
            return MANIFEST_SCHEMA.to_frame().select(CONTENT_COLUMNS)
        within = pl.col("key") >= first if end is None else (pl.col("key") >= first) & (pl.col("key") < end)
        rows = with_all(_scan(table, periods), MANIFEST_SCHEMA)
        return self.collect(rows.filter(within).select(CONTENT_COLUMNS))

    def months(self) -> tuple[dict[str, frozenset[str]], Callable[[Sequence[str]], pl.LazyFrame]]:
        """The data files of each month, and how to scan the rows of some months, as of one version.

        A month whose files are the same has the same rows. What comes of a scan, :meth:`collect` reads.
        """
        table = self.table()
        if table is None:
            return {}, lambda _months: MANIFEST_SCHEMA.to_frame().lazy()

        def scan(months: Sequence[str]) -> pl.LazyFrame:
            return with_all(pl.scan_delta(table).filter(pl.col("month").is_in(list(months))), MANIFEST_SCHEMA)

        return files_by_month(table), scan

    def read_through(self) -> None:
        """Read every row, a month at a time, and keep none. Raises DamagedError where one cannot be read."""
        files, scan = self.months()
        for month in files:
            self.collect(scan([month]))

    def restart(self) -> None:
        """Begin a damaged manifest anew in its place, without a row. Raises StoreError."""
        restart_log(self._lake, self._dataset.manifest_prefix, MANIFEST_SCHEMA)

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """Read what was made of a scan of this manifest. Raises StoreError."""
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

        ``build`` is called again with the newer rows when another run committed first, so it
        must look at the lake itself. Nothing is committed where nothing differs. ``known`` (of
        the same periods) is built upon first, and the table only looked at where that differs from it.
        """
        attempts = commit_attempts(_COMMIT_DEADLINE_SECONDS)
        built = None if known is None else (known, _fitting(build(known.rows)))
        if built is not None and _tell_the_same(built[1], built[0].rows):
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
        """One attempt; ``built`` are rows made already, and upon what."""
        table = self.table()
        version = None if table is None else table.version()
        if built is not None and built[0].version == version:
            rows = built[1]
        else:
            current = self._known(table, periods).rows
            rows = _fitting(build(current))
            if _tell_the_same(rows, current):
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
            post_commithook_properties=DELETES_NOTHING,
        )
        return rows

    def _known(self, table: DeltaTable | None, periods: Sequence[str]) -> ManifestSnapshot:
        try:
            return _known(table, periods)
        except READ_ERRORS as error:
            raise self.read_error(error) from error

    @property
    def url(self) -> str:
        return self._url

    def table(self) -> DeltaTable | None:
        """The table as it is now; None where nothing was ever synced. It holds the credentials of now."""
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


def _tell_the_same(rows: pl.DataFrame, others: pl.DataFrame) -> bool:
    """But for when that was seen: a sync that finds all as it was commits nothing."""
    return rows.drop("seen_at").equals(others.drop("seen_at"))


def _fitting(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows as the table has them and :meth:`Manifest.read` returns them."""
    return rows.select(MANIFEST_SCHEMA.names()).cast(MANIFEST_SCHEMA).sort("period", "key")


def _known(table: DeltaTable | None, periods: Sequence[str]) -> ManifestSnapshot:
    if table is None:
        return ManifestSnapshot(MANIFEST_SCHEMA.to_frame(), None)
    # A table that an earlier version made lacks the columns that came later; the next write adds them.
    return ManifestSnapshot(_fitting(with_all(_scan(table, periods), MANIFEST_SCHEMA).collect()), table.version())


def _scan(table: DeltaTable, periods: Sequence[str]) -> pl.LazyFrame:
    """The rows of some periods, of all where none are given."""
    scan = pl.scan_delta(table)
    if not periods:
        return scan
    months = sorted({period[:7] for period in periods})
    return scan.filter(pl.col("month").is_in(months), pl.col("period").is_in(list(periods)))


def _predicate(periods: Sequence[str]) -> str:
    """Periods are digits and dashes by their type, so nothing needs quoting."""
    months = ", ".join(f"'{month}'" for month in sorted({period[:7] for period in periods}))
    days = ", ".join(f"'{period}'" for period in sorted(periods))
    return f"month IN ({months}) AND period IN ({days})"
