"""Taking over what is in a lake already, and rebuilding a manifest that was lost or damaged.

A damaged manifest is begun anew in its place (lake/delta/repair.py), and rows that its files still have are
taken over, each where the lake still has the content that it tells of. Of everything else a rebuilt
manifest knows what the bucket can tell: which objects are there, their sizes, ETags and times. It cannot
know the source's ETags, former contents, digests, nor who copied what and when: ``source_etag`` is null
("unknown") and ``mode`` says ``rebuilt``. The next sync compares with the source and fills in what it can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import polars as pl

from lakehouse_assets.archive.listing import Lister, folders_of
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Period
from lakehouse_assets.errors import DamagedError
from lakehouse_assets.lake.delta.repair import RowFile, row_files, rows_of
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA, Manifest
from lakehouse_assets.lake.states import Integrity, ObjectState
from lakehouse_assets.sync.engine import Engine
from lakehouse_assets.sync.integrity.sightings import lost_of, without
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
    """Record what the lake holds of a scope without copying anything, and read all of it.

    What turns out to differ from the source is recorded as such: it is kept out of tables, and
    the next sync replaces it (keeping its bytes).
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
    """Add a row for every object of the entry that the lake holds and the manifest does not; returns how many.
    A damaged manifest has none.

    Rows of the same periods whose copy the lake no longer has say so.

    ``on_month`` is told of the objects that are in the manifest now, and of all that were found.
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
    found = lister.objects(dataset, folders).objects.filter(pl.col("etag").is_not_null())
    manifest = Manifest(lake, dataset)
    try:
        manifest.read_through()
    except DamagedError:
        manifest.restart()
    files = row_files(lake, dataset.manifest_prefix)
    added, seen = 0, 0
    on_month(seen, found.height)
    for month, objects in found.group_by(pl.col("period").str.slice(0, 7), maintain_order=True):
        before: list[int] = []
        of_month = [file for file in files if file.month == month[0]]

        def build(
            current: pl.DataFrame,
            objects: pl.DataFrame = objects,
            of_month: list[RowFile] = of_month,
            before: list[int] = before,
        ) -> pl.DataFrame:
            before[:] = [current.height]
            current = without(current, lost_of(current, objects))
            lacking = objects.join(current, on="key", how="anti")
            remembered = _remembered(lacking, rows_of(lake, of_month, MANIFEST_SCHEMA))
            rest = lacking.join(remembered, on="key", how="anti")
            return pl.concat([current, remembered, _rebuilt(rest, run_id)])

        after = manifest.replace(sorted(set(objects["period"])), build, run_id=run_id)
        added, seen = added + after.height - before[0], seen + objects.height
        on_month(seen, found.height)
    return added


def _remembered(objects: pl.DataFrame, recorded: Iterator[pl.DataFrame]) -> pl.DataFrame:
    """The newest recorded row of each listed object that tells of the content that the lake has now."""
    found, wanted = [MANIFEST_SCHEMA.to_frame()], objects
    while not wanted.is_empty() and (rows := next(recorded, None)) is not None:
        found.append(
            rows.join(
                wanted,
                left_on=["key", "size", "lake_etag", "sidecar_lake_etag"],
                right_on=["key", "size", "etag", "sidecar_etag"],
                how="semi",
                nulls_equal=True,
            )
        )
        wanted = wanted.join(found[-1], on="key", how="anti")
    return pl.concat(found)


def _rebuilt(objects: pl.DataFrame, run_id: str | None) -> pl.DataFrame:
    known = objects.select(
        pl.col("period").str.slice(0, 7).alias("month"),
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
        [MANIFEST_SCHEMA.to_frame(), known.cast({n: MANIFEST_SCHEMA[n] for n in known.columns})], how="diagonal"
    ).select(MANIFEST_SCHEMA.names())
