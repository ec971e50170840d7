"""A test's own share of the store: symbols that only this test publishes, a lake prefix that only it writes."""

from __future__ import annotations

import copy
import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.exchanges.layout import SymbolLocation
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Period, period_range
from lakehouse_assets.embedded.samples.objects import sidecar_of
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.sync.engine import Engine, EngineOptions
from lakehouse_assets.sync.movers.base import TransferOptions
from lakehouse_assets.sync.scope import Scope

KLINES = "binance/um/klines/daily"


@lru_cache(maxsize=64)
def client_of(bucket: Bucket) -> Any:
    """One client per bucket and identity, since creating one takes 40 ms."""
    return bucket.boto3_client()


def lake_settings(store: EmbeddedStore, prefix: str) -> dict[str, str]:
    """The environment variables of a lake at a prefix of the store, and of the exchanges' buckets there."""
    return {
        "LAKEHOUSE_LAKE_BUCKET": store.lake_bucket,
        "LAKEHOUSE_LAKE_PREFIX": prefix,
        "LAKEHOUSE_LAKE_ENDPOINT_URL": store.endpoint_url,
        "LAKEHOUSE_LAKE_ACCESS_KEY_ID": store.sync.access_key_id,
        "LAKEHOUSE_LAKE_SECRET_ACCESS_KEY": store.sync.secret_access_key,
        "LAKEHOUSE_SOURCE_ENDPOINT_URL": store.endpoint_url,
    }


