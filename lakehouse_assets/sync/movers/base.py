"""Moving objects into the lake: the interface that every mode implements, and its limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlencode

import polars as pl

from lakehouse_assets.archive import request_values
from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.errors import StoreFault
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.archive.request_values import validated
from lakehouse_assets.lake.digests import Digests
from lakehouse_assets.sync.movers.flow_control import AdaptiveConcurrency
from lakehouse_assets.sync.movers.s5cmd import S5cmd
from lakehouse_assets.sync.movers.s5cmd_protocol import CopyCommand, CopyFlags
from lakehouse_assets.units import GIB


@dataclass(frozen=True, slots=True)
class Copy:
    """One file to move: key in the source bucket, full key in the lake's bucket, size in bytes.

    ``etag`` is the source's as planned, without quotes; None accepts any content. ``replaces`` is the ETag of the
    lake's object that it replaces, None if the lake lists none. ``was_there``: the lake had the object before, and may
    still have it if its listing is wrong.
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
        """boto3's arguments for a write that fails once the lake has another object than was listed."""
        return {"IfNoneMatch": "*"} if self.replaces is None else {"IfMatch": f'"{self.replaces}"'}


COPY_SCHEMA = pl.Schema(
    {
        "key": pl.String,
        "period": pl.String,
        "size": pl.Int64,
        "etag": pl.String,
        "reason": pl.String,
        "is_sidecar": pl.Boolean,
        "lake_etag": pl.String,
        "lake_size": pl.Int64,
        "was_there": pl.Boolean,
    }
)
"""The files that a plan copies, one row each. ``key``, ``size`` and ``etag`` are the source's.

``reason`` is ``missing`` or ``changed``. ``lake_etag`` and ``lake_size`` are of the lake's object that the copy
replaces, null if there is none. ``was_there``: by the manifest, the lake had the object before.
"""


def corrupt_sidecar(copy: Copy, seen: Digests) -> StoreFault | None:
    """The fault of a sidecar whose bytes contradict its plain ETag.

    Sidecars have no integrity state of their own. A corrupt object is stored and recorded as a mismatch instead; see
    sync/integrity/sidecars.py.
    """
    if not copy.is_sidecar or not seen.differs_from(copy.etag):
        return None
    return StoreFault("Corrupt", f"the bytes that came have md5 {seen.md5}, the planned ETag is {copy.etag}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a copy; ``fault`` is None if the mover reports success.

    ``seen`` has the digests of bytes that passed through this machine, ``written_etag`` is the ETag that the store
    returned for the write, if it did.
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
"""One row per file (object or sidecar) that was tried.

``etag`` is the source's as planned, ``written_etag`` the one that the lake returned for the write, ``retries`` the
number of retries after transient failures. ``former_etag`` is of the lake's object that was replaced,
``superseded_key`` where its bytes are preserved. ``overtaken``: the lake had another object by then than was listed,
and it was left unchanged.

Digests (and the ``body`` of a sidecar) are known if the bytes passed through this machine.
"""

OnOutcome = Callable[[Outcome], None]


class Mover(Protocol):
    """Moves copies in one mode. Never raises for a copy: every copy gets one outcome."""

    @property
    def mode(self) -> SyncMode: ...

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHeaders:
    """Headers and tags of every object written to the lake; None keeps the bucket's default.

    ``sse`` is ``AES256`` or ``aws:kms`` (with ``sse_kms_key_id`` unless the bucket's key is used), ``acl`` a canned one
    such as ``bucket-owner-full-control``. ``tags`` replace the source's tags.
    """

    storage_class: str | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    acl: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises InputError for a value that no header can carry; tags are encoded and always fit."""
        words, token = request_values.word, request_values.token
        rules = {"storage_class": words, "sse_kms_key_id": token, "acl": words}
        for name, rule in rules.items():
            if value := getattr(self, name):
                object.__setattr__(self, name, validated(rule, value, f"The lake's {name} {value!r}"))

    def flags(self) -> tuple[str, ...]:
        """Arguments for s5cmd, which does not support tags."""
        values = {
            "--storage-class": self.storage_class,
            "--sse": self.sse,
            "--sse-kms-key-id": self.sse_kms_key_id,
            "--acl": self.acl,
        }
        return tuple(word for flag, value in values.items() if value for word in (flag, value))

    def extra_args(self) -> dict[str, str]:
        """Arguments for boto3 without the tags, which not every request accepts."""
        values = {
            "StorageClass": self.storage_class,
            "ServerSideEncryption": self.sse,
            "SSEKMSKeyId": self.sse_kms_key_id,
            "ACL": self.acl,
        }
        return {name: value for name, value in values.items() if value}

    def upload_args(self) -> dict[str, str]:
        """Arguments for boto3's requests that create an object, with the tags."""
        return self.extra_args() | ({"Tagging": self.tagging()} if self.tags else {})

    def tagging(self) -> str:
        """The value of S3's tagging header; empty without tags."""
        return urlencode(self.tags, quote_via=quote)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOptions:
    """Limits of a transfer, for all modes.

    ``retries`` are s5cmd's own per request; transient failures of a batch are tried ``attempts`` times in all. A batch
    ends after ``deadline_seconds``, after ``stall_seconds`` without progress and after ``failures_in_a_row`` (objects
    that are gone do not count).

    Objects larger than ``large_bytes`` are copied in parts by the store (CopyObject is limited to 5 GiB);
    ``part_bytes`` is the size of a part. Relay mode moves ``relay_workers`` objects at a time and holds at most
    ``relay_bytes`` of bodies in memory. Staged mode keeps at most ``scratch_bytes`` of files in the folder ``scratch``
    (None: the system's temporary folder).

    The lake refuses a ``conditional`` write once it has another object than was listed. Without it, for a store that
    does not support conditions, a write that another run made meanwhile is overwritten, which is noticed only
    afterwards. s5cmd does not support conditions: it copies only objects that the lake never had.
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


class BucketMover:
    """Base of the movers that hold two buckets; all movers of a sync share one ``concurrency``."""

    def __init__(
        self, source: Bucket, lake: Bucket, options: TransferOptions, concurrency: AdaptiveConcurrency | None = None
    ) -> None:
        self._source = source
        self._lake = lake
        self._options = options
        self._concurrency = concurrency or AdaptiveConcurrency(options.workers)


def s5cmd_of(identity: Bucket, options: TransferOptions, concurrency: AdaptiveConcurrency) -> S5cmd:
    """s5cmd with an identity, within the options' limits."""
    return S5cmd(
        identity=identity,
        workers=concurrency.workers,
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
    """Run commands and report each outcome with its copy."""

    def report(command: CopyCommand, fault: StoreFault | None) -> None:
        on_outcome(Outcome(commands[command], mode, fault))

    faults = s5cmd.run(list(commands), flags, report)
    return [Outcome(copy, mode, faults[command]) for command, copy in commands.items()]
