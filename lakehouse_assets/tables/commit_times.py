"""When a table's versions were committed, by the timestamps inside Delta's log entries.

Other Delta readers use the modification times of the log's objects, which change when a lake is copied, moved or
restored. As with Delta's in-commit timestamps, no commit is earlier than its predecessor: a timestamp that is earlier
than the predecessor's, or in the future, is replaced by the predecessor's.
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
"""Concurrent requests, for a log of thousands of entries."""


@dataclass(frozen=True, slots=True)
class VersionAtTime:
    """``version`` is the newest version committed at or before a time, None when the log has none. ``oldest`` is the
    oldest version with an entry in the log, ``since`` the time of its commit."""

    version: int | None
    oldest: int | None
    since: datetime | None


def version_at(lake: Lake, place: str, when: datetime) -> VersionAtTime:
    """The newest version, at a time with a zone, of the table at a path in the lake. Raises StoreError."""
    versions = _versions(lake, place)
    with ThreadPoolExecutor(max_workers=_REQUESTS, thread_name_prefix="log") as pool:
        times = list(pool.map(lambda version: commit_time(lake, place, version), versions))
    now, latest, since, newest = datetime.now(UTC), None, None, None
    for version, time in zip(versions, times, strict=True):
        if time is not None and time <= now:
            latest = time if latest is None else max(latest, time)
            since = since or time
        if latest is not None and latest <= when:
            newest = version
    return VersionAtTime(newest, versions[0] if versions else None, since)


def commit_time(lake: Lake, place: str, version: int) -> datetime | None:
    """The commit timestamp (UTC) of a version; None when its log entry is gone or has none. Raises StoreError."""
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
