"""Moving objects into the lake: the interface that every mode implements, and its limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.archive.store_errors import StoreFault
from lakehouse_assets.sync.s5cmd import CopyCommand, CopyFlags, S5cmd


@dataclass(frozen=True, slots=True)
class Copy:
    """One object to move: key in the source bucket, full key in the lake's bucket, size in bytes."""

    source_key: str
    lake_key: str
    size: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a copy; ``fault`` is None where the mover says that it succeeded."""

    copy: Copy
    mode: SyncMode
    fault: StoreFault | None = None


OnOutcome = Callable[[Outcome], None]


class Mover(Protocol):
    """Moves copies one way. Never raises for a copy: every copy gets one outcome."""

    @property
    def mode(self) -> SyncMode: ...

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOptions:
    """Limits of a transfer. ``scratch`` is where staged mode keeps files for a moment (None: the
    system's temporary folder), ``scratch_bytes`` how much of it at once."""

    workers: int = 256
    retries: int = 10
    stall_seconds: float = 180.0
    batch_objects: int = 20_000
    scratch: Path | None = None
    scratch_bytes: int = 4 * 1024**3


def s5cmd_of(identity: Bucket, options: TransferOptions) -> S5cmd:
    """s5cmd with an identity, within the options' limits."""
    return S5cmd(
        identity=identity,
        workers=options.workers,
        retries=options.retries,
        stall_seconds=options.stall_seconds,
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
