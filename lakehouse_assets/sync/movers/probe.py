"""Whether direct copies work between a source and a lake: probed once, recorded for some days.

Exchanges do not document whether other accounts may copy from their buckets, so the first sync tries it with an object
that it has to copy anyway. The result is recorded in the lake with its reason and time, since runs are short processes.
The record only saves a probe: a sync that cannot read or write it logs that and probes again.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import obstore
from obstore.store import S3Store
from pydantic import AwareDatetime, BaseModel, ValidationError

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.errors import CLIENT_ERRORS, fault_of
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.observability.telemetry.metrics import RECORDS_LOST, count

PROBE_FOLDER = "_manifest/_probes"

_MOST_BYTES = 64 * 1024
"""A record has about 500 bytes; anything larger is not one."""

_log = logging.getLogger(__name__)

TIMEOUT = timedelta(seconds=5)
"""A probe's copy takes less time than waiting longer for the record."""

WORKS_FOR = timedelta(days=7)
REFUSED_FOR = timedelta(days=1)
"""A refusal is probed again sooner: an operator may have changed a policy meanwhile."""


class Capability(BaseModel):
    """Whether direct copies work; ``reason`` is the store's refusal if not. ``asked_at`` is UTC."""

    works: bool
    reason: str
    asked_at: AwareDatetime

    @property
    def is_current(self) -> bool:
        """Whether the record still applies. One dated in the future, by a wrong clock, does not."""
        lifetime = WORKS_FOR if self.works else REFUSED_FOR
        return timedelta() <= datetime.now(UTC) - self.asked_at < lifetime


def recorded_capability(source: Bucket, lake: Lake) -> Capability | None:
    """The recorded capability; None if there is no record, or it is outdated or unreadable."""
    try:
        answer = _store(lake).get(_key(source, lake))
        if answer.meta["size"] > _MOST_BYTES:
            return None
        body = bytes(answer.bytes())
    except FileNotFoundError:
        return None
    except CLIENT_ERRORS as error:
        _log_lost("read", source, lake, error)
        return None
    try:
        capability = Capability.model_validate_json(body)
    except ValidationError:
        return None
    return capability if capability.is_current else None


def record_capability(source: Bucket, lake: Lake, *, works: bool, reason: str) -> Capability:
    """A capability as of now; recorded if the lake accepts the write."""
    capability = Capability(works=works, reason=reason, asked_at=datetime.now(UTC))
    try:
        obstore.put(_store(lake), _key(source, lake), capability.model_dump_json().encode())
    except CLIENT_ERRORS as error:
        _log_lost("written", source, lake, error)
    return capability


def _store(lake: Lake) -> S3Store:
    return replace(lake.bucket, max_attempts=2).object_store(timeout=TIMEOUT)


def _log_lost(operation: str, source: Bucket, lake: Lake, error: Exception) -> None:
    count(RECORDS_LOST, 1, record=PROBE_FOLDER)
    _log.warning("%s could not be %s: %s", lake.url(_relative(source)), operation, fault_of(error))


def _relative(source: Bucket) -> str:
    return f"{PROBE_FOLDER}/{source.name}.json"


def _key(source: Bucket, lake: Lake) -> str:
    return lake.key(_relative(source))
