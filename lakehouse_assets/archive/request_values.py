"""What may go into a URL or a header: everything that a user sets and a request carries is held to a rule of here.

A rule returns the value as it is used, without blanks and line breaks around it (a secret that was mounted from a file
ends with one), or raises ValueError with what is wrong, and never with a secret. `held` makes it an InputError.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from lakehouse_assets.errors import InputError

MAX_PREFIX_LENGTH = 200
"""Bytes of S3's 1,024 that a prefix may take: keys of exchanges have up to some 200, and Delta's own names 200 more."""

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


def held(rule: Callable[[str], str], value: str, what: str) -> str:
    """The value by a rule. Raises InputError, whose subject is ``what``."""
    try:
        return rule(value)
    except ValueError as fault:
        raise InputError(f"{what} {fault}.") from None


def prefix(text: str) -> str:
    """A prefix of the lake, without slashes around it.

    Elsewhere ``#``, ``?`` and ``%`` divide or encode URLs, ``=`` makes a partition of a folder, ``[*]`` a pattern.
    """
    text = text.strip().strip("/")
    if wrong := _NOT_IN_A_PREFIX.search(text):
        raise ValueError(f"has {wrong[0]!r}; letters A to Z, digits and - _ . are allowed, and / between parts")
    if text and any(part in {"", ".", ".."} for part in text.split("/")):
        raise ValueError("has an empty or dotted part; write it as a/b")
    if len(text) > MAX_PREFIX_LENGTH:
        raise ValueError(f"has {len(text)} characters; {MAX_PREFIX_LENGTH} are allowed, since a key has 1,024 at most")
    return text


def bucket(text: str) -> str:
    """The name of a bucket."""
    return _matching(_BUCKET, text, "is no name of a bucket; letters A to Z, digits and - _ . are allowed")


def region(text: str) -> str:
    """The name of a region."""
    return _matching(_REGION, text, "is no region; it reads like eu-west-1")


def word(text: str) -> str:
    """A storage class or a canned ACL."""
    return _matching(_WORD, text, "has a character that no name of S3's has")


def token(text: str) -> str:
    """What goes into a header as it is: an access key, a session or bearer token, a KMS key."""
    return _matching(_PRINTABLE, text, "is empty, or has a blank, a line break or a character that is not ASCII")


def secret(text: str) -> str:
    """A secret key; it signs and is not sent."""
    return _matching(_PRINTABLE_OR_BLANK, text, "is empty, or has a line break or a character that is not ASCII")


def profile(text: str) -> str:
    """A profile of the AWS configuration files."""
    text = text.strip()
    if _CONTROL.search(text):
        raise ValueError("has a line break or control character")
    return text


def endpoint(text: str) -> str:
    """The URL of a server whose requests we sign, or to which we add a path, without a slash at its end."""
    return _url(text, userinfo=False)


def address(text: str) -> str:
    """As `endpoint`, of a server that may be told a user and a password in the URL."""
    return _url(text, userinfo=True)


def scheme_and_host(url: str) -> tuple[str, str]:
    """Both empty for what is no URL or has no possible port."""
    try:
        parts = urlsplit(url)
        possible = parts.port != 0
    except ValueError:
        return "", ""
    return (parts.scheme, parts.hostname or "") if possible else ("", "")


def _url(text: str, *, userinfo: bool) -> str:
    text = text.strip()
    if not _PRINTABLE.fullmatch(text):
        raise ValueError(f"has a blank, a line break or a character that is not ASCII; {_WRITE_IT}")
    scheme, host = scheme_and_host(text)
    if scheme not in {"http", "https"} or not host:
        raise ValueError(_NO_URL)
    parts = urlsplit(text)
    user, at, netloc = parts.netloc.rpartition("@")
    if at and not userinfo:
        raise ValueError("has a user or password in it, which no request takes from there; give keys by their settings")
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
