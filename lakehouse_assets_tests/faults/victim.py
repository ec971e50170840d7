"""A sync in a separate process that a test kills, and what it leaves behind."""

from __future__ import annotations

import copy
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import obstore

from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.sync.scope import Scope
from lakehouse_assets_tests.faults.killed_sync import NEVER
from lakehouse_assets_tests.world import World, body_of, scope

SIZE = 100
SIDECAR = ".CHECKSUM"
PATIENCE_SECONDS = 60.0
GONE_SECONDS = 5.0
WORKERS = 32

Files = Mapping[str, tuple[str, datetime]]


@dataclass(frozen=True)
class Archive:
    """What a world has published: ``files`` are its source keys (objects and sidecars) with their ETags.

    ETags of small objects are MD5 sums of their bytes, so equal ETags mean equal content.
    """

    world: World
    first: str
    last: str
    files: Mapping[str, str]

    @property
    def scope(self) -> Scope:
        return scope(self.world.entry(), self.first, self.last)

    def with_fresh_lake(self) -> Archive:
        """The same archive with an empty lake."""
        world = copy.copy(self.world)
        world.lake = Lake(world.lake.bucket, uuid.uuid4().hex)
        return Archive(world, self.first, self.last, self.files)

    def in_lake(self, below: str = "archive/binance") -> Files:
        """Files below a folder of the lake with ETag and last-modified; archive files by source key."""
        root = self.world.lake.key(f"{below}/")
        store = self.world.lake.bucket.object_store()
        return {
            entry["path"].removeprefix(root): (entry["e_tag"].strip('"'), entry["last_modified"])
            for page in obstore.list(store, prefix=root, chunk_size=1000)
            for entry in page
        }

    def complete(self, files: Files) -> Files:
        """The files of the lake that have the published content."""
        return {key: seen for key, seen in files.items() if self.files.get(key) == seen[0]}


class Victim:
    """``python -m lakehouse_assets_tests.faults.killed_sync`` on an archive and its lake."""

    def __init__(self, archive: Archive, at: str = NEVER) -> None:
        self._mark = tempfile.TemporaryDirectory(prefix="lakehouse-victim-")
        arguments = ["--tag", archive.world.tag, "--from", archive.first, "--to", archive.last, "--at", at]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lakehouse_assets_tests.faults.killed_sync", *arguments],
            env=self._environment(archive),
            stdout=subprocess.PIPE,
            text=True,
        )

    def _environment(self, archive: Archive) -> dict[str, str]:
        """s5cmd inherits TMPDIR, which distinguishes its processes from those of other tests."""
        lake = archive.world.lake
        return os.environ | {
            "TMPDIR": self._mark.name,
            "LAKEHOUSE_LAKE_BUCKET": lake.bucket.name,
            "LAKEHOUSE_LAKE_PREFIX": lake.prefix.strip("/"),
            "LAKEHOUSE_LAKE_ENDPOINT_URL": lake.bucket.endpoint_url,
            "LAKEHOUSE_LAKE_ACCESS_KEY_ID": lake.bucket.credentials.access_key_id,
            "LAKEHOUSE_LAKE_SECRET_ACCESS_KEY": lake.bucket.credentials.secret_access_key,
            "LAKEHOUSE_SOURCE_ENDPOINT_URL": archive.world.source.endpoint_url,
            "LAKEHOUSE_SYNC_WORKERS": str(WORKERS),
        }

    def wait_for(self, word: str) -> bool:
        """Whether the process printed the word before it ended."""
        return any(line.strip() == word for line in self.process.stdout)

    def kill(self) -> None:
        """Send SIGKILL to the process only, not to its group."""
        self.process.send_signal(signal.SIGKILL)

    def end(self) -> int:
        """The exit status, once the process and all its children have ended."""
        status = self.process.wait(PATIENCE_SECONDS)
        self.process.stdout.close()
        deadline = time.monotonic() + GONE_SECONDS
        while left := self.processes():
            assert time.monotonic() < deadline, f"still running {GONE_SECONDS} s after the kill: {left}"
            time.sleep(0.01)
        self._mark.cleanup()
        return status

    def processes(self) -> list[str]:
        """Command lines of running processes with this victim's mark in their environment."""
        sign = f"TMPDIR={self._mark.name}".encode()
        return [line for entry in Path("/proc").glob("[0-9]*") if (line := _marked(entry, sign))]


def _marked(entry: Path, sign: bytes) -> str | None:
    try:
        if sign not in (entry / "environ").read_bytes().split(b"\0"):
            return None
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None  # it ended meanwhile, or belongs to another user


def publish(world: World, symbols: int, periods: list[str], *, with_sidecars: int, version: int = 1) -> Archive:
    """Publish ``symbols`` symbols, the first ``with_sidecars`` of them with sidecars."""
    names = [f"S{number:02}USDT" for number in range(symbols)]
    keys = world.publish(names[:with_sidecars], periods, size=SIZE, version=version)
    bare = world.publish(names[with_sidecars:], periods, size=SIZE, version=version, sidecars=False)
    files = {key: etag_of(body_of(key, version, SIZE)) for key in (*keys, *bare)}
    files |= {f"{key}{SIDECAR}": etag_of(sidecar_of(key, version)) for key in keys}
    return Archive(world, periods[0], periods[-1], files)


def objects(files: Iterable[str]) -> set[str]:
    """The keys of objects, without sidecars."""
    return {key for key in files if not key.endswith(SIDECAR)}


def sidecar_of(key: str, version: int) -> bytes:
    digest = hashlib.sha256(body_of(key, version, SIZE)).hexdigest()
    return f"{digest}  {key.rsplit('/', 1)[1]}\n".encode()


def etag_of(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
