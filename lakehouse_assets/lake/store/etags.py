"""The rules by which ETags are compared; no other module knows them.

An ETag of 32 hex digits is usually the MD5 of the bytes. The ETag of an object encrypted with KMS looks the same but is
not an MD5. Public archives are never encrypted with KMS, since anonymous readers could not decrypt them; a lake may be.
A lake's ETag therefore contradicts a source's ETag (or a digest) only after a read of the lake has proven that its
ETags are MD5 sums (lake/digests.py). ETags of multipart uploads prove something only if they are equal.
"""

from __future__ import annotations

import re

import polars as pl

_MD5 = "[0-9a-f]{32}"


def is_md5(etag: str | None) -> bool:
    """Whether an ETag has the form of an MD5 sum."""
    return etag is not None and re.fullmatch(_MD5, etag) is not None


def has_md5(etag: pl.Expr) -> pl.Expr:
    """As :func:`is_md5`. Never null."""
    return etag.str.contains(f"^{_MD5}$").fill_null(value=False)


def disagree(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """Both have the form of MD5 sums and differ: the bytes differ, if both are MD5 sums. Never null."""
    return has_md5(one) & has_md5(other) & (one != other).fill_null(value=False)
