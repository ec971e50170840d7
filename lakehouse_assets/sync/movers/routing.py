"""Which modes are tried to move objects, in which order, and why.

``auto`` takes the cheapest mode that works: direct if one store has both buckets and permits the copy, relay otherwise,
staged if both fail. Whether direct works is probed on one object and recorded (sync/movers/probe.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.errors import StoreFault
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.sync.movers.base import Copy, Mover, ObjectHeaders, Outcome, TransferOptions
from lakehouse_assets.sync.movers.direct import DirectMover
from lakehouse_assets.sync.movers.flow_control import AdaptiveConcurrency
from lakehouse_assets.sync.movers.probe import Capability, record_capability, recorded_capability
from lakehouse_assets.sync.movers.relay import RelayMover
from lakehouse_assets.sync.movers.staged import StagedMover

_NO_COPIES = "is not known to let another store copy from it"


@dataclass(frozen=True, slots=True)
class Route:
    """Movers in the order in which they are tried; ``note`` is the reason why direct is not among them, ``probed`` the
    outcome of the probe's copy."""

    movers: Sequence[Mover]
    note: str | None = None
    probed: Outcome | None = None


def route_of(
    mode: SyncMode,
    source: Bucket,
    lake: Lake,
    options: TransferOptions,
    *,
    concurrency: AdaptiveConcurrency,
    try_first: Copy | None,
) -> Route:
    """The route of a mode. ``auto`` may copy ``try_first`` to find out whether direct works.

    Raises InputError for a mode that cannot work between these stores or cannot write the configured object headers.
    """
    # Movers create their clients when they move: an unused mover costs nothing.
    movers: dict[SyncMode, Mover] = {
        SyncMode.DIRECT: DirectMover(source, lake.bucket, options, concurrency),
        SyncMode.RELAY: RelayMover(source, lake.bucket, options, concurrency),
        SyncMode.STAGED: StagedMover(source, lake.bucket, options, concurrency),
    }
    unsupported = unsupported_headers(options.headers)
    if mode in unsupported:
        raise InputError(f"Mode {mode} cannot write objects with {unsupported[mode]}; use mode auto, direct or staged.")
    if mode is SyncMode.DIRECT and not source.server_side_copy:
        raise InputError(f"Mode direct cannot be used: {source.name} {_NO_COPIES}; use mode auto.")
    if mode is SyncMode.DIRECT and not source.same_provider_as(lake.bucket):
        raise InputError(
            f"Mode direct needs source and lake at one endpoint, but the source is at "
            f"{source.endpoint_url or 'AWS'} and the lake at {lake.bucket.endpoint_url or 'AWS'}; use mode auto."
        )
    if mode is not SyncMode.AUTO:
        return Route((movers[mode],))
    fallbacks = [movers[other] for other in (SyncMode.RELAY, SyncMode.STAGED) if other not in unsupported]
    if not source.server_side_copy:
        return Route(fallbacks, f"{source.name} {_NO_COPIES}")
    if not source.same_provider_as(lake.bucket):
        return Route(fallbacks, "source and lake are at different endpoints")
    capability = recorded_capability(source, lake)
    if capability is not None:
        return _route_by(capability, movers[SyncMode.DIRECT], fallbacks)
    return _probed(source, lake, movers[SyncMode.DIRECT], fallbacks, try_first)


def another_mode_may_help(fault: StoreFault) -> bool:
    """Whether another mode may copy a file that failed with this fault.

    Not if the lake refuses the write, or the endpoint is dead or throttles: every mode meets that. But another mode may
    not need a request that the lake does not support, and s5cmd's NoSuchKey may be due to its encoding of the key.
    """
    refused_by_lake = fault.of_lake and fault.is_final and not fault.is_of_request
    is_about_content = fault.code == "Rewritten" or fault.is_overtaking
    return not (refused_by_lake or fault.is_throttle or is_about_content or is_everywhere(fault))


def is_everywhere(fault: StoreFault) -> bool:
    """Whether every other file would fail in the same way now, in every mode."""
    return fault.code in _EVERYWHERE


def refuses_direct(fault: StoreFault) -> bool:
    """Whether the fault refuses direct copies in general, not of one object and not for a moment."""
    return fault.is_final and not fault.is_of_object and another_mode_may_help(fault)


def without_direct(route: Route, source: Bucket, lake: Lake, reason: str) -> Route:
    """The route without direct, after all direct copies were refused. Records that for later syncs."""
    fallbacks = [mover for mover in route.movers if mover.mode is not SyncMode.DIRECT]
    capability = record_capability(source, lake, works=False, reason=reason)
    return _route_by(capability, route.movers[0], fallbacks)


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


def _route_by(capability: Capability, direct: Mover, fallbacks: Sequence[Mover]) -> Route:
    if capability.works:
        return Route((direct, *fallbacks))
    return Route(fallbacks, f"direct was refused on {capability.asked_at:%Y-%m-%d %H:%M} UTC: {capability.reason}")


def _probed(source: Bucket, lake: Lake, direct: Mover, fallbacks: Sequence[Mover], copy: Copy | None) -> Route:
    """Copy one object directly; a refusal counts only if another mode then succeeds."""
    if copy is None:
        return Route((direct, *fallbacks))
    [outcome] = direct.move([copy], lambda _outcome: None)
    if outcome.fault is None:
        capability = record_capability(source, lake, works=True, reason="a probe copy succeeded")
        return replace(_route_by(capability, direct, fallbacks), probed=outcome)
    for mover in fallbacks if another_mode_may_help(outcome.fault) else ():
        [second] = mover.move([copy], lambda _outcome: None)
        if second.fault is None:
            capability = record_capability(source, lake, works=False, reason=str(outcome.fault))
            return replace(_route_by(capability, direct, fallbacks), probed=second)
        if not another_mode_may_help(second.fault):
            # The lake refuses every mode: trying one is enough.
            return Route((direct,))
    return Route((direct, *fallbacks))


def unsupported_headers(headers: ObjectHeaders) -> dict[SyncMode, str]:
    """The modes that cannot write the configured headers, with the names of these headers."""
    unsupported = [name for name in ("acl", "sse", "sse_kms_key_id") if getattr(headers, name)]
    return {SyncMode.RELAY: " and ".join(unsupported)} if unsupported else {}
