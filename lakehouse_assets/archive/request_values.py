"""Rules for values that users set and that go into URLs or headers of requests.

A rule returns the value stripped of surrounding whitespace (a secret that is mounted from a file ends with a line
break), or raises ValueError, whose message says what is wrong and never contains a secret. `validated` turns that into
an InputError.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from lakehouse_assets.errors import InputError

MAX_PREFIX_LENGTH = 200
"""Bytes of a prefix. S3 allows keys of 1,024 bytes; an exchange's keys take some 200, Delta's file names 200 more."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_REGION = re.compile(r"[A-Za-z0-9-]+")
_WORD = re.compile(r"[A-Za-z0-9_-]+")
_PRINTABLE = re.compile(r"[!-~]+")
_PRINTABLE_OR_BLANK = re.compile(r"[ -~]+")
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_PATH = re.compile(r"[A-Za-z0-9._~/-]*")
_NOT_IN_A_PREFIX = re.compile(r"[^A-Za-z0-9._/-]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_WRITE_IT = "write it as https://host[:port]"
_NO_URL = f"is not a URL; {_WRITE_IT}"


def validated(rule: Callable[[str], str], value: str, what: str) -> str:
    """The value as the rule returns it. Raises InputError, whose message begins with ``what``."""
    try:
        return rule(value)
    except ValueError as fault:
        raise InputError(f"{what} {fault}.") from None


def prefix(text: str) -> str:
    """A prefix of the lake, without surrounding slashes.

    Other tools give a meaning to ``#``, ``?`` and ``%`` (URLs), ``=`` (partition folders) and ``[*]`` (patterns).
    """
    text = text.strip().strip("/")
    if wrong := _NOT_IN_A_PREFIX.search(text):
        raise ValueError(f"contains {wrong[0]!r}; use letters A to Z, digits and - _ . only, with / between folders")
    if text and any(part in {"", ".", ".."} for part in text.split("/")):
        raise ValueError("has an empty or dotted folder name; write it as a/b")
    if len(text) > MAX_PREFIX_LENGTH:
        raise ValueError(
            f"has {len(text)} characters; use at most {MAX_PREFIX_LENGTH}, since keys are limited to 1,024"
        )
    return text


def lake_name(text: str) -> str:
    """The name of a lake in Dagster's tags and pools. Dagster reads a colon or a slash there as a separator."""
    return _matching(_WORD, text, "is not a name of a lake; use letters A to Z, digits and - _ only")


def bucket(text: str) -> str:
    """The name of a bucket."""
    return _matching(_BUCKET, text, "is not a bucket name; use letters A to Z, digits and - _ . only")


def region(text: str) -> str:
    """The name of a region."""
    return _matching(_REGION, text, "is not a region; write it as eu-west-1")


def word(text: str) -> str:
    """A storage class or a canned ACL."""
    return _matching(_WORD, text, "contains a character that no such name of S3 has")


def token(text: str) -> str:
    """A value that goes into a header verbatim: an access key, a session or bearer token, a KMS key."""
    return _matching(_PRINTABLE, text, "is empty, or contains a blank, a line break or a non-ASCII character")


def secret(text: str) -> str:
    """A secret key; it signs requests and is never sent."""
    return _matching(_PRINTABLE_OR_BLANK, text, "is empty, or contains a line break or a non-ASCII character")


def profile(text: str) -> str:
    """A profile of the AWS configuration files."""
    text = text.strip()
    if _CONTROL.search(text):
        raise ValueError("contains a line break or control character")
    return text


def endpoint(text: str) -> str:
    """The URL of a server, without a trailing slash; its requests are signed, or paths are appended to it."""
    return _url(text, userinfo=False)


def address(text: str) -> str:
    """As `endpoint`, for a server that accepts a user and a password in the URL."""
    return _url(text, userinfo=True)


def scheme_and_host(url: str) -> tuple[str, str]:
    """The scheme and the host of a URL; both empty if the text is not a URL or its port is invalid."""
    try:
        parts = urlsplit(url)
        possible = parts.port != 0
    except ValueError:
        return "", ""
    return (parts.scheme, parts.hostname or "") if possible else ("", "")


def _url(text: str, *, userinfo: bool) -> str:
    text = text.strip()
    if not _PRINTABLE.fullmatch(text):
        raise ValueError(f"contains a blank, a line break or a non-ASCII character; {_WRITE_IT}")
    scheme, host = scheme_and_host(text)
    if scheme not in {"http", "https"} or not host:
        raise ValueError(_NO_URL)
    parts = urlsplit(text)
    user, at, netloc = parts.netloc.rpartition("@")
    if at and not userinfo:
        raise ValueError("contains a user or password, which requests do not use; set the keys by their own settings")
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ValueError("has a query or fragment; write it without ? and #")
    if not (_is_ipv6(host) if netloc.startswith("[") else _HOST.fullmatch(host)) or not _PATH.fullmatch(parts.path):
        raise ValueError(_NO_URL)
    return f"{scheme}://{user}{at}{netloc.lower()}{parts.path.rstrip('/')}"


def _is_ipv6(host: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(host)) and "%" not in host
    except ValueError:
        return False


def _matching(allowed: re.Pattern[str], text: str, fault: str) -> str:
    text = text.strip()
    if not allowed.fullmatch(text):
        raise ValueError(fault)
    return text
