"""Direct mode: the store copies by itself, told by s5cmd; nothing passes through this machine.

What s5cmd cannot ask for (objects over 5 GiB, tags, conditions) is asked for by sync/movers/copy_object.py, and
copied by the store all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.sync.movers.base import (
    AdaptiveConcurrency,
    Copy,
    OnOutcome,
    Outcome,
    S5cmdMover,
    TransferOptions,
    run_commands,
    s5cmd_of,
)
from lakehouse_assets.sync.movers.copy_object import CopyObjectMover
from lakehouse_assets.sync.movers.s5cmd import CopyCommand, CopyFlags


class DirectMover(S5cmdMover):
    """Server-side CopyObject by s5cmd: no byte passes through this machine."""

    mode = SyncMode.DIRECT

    def __init__(
        self, source: Bucket, lake: Bucket, options: TransferOptions, throttle: AdaptiveConcurrency | None = None
    ) -> None:
        super().__init__(source, lake, options, throttle)
        self._by_request = CopyObjectMover(source, lake, options, self._throttle)

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        by_request = [copy for copy in copies if self._beyond_s5cmd(copy) or self._is_bound(copy)]
        asked_for = set(by_request)
        asked = self._by_request.move(by_request, on_outcome) if by_request else []
        refused = {outcome.copy for outcome in asked if outcome.fault is not None and outcome.fault.is_unknown_to_store}
        unbound = {copy for copy in refused if not self._beyond_s5cmd(copy)}
        rest = [copy for copy in copies if copy in unbound or copy not in asked_for]
        return [outcome for outcome in asked if outcome.copy not in unbound] + self._by_s5cmd(rest, on_outcome)

    def _beyond_s5cmd(self, copy: Copy) -> bool:
        return bool(self._options.headers.tags) or copy.size > self._options.large_bytes

    def _is_bound(self, copy: Copy) -> bool:
        """Where it might replace what is there, by another run or unlisted, which s5cmd cannot be told not to do."""
        return self._options.conditional and (copy.replaces is not None or copy.was_there)

    def _by_s5cmd(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        if not copies:
            return []
        commands = {
            CopyCommand(f"{self._source.url}/{copy.source_key}", f"{self._lake.url}/{copy.lake_key}"): copy
            for copy in copies
        }
        s5cmd = s5cmd_of(self._lake, self._options, self._throttle)
        return run_commands(s5cmd, commands, self.flags(), self.mode, on_outcome)

    def flags(self) -> CopyFlags:
        """Regions matter on AWS only; elsewhere the endpoint has one."""
        extra = self._options.headers.flags()
        if self._lake.endpoint_url is not None:
            return CopyFlags(extra=extra)
        return CopyFlags(self._source.effective_region, self._lake.effective_region, extra)
