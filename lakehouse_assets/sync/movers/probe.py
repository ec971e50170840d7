"""Whether direct copies work between a source and a lake: asked once, remembered for a while.

Nobody documents that an exchange's bucket may be copied from with another's credentials, so the
first sync tries it on one object that it has to copy anyway. The verdict lies in the lake with
its reason and time, so that runs, which are short processes, need not ask again. It saves a question
and is no condition of a copy: one that cannot be read or written is told, and asked for again.
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
"""A verdict with its reason has some 500 bytes; what is larger is none."""

_log = logging.getLogger(__name__)

PATIENCE = timedelta(seconds=5)
"""A lake that takes longer to answer is not waited for: a copy tells as much."""

WORKS_FOR = timedelta(days=7)
REFUSED_FOR = timedelta(days=1)
"""A refusal is asked again sooner: somebody may have changed a policy meanwhile."""


class Capability(BaseModel):
    """``works`` or not, and why: the server's refusal. ``asked_at`` is UTC."""

    works: bool
    reason: str
    asked_at: AwareDatetime

    @property
    def is_current(self) -> bool:
        """Not if another's clock dated it in the future: it would be current for as long as that is off."""
        lifetime = WORKS_FOR if self.works else REFUSED_FOR
        return timedelta() <= datetime.now(UTC) - self.asked_at < lifetime


def remembered_verdict(source: Bucket, lake: Lake) -> Capability | None:
    """The verdict on direct copies, None when there is none, it is outdated or unreadable."""
    try:
        answer = _store(lake).get(_key(source, lake))
        if answer.meta["size"] > _MOST_BYTES:
            return None
        body = bytes(answer.bytes())
    except FileNotFoundError:
        return None
    except CLIENT_ERRORS as error:
        _tell_lost("read", source, lake, error)
        return None
    try:
        verdict = Capability.model_validate_json(body)
    except ValidationError:
        return None
    return verdict if verdict.is_current else None


def remember_verdict(source: Bucket, lake: Lake, *, works: bool, reason: str) -> Capability:
    """A verdict as of now, recorded where the lake takes it."""
    verdict = Capability(works=works, reason=reason, asked_at=datetime.now(UTC))
    try:
        obstore.put(_store(lake), _key(source, lake), verdict.model_dump_json().encode())
    except CLIENT_ERRORS as error:
        _tell_lost("written", source, lake, error)
    return verdict


def _store(lake: Lake) -> S3Store:
    return replace(lake.bucket, max_attempts=2).object_store(timeout=PATIENCE)


def _tell_lost(tried: str, source: Bucket, lake: Lake, error: Exception) -> None:
    count(RECORDS_LOST, 1, record=PROBE_FOLDER)
    _log.warning("%s could not be %s: %s", lake.url(_relative(source)), tried, fault_of(error))


def _relative(source: Bucket) -> str:
    return f"{PROBE_FOLDER}/{source.name}.json"


def _key(source: Bucket, lake: Lake) -> str:
    return lake.key(_relative(source))
