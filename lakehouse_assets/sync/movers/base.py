"""Moving objects into the lake: the interface that every mode implements, and its limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlencode

import polars as pl

from lakehouse_assets.archive import request_values
from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.errors import StoreFault
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.archive.request_values import held
from lakehouse_assets.lake.digests import Digests
from lakehouse_assets.sync.movers.s5cmd import CopyCommand, CopyFlags, S5cmd
from lakehouse_assets.units import GIB


@dataclass(frozen=True, slots=True)
class Copy:
    """One object to move: key in the source bucket, full key in the lake's bucket, size in bytes.

    ``etag`` is the source's as planned, without quotes; None where it does not matter. ``replaces`` is the
    ETag of the lake's object that it replaces, None where the lake had none. ``was_there``: the lake had one before,
    and may have it still where its listing is wrong.
    """

    source_key: str
    lake_key: str
    size: int
    etag: str | None = None
    is_sidecar: bool = False
    replaces: str | None = None
    was_there: bool = False

    @property
    def condition(self) -> dict[str, str]:
        """What boto3 takes for a write that is refused once the lake has another object than it had."""
        return {"IfNoneMatch": "*"} if self.replaces is None else {"IfMatch": f'"{self.replaces}"'}


def corrupt_sidecar(copy: Copy, seen: Digests) -> StoreFault | None:
    """The fault of a sidecar that is not what its plain ETag says: it has no integrity state to tell it.

    A corrupt object is stored and recorded as a mismatch; see sync/integrity/sidecars.py.
    """
    if not copy.is_sidecar or not seen.differs_from(copy.etag):
        return None
    return StoreFault("Corrupt", f"the bytes that came have md5 {seen.md5}, the planned ETag is {copy.etag}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a copy; ``fault`` is None where the mover says that it succeeded.

    ``seen`` is given where the bytes passed through this machine, ``written_etag`` where the store
    answered with the ETag of what it wrote.
    """

    copy: Copy
    mode: SyncMode
    fault: StoreFault | None = None
    seen: Digests | None = None
    written_etag: str | None = None


OUTCOME_SCHEMA = pl.Schema(
    {
        "key": pl.String,
        "mode": pl.String,
        "fault": pl.String,
        "overtaken": pl.Boolean,
        "etag": pl.String,
        "written_etag": pl.String,
        "former_etag": pl.String,
        "superseded_key": pl.String,
        "sha256": pl.String,
        "md5": pl.String,
        "body": pl.Binary,
        "retries": pl.Int64,
    }
)
"""One row per file (object or sidecar) that was tried; ``etag`` is the source's when planned, ``written_etag``
the lake's as the write's answer gave it, ``retries`` how often it was tried again after a passing failure.
``overtaken``: the lake had another object by then than was listed, and it was left alone.

Digests, and of a sidecar its ``body``, are known where the bytes passed through this machine.
"""

OnOutcome = Callable[[Outcome], None]


class Mover(Protocol):
    """Moves copies one way. Never raises for a copy: every copy gets one outcome."""

    @property
    def mode(self) -> SyncMode: ...

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHeaders:
    """What every object in the lake is written with; None leaves it to the bucket's defaults.

    ``sse`` is ``AES256`` or ``aws:kms`` (with ``sse_kms_key_id`` if not the bucket's key), ``acl`` a
    canned one such as ``bucket-owner-full-control``. ``tags`` take the place of any that the source has.
    """

    storage_class: str | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    acl: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises InputError for what no header can carry; tags are encoded."""
        words, token = request_values.word, request_values.token
        rules = {"storage_class": words, "sse_kms_key_id": token, "acl": words}
        for name, rule in rules.items():
            if value := getattr(self, name):
                object.__setattr__(self, name, held(rule, value, f"The lake's {name} {value!r}"))

    def flags(self) -> tuple[str, ...]:
        """For s5cmd, which knows no tags."""
        given = {
            "--storage-class": self.storage_class,
            "--sse": self.sse,
            "--sse-kms-key-id": self.sse_kms_key_id,
            "--acl": self.acl,
        }
        return tuple(word for flag, value in given.items() if value for word in (flag, value))

    def extra_args(self) -> dict[str, str]:
        """For boto3, but for the tags: not every request takes them."""
        given = {
            "StorageClass": self.storage_class,
            "ServerSideEncryption": self.sse,
            "SSEKMSKeyId": self.sse_kms_key_id,
            "ACL": self.acl,
        }
        return {name: value for name, value in given.items() if value}

    def upload_args(self) -> dict[str, str]:
        """For boto3's requests that make an object: with the tags."""
        return self.extra_args() | ({"Tagging": self.tagging()} if self.tags else {})

    def tagging(self) -> str:
        """The tags as S3's header has them; empty without any."""
        return urlencode(self.tags, quote_via=quote)


