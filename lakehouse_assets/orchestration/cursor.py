"""The discovery sensor's cursor: what must survive a restart, bounded in size."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ValidationError

MAX_ENTRIES = 500
"""Periods remembered; the oldest are forgotten first. About 60 kB."""


class Waiting(BaseModel):
    """A published period that is not settled yet: unchanged since ``since`` (epoch seconds)."""

    fingerprint: str
    since: float


class Asked(BaseModel):
    """A period for which a run was asked, most recently at ``at`` (epoch seconds)."""

    fingerprint: str
    attempt: int
    at: float


class DiscoveryCursor(BaseModel):
    """``followed`` says since when a dataset is followed that has no ``follow_from``; ``waiting``
    and ``asked`` are keyed by ``dataset@period``; ``next_dataset`` is where a tick that ran out
    of time left off."""

    followed: dict[str, date] = {}
    waiting: dict[str, Waiting] = {}
    asked: dict[str, Asked] = {}
    next_dataset: str | None = None

    @classmethod
    def read(cls, text: str | None) -> DiscoveryCursor:
        """A cursor that cannot be read is started anew: the manifest knows what was done."""
        if not text:
            return cls()
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return cls()

    def write(self) -> str:
        for entries in (self.waiting, self.asked):
            for key in sorted(entries, key=lambda key: key.rsplit("@", 1)[1])[:-MAX_ENTRIES]:
                del entries[key]
        return self.model_dump_json()
