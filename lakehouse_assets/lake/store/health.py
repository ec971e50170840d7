"""Findings of `lakehouse doctor` about a lake or a source."""

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
    """``about`` names the subject, ``found`` the result, ``advice`` what to do about it."""

    about: str
    health: Health
    found: str
    advice: str = ""