class AdaptiveConcurrency:
    """Parallel copies: halved when the store asks for fewer requests, raised again while it does not."""

    LEAST = 8

    def __init__(self, most: int) -> None:
        self._most = most
        self.workers = most

    def observe(self, outcomes: Iterable[Outcome]) -> None:
        """Take note of a batch."""
        if any(outcome.fault is not None and outcome.fault.is_throttle for outcome in outcomes):
            self.workers = max(min(self.LEAST, self._most), self.workers // 2)
        else:
            self.workers = min(self._most, self.workers + max(1, self.workers // 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOptions:
    """Limits of a transfer, for all modes.

    ``retries`` are s5cmd's own per request; a batch's transient failures are tried ``attempts``
    times in all. A batch is ended after ``deadline_seconds``, after ``stall_seconds`` without progress
    and after ``failures_in_a_row`` (objects that are gone do not count).

    Objects of more than ``large_bytes`` are copied in parts by the store (CopyObject
    ends at 5 GiB); ``part_bytes`` is the size of a part. Relay mode moves ``relay_workers`` objects
    at a time and holds ``relay_bytes`` of bodies in memory. ``scratch`` is where staged mode keeps
    files for a moment (None: the system's temporary folder), ``scratch_bytes`` how much at once.

    ``conditional`` writes are refused by the lake once it has another object than it had when it was
    listed. Without, for a store that is known to refuse conditions, what another run wrote meanwhile is
    overwritten, and only noticed afterwards. s5cmd knows no conditions: it copies only what the lake never had.
    """

    workers: int = 256
    retries: int = 6
    attempts: int = 3
    stall_seconds: float = 300.0
    deadline_seconds: float = 6 * 3600.0
    failures_in_a_row: int = 200
    batch_objects: int = 20_000
    headers: ObjectHeaders = ObjectHeaders()
    large_bytes: int = 5 * GIB
    part_bytes: int = 16 * 1024**2
    relay_workers: int = 64
    relay_bytes: int = 256 * 1024**2
    scratch: Path | None = None
    scratch_bytes: int = 4 * GIB
    conditional: bool = True


class CircuitBreaker:
    """When to give up a batch: at its deadline, or when it fails everywhere. Threads may share it."""

    def __init__(self, limits: TransferOptions) -> None:
        self._limits = limits
        self._deadline = time.monotonic() + limits.deadline_seconds
        self._lock = threading.Lock()
        self._failures = 0
        self._last: StoreFault | None = None

    def observe(self, fault: StoreFault | None) -> None:
        """Take note of an outcome."""
        with self._lock:
            if fault is None:
                self._failures = 0
            elif not fault.is_of_object:
                self._failures += 1
                self._last = self._last if self._failures > self._limits.failures_in_a_row else fault

    def verdict(self) -> StoreFault | None:
        """The fault of all that is still waiting, None while there is hope."""
        if time.monotonic() >= self._deadline:
            return StoreFault("Deadline", f"the batch was ended after {self._limits.deadline_seconds:g} s")
        most = self._limits.failures_in_a_row
        with self._lock:
            if self._last is None or self._failures < most:
                return None
            return replace(self._last, message=f"given up after {most} in a row: {self._last.message}")


class S5cmdMover:
    """What the movers that drive s5cmd hold; a ``throttle`` is shared by all movers of a sync."""

    def __init__(
        self, source: Bucket, lake: Bucket, options: TransferOptions, throttle: AdaptiveConcurrency | None = None
    ) -> None:
        self._source = source
        self._lake = lake
        self._options = options
        self._throttle = throttle or AdaptiveConcurrency(options.workers)


def s5cmd_of(identity: Bucket, options: TransferOptions, throttle: AdaptiveConcurrency) -> S5cmd:
    """s5cmd with an identity, within the options' limits."""
    return S5cmd(
        identity=identity,
        workers=throttle.workers,
        retries=options.retries,
        stall_seconds=options.stall_seconds,
        deadline_seconds=options.deadline_seconds,
        failures_in_a_row=options.failures_in_a_row,
    )


def run_commands(
    s5cmd: S5cmd,
    commands: dict[CopyCommand, Copy],
    flags: CopyFlags,
    mode: SyncMode,
    on_outcome: OnOutcome,
) -> list[Outcome]:
    """Run commands and report each under its copy."""

    def report(command: CopyCommand, fault: StoreFault | None) -> None:
        on_outcome(Outcome(commands[command], mode, fault))

    faults = s5cmd.run(list(commands), flags, report)
    return [Outcome(copy, mode, faults[command]) for command, copy in commands.items()]
