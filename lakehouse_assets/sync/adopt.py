"""Taking over what is in a lake already, and rebuilding a manifest that was lost.

A rebuilt manifest knows what the bucket can tell: which objects are there, their sizes, ETags and
times. It cannot know the source's ETags of copies whose own ETag differs (multipart, KMS), former
contents, digests, nor who copied what and when: ``source_etag`` is null ("unknown") and ``mode``
says ``rebuilt``. The next sync compares with the source and fills in what it can.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import polars as pl

from lakehouse_assets.archive.listing import Lister, folders_of
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Period
from lakehouse_assets.sync.engine import Engine
from lakehouse_assets.sync.integrity import Integrity
from lakehouse_assets.sync.lake import Lake
from lakehouse_assets.sync.manifest import MANIFEST_SCHEMA, Manifest
from lakehouse_assets.sync.plan import State
from lakehouse_assets.sync.scope import Scope
from lakehouse_assets.sync.verify import OnRead, Verification, Verifier

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
    added, seen = 0, 0
    on_month(seen, found.height)
    for month, objects in found.group_by(pl.col("period").str.slice(0, 7), maintain_order=True):
        rows = _rebuilt(objects, str(month[0]), run_id)
        before: list[int] = []

        def build(current: pl.DataFrame, rows: pl.DataFrame = rows, before: list[int] = before) -> pl.DataFrame:
            before[:] = [current.height]
            return pl.concat([current, rows.join(current, on="key", how="anti")])

        after = manifest.replace(sorted(set(objects["period"])), build, run_id=run_id)
        added, seen = added + after.height - before[0], seen + objects.height
        on_month(seen, found.height)
    return added


def _rebuilt(objects: pl.DataFrame, month: str, run_id: str | None) -> pl.DataFrame:
    known = objects.select(
        pl.lit(month).alias("month"),
        "period",
        "symbol",
        "interval",
        "part",
        "key",
        pl.lit(State.PRESENT.value).alias("state"),
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
