"""What was found out about a lake or a source, how bad it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class HealthFinding:
    """``about`` names what was looked at, ``found`` what it is, ``advice`` what to do about it."""

    about: str
    health: Health
    found: str
    advice: str = ""
