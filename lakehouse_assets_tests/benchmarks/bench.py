"""A benchmark's own store: an archive of a given shape, and a fresh place in the lake for every repetition."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta

from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.sync.engine import Engine, EngineOptions, Scope
from lakehouse_assets.sync.lake import Lake
from lakehouse_assets.sync.transfer import Copy, TransferOptions
from lakehouse_assets_tests.world import World, scope

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
    """An archive in a store of its own."""

    world: World
    shape: Shape
    keys: tuple[str, ...]

    @property
    def scope(self) -> Scope:
        return scope(self.world.entry(), str(FIRST), str(self.shape.last))

    @property
    def new_lake(self) -> Lake:
        """A prefix of the lake that nothing was written to."""
        return Lake(self.world.store.lake(), uuid.uuid4().hex)

    def engine(self, lake: Lake, workers: int) -> Engine:
        return Engine(self.world.source, lake, EngineOptions(transfer=TransferOptions(workers=workers)))

    def copies(self, lake: Lake) -> list[Copy]:
        """What a mover is told to bring into a lake."""
        return [Copy(key, lake.key(f"archive/binance/{key}"), self.shape.size) for key in self.keys]


@contextmanager
def bench(shape: Shape) -> Iterator[Bench]:
    """Publish an archive of that shape. Bytes are random (seeded): they do not compress, as zips do not."""
    with EmbeddedStore() as store:
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
        yield Bench(world, shape, keys)
