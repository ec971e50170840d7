"""Whether the lake's store keeps what is there when it is told to: conditional writes.

Manifests and tables are committed by writes that must not replace anything (If-None-Match). A store that
refuses them takes every object and then no record of it; one that ignores them lets two runs at once lose each
other's commits. So nothing is written before it is asked, by such a write to a place that has
something already: one request, two for a new lake, once in a process. Nothing is remembered
beyond that: to read a verdict would take a request as well.

Of a copy a store may know less: conditions on what is there (If-Match), or on what is made of parts, are newer.
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
    "manifests and tables need writes that replace nothing (If-None-Match): without them two runs at once lose each "
    "other's commits; update the store, or use one that has them"
)

_CONFLICTS = {"409", "ConditionalRequestConflict", "OperationAborted"}
"""Another one writes the same place now: the store knows conditions."""

_keeping: set[tuple[str | None, str]] = set()
"""Endpoints and buckets that keep conditional writes, as far as this process has asked."""

_log = logging.getLogger(__name__)


def require_conditional_writes(lake: Lake) -> None:
    """Raises StoreError where the lake's store refuses or ignores them. A failure that passes is no answer."""
    of_store = (lake.bucket.endpoint_url, lake.bucket.name)
    if of_store in _keeping:
        return
    fault = fault_of_conditions(lake)
    if fault is None:
        _keeping.add(of_store)
    elif fault.is_final:
        needed = f"; {CONDITIONS_NEEDED}" if fault.is_of_request and fault.advice is None else ""
        detail = f"{fault}{needed}. Nothing was copied or recorded"
        raise StoreError(
            "A conditional write to",
            detail,
            side=Side.LAKE,
            bucket=lake.bucket.name,
            key=lake.key(PLACE),
            kind=fault.kind,
        )
    else:
        _log.info("Whether %s keeps conditional writes is not known: %s", lake.url(), fault)


def fault_of_conditions(lake: Lake, place: str = PLACE) -> StoreFault | None:
    """What the store says to conditional writes, None where it keeps them. ``place`` is written where it is empty."""
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
    return StoreFault(CONDITION_IGNORED, "the store takes a write that must not replace anything, and replaces", True)


def under(condition: Mapping[str, Any], request: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Mapping[str, Any]:
    """A request of boto3's with its condition, and without where the store does not know that for such a request.

    What another run writes meanwhile is overwritten there; the listing after the transfer tells.
    """
    try:
        return request(condition)
    except ClientError as error:
        if not condition or not fault_of(error).is_of_request:
            raise
    return request({})
