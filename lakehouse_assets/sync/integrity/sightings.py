"""Compares manifest rows with the lake's listing when nothing is copied, to find deleted and replaced copies.

A row records the copy that a sync made. Once the lake no longer has that copy, the record no longer applies:
``lake_etag`` and integrity become null, and ``seen_at`` is when it was last seen. The next sync copies it again.
"""

from __future__ import annotations

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.listing import OBJECT_SCHEMA, Lister, folders_of
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA
from lakehouse_assets.lake.states import Integrity, ObjectState
from lakehouse_assets.sync.integrity.columns import INTEGRITY_COLUMNS

LOST_SCHEMA = pl.Schema(
    {name: MANIFEST_SCHEMA[name] for name in ("key", "lake_etag", "sidecar_lake_etag")}
    | {f"listed_{name}": OBJECT_SCHEMA[name] for name in ("etag", "last_modified", "sidecar_etag")}
)
"""Copies that the lake no longer has: the recorded ETags, and what it lists instead (null: nothing)."""


def listed_of(lake: Lake, dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """The lake's listing of the folders of manifest rows, OBJECT_SCHEMA. Raises StoreError."""
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
    """Rows whose object or sidecar the lake no longer lists with the recorded ETag, LOST_SCHEMA."""
    listed = listed.select(
        "key", listed_etag="etag", listed_last_modified="last_modified", listed_sidecar_etag="sidecar_etag"
    )
    is_lost = pl.any_horizontal(
        pl.col(recorded).is_not_null() & pl.col(recorded).ne_missing(pl.col(present))
        for recorded, present in (("lake_etag", "listed_etag"), ("sidecar_lake_etag", "listed_sidecar_etag"))
    )
    rows = rows.join(listed, on="key", how="left").filter(is_lost)
    return rows.select(LOST_SCHEMA.names()).match_to_schema(LOST_SCHEMA)


def without_lost(current: pl.DataFrame, lost: pl.DataFrame) -> pl.DataFrame:
    """Current manifest rows after the ``lost`` copies (LOST_SCHEMA); rows that another run changed meanwhile stay.

    The copy of a withdrawn object cannot be made again: content that somebody stored in its place is recorded as
    unverified.
    """
    recorded = ["key", "lake_etag", "sidecar_lake_etag"]
    lost = lost.with_columns(is_lost=True)
    rows = current.join(lost, on=recorded, how="left", nulls_equal=True, maintain_order="left")
    is_lost, withdrawn = pl.col("is_lost").fill_null(value=False), pl.col("state") == ObjectState.WITHDRAWN
    object_lost = is_lost & pl.col("listed_etag").ne_missing(pl.col("lake_etag"))
    sidecar_lost = is_lost & pl.col("listed_sidecar_etag").ne_missing(pl.col("sidecar_lake_etag"))
    other_etag = pl.when(object_lost).then("listed_etag").otherwise("listed_sidecar_etag")
    integrity = pl.when(withdrawn & pl.col("listed_etag").is_not_null()).then(pl.lit(Integrity.UNVERIFIED.value))
    state = (
        pl.when(other_etag.is_null())
        .then(pl.lit(ObjectState.MISSING.value))
        .otherwise(pl.lit(ObjectState.CHANGED.value))
    )
    return rows.with_columns(
        pl.when(object_lost).then(pl.when(withdrawn).then("listed_etag")).otherwise("lake_etag").alias("lake_etag"),
        pl.when(object_lost)
        .then(pl.when(withdrawn).then("listed_last_modified"))
        .otherwise("lake_last_modified")
        .alias("lake_last_modified"),
        pl.when(~sidecar_lost).then("sidecar_lake_etag").alias("sidecar_lake_etag"),
        *(
            pl.when(~object_lost).then(name).otherwise(integrity if name == "integrity" else None).alias(name)
            for name in INTEGRITY_COLUMNS
        ),
        pl.when(is_lost & ~withdrawn).then(state).otherwise("state").alias("state"),
        pl.when(is_lost).then(last_seen("")).otherwise("seen_at").alias("seen_at"),
        pl.when(is_lost)
        .then(
            pl.concat_str(
                pl.when(object_lost).then(pl.lit("it")).otherwise(pl.lit("its sidecar")),
                pl.when(other_etag.is_null())
                .then(pl.lit(" is no longer in the lake"))
                .otherwise(pl.lit(" was replaced")),
                seen_on(last_seen("")),
            )
        )
        .otherwise("error")
        .alias("error"),
    ).select(MANIFEST_SCHEMA.names())


def last_seen(prefix: str) -> pl.Expr:
    """When a row's copy was last seen in the lake; by its last sync or verification in rows of an earlier version."""
    last_used = pl.max_horizontal(f"{prefix}verified_at", f"{prefix}synced_at")
    return pl.coalesce(f"{prefix}seen_at", last_used)


def seen_on(at: pl.Expr) -> pl.Expr:
    """``, where it was last seen on 2026-01-31 12:00 UTC``; empty for an unknown time."""
    return pl.lit(", where it was last seen on ").add(at.dt.strftime("%Y-%m-%d %H:%M UTC")).fill_null("")
