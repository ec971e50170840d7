"""The outcome of every file that was moved: the mover's report, checked against the lake's listing."""

from __future__ import annotations

import polars as pl

from lakehouse_assets.lake.states import FILE_PREFIXES, ObjectState
from lakehouse_assets.lake.store.etags import disagree, has_md5
from lakehouse_assets.sync.movers.base import OUTCOME_SCHEMA

FILE_SCHEMA = pl.Schema({"key": pl.String, "etag": pl.String, "size": pl.Int64})
"""Files as the lake lists them; ``key`` is the source's."""

TRIED_SCHEMA = pl.Schema(
    {
        f"{prefix}tried_{name}": dtype
        for prefix in FILE_PREFIXES
        for name, dtype in OUTCOME_SCHEMA.items()
        if name != "key"
    }
)
"""What :func:`with_outcomes` adds: the columns of OUTCOME_SCHEMA as ``tried_*`` and ``sidecar_tried_*``; null for a
file that was not tried."""

COPIED_SCHEMA = pl.Schema({f"{prefix}copied": pl.Boolean for prefix in FILE_PREFIXES})
"""What :func:`with_copied` adds: whether this run brought the file. Never null."""

OVERTAKEN_SCHEMA = pl.Schema({f"{prefix}overtaken": pl.Boolean for prefix in FILE_PREFIXES})
"""What :func:`with_overtaken` adds: whether another run has written other content meanwhile."""

FAULT_SCHEMA = pl.Schema({f"{prefix}fault": pl.String for prefix in FILE_PREFIXES})
"""What :func:`with_faults` adds: why the copy failed, null for one that did not."""


