"""Removes secrets from texts before they are shown in logs, traces, metadata and exceptions.

A secret is recognized by its value, if it was registered with :func:`register_secret`, or by its form: a signature or
token in a URL, the user part of a URL, or an Authorization header.
"""

from __future__ import annotations

import re

MASK = "***"

SHORTEST = 6
"""Shorter values are not removed, since that would mask ordinary words."""

_FORMS = (
    re.compile(r"(?i)(X-Amz-(?:Signature|Security-Token|Credential)=)[^&\s\"'<>]+"),
    re.compile(r"(?i)(Authorization['\"]?\s*[:=]\s*['\"]?)[^'\"\n]+"),
    re.compile(r"(?i)((?:aws_)?(?:secret_access_key|session_token)['\"]?\s*[:=]\s*['\"]?)[^\s'\"&,}]+"),
    re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s@'\"]+(?=@)"),
)

_values: set[str] = set()


def register_secret(value: str | None) -> None:
    """Remove a value from every text from now on. None and short values are ignored."""
    if value is not None and len(value) >= SHORTEST:
        _values.add(value)


def redact(text: str) -> str:
    """The text without secrets."""
    # Longest first, so that a secret which contains another one is removed completely.
    for value in sorted(_values, key=len, reverse=True):
        text = text.replace(value, MASK)
    for form in _FORMS:
        text = form.sub(rf"\g<1>{MASK}", text)
    return text
