"""Whether direct copies work between a source and a lake: asked once, remembered for a while.

Nobody documents that an exchange's bucket may be copied from with another's credentials, so the
first sync tries it on one object that it has to copy anyway. The verdict lies in the lake with
its reason and time, so that runs, which are short processes, need not ask again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import obstore
from pydantic import BaseModel, ValidationError

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.store_errors import CLIENT_ERRORS, store_error
from lakehouse_assets.sync.lake import Lake

PROBE_FOLDER = "_manifest/_probes"

WORKS_FOR = timedelta(days=7)
REFUSED_FOR = timedelta(days=1)
"""A refusal is asked again sooner: somebody may have changed a policy meanwhile."""


class Verdict(BaseModel):
    """``works`` or not, and why: the server's refusal. ``asked_at`` is UTC."""

    works: bool
    reason: str
    asked_at: datetime

    @property
    def is_current(self) -> bool:
        lifetime = WORKS_FOR if self.works else REFUSED_FOR
        return datetime.now(UTC) - self.asked_at < lifetime


def remembered_verdict(source: Bucket, lake: Lake) -> Verdict | None:
    """The verdict on direct copies, None when there is none, it is outdated or unreadable."""
    try:
        body = bytes(lake.bucket.object_store().get(_key(source, lake)).bytes())
    except FileNotFoundError:
        return None
    except CLIENT_ERRORS as error:
        raise store_error(f"Reading {lake.url(_relative(source))}", error) from error
    try:
        verdict = Verdict.model_validate_json(body)
    except ValidationError:
        return None
    return verdict if verdict.is_current else None


def remember_verdict(source: Bucket, lake: Lake, *, works: bool, reason: str) -> Verdict:
    """Record a verdict as of now."""
    verdict = Verdict(works=works, reason=reason, asked_at=datetime.now(UTC))
    try:
        obstore.put(lake.bucket.object_store(), _key(source, lake), verdict.model_dump_json().encode())
    except CLIENT_ERRORS as error:
        raise store_error(f"Writing {lake.url(_relative(source))}", error) from error
    return verdict


def _relative(source: Bucket) -> str:
    return f"{PROBE_FOLDER}/{source.name}.json"


def _key(source: Bucket, lake: Lake) -> str:
    return lake.key(_relative(source))
