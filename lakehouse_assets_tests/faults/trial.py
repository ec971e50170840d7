"""A trial: a sync through a faulty proxy, assertions about its result, and the sync that repairs it.

Each trial writes one line of the table of faults.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.report import PeriodState, SyncReport
from lakehouse_assets.sync.progress import Progress, Stage
from lakehouse_assets.sync.scope import Scope
from lakehouse_assets_tests.faults.proxy import Proxy, Rule
from lakehouse_assets_tests.faults.table import result_text, write_line
from lakehouse_assets_tests.world import World, body_of, days, scope

FIRST, LAST = "2024-03-01", "2024-03-07"
SYMBOLS = ("AUSDT", "BUSDT", "CUSDT", "DUSDT")
SIZE = 400
QUICK: dict[str, Any] = {"retries": 2, "attempts": 3, "stall_seconds": 20.0, "deadline_seconds": 120.0}
"""Limits under which a batch fails quickly."""


def through(world: World, proxy: Proxy, *, source: bool = True, lake: bool = True, max_attempts: int = 5) -> World:
    """The same world with its source, its lake or both behind the proxy."""
    other = copy.copy(world)
    changes: dict[str, Any] = {"endpoint_url": proxy.endpoint_url, "max_attempts": max_attempts}
    if source:
        other.source = replace(world.source, **changes)
    if lake:
        other.lake = Lake(replace(world.lake.bucket, **changes), world.lake.prefix)
    return other


@dataclass
class Trial:
    """``world`` is healthy; ``faulty`` is the same one behind the proxy."""

    fault: str
    world: World
    faulty: World
    proxy: Proxy
    keys: list[str]
    scope: Scope
    bodies: dict[str, bytes]
    injected: int = 0
    results: list[str] = field(default_factory=list)
    published: dict[str, bytes | None] = field(default_factory=dict)
    """Sidecars with an unexpected content, by the object's key; None: no sidecar is published."""

    def first(
        self,
        mode: SyncMode | None = None,
        *,
        at_listed: Callable[[], object] | None = None,
        heal: bool = True,
        **limits: Any,
    ) -> Any:
        """Sync through the proxy. Returns the report or the error, and asserts that no wrong object is present."""

        def on_progress(progress: Progress) -> None:
            if progress.stage is Stage.LISTED and at_listed is not None:
                at_listed()

        try:
            engine = self.faulty.engine(**QUICK | limits)
            result: Any = engine.sync(self.scope, mode=mode, on_progress=on_progress)
        except LakehouseError as error:
            result = error
        self.injected = self.proxy.struck
        self.results.append(result_text(result))
        if heal:
            self.proxy.heal()
        self.assert_nothing_wrong_is_present()
        return result

    def second(self, mode: SyncMode | None = None, *, faulty: bool = False, **limits: Any) -> SyncReport:
        """Sync without faults, assert a complete, verbatim and recorded lake, and write the line of the table."""
        world = self.faulty if faulty else self.world
        report = world.engine(**QUICK | limits).sync(self.scope, mode=mode)
        self.results.append(result_text(report))
        assert {period.state for period in report.periods} == {PeriodState.COMPLETE}
        etags = self.etags()
        assert {key: etags.get(key) for key in self.files} == {key: _md5(body) for key, body in self.files.items()}
        assert set(self.rows()["state"]) <= {"present", "vanished"}
        self.assert_nothing_wrong_is_present()
        assert self.world.engine().plan(self.scope).copies().is_empty()
        write_line(self.fault, self.injected, *self.results)
        return report

    @property
    def files(self) -> dict[str, bytes]:
        """All files that the source publishes now, objects and sidecars."""
        files = dict(self.bodies)
        for key, body in self.bodies.items():
            files[f"{key}.CHECKSUM"] = f"{hashlib.sha256(body).hexdigest()}  {key.rsplit('/', 1)[1]}\n".encode()
        files |= {key: body for key, body in self.published.items() if body is not None}
        return {key: body for key, body in files.items() if self.published.get(key, body) is not None}

    def rewrite(self, key: str, version: int = 2) -> None:
        self.bodies[key] = body_of(key, version, SIZE)
        self.world.put(key, self.bodies[key])

    def withdraw(self, key: str) -> None:
        del self.bodies[key]
        self.world.withdraw(key)

    def rows(self) -> pl.DataFrame:
        return self.world.manifest().read(self.scope.names)

    def row(self, key: str) -> dict[str, Any]:
        return self.rows().row(by_predicate=pl.col("key") == key, named=True)

    def etags(self) -> dict[str, str]:
        """ETags of the lake's archive files, by source key."""
        listed = self.world.lake_files("archive/binance/")
        return {key.removeprefix("archive/binance/"): etag.strip('"') for key, (etag, _) in listed.items()}

    def assert_nothing_wrong_is_present(self) -> None:
        """Every object that the manifest marks as present is in the lake as published, or is a known mismatch."""
        etags = self.etags()
        for row in self.rows().filter(pl.col("state") == "present").to_dicts():
            key = row["key"]
            if row["integrity"] == "mismatch":
                continue
            assert etags[key] == _md5(self.files[key]), key
            if (sidecar := self.files.get(f"{key}.CHECKSUM")) is not None:
                assert etags[f"{key}.CHECKSUM"] == _md5(sidecar), key


@contextmanager
def trial(
    fault: str,
    world: World,
    *rules: Rule,
    source: bool = True,
    lake: bool = True,
    page: int | None = None,
    behind: str | None = None,
    max_attempts: int = 5,
    symbols: tuple[str, ...] = SYMBOLS,
    size: int = SIZE,
) -> Iterator[Trial]:
    """Publish a week of the symbols with sidecars, and put a proxy with the rules in front of the store."""
    keys = world.publish(symbols, days(FIRST, LAST), size=size)
    with Proxy(behind or world.store.endpoint_url, *rules, page=page).running() as proxy:
        faulty = through(world, proxy, source=source, lake=lake, max_attempts=max_attempts)
        bodies = {key: body_of(key, 1, size) for key in keys}
        yield Trial(fault, world, faulty, proxy, keys, scope(world.entry(), FIRST, LAST), bodies)


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
