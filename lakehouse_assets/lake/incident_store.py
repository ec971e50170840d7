"""The book of incidents in the lake: one JSON document, replaced only by who has read its latest version.

A copy lies on local disk. While the lake does not answer, that copy is read and written; afterwards the
two are merged.
"""

from __future__ import annotations

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
from lakehouse_assets.observability.incidents.lifecycle import merge
from lakehouse_assets.observability.incidents.model import IncidentState
from lakehouse_assets.observability.incidents.service import StoredState

if TYPE_CHECKING:
    from obstore import PutMode

BOOK = "_incidents/book.json"

PATIENCE = timedelta(seconds=5)
"""A lake that takes longer to answer is away: the alarm cannot wait for it."""


@dataclass(frozen=True, slots=True)
class _Version:
    """What was read: the lake's ETag (None where it has no book), or that the lake did not answer."""

    etag: str | None = None
    away: bool = False


class _LocalCopy(BaseModel):
    """``ahead``: written while the lake was away."""

    ahead: bool = False
    book: IncidentState = IncidentState()


class LakeIncidentStore:
    """An IncidentStore. Without ``fallback``, a lake that is away raises StoreError."""

    def __init__(self, lake: Lake, fallback: Path | None) -> None:
        self._lake = lake
        self._fallback = fallback

    def read(self, now: datetime) -> StoredState:
        clock = Clock(now)
        local = self._read_local(clock)
        try:
            book, etag = self._read_lake(clock)
        except CLIENT_ERRORS as error:
            if self._fallback is None:
                raise self._lake.error("Reading", BOOK, error) from error
            return StoredState(local.book, _Version(away=True))
        if local.ahead:
            return StoredState(merge(book or IncidentState(), local.book, now), _Version(etag), unsaved=True)
        book = book or IncidentState()
        if book != local.book:
            self._write_local(_LocalCopy(book=book))
        return StoredState(book, _Version(etag), unsaved=clock.corrected > 0)

    def write(self, book: IncidentState, kept: StoredState) -> bool:
        version: _Version = kept.version
        if not version.away:
            try:
                self._write_lake(book, version.etag)
            except (AlreadyExistsError, PreconditionError):
                return False
            except CLIENT_ERRORS as error:
                if self._fallback is None:
                    raise self._lake.error("Writing", BOOK, error) from error
                version = _Version(away=True)
        self._write_local(_LocalCopy(ahead=version.away, book=book))
        return True

    # The lake

    def _store(self) -> S3Store:
        return replace(self._lake.bucket, max_attempts=2).object_store(timeout=PATIENCE)

    def _read_lake(self, clock: Clock) -> tuple[IncidentState | None, str | None]:
        store = self._store()
        try:
            answer = obstore.get(store, self._lake.key(BOOK))
        except FileNotFoundError:
            return None, None
        body, etag = bytes(answer.bytes()), answer.meta["e_tag"]
        try:
            return IncidentState.model_validate_json(body, context=clock), etag
        except ValidationError:
            # Not written by this version of ours: kept beside, and begun anew.
            etag_of_name = (etag or "").strip('"')
            obstore.put(store, self._lake.key(f"{BOOK}.unreadable-{etag_of_name}"), body)
            return None, etag

    def _write_lake(self, book: IncidentState, etag: str | None) -> None:
        mode: PutMode = "create" if etag is None else {"e_tag": etag}
        body = book.model_dump_json(exclude_defaults=True).encode()
        obstore.put(self._store(), self._lake.key(BOOK), body, mode=mode, use_multipart=False)

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
                    f"Writing {self._fallback} while the lake does not answer",
                    error.strerror,
                    side=Side.LAKE,
                    kind=ErrorKind.UNREACHABLE,
                ) from error
