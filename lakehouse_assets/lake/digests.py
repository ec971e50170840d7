"""Digests of the lake's objects, and the proof by reading whether the lake's ETags are MD5 sums."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import obstore
import polars as pl
from obstore.exceptions import PreconditionError
from obstore.store import S3Store

from lakehouse_assets.archive.errors import CLIENT_ERRORS
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.store.etags import is_md5

READS = 3
"""Files that are read at most for a proof: another writer may replace one at this moment."""

CHUNK = 8 * 1024**2

SIDECAR_HEAD = 4097
"""Bytes of a sidecar that movers keep: one more than a sidecar may have (see sync/integrity/sidecars.py)."""

LAKE_FILE_SCHEMA = pl.Schema({"place": pl.String, "etag": pl.String, "size": pl.Int64})
"""Files in the lake; ``place`` is the key relative to the lake."""


@dataclass(frozen=True, slots=True)
class Digests:
    """Hex digests of bytes that were read; for a sidecar also its ``body`` (the first SIDECAR_HEAD bytes)."""

    sha256: str
    md5: str
    body: bytes | None = None

    def differs_from(self, etag: str | None) -> bool:
        """Whether a plain MD5 ETag contradicts the bytes; False for any other ETag, which cannot be compared."""
        return is_md5(etag) and etag != self.md5


class LakeEtags:
    """Proves by reading whether a lake's ETags are MD5 sums. Reads each content once."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._read: dict[tuple[str, str], bool] = {}

    def are_md5(self, files: pl.DataFrame) -> bool:
        """Whether the smallest of ``files`` (LAKE_FILE_SCHEMA) has its MD5 as its ETag.

        One file is enough, since all of them were written in the same way. False without a proof. Raises StoreError.
        """
        for place, etag in files.sort("size", "place").select("place", "etag").head(READS).iter_rows():
            if (place, etag) not in self._read:
                md5 = self._md5(place, etag)
                if md5 is None:
                    continue
                self._read[place, etag] = md5 == etag
            return self._read[place, etag]
        return False

    def _md5(self, place: str, etag: str) -> str | None:
        """The MD5 of the content; None if the lake no longer has it."""
        try:
            return read_digests(self._lake.bucket.object_store(), self._lake.key(place), etag).md5
        except (PreconditionError, FileNotFoundError):
            return None
        except CLIENT_ERRORS as error:
            raise self._lake.error("Reading", place, error) from error


def read_digests(store: S3Store, key: str, etag: str | None) -> Digests:
    """Digests of an object that still has ``etag``, read in chunks. Raises obstore's errors."""
    options: obstore.GetOptions = {} if etag is None else {"if_match": f'"{etag}"'}
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for chunk in obstore.get(store, key, options=options).stream(min_chunk_size=CHUNK):
        body = bytes(chunk)
        sha256.update(body)
        md5.update(body)
    return Digests(sha256.hexdigest(), md5.hexdigest())