class World:
    def __init__(self, store: EmbeddedStore, exchange: str = "binance") -> None:
        self.store = store
        self.exchange = exchange_named(exchange)
        self.tag = f"T{uuid.uuid4().hex[:10].upper()}"
        self.source = replace(
            store.source(self.exchange.bucket),
            max_requests=self.exchange.max_requests,
            server_side_copy=self.exchange.server_side_copy,
        )
        self.lake = Lake(store.lake(), self.tag.lower())
        self._admin = store.admin_bucket(self.source.name)
        self._upstream = client_of(self._admin)

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables of this lake and source."""
        return lake_settings(self.store, self.lake.prefix)

    # The source

    def symbol(self, name: str) -> str:
        return f"{self.tag}{name}"

    def entry(self, dataset: str = KLINES, **fields: Any) -> DatasetEntry:
        parsed = Dataset.parse(dataset)
        defaults: dict[str, Any] = {"dataset": dataset}
        if parsed.layout.symbol_location is not SymbolLocation.NOWHERE:
            defaults["symbols"] = {"include": [f"{self.tag}*"]}
        if parsed.publication.intervals:
            defaults["intervals"] = ["1m"]
        return DatasetEntry.model_validate(defaults | fields)

    def key(self, symbol: str, period: str, *, dataset: str = KLINES, interval: str | None = "1m") -> str:
        parsed = Dataset.parse(dataset)
        interval = interval if parsed.publication.intervals else None
        return parsed.layout.key_of(symbol=self.symbol(symbol), interval=interval, period=parsed.period(period))

    def publish(
        self,
        symbols: Iterable[str],
        periods: Iterable[str],
        *,
        dataset: str = KLINES,
        intervals: Sequence[str] = ("1m",),
        size: int = 400,
        version: int = 1,
        sidecars: bool = True,
    ) -> list[str]:
        """Publish objects with their sidecars; returns the objects' keys. The content depends on key and version."""
        keys = [
            self.key(symbol, period, dataset=dataset, interval=interval)
            for symbol in symbols
            for period in periods
            for interval in intervals
        ]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: self.put(key, body_of(key, version, size), sidecar=sidecars), keys))
        return keys

    def put(self, key: str, body: bytes, *, sidecar: bool = True) -> None:
        self._upstream.put_object(Bucket=self.source.name, Key=key, Body=body)
        if sidecar and self.exchange.checksum:
            checksum = sidecar_of(key, body, self.exchange)
            self._upstream.put_object(Bucket=self.source.name, Key=checksum.key, Body=checksum.body)

    def withdraw(self, key: str) -> None:
        for published in {key, self.exchange.sidecar_of(key) or key}:
            self._upstream.delete_object(Bucket=self.source.name, Key=published)

    # The lake

    def lake_files(self, below: str = "") -> dict[str, tuple[str, datetime]]:
        """Every key of this test's lake (relative) with its ETag and last-modified."""
        root = self.lake.key(below)
        pages = self._lake_client.get_paginator("list_objects_v2").paginate(Bucket=self.lake.bucket.name, Prefix=root)
        return {
            entry["Key"].removeprefix(self.lake.prefix): (entry["ETag"], entry["LastModified"])
            for page in pages
            for entry in page.get("Contents", ())
        }

    def lake_body(self, relative: str) -> bytes:
        answer = self._lake_client.get_object(Bucket=self.lake.bucket.name, Key=self.lake.key(relative))
        return answer["Body"].read()

    def overwrite_in_lake(self, relative: str, body: bytes) -> None:
        self._lake_client.put_object(Bucket=self.lake.bucket.name, Key=self.lake.key(relative), Body=body)

    def delete_in_lake(self, relative: str) -> None:
        client = client_of(self.store.admin_bucket(self.lake.bucket.name))
        client.delete_object(Bucket=self.lake.bucket.name, Key=self.lake.key(relative))

    def with_copied_lake(self) -> World:
        """The same source with a copy of the lake."""
        other = copy.copy(self)
        other.lake = Lake(self.store.lake(), uuid.uuid4().hex)
        bucket = self.lake.bucket.name

        def copied(name: str) -> None:
            source = {"Bucket": bucket, "Key": self.lake.key(name)}
            self._lake_client.copy_object(Bucket=bucket, Key=other.lake.key(name), CopySource=source)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(copied, self.lake_files()))
        return other

    @contextmanager
    def refused_writes(self, *source_keys: str) -> Iterator[None]:
        """Within the context, the lake's bucket policy refuses writes of these keys and their sidecars."""
        client = client_of(self.store.admin_bucket(self.lake.bucket.name))
        before = client.get_bucket_policy(Bucket=self.lake.bucket.name)["Policy"]
        policy = json.loads(before)
        policy["Statement"].append(
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": ["s3:PutObject"],
                "Resource": [
                    f"arn:aws:s3:::{self.lake.bucket.name}/{self.lake.key(f'archive/{self.exchange.name}/{key}')}*"
                    for key in source_keys
                ],
            }
        )
        client.put_bucket_policy(Bucket=self.lake.bucket.name, Policy=json.dumps(policy))
        try:
            yield
        finally:
            client.put_bucket_policy(Bucket=self.lake.bucket.name, Policy=before)

    @property
    def _lake_client(self) -> Any:
        return client_of(self.lake.bucket)

    # The engine

    def engine(self, source: Bucket | None = None, **transfer: Any) -> Engine:
        options = EngineOptions(transfer=TransferOptions(**{"workers": 32, **transfer}))
        return Engine(source or self.source, self.lake, options)

    def manifest(self, dataset: str = KLINES) -> Manifest:
        return Manifest(self.lake, Dataset.parse(dataset))


def scope(entry: DatasetEntry, first: str, last: str | None = None, **selection: Any) -> Scope:
    begin, end = entry.dataset.period(first), entry.dataset.period(last or first)
    return Scope(entry=entry, periods=tuple(period_range(begin, end)), **selection)


def days(first: str, last: str) -> list[str]:
    dataset = Dataset.parse(KLINES)
    return [str(period) for period in period_range(dataset.period(first), dataset.period(last))]


def body_of(key: str, version: int, size: int) -> bytes:
    """Content of the given size that differs between keys and versions."""
    seed = hashlib.sha256(f"{key}@{version}".encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


__all__ = ["KLINES", "Period", "World", "body_of", "days", "scope"]
