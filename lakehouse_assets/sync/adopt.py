"""Adopts objects that a lake already has, and rebuilds a manifest that was lost or damaged.

A damaged manifest is started again in its place (lake/delta/repair.py). Rows that its files still have are recovered if
the lake still has their content. All other rows are rebuilt from the lake's listing: keys, sizes, ETags and times. The
listing has no source ETags, former contents, digests or sync records, so ``source_etag`` is null and ``mode`` is
``rebuilt``. The next sync compares these objects with the source and fills in what it can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import polars as pl

from lakehouse_assets.archive.listing import Lister, folders_of
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Period, month_expr
from lakehouse_assets.errors import DamagedError
from lakehouse_assets.lake.delta.repair import RowFile, row_files, rows_of
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA, Manifest
from lakehouse_assets.lake.states import Integrity, ObjectState
from lakehouse_assets.sync.engine import Engine
from lakehouse_assets.sync.integrity.sightings import lost_of, without_lost
from lakehouse_assets.sync.integrity.verify import OnRead, Verification, Verifier
from lakehouse_assets.sync.scope import Scope

REBUILT = "rebuilt"


def adopt(
    engine: Engine,
    verifier: Verifier,
    scope: Scope,
    *,
    run_id: str | None = None,
    on_read: OnRead = lambda _reading: None,
) -> Verification:
    """Record the objects of a scope that the lake has, without copying any, and verify all of them.

    Objects that differ from the source are recorded as mismatches: tables leave them out, and the next sync replaces
    them and preserves their bytes.
    """
    engine.record(scope, run_id=run_id)
    return verifier.verify(scope.entry.dataset, scope.names, run_id=run_id, on_read=on_read)


def rebuild_manifest(
    lake: Lake,
    entry: DatasetEntry,
    *,
    run_id: str | None = None,
    on_month: Callable[[int, int], None] = lambda _objects, _total: None,
) -> int:
    """Add a row for every object of the entry that the lake has and the manifest lacks; returns their number.

    A damaged manifest counts as empty. Rows of the same periods whose copy the lake no longer has are updated.
    ``on_month`` gets the number of objects done, and of all listed ones.
    """
    dataset = entry.dataset
    lister = Lister(lake.bucket, root=lake.key(dataset.lake_root))
    folders = folders_of(
        dataset,
        symbols=lister.symbols(dataset),
        intervals=dataset.publication.intervals,
        first=Period.containing(dataset.cadence, dataset.publication.first),
        last=Period.containing(dataset.cadence, dataset.source.today(datetime.now(UTC))),
    )
    listed = lister.objects(dataset, folders).objects.filter(pl.col("etag").is_not_null())
    manifest = Manifest(lake, dataset)
    try:
        manifest.read_through()
    except DamagedError:
        manifest.restart()
    files = row_files(lake, dataset.manifest_prefix)
    added, done = 0, 0
    on_month(done, listed.height)
    for (month,), objects in listed.group_by(month_expr(pl.col("period")), maintain_order=True):
        month_files = [file for file in files if file.month == month]
        rebuild = _MonthRebuild(lake, objects, month_files, run_id)
        manifest.replace(sorted(set(objects["period"])), rebuild.rows, run_id=run_id)
        added, done = added + rebuild.added, done + objects.height
        on_month(done, listed.height)
    return added


class _MonthRebuild:
    """Rebuilds the manifest's rows of one month; ``added`` is the number of rows that the last build added."""

    def __init__(self, lake: Lake, objects: pl.DataFrame, files: list[RowFile], run_id: str | None) -> None:
        self._lake = lake
        self._objects = objects
        self._files = files
        self._run_id = run_id
        self.added = 0

    def rows(self, current: pl.DataFrame) -> pl.DataFrame:
        current = without_lost(current, lost_of(current, self._objects))
        lacking = self._objects.join(current, on="key", how="anti")
        recovered = _recovered(lacking, rows_of(self._lake, self._files, MANIFEST_SCHEMA))
        rest = lacking.join(recovered, on="key", how="anti")
        rows = pl.concat([current, recovered, _rebuilt(rest, self._run_id)])
        self.added = rows.height - current.height
        return rows


def _recovered(objects: pl.DataFrame, recorded: Iterator[pl.DataFrame]) -> pl.DataFrame:
    """The newest ``recorded`` row of each listed object whose content is still the lake's, MANIFEST_SCHEMA."""
    recovered, wanted = [MANIFEST_SCHEMA.to_frame()], objects
    while not wanted.is_empty() and (rows := next(recorded, None)) is not None:
        recovered.append(
            rows.join(
                wanted,
                left_on=["key", "size", "lake_etag", "sidecar_lake_etag"],
                right_on=["key", "size", "etag", "sidecar_etag"],
                how="semi",
                nulls_equal=True,
            )
        )
        wanted = wanted.join(recovered[-1], on="key", how="anti")
    return pl.concat(recovered)


def _rebuilt(objects: pl.DataFrame, run_id: str | None) -> pl.DataFrame:
    """Rows of listed objects without a recorded one, MANIFEST_SCHEMA."""
    rows = objects.select(
        month_expr(pl.col("period")).alias("month"),
        "period",
        "symbol",
        "interval",
        "part",
        "key",
        pl.lit(ObjectState.PRESENT.value).alias("state"),
        "size",
        pl.col("etag").alias("lake_etag"),
        pl.col("last_modified").alias("lake_last_modified"),
        "sidecar_size",
        pl.col("sidecar_etag").alias("sidecar_lake_etag"),
        pl.lit(Integrity.UNVERIFIED.value).alias("integrity"),
        pl.lit(REBUILT).alias("mode"),
        pl.lit(datetime.now(UTC)).alias("synced_at"),
        pl.lit(run_id, pl.String).alias("run_id"),
    )
    return pl.concat(
        [MANIFEST_SCHEMA.to_frame(), rows.cast({name: MANIFEST_SCHEMA[name] for name in rows.columns})], how="diagonal"
    ).select(MANIFEST_SCHEMA.names())
