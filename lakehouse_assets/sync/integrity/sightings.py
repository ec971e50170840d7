"""Manifest rows against the lake's listing, where nothing is copied: what somebody deleted or replaced.

A row tells of the copy that a sync made. Once the lake no longer has that copy, nothing that is known of it holds:
``lake_etag`` is null, integrity is unknown, ``seen_at`` says when it was last seen. The next sync copies it again.
"""

from __future__ import annotations

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.listing import OBJECT_SCHEMA, Lister, folders_of
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA
from lakehouse_assets.lake.states import Integrity, ObjectState
from lakehouse_assets.sync.integrity.columns import INTEGRITY_COLUMNS

_LOST = ("key", "lake_etag", "sidecar_lake_etag", "found_etag", "found_last_modified", "found_sidecar_etag")


def listed_of(lake: Lake, dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """What the lake lists of manifest rows, OBJECT_SCHEMA. Raises StoreError."""
    if rows.is_empty():
        return OBJECT_SCHEMA.to_frame()
    folders = folders_of(
        dataset,
        symbols=rows["symbol"].unique().sort().to_list(),
        intervals=rows["interval"].drop_nulls().unique().sort().to_list(),
        first=dataset.period(str(rows["period"].min())),
        last=dataset.period(str(rows["period"].max())),
    )
    return Lister(lake.bucket, root=lake.key(dataset.lake_root)).objects(dataset, folders).objects


def lost_of(rows: pl.DataFrame, listed: pl.DataFrame) -> pl.DataFrame:
    """Rows of which the lake no longer has the object or the sidecar: what they tell, and what it has (``found_*``)."""
    found = listed.select(
        "key", found_etag="etag", found_last_modified="last_modified", found_sidecar_etag="sidecar_etag"
    )
    lost = pl.any_horizontal(
        pl.col(known).is_not_null() & pl.col(known).ne_missing(pl.col(found_))
        for known, found_ in (("lake_etag", "found_etag"), ("sidecar_lake_etag", "found_sidecar_etag"))
    )
    return rows.join(found, on="key", how="left").filter(lost).select(_LOST)


def without(current: pl.DataFrame, lost: pl.DataFrame) -> pl.DataFrame:
    """Current manifest rows without the copies that are lost; what another run has recorded meanwhile stays.

    Of an object that the source no longer lists, somebody else's in its place is told as it is: unverified.
    """
    told = ["key", "lake_etag", "sidecar_lake_etag"]
    rows = current.join(lost.with_columns(is_lost=True), on=told, how="left", nulls_equal=True, maintain_order="left")
    is_lost, vanished = pl.col("is_lost").fill_null(value=False), pl.col("state") == ObjectState.WITHDRAWN
    object_lost = is_lost & pl.col("found_etag").ne_missing(pl.col("lake_etag"))
    sidecar_lost = is_lost & pl.col("found_sidecar_etag").ne_missing(pl.col("sidecar_lake_etag"))
    found = pl.when(object_lost).then("found_etag").otherwise("found_sidecar_etag")
    integrity = pl.when(vanished & pl.col("found_etag").is_not_null()).then(pl.lit(Integrity.UNVERIFIED.value))
    state = (
        pl.when(found.is_null()).then(pl.lit(ObjectState.MISSING.value)).otherwise(pl.lit(ObjectState.CHANGED.value))
    )
    return rows.with_columns(
        pl.when(object_lost).then(pl.when(vanished).then("found_etag")).otherwise("lake_etag").alias("lake_etag"),
        pl.when(object_lost)
        .then(pl.when(vanished).then("found_last_modified"))
        .otherwise("lake_last_modified")
        .alias("lake_last_modified"),
        pl.when(~sidecar_lost).then("sidecar_lake_etag").alias("sidecar_lake_etag"),
        *(
            pl.when(~object_lost).then(name).otherwise(integrity if name == "integrity" else None).alias(name)
            for name in INTEGRITY_COLUMNS
        ),
        pl.when(is_lost & ~vanished).then(state).otherwise("state").alias("state"),
        pl.when(is_lost).then(last_seen("")).otherwise("seen_at").alias("seen_at"),
        pl.when(is_lost)
        .then(
            pl.concat_str(
                pl.when(object_lost).then(pl.lit("it")).otherwise(pl.lit("its sidecar")),
                pl.when(found.is_null()).then(pl.lit(" is no longer in the lake")).otherwise(pl.lit(" was replaced")),
                seen_on(last_seen("")),
            )
        )
        .otherwise("error")
        .alias("error"),
    ).select(MANIFEST_SCHEMA.names())


def last_seen(prefix: str) -> pl.Expr:
    """When a row's copy was last seen in the lake; where an earlier version did not note it, what it did with it."""
    done = pl.max_horizontal(f"{prefix}verified_at", f"{prefix}synced_at")
    return pl.coalesce(f"{prefix}seen_at", done)


def seen_on(at: pl.Expr) -> pl.Expr:
    """``, where it was last seen on 2026-01-31 12:00 UTC``; empty where that is not known."""
    return pl.lit(", where it was last seen on ").add(at.dt.strftime("%Y-%m-%d %H:%M UTC")).fill_null("")