def with_outcomes(rows: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Join the movers' outcomes (OUTCOME_SCHEMA) to plan rows of listings made *after* the transfer.

    Takes ``key`` and ``sidecar_key``; adds TRIED_SCHEMA.
    """
    tried = outcomes.rename(lambda name: name if name == "key" else f"tried_{name}")
    rows = rows.join(tried, on="key", how="left", maintain_order="left")
    return rows.join(tried.rename(lambda name: f"sidecar_{name}"), on="sidecar_key", how="left", maintain_order="left")


def file_key(prefix: str) -> pl.Expr:
    """The key of the object (``prefix`` empty) or of its sidecar."""
    return pl.col(f"{prefix}key").alias("key")


def unexpected(rows: pl.DataFrame) -> pl.DataFrame:
    """Copies in the lake, FILE_SCHEMA, that have failed if the lake's ETags are MD5 sums.

    Empty if any copy of the same transfer has its MD5 as its ETag: that proves that they are MD5 sums.
    Takes rows of :func:`with_outcomes`.
    """
    if rows.select(pl.any_horizontal(_arrived(prefix) for prefix in FILE_PREFIXES).any()).item():
        return FILE_SCHEMA.to_frame()
    return pl.concat(
        rows.filter(_has_other_bytes(prefix)).select(
            file_key(prefix), etag=pl.col(f"lake_{prefix}etag"), size=pl.col(f"lake_{prefix}size")
        )
        for prefix in FILE_PREFIXES
    ).match_to_schema(FILE_SCHEMA)


def with_copied(rows: pl.DataFrame, *, lake_has_md5: bool) -> pl.DataFrame:
    """Find the files that this run brought.

    Takes the listed ``etag``, ``lake_etag`` and ``lake_size``, and TRIED_SCHEMA, of object and sidecar; adds
    COPIED_SCHEMA. ``lake_has_md5`` is about the files that are :func:`unexpected`.
    """
    return rows.with_columns(_copied(prefix, lake_has_md5).alias(f"{prefix}copied") for prefix in FILE_PREFIXES)


def with_overtaken(rows: pl.DataFrame, *, lake_has_md5: bool) -> pl.DataFrame:
    """Find the files that another run has written meanwhile, unless the lake now has the source's content.

    Takes ``state``, ``copied``, the listed ETags and TRIED_SCHEMA, of object and sidecar; adds OVERTAKEN_SCHEMA.
    """
    return rows.with_columns(_overtaken(prefix, lake_has_md5).alias(f"{prefix}overtaken") for prefix in FILE_PREFIXES)


def with_faults(rows: pl.DataFrame, *, lake_has_md5: bool) -> pl.DataFrame:
    """State why each failed copy failed: the mover's fault, or how the lake's listing contradicts the mover.

    Takes ``overtaken``, the listed ETags and TRIED_SCHEMA, of object and sidecar; adds FAULT_SCHEMA.
    """
    return rows.with_columns(_fault(prefix, lake_has_md5).alias(f"{prefix}fault") for prefix in FILE_PREFIXES)


def with_copied_as_present(rows: pl.DataFrame) -> pl.DataFrame:
    """Replace ``state`` and ``sidecar_state`` of files that this run brought by ``present``. Takes ``copied``."""
    return rows.with_columns(
        pl.when(f"{prefix}copied")
        .then(pl.lit(ObjectState.PRESENT.value))
        .otherwise(f"{prefix}state")
        .alias(f"{prefix}state")
        for prefix in FILE_PREFIXES
    )


def overtaken(rows: pl.DataFrame) -> pl.Series:
    """Keys of the overtaken files of classified rows."""
    return pl.concat([rows.filter("overtaken")["key"], rows.filter("sidecar_overtaken")["sidecar_key"].rename("key")])


def is_settled(column: str) -> pl.Expr:
    """By this column of states, nothing is left to copy."""
    return pl.col(column).is_null() | pl.col(column).is_in([ObjectState.PRESENT.value, ObjectState.WITHDRAWN.value])


def _succeeded(prefix: str) -> pl.Expr:
    """The mover reported success."""
    return pl.col(f"{prefix}tried_mode").is_not_null() & pl.col(f"{prefix}tried_fault").is_null()


def _arrived(prefix: str) -> pl.Expr:
    """The lake's ETag is the MD5 of the content that was to be written."""
    lake_etag = pl.col(f"lake_{prefix}etag")
    intended = pl.coalesce(f"{prefix}tried_md5", f"{prefix}tried_etag")
    return _succeeded(prefix) & has_md5(lake_etag) & (intended == lake_etag).fill_null(value=False)


def _is_replaced(prefix: str) -> pl.Expr:
    """The lake has another object than the one that the write's answer named."""
    return (pl.col(f"{prefix}tried_written_etag") != pl.col(f"lake_{prefix}etag")).fill_null(value=False)


def _has_other_bytes(prefix: str) -> pl.Expr:
    """The lake's bytes differ from those sent (or, of a copy by the store, from the source's), if ETags are MD5 sums.

    An ETag that the store itself returned for the write is trusted.
    """
    lake_etag, sent_md5 = pl.col(f"lake_{prefix}etag"), pl.col(f"{prefix}tried_md5")
    etag = pl.col(f"{prefix}tried_etag")
    is_written = (pl.col(f"{prefix}tried_written_etag") == lake_etag).fill_null(value=False)
    unseen = sent_md5.is_null() & ~is_written & etag.eq_missing(pl.col(f"{prefix}etag"))
    return _succeeded(prefix) & (disagree(sent_md5, lake_etag) | (unseen & disagree(etag, lake_etag)))


def _overtaken(prefix: str, lake_has_md5: bool) -> pl.Expr:
    unseen = pl.col(f"{prefix}tried_md5").is_null()
    listed = _succeeded(prefix) & (_is_replaced(prefix) | (lake_has_md5 & unseen & _has_other_bytes(prefix)))
    is_open = ~is_settled(f"{prefix}state") & ~pl.col(f"{prefix}copied")
    return is_open & (pl.col(f"{prefix}tried_overtaken").fill_null(value=False) | listed)


def _fault(prefix: str, lake_has_md5: bool) -> pl.Expr:
    lake_etag, reported = pl.col(f"lake_{prefix}etag"), pl.col(f"{prefix}tried_fault")
    is_corrupt = lake_has_md5 & _has_other_bytes(prefix) & ~_is_replaced(prefix)
    corrupt = pl.format(
        "Corrupt: the bytes that were sent have md5 {}, the lake's have {}", f"{prefix}tried_md5", lake_etag
    )
    replaced = pl.format("Overtaken: another writer stored an object with ETag {} after the copy", lake_etag)
    return (
        pl.when(reported.is_not_null())
        .then(reported)
        .when(f"{prefix}overtaken")
        .then(replaced)
        .when(is_corrupt)
        .then(corrupt)
    )


def _copied(prefix: str, lake_has_md5: bool) -> pl.Expr:
    """The mover succeeded, the lake lists that size and no other bytes, and the source is still as planned.

    Two other cases count as copied. The source was rewritten after the listing, and the store's own copy already has
    the new content. Or the lake refused the write because it held exactly the content to be written: by a write
    whose answer was lost, or by another run.
    """
    etag, lake_etag = pl.col(f"{prefix}etag"), pl.col(f"lake_{prefix}etag")
    unseen = pl.col(f"{prefix}tried_md5").is_null()
    written = _succeeded(prefix) & ~_is_replaced(prefix)
    if lake_has_md5:
        written &= ~_has_other_bytes(prefix)
    already_there = pl.col(f"{prefix}tried_overtaken") & (pl.col(f"{prefix}tried_md5") == lake_etag)
    return (
        (written | already_there.fill_null(value=False))
        & (pl.col(f"lake_{prefix}size") == pl.col(f"{prefix}size"))
        & (pl.col(f"{prefix}tried_etag").eq_missing(etag) | (unseen & (lake_etag == etag)))
    ).fill_null(value=False)
