"""Integrity of many objects after a transfer: what was seen in passing, what stays, what is open."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from lakehouse_assets.lake.digests import Digests
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA
from lakehouse_assets.lake.states import Integrity, ObjectState
from lakehouse_assets.lake.store.etags import disagree, has_md5
from lakehouse_assets.sync.integrity.sidecars import Published, find, parse_sidecar

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
"""Columns of the manifest that this module fills, as ``new_*``."""


def with_integrity(rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Add ``new_*`` of INTEGRITY_COLUMNS to judged rows.

    A known integrity is bound to the ETags for which it was found: it stays as long as neither the lake's
    object nor the source's nor the sidecar changed; what is no longer published is kept, and what was
    known of it. Of an object that the lake does not have nothing is known. Objects whose digests and sidecar are
    known (seen in passing, or remembered of the same content) are compared here; a direct copy of
    an object without a sidecar is as good as its ETag; everything else is unverified.
    """
    found = _seen_in_passing(rows, now)
    rows = rows.join(found, on="key", how="left", maintain_order="left")
    passed = pl.col("found_integrity").is_not_null()
    is_present, is_there = pl.col("state") == ObjectState.PRESENT, pl.col("new_lake_etag").is_not_null()
    as_found = _same_source() & (
        _same_sidecar() | (pl.col("sidecar_state") == ObjectState.WITHDRAWN).fill_null(value=False)
    )
    stays = (
        pl.col("known_integrity").is_not_null() & is_there & _same_copy() & ~pl.col("copied") & (as_found | ~is_present)
    )
    as_its_etag = is_present & pl.col("sidecar_etag").is_null() & has_md5(pl.col("etag")) & _same_etag()
    fresh = {
        "integrity": pl.when(as_its_etag)
        .then(pl.lit(Integrity.ETAG_VERIFIED.value))
        .when(is_there)
        .then(pl.lit(Integrity.UNVERIFIED.value))
    }
    return rows.with_columns(
        pl.when(passed)
        .then(f"found_{name}")
        .when(stays)
        .then(f"known_{name}")
        .otherwise(fresh.get(name, pl.lit(None, MANIFEST_SCHEMA[name])))
        .alias(f"new_{name}")
        for name in INTEGRITY_COLUMNS
    )


def unread() -> pl.Expr:
    """Of manifest rows: nobody has read the present content, or what was read of it is not what is now known.

    Without a sidecar there is nothing better to compare with than an ETag that agrees.
    """
    is_bad = pl.col("integrity") == Integrity.MISMATCH
    contradicted = disagree(pl.col("md5"), pl.col("source_etag")) & ~is_bad.fill_null(value=False)
    read = (pl.col("verified_etag") == pl.col("lake_etag")) & ~contradicted
    as_its_etag = (
        (pl.col("integrity") == Integrity.ETAG_VERIFIED)
        & pl.col("sidecar_lake_etag").is_null()
        & (pl.col("source_etag") == pl.col("lake_etag"))
    )
    return ~(read.fill_null(value=False) | as_its_etag.fill_null(value=False))


def _same_copy() -> pl.Expr:
    return pl.col("lake_etag").eq_missing(pl.col("known_lake_etag"))


def _same_etag() -> pl.Expr:
    return (pl.col("etag") == pl.col("lake_etag")).fill_null(value=False)


def _same_source() -> pl.Expr:
    """As it was known; or the lake's copy has the source's ETag, so that they are the same again."""
    return pl.col("etag").eq_missing(pl.col("known_source_etag")) | _same_etag()


def _same_sidecar() -> pl.Expr:
    return pl.col("sidecar_etag").eq_missing(pl.col("known_sidecar_source_etag")) & pl.col(
        "lake_sidecar_etag"
    ).eq_missing(pl.col("known_sidecar_lake_etag"))


def _seen_in_passing(rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Findings for objects of which this run saw the bytes, the sidecar or both, and the rest is known."""
    schema = {"key": pl.String} | {f"found_{name}": MANIFEST_SCHEMA[name] for name in INTEGRITY_COLUMNS}
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
    found = []
    for key, etag, lake_etag, sha256, md5, at, body, digest in seen.iter_rows():
        published = _published(key, body, digest)
        finding = find(Digests(sha256, md5), published, etag)
        said = None if published is None else published.digest or None
        found.append((key, finding.state.value, finding.note, finding.copy_differs, sha256, md5, said, at, lake_etag))
    return pl.DataFrame(found, schema=schema, orient="row")


def _published(key: str, body: bytes | None, digest: str | None) -> Published | None:
    """What the sidecar says: read in passing, or remembered of an unchanged one; None where there is none."""
    if body is not None:
        return parse_sidecar(body, key.rsplit("/", 1)[1])
    return None if digest is None else Published.of(digest)
