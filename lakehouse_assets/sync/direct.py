"""Direct mode: the store copies by itself, told by s5cmd; nothing passes through this machine."""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.sync.s5cmd import CopyCommand, CopyFlags
from lakehouse_assets.sync.transfer import (
    Copy,
    OnOutcome,
    Outcome,
    TransferOptions,
    run_commands,
    s5cmd_of,
)


class DirectMover:
    """Server-side CopyObject by s5cmd: no byte passes through this machine."""

    mode = SyncMode.DIRECT

    def __init__(self, source: Bucket, lake: Bucket, options: TransferOptions) -> None:
        self._source = source
        self._lake = lake
        self._s5cmd = s5cmd_of(lake, options)

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        commands = {
            CopyCommand(f"{self._source.url}/{c.source_key}", f"{self._lake.url}/{c.lake_key}"): c for c in copies
        }
        return run_commands(self._s5cmd, commands, self.flags(), self.mode, on_outcome)

    def flags(self) -> CopyFlags:
        """Regions matter on AWS only; elsewhere the endpoint has one."""
        if self._lake.endpoint_url is not None:
            return CopyFlags()
        return CopyFlags(self._source.effective_region, self._lake.effective_region)
