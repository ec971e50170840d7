"""Direct mode: the store copies by itself, at s5cmd's request; no byte passes through this machine.

Copies that s5cmd cannot request (objects over 5 GiB, tags, conditions) are requested by sync/movers/copy_object.py; the
store makes them all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.sync.movers.base import (
    BucketMover,
    Copy,
    OnOutcome,
    Outcome,
    TransferOptions,
    run_commands,
    s5cmd_of,
)
from lakehouse_assets.sync.movers.copy_object import CopyObjectMover
from lakehouse_assets.sync.movers.flow_control import AdaptiveConcurrency
from lakehouse_assets.sync.movers.s5cmd_protocol import CopyCommand, CopyFlags


class DirectMover(BucketMover):
    """Server-side CopyObject by s5cmd: no byte passes through this machine."""

    mode = SyncMode.DIRECT

    def __init__(
        self, source: Bucket, lake: Bucket, options: TransferOptions, concurrency: AdaptiveConcurrency | None = None
    ) -> None:
        super().__init__(source, lake, options, concurrency)
        self._copy_object = CopyObjectMover(source, lake, options, self._concurrency)

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        requested = [copy for copy in copies if self._beyond_s5cmd(copy) or self._is_conditional(copy)]
        not_for_s5cmd = set(requested)
        outcomes = self._copy_object.move(requested, on_outcome) if requested else []
        unsupported = {
            outcome.copy for outcome in outcomes if outcome.fault is not None and outcome.fault.is_unknown_to_store
        }
        # A store without conditions gets the copy without one.
        unconditional = {copy for copy in unsupported if not self._beyond_s5cmd(copy)}
        rest = [copy for copy in copies if copy in unconditional or copy not in not_for_s5cmd]
        return [outcome for outcome in outcomes if outcome.copy not in unconditional] + self._by_s5cmd(rest, on_outcome)

    def _beyond_s5cmd(self, copy: Copy) -> bool:
        return bool(self._options.headers.tags) or copy.size > self._options.large_bytes

    def _is_conditional(self, copy: Copy) -> bool:
        """Whether the copy may replace an object, listed or not. s5cmd would overwrite another run's."""
        return self._options.conditional and (copy.replaces is not None or copy.was_there)

    def _by_s5cmd(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        if not copies:
            return []
        commands = {
            CopyCommand(f"{self._source.url}/{copy.source_key}", f"{self._lake.url}/{copy.lake_key}"): copy
            for copy in copies
        }
        s5cmd = s5cmd_of(self._lake, self._options, self._concurrency)
        return run_commands(s5cmd, commands, self.flags(), self.mode, on_outcome)

    def flags(self) -> CopyFlags:
        """Flags for s5cmd. Regions matter only on AWS; another endpoint has one region."""
        extra = self._options.headers.flags()
        if self._lake.endpoint_url is not None:
            return CopyFlags(extra=extra)
        return CopyFlags(self._source.effective_region, self._lake.effective_region, extra)
