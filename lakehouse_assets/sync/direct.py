"""Direct mode: the store copies by itself, told by s5cmd; nothing passes through this machine.

What s5cmd cannot ask for (objects over 5 GiB, tags) is asked for by sync/by_request.py, and copied by
the store all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.sync.by_request import RequestMover
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
        self._by_request = RequestMover(source, lake, options, self._throttle)

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        rest = [copy for copy in copies if self._options.headers.tags or copy.size > self._options.large_bytes]
        beyond = set(rest)
        commands = {
            CopyCommand(f"{self._source.url}/{c.source_key}", f"{self._lake.url}/{c.lake_key}"): c
            for c in copies
            if c not in beyond
        }
        s5cmd = s5cmd_of(self._lake, self._options, self._throttle)
        outcomes = run_commands(s5cmd, commands, self.flags(), self.mode, on_outcome) if commands else []
        return outcomes + (self._by_request.move(rest, on_outcome) if rest else [])

    def flags(self) -> CopyFlags:
        """Regions matter on AWS only; elsewhere the endpoint has one."""
        extra = self._options.headers.flags()
        if self._lake.endpoint_url is not None:
            return CopyFlags(extra=extra)
        return CopyFlags(self._source.effective_region, self._lake.effective_region, extra)
