"""Direct mode: the store copies by itself, told by s5cmd; nothing passes through this machine.

What is too large for one CopyObject is copied in parts (sync/large.py), equally by the store.
"""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.sync.large import LargeMover
from lakehouse_assets.sync.s5cmd import CopyCommand, CopyFlags
from lakehouse_assets.sync.transfer import (
    Copy,
    OnOutcome,
    Outcome,
    S5cmdMover,
    Throttle,
    TransferOptions,
    run_commands,
    s5cmd_of,
)


class DirectMover(S5cmdMover):
    """Server-side CopyObject by s5cmd: no byte passes through this machine."""

    mode = SyncMode.DIRECT

    def __init__(
        self, source: Bucket, lake: Bucket, options: TransferOptions, throttle: Throttle | None = None
    ) -> None:
        super().__init__(source, lake, options, throttle)
        self._large = LargeMover(source, lake, options)

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        commands = {
            CopyCommand(f"{self._source.url}/{c.source_key}", f"{self._lake.url}/{c.lake_key}"): c
            for c in copies
            if c.size <= self._options.large_bytes
        }
        s5cmd = s5cmd_of(self._lake, self._options, self._throttle)
        outcomes = run_commands(s5cmd, commands, self.flags(), self.mode, on_outcome) if commands else []
        return outcomes + self._large.move([c for c in copies if c.size > self._options.large_bytes], on_outcome)

    def flags(self) -> CopyFlags:
        """Regions matter on AWS only; elsewhere the endpoint has one."""
        extra = self._options.headers.flags()
        if self._lake.endpoint_url is not None:
            return CopyFlags(extra=extra)
        return CopyFlags(self._source.effective_region, self._lake.effective_region, extra)
