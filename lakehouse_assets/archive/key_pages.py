"""Keys of a bucket as they are, whatever they mean: pages as frames, and how many there were.

obstore lists; where a prefix is not written as obstore would write it, or from the page on in which it
meets a key that it cannot represent, boto3 does.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from typing import Any

import obstore
import polars as pl
from obstore.exceptions import InvalidPathError

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.listing import PAGE
from lakehouse_assets.archive.store_errors import CLIENT_ERRORS, store_error

PAGE_SCHEMA = pl.Schema({"key": pl.String, "size": pl.Int64, "last_modified": pl.Datetime("us", "UTC")})
"""One row per key; ``size`` in bytes."""

BATCH = 8 * PAGE
"""Keys of one frame: enough that Polars' fixed costs do not matter, little enough to hold many."""

_PLAIN = re.compile(r"(?:(?!\.+/)[\w.=+-]+/)+")
"""Prefixes that obstore lists as they are written; it cleans others, and would list something else."""


class KeyPages:
    """Lists one bucket; for many threads. Every method raises StoreError. ``requests`` and ``keys`` count up."""

    def __init__(self, bucket: Bucket) -> None:
        self.requests = 0
        self.keys = 0
        self._bucket = bucket
        self._store = bucket.object_store()
        self._client = bucket.boto3_client()
        self._lock = threading.Lock()

    def below(self, prefix: str) -> Iterator[pl.DataFrame]:
        """All keys below a prefix that ends with a slash, in order; frames of PAGE_SCHEMA."""
        last = ""
        if _PLAIN.fullmatch(prefix):
            try:
                for frame in self._by_obstore(prefix, "", BATCH):
                    yield frame
                    last = frame.item(-1, "key")
            except InvalidPathError:
                pass
            else:
                return
        for page in self._by_boto3(Prefix=prefix, **({"StartAfter": last} if last else {})):
            yield _frame(page)

    def first(self, prefix: str, after: str) -> pl.DataFrame:
        """The first page of keys below a prefix and after a key: fewer than PAGE where there are no more."""
        try:
            return next(self._by_obstore(prefix, after, PAGE), PAGE_SCHEMA.to_frame())
        except InvalidPathError:
            return _frame(next(self._by_boto3(Prefix=prefix, StartAfter=after)))

    def peek(self, prefix: str) -> tuple[pl.DataFrame, bool]:
        """The first page of keys that begin so, and whether it is all of them; any prefix."""
        page = next(self._by_boto3(Prefix=prefix))
        return _frame(page), not page["IsTruncated"]

    def folder(self, prefix: str) -> Iterator[tuple[pl.DataFrame, list[str]]]:
        """Pages of a folder: the keys right in it, and the folders in it."""
        for page in self._by_boto3(Prefix=prefix, Delimiter="/"):
            yield _frame(page), [entry["Prefix"] for entry in page.get("CommonPrefixes", ())]

    def _by_obstore(self, prefix: str, after: str, size: int) -> Iterator[pl.DataFrame]:
        total = 0
        try:
            for batch in obstore.list(
                self._store, prefix=prefix, offset=after or None, chunk_size=size, return_arrow=True
            ):
                frame = pl.DataFrame(batch).select(pl.col("path").alias("key"), "size", "last_modified")
                total += frame.height
                self._count(math.ceil(frame.height / PAGE), frame.height)
                yield frame.cast(PAGE_SCHEMA)
        except InvalidPathError:
            raise
        except CLIENT_ERRORS as error:
            raise self._error(prefix, error) from error
        if not total:
            self._count(1, 0)

    def _by_boto3(self, **options: Any) -> Iterator[Any]:
        token: dict[str, str] = {}
        while True:
            try:
                page = self._client.list_objects_v2(Bucket=self._bucket.name, MaxKeys=PAGE, **options, **token)
            except CLIENT_ERRORS as error:
                raise self._error(options["Prefix"], error) from error
            self._count(1, len(page.get("Contents", ())))
            yield page
            if not page["IsTruncated"]:
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _count(self, requests: int, keys: int) -> None:
        with self._lock:
            self.requests += requests
            self.keys += keys

    def _error(self, prefix: str, error: Exception) -> Exception:
        return store_error(f"Listing {self._bucket.url}/{prefix}", error)


def _frame(page: Any) -> pl.DataFrame:
    rows = [(entry["Key"], entry["Size"], entry["LastModified"]) for entry in page.get("Contents", ())]
    return pl.DataFrame(rows, schema=PAGE_SCHEMA, orient="row")
