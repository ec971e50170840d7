"""A benchmark's own store: an archive of a given shape, and a fresh prefix of the lake for every repetition."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta

import obstore

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.sync.engine import Engine, EngineOptions
from lakehouse_assets.sync.movers.base import Copy, TransferOptions
from lakehouse_assets.sync.scope import Scope
from lakehouse_assets_tests.world import KLINES, World, scope

FIRST = date(2024, 1, 1)
PUBLISHERS = 16


@dataclass(frozen=True, slots=True)
class Shape:
    """Objects without sidecars: ``symbols`` on each of ``days`` days, ``size`` bytes each."""

    symbols: int
    days: int
    size: int

    @property
    def objects(self) -> int:
        return self.symbols * self.days

    @property
    def last(self) -> date:
        return FIRST + timedelta(days=self.days - 1)


@dataclass(frozen=True)
class Bench:
    """An archive in a store of its own; ``lake_store`` is the same one or another."""

    world: World
    shape: Shape
    keys: tuple[str, ...]
    lake_store: EmbeddedStore

    @property
    def scope(self) -> Scope:
        return scope(self.world.entry(), str(FIRST), str(self.shape.last))

    @property
    def new_lake(self) -> Lake:
        """An unused prefix of the lake."""
        return Lake(self.lake_store.lake(), uuid.uuid4().hex)

    def variables(self, lake: Lake) -> dict[str, str]:
        """The settings of a process that syncs from this archive into a lake."""
        credentials = lake.bucket.credentials
        if credentials is None:
            raise RuntimeError("the benchmark's lake has no credentials")
        return {
            "LAKEHOUSE_LAKE_BUCKET": lake.bucket.name,
            "LAKEHOUSE_LAKE_PREFIX": lake.prefix.strip("/"),
            "LAKEHOUSE_LAKE_ENDPOINT_URL": str(lake.bucket.endpoint_url),
            "LAKEHOUSE_LAKE_ACCESS_KEY_ID": credentials.access_key_id,
            "LAKEHOUSE_LAKE_SECRET_ACCESS_KEY": credentials.secret_access_key,
            "LAKEHOUSE_SOURCE_ENDPOINT_URL": str(self.world.source.endpoint_url),
        }

    @property
    def folder(self) -> str:
        """The source folder that holds the dataset and nothing else."""
        return Dataset.parse(KLINES).source_prefix.rstrip("/")

    def check(self, lake: Lake) -> None:
        """Raises RuntimeError unless the lake has every object, of the right size."""
        store = lake.bucket.object_store()
        root = lake.key("archive/binance/")
        held = {
            entry["path"].removeprefix(root): entry["size"]
            for page in obstore.list(store, prefix=root, chunk_size=1000)
            for entry in page
        }
        whole = sum(held.get(key) == self.shape.size for key in self.keys)
        if whole != len(self.keys):
            raise RuntimeError(f"the lake has {whole} of {len(self.keys)} objects")

    def engine(self, lake: Lake, workers: int) -> Engine:
        return Engine(self.world.source, lake, EngineOptions(transfer=TransferOptions(workers=workers)))

    def copies(self, lake: Lake) -> list[Copy]:
        """The copies that a mover is to make."""
        return [Copy(key, lake.key(f"archive/binance/{key}"), self.shape.size) for key in self.keys]


@contextmanager
def bench(shape: Shape, *, across: bool = False) -> Iterator[Bench]:
    """Publish an archive of that shape; ``across`` puts the lake on a second server.

    Bytes are random (seeded): they do not compress, as zips do not.
    """
    with ExitStack() as stores:
        store = stores.enter_context(EmbeddedStore())
        lake_store = stores.enter_context(EmbeddedStore()) if across else store
        world = World(store)
        store_of_source = store.admin_bucket(world.source.name).object_store()
        body = random.Random(1).randbytes(shape.size)
        keys = tuple(
            world.key(f"S{number:03}USDT", str(FIRST + timedelta(days=day)))
            for number in range(shape.symbols)
            for day in range(shape.days)
        )

        def put(numbered: tuple[int, str]) -> None:
            number, key = numbered
            store_of_source.put(key, number.to_bytes(8, "big") + body[8:], use_multipart=False)

        with ThreadPoolExecutor(PUBLISHERS) as pool:
            list(pool.map(put, enumerate(keys)))
        yield Bench(world, shape, keys, lake_store)
