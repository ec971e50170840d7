"""Integrity of many objects after a transfer: compare digests seen in passing, keep what still applies."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from lakehouse_assets.lake.digests import Digests
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA
from lakehouse_assets.lake.states import Integrity, ObjectState
from lakehouse_assets.lake.store.etags import disagree, has_md5
from lakehouse_assets.sync.integrity.sidecars import Published, compare_digests, parse_sidecar

INTEGRITY_COLUMNS = (
    "integrity",
    "integrity_note",
    "copy_differs",
    "sha256",
    "md5",
    "published_digest",
    "verified_at",
    "verified_etag",
)
"""The manifest's columns about integrity."""

INTEGRITY_SCHEMA = pl.Schema({f"new_{name}": MANIFEST_SCHEMA[name] for name in INTEGRITY_COLUMNS})
"""What :func:`with_integrity` adds: INTEGRITY_COLUMNS for the manifest's new row."""

_FOUND_SCHEMA = pl.Schema({"key": pl.String} | {f"found_{name}": MANIFEST_SCHEMA[name] for name in INTEGRITY_COLUMNS})
"""Findings about objects whose bytes or sidecar this run read."""


def with_integrity(rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Decide the integrity of every object.

    Takes ``state``, ``copied``, the listed ETags, TRIED_SCHEMA, ``known_*`` of INTEGRITY_COLUMNS and the ETags,
    ``sidecar_state``, ``sidecar_copied`` and ``new_lake_etag``; adds INTEGRITY_SCHEMA.

    1. Objects whose digests and sidecar are known (read in passing, or recorded for the same content) are compared
       here.
    2. A recorded integrity is bound to its ETags: it applies as long as the lake's object, the source's and the
       sidecar are unchanged. Once the source withdraws the object or the sidecar, the record stays.
    3. A direct copy of an object without a sidecar is ``etag_verified`` if both ETags agree.
    4. All other objects in the lake are ``unverified``; an object that the lake does not have has no integrity.
    """
    found = _seen_in_passing(rows, now)
    found_columns = found.columns[1:]
    rows = rows.join(found, on="key", how="left", maintain_order="left")
    is_found = pl.col("found_integrity").is_not_null()
    is_present, is_there = pl.col("state") == ObjectState.PRESENT, pl.col("new_lake_etag").is_not_null()
    same_published = _same_source() & (
        _same_sidecar() | (pl.col("sidecar_state") == ObjectState.WITHDRAWN).fill_null(value=False)
    )
    still_applies = (
        pl.col("known_integrity").is_not_null()
        & is_there
        & _same_copy()
        & ~pl.col("copied")
        & (same_published | ~is_present)
    )
    etags_agree = is_present & pl.col("sidecar_etag").is_null() & has_md5(pl.col("etag")) & _same_etag()
    fresh = {
        "integrity": pl.when(etags_agree)
        .then(pl.lit(Integrity.ETAG_VERIFIED.value))
        .when(is_there)
        .then(pl.lit(Integrity.UNVERIFIED.value))
    }
    return rows.with_columns(
        pl.when(is_found)
        .then(f"found_{name}")
        .when(still_applies)
        .then(f"known_{name}")
        .otherwise(fresh.get(name, pl.lit(None, MANIFEST_SCHEMA[name])))
        .alias(f"new_{name}")
        for name in INTEGRITY_COLUMNS
    ).drop(found_columns)


def unread() -> pl.Expr:
    """Of manifest rows: the present content was never read, or the digest contradicts the source's present ETag.

    An object without a sidecar whose ETags agree counts as read: nothing better is published.
    """
    is_bad = pl.col("integrity") == Integrity.MISMATCH
    contradicted = disagree(pl.col("md5"), pl.col("source_etag")) & ~is_bad.fill_null(value=False)
    was_read = (pl.col("verified_etag") == pl.col("lake_etag")) & ~contradicted
    etags_agree = (
        (pl.col("integrity") == Integrity.ETAG_VERIFIED)
        & pl.col("sidecar_lake_etag").is_null()
        & (pl.col("source_etag") == pl.col("lake_etag"))
    )
    return ~(was_read.fill_null(value=False) | etags_agree.fill_null(value=False))


def _same_copy() -> pl.Expr:
    return pl.col("lake_etag").eq_missing(pl.col("known_lake_etag"))


def _same_etag() -> pl.Expr:
    return (pl.col("etag") == pl.col("lake_etag")).fill_null(value=False)


def _same_source() -> pl.Expr:
    """The source is unchanged, or its content is that of the lake's copy again."""
    return pl.col("etag").eq_missing(pl.col("known_source_etag")) | _same_etag()


def _same_sidecar() -> pl.Expr:
    return pl.col("sidecar_etag").eq_missing(pl.col("known_sidecar_source_etag")) & pl.col(
        "lake_sidecar_etag"
    ).eq_missing(pl.col("known_sidecar_lake_etag"))


def _seen_in_passing(rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Findings (_FOUND_SCHEMA) for objects whose bytes or sidecar this run read, where the other half is known."""
    read_now = pl.col("copied") & pl.col("tried_sha256").is_not_null()
    read_before = (
        ~pl.col("copied")
        & (pl.col("state") == ObjectState.PRESENT)
        & _same_copy()
        & (pl.col("lake_etag") == pl.col("known_verified_etag"))
        & pl.col("known_sha256").is_not_null()
        & pl.col("known_md5").is_not_null()
    )
    sidecar_now = pl.col("sidecar_copied") & pl.col("sidecar_tried_body").is_not_null()
    sidecar_before = _same_sidecar() & pl.col("known_published_digest").is_not_null()
    seen = rows.filter(
        (read_now & (pl.col("sidecar_etag").is_null() | sidecar_now | sidecar_before)) | (read_before & sidecar_now)
    ).select(
        "key",
        "etag",
        "lake_etag",
        pl.when(read_now).then("tried_sha256").otherwise("known_sha256").alias("sha256"),
        pl.when(read_now).then("tried_md5").otherwise("known_md5").alias("md5"),
        pl.when(read_now).then(pl.lit(now, MANIFEST_SCHEMA["verified_at"])).otherwise("known_verified_at").alias("at"),
        pl.when(sidecar_now).then("sidecar_tried_body").alias("body"),
        pl.when(sidecar_before & ~sidecar_now).then("known_published_digest").alias("digest"),
    )
    findings = []
    for key, etag, lake_etag, sha256, md5, at, body, digest in seen.iter_rows():
        published = _published(key, body, digest)
        finding = compare_digests(Digests(sha256, md5), published, etag)
        published_digest = None if published is None else published.digest or None
        findings.append(
            (
                key,
                finding.state.value,
                finding.note,
                finding.copy_differs,
                sha256,
                md5,
                published_digest,
                at,
                lake_etag,
            )
        )
    return pl.DataFrame(findings, schema=_FOUND_SCHEMA, orient="row")


def _published(key: str, body: bytes | None, digest: str | None) -> Published | None:
    """The sidecar's digest: read in passing, or recorded for an unchanged sidecar; None without a sidecar."""
    if body is not None:
        return parse_sidecar(body, key.rsplit("/", 1)[1])
    return None if digest is None else Published.of(digest)
