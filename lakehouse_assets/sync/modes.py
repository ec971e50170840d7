"""Which ways to move objects are tried, in which order.

The engine tries the movers of a mode in order, each on what the one before could not do and
another might: a refusal of the lake's identity is final.
"""

from __future__ import annotations

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.archive.store_errors import StoreFault
from lakehouse_assets.errors import InputError
from lakehouse_assets.sync.direct import DirectMover
from lakehouse_assets.sync.lake import Lake
from lakehouse_assets.sync.staged import StagedMover
from lakehouse_assets.sync.transfer import Mover, TransferOptions


def movers_of(mode: SyncMode, source: Bucket, lake: Lake, options: TransferOptions) -> list[Mover]:
    """The movers to try, in order. Raises InputError for a mode that cannot work here."""
    direct = DirectMover(source, lake.bucket, options)
    staged = StagedMover(source, lake.bucket, options)
    possible = source.same_provider_as(lake.bucket)
    if mode is SyncMode.STAGED:
        return [staged]
    if mode is SyncMode.DIRECT:
        if not possible:
            raise InputError(
                f"Mode direct needs source and lake at one endpoint, but the source is at "
                f"{source.endpoint_url or 'AWS'} and the lake at {lake.bucket.endpoint_url or 'AWS'}; use mode auto."
            )
        return [direct]
    return [direct, staged] if possible else [staged]


_LAKE_REFUSES = {"NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "NoCredentials"}


def another_mode_may_help(fault: StoreFault) -> bool:
    """Whether a copy that failed so is worth another mover.

    Not when the lake's identity is refused: every mode writes with it. A NoSuchKey of s5cmd may
    be its encoding of an odd key, so it is worth one more try.
    """
    return fault.code not in _LAKE_REFUSES
