"""When a table's versions were committed: what their entries in Delta's log say.

Not when the log's objects were written, which is what readers of Delta go by: a lake that is copied, moved or
restored gives all of them new times. As in Delta's in-commit timestamps, no commit is earlier than the one before it:
one whose clock was behind counts as its predecessor's time, and so does a time that is still to come.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import obstore

from lakehouse_assets.archive.errors import CLIENT_ERRORS
from lakehouse_assets.lake.delta.table import LOG
from lakehouse_assets.lake.lake import Lake

_ENTRY = re.compile(r"([0-9]{20})\.json")
_REQUESTS = 32
"""At a time, for a log of thousands of entries."""


@dataclass(frozen=True, slots=True)
class Found:
    """The newest version committed at or before a time, None where the log has none; ``oldest`` is the oldest version
    that the log has an entry of, and ``since`` when that was committed."""

    version: int | None
    oldest: int | None
    since: datetime | None


def version_at(lake: Lake, place: str, when: datetime) -> Found:
    """The version of the table at a place of the lake that was the newest at a time (aware). Raises StoreError."""
    versions = _versions(lake, place)
    with ThreadPoolExecutor(max_workers=_REQUESTS, thread_name_prefix="log") as pool:
        times = list(pool.map(lambda version: commit_time(lake, place, version), versions))
    now, latest, since, answer = datetime.now(UTC), None, None, None
    for version, time in zip(versions, times, strict=True):
        if time is not None and time <= now:
            latest = time if latest is None else max(latest, time)
            since = since or time
        if latest is not None and latest <= when:
            answer = version
    return Found(answer, versions[0] if versions else None, since)


def commit_time(lake: Lake, place: str, version: int) -> datetime | None:
    """When a version says that it was committed, UTC; None where its entry in the log is gone. Raises StoreError."""
    entry = f"{place}/{LOG}/{version:020}.json"
    try:
        text = bytes(obstore.get(lake.bucket.object_store(), lake.key(entry)).bytes()).decode()
    except FileNotFoundError:
        return None
    except CLIENT_ERRORS as error:
        raise lake.error("Reading", entry, error) from error
    for line in text.splitlines():
        info = json.loads(line).get("commitInfo")
        if info is not None:
            milliseconds = info.get("inCommitTimestamp", info.get("timestamp"))
            return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
    return None


def _versions(lake: Lake, place: str) -> list[int]:
    names = lake.objects_below(f"{place}/{LOG}")["key"]
    return sorted(int(entry[1]) for name in names if (entry := _ENTRY.fullmatch(name)))
