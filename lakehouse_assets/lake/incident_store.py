"""The incident state in the lake: one JSON document, replaced with conditional writes.

There is a copy on local disk. While the lake does not answer, the copy is read and written; afterwards the two are
merged.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import S3Store
from pydantic import BaseModel, ValidationError

from lakehouse_assets.archive.errors import CLIENT_ERRORS
from lakehouse_assets.clock import Clock
from lakehouse_assets.errors import ErrorKind, Side, StoreError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.observability.incidents.merging import merge
from lakehouse_assets.observability.incidents.model import IncidentState
from lakehouse_assets.observability.incidents.service import StoredState

if TYPE_CHECKING:
    from obstore import PutMode

STATE_KEY = "_incidents/book.json"

TIMEOUT = timedelta(seconds=5)
"""A lake that takes longer to answer counts as unavailable, since an alarm cannot wait for it."""


@dataclass(frozen=True, slots=True)
class _Version:
    """The lake's ETag (None if it has no document), or that the lake did not answer."""

    etag: str | None = None
    is_unavailable: bool = False


class _LocalCopy(BaseModel):
    """The copy on disk. ``ahead``: it was written while the lake was unavailable."""

    ahead: bool = False
    book: IncidentState = IncidentState()


def fallback_file(folder: Path, lake: Lake) -> Path:
    """The copy of a lake's incident state in a folder, which several lakes may share.

    A copy under the name that 0.1 gave it, which names no lake, is renamed for the first lake that asks for its own.
    """
    # A digest: a label may be longer than a file's name may be.
    digest = hashlib.sha256(lake.label.encode()).hexdigest()[:16]
    path, former = folder / f"incidents-{digest}.json", folder / "incidents.json"
    if not path.exists():
        with suppress(FileNotFoundError):  # there is none, or the process of another lake was faster
            former.rename(path)
    return path


class LakeIncidentStore:
    """An IncidentStore. Without ``fallback``, an unavailable lake raises StoreError."""

    def __init__(self, lake: Lake, fallback: Path | None) -> None:
        self._lake = lake
        self._fallback = fallback

    def read(self, now: datetime) -> StoredState:
        clock = Clock(now)
        local = self._read_local(clock)
        try:
            state, etag = self._read_lake(clock)
        except CLIENT_ERRORS as error:
            if self._fallback is None:
                raise self._lake.error("Reading", STATE_KEY, error) from error
            return StoredState(local.book, _Version(is_unavailable=True))
        if local.ahead:
            return StoredState(merge(state or IncidentState(), local.book, now), _Version(etag), unsaved=True)
        state = state or IncidentState()
        if state != local.book:
            self._write_local(_LocalCopy(book=state))
        return StoredState(state, _Version(etag), unsaved=clock.corrected > 0)

    def write(self, state: IncidentState, stored: StoredState) -> bool:
        version: _Version = stored.version
        if not version.is_unavailable:
            try:
                self._write_lake(state, version.etag)
            except (AlreadyExistsError, PreconditionError):
                return False
            except CLIENT_ERRORS as error:
                if self._fallback is None:
                    raise self._lake.error("Writing", STATE_KEY, error) from error
                version = _Version(is_unavailable=True)
        self._write_local(_LocalCopy(ahead=version.is_unavailable, book=state))
        return True

    # The lake

    def _store(self) -> S3Store:
        return replace(self._lake.bucket, max_attempts=2).object_store(timeout=TIMEOUT)

    def _read_lake(self, clock: Clock) -> tuple[IncidentState | None, str | None]:
        store = self._store()
        try:
            answer = obstore.get(store, self._lake.key(STATE_KEY))
        except FileNotFoundError:
            return None, None
        body, etag = bytes(answer.bytes()), answer.meta["e_tag"]
        try:
            return IncidentState.model_validate_json(body, context=clock), etag
        except ValidationError:
            # Written by an incompatible version: keep it under another name and start with an empty state.
            etag_of_name = (etag or "").strip('"')
            obstore.put(store, self._lake.key(f"{STATE_KEY}.unreadable-{etag_of_name}"), body)
            return None, etag

    def _write_lake(self, state: IncidentState, etag: str | None) -> None:
        mode: PutMode = "create" if etag is None else {"e_tag": etag}
        body = state.model_dump_json(exclude_defaults=True).encode()
        obstore.put(self._store(), self._lake.key(STATE_KEY), body, mode=mode, use_multipart=False)

    # The copy on disk

    def _read_local(self, clock: Clock) -> _LocalCopy:
        if self._fallback is None:
            return _LocalCopy()
        try:
            return _LocalCopy.model_validate_json(self._fallback.read_bytes(), context=clock)
        except (OSError, ValidationError):
            return _LocalCopy()

    def _write_local(self, copy: _LocalCopy) -> None:
        if self._fallback is None:
            return
        try:
            self._fallback.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile("w", dir=self._fallback.parent, delete=False, encoding="utf-8") as file:
                file.write(copy.model_dump_json(exclude_defaults=True))
            Path(file.name).replace(self._fallback)
        except OSError as error:
            if copy.ahead:
                raise StoreError(
                    "Writing the local copy of the incident state while the lake does not answer",
                    f"{self._fallback}: {error.strerror}",
                    side=Side.LAKE,
                    kind=ErrorKind.UNREACHABLE,
                ) from error
