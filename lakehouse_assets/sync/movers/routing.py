"""Which ways to move objects are tried, in which order, and why.

``auto`` goes through the cheapest way that works: direct where one store holds both buckets and
lets itself be told to copy, relay elsewhere, staged when both fail. Whether direct works is
probed on one object and remembered (sync/movers/probe.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.errors import StoreFault
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.sync.movers.base import AdaptiveConcurrency, Copy, Mover, ObjectHeaders, Outcome, TransferOptions
from lakehouse_assets.sync.movers.direct import DirectMover
from lakehouse_assets.sync.movers.probe import Capability, remember_verdict, remembered_verdict
from lakehouse_assets.sync.movers.relay import RelayMover
from lakehouse_assets.sync.movers.staged import StagedMover

_NO_COPIES = "is not known to let another store copy from it"


@dataclass(frozen=True, slots=True)
class Route:
    """Movers in the order in which they are tried; ``note`` says why direct is not among them, ``probed`` what was
    copied to learn that."""

    movers: Sequence[Mover]
    note: str | None = None
    probed: Outcome | None = None


def route_of(
    mode: SyncMode,
    source: Bucket,
    lake: Lake,
    options: TransferOptions,
    *,
    throttle: AdaptiveConcurrency,
    try_first: Copy | None,
) -> Route:
    """The route of a mode. ``auto`` may copy ``try_first`` to learn whether direct works.

    Raises InputError for a mode that cannot work here, or not with the wanted object headers.
    """
    # Movers make their clients when they move: one that is not needed costs nothing.
    movers: dict[SyncMode, Mover] = {
        SyncMode.DIRECT: DirectMover(source, lake.bucket, options, throttle),
        SyncMode.RELAY: RelayMover(source, lake.bucket, options, throttle),
        SyncMode.STAGED: StagedMover(source, lake.bucket, options, throttle),
    }
    lacking = cannot_say(options.headers)
    if mode in lacking:
        raise InputError(f"Mode {mode} cannot write objects with {lacking[mode]}; use mode auto, direct or staged.")
    if mode is SyncMode.DIRECT and not source.server_side_copy:
        raise InputError(f"Mode direct cannot be used: {source.name} {_NO_COPIES}; use mode auto.")
    if mode is SyncMode.DIRECT and not source.same_provider_as(lake.bucket):
        raise InputError(
            f"Mode direct needs source and lake at one endpoint, but the source is at "
            f"{source.endpoint_url or 'AWS'} and the lake at {lake.bucket.endpoint_url or 'AWS'}; use mode auto."
        )
    if mode is not SyncMode.AUTO:
        return Route((movers[mode],))
    around = [movers[way] for way in (SyncMode.RELAY, SyncMode.STAGED) if way not in lacking]
    if not source.server_side_copy:
        return Route(around, f"{source.name} {_NO_COPIES}")
    if not source.same_provider_as(lake.bucket):
        return Route(around, "source and lake are at different endpoints")
    verdict = remembered_verdict(source, lake)
    if verdict is not None:
        return _route_by(verdict, movers[SyncMode.DIRECT], around)
    return _probed(source, lake, movers[SyncMode.DIRECT], around, try_first)


def another_mode_may_help(fault: StoreFault) -> bool:
    """Whether a copy that failed so is worth another mover.

    Not when the lake refuses, the endpoint is dead or asks for patience: every mode meets that. A kind of
    request that the lake does not know, another mode may not need; a NoSuchKey of s5cmd may be its
    encoding of an odd key.
    """
    refused_by_lake = fault.of_lake and fault.is_final and not fault.is_of_request
    is_about_content = fault.code == "Rewritten" or fault.is_overtaking
    return not (refused_by_lake or fault.is_throttle or is_about_content or is_everywhere(fault))


def is_everywhere(fault: StoreFault) -> bool:
    """Whether every other file would meet the same now, in every mode."""
    return fault.code in _EVERYWHERE


def refuses_direct(fault: StoreFault) -> bool:
    """Whether it reads as a refusal of direct copies as such, not of one object or at one moment."""
    return fault.is_final and not fault.is_of_object and another_mode_may_help(fault)


def without_direct(route: Route, source: Bucket, lake: Lake, reason: str) -> Route:
    """The rest of a route, after direct copies were refused throughout; later syncs are told."""
    around = [mover for mover in route.movers if mover.mode is not SyncMode.DIRECT]
    verdict = remember_verdict(source, lake, works=False, reason=reason)
    return _route_by(verdict, route.movers[0], around)


_EVERYWHERE = {
    "Deadline",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "NoCredentials",
    "NoSuchBucket",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "Unreachable",
}


def _route_by(verdict: Capability, direct: Mover, around: Sequence[Mover]) -> Route:
    if verdict.works:
        return Route((direct, *around))
    return Route(around, f"direct was refused on {verdict.asked_at:%Y-%m-%d %H:%M} UTC: {verdict.reason}")


def _probed(source: Bucket, lake: Lake, direct: Mover, around: Sequence[Mover], copy: Copy | None) -> Route:
    """Copy one object directly; a refusal counts only if another way then succeeds."""
    if copy is None:
        return Route((direct, *around))
    [outcome] = direct.move([copy], lambda _outcome: None)
    if outcome.fault is None:
        verdict = remember_verdict(source, lake, works=True, reason="a probe copy succeeded")
        return replace(_route_by(verdict, direct, around), probed=outcome)
    for mover in around if another_mode_may_help(outcome.fault) else ():
        [second] = mover.move([copy], lambda _outcome: None)
        if second.fault is None:
            verdict = remember_verdict(source, lake, works=False, reason=str(outcome.fault))
            return replace(_route_by(verdict, direct, around), probed=second)
        if not another_mode_may_help(second.fault):
            # The lake refuses: no way around it, and one mode's refusals are enough.
            return Route((direct,))
    return Route((direct, *around))


def cannot_say(headers: ObjectHeaders) -> dict[SyncMode, str]:
    """Modes that cannot write with the wanted headers, and which."""
    unsayable = [name for name in ("acl", "sse", "sse_kms_key_id") if getattr(headers, name)]
    return {SyncMode.RELAY: " and ".join(unsayable)} if unsayable else {}
