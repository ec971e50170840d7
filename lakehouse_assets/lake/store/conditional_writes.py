"""Probes whether the lake's store honours conditional writes.

Manifests and tables are committed by writes that must not replace an object (If-None-Match). With a store that refuses
them, a sync would copy every object and then fail to record it. With a store that ignores them, two concurrent runs
would lose each other's commits. So before a process writes anything, it probes with such a write to an existing key:
one request, two for a new lake. The result is not stored, since reading it would take a request as well.

Conditions on the destination of a copy (If-Match), or of a multipart upload, are newer and may be missing separately.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import obstore
from botocore.exceptions import ClientError
from obstore.exceptions import AlreadyExistsError, PreconditionError

from lakehouse_assets.archive.dataset import MANIFEST_FOLDER
from lakehouse_assets.archive.errors import CLIENT_ERRORS, CONDITION_IGNORED, StoreFault, fault_of
from lakehouse_assets.errors import Side, StoreError
from lakehouse_assets.lake.lake import Lake

PLACE = f"{MANIFEST_FOLDER}/_conditional-write"

CONDITIONS_NEEDED = (
    "manifests and tables need conditional writes (If-None-Match): without them, two concurrent runs lose each "
    "other's commits; update the store, or use one that supports them"
)

_CONFLICTS = {"409", "ConditionalRequestConflict", "OperationAborted"}
"""Another client writes the same key now, so the store does check conditions."""

_proven: set[tuple[str | None, str]] = set()
"""Endpoints and buckets that this process has found to honour conditional writes."""

_log = logging.getLogger(__name__)


def require_conditional_writes(lake: Lake) -> None:
    """Raises StoreError if the lake's store refuses or ignores conditional writes. A transient failure is ignored."""
    store_id = (lake.bucket.endpoint_url, lake.bucket.name)
    if store_id in _proven:
        return
    fault = probe_conditional_writes(lake)
    if fault is None:
        _proven.add(store_id)
    elif fault.is_final:
        needed = f"; {CONDITIONS_NEEDED}" if fault.is_of_request and fault.advice is None else ""
        detail = f"{fault}{needed}. Nothing was copied or recorded"
        raise StoreError(
            "Writing conditionally to",
            detail,
            side=Side.LAKE,
            bucket=lake.bucket.name,
            key=lake.key(PLACE),
            kind=fault.kind,
        )
    else:
        _log.info("Could not probe conditional writes of %s: %s", lake.url(), fault)


def probe_conditional_writes(lake: Lake, place: str = PLACE) -> StoreFault | None:
    """The fault of the store's conditional writes, None if it honours them. Creates ``place`` if it does not exist."""
    store = replace(lake.bucket, max_attempts=2).object_store()
    body = b"lakehouse: does this store keep what is there?"
    for _ in range(2):
        try:
            obstore.put(store, lake.key(place), body, mode="create", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return None
        except CLIENT_ERRORS as error:
            fault = replace(fault_of(error), of_lake=True)
            return None if fault.code in _CONFLICTS else fault
    return StoreFault(CONDITION_IGNORED, "the store overwrites an object in spite of If-None-Match", True)


def with_condition(
    condition: Mapping[str, Any], request: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> Mapping[str, Any]:
    """Send a boto3 request with a condition, or without it if the store does not support it for this request.

    Without the condition, a concurrent write of another run is overwritten; the listing after the transfer reveals it.
    """
    try:
        return request(condition)
    except ClientError as error:
        if not condition or not fault_of(error).is_of_request:
            raise
    return request({})
