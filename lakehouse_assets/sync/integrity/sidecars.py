"""Integrity as a recorded state: what a sidecar says, what the bytes say, and what follows.

Exchanges publish wrong, empty and misnamed sidecars, some for years, so a disagreement is a state
of an object and never an exception: it is kept, listed, kept out of tables, and looked at again
when the object or its sidecar changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lakehouse_assets.lake.digests import Digests
from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.lake.store.etags import is_md5

SIDECAR_BYTES = 4096
"""A sidecar is about 100 bytes; anything much larger is none."""

_HEX = re.compile(rb"[0-9a-fA-F]+")
_ALGORITHM = {64: "sha256", 32: "md5"}


@dataclass(frozen=True, slots=True)
class Published:
    """A sidecar's digest (lower-case hex) or, with an empty ``digest``, why it has none."""

    algorithm: str = ""
    digest: str = ""
    fault: str = ""

    @classmethod
    def of(cls, digest: str) -> Published:
        """A digest that was read before; its length tells its kind."""
        return cls(_ALGORITHM[len(digest)], digest)


OVERSIZED = Published(fault=f"the sidecar has more than {SIDECAR_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class IntegrityFinding:
    """The integrity of one object and, where it is not simply good, a line that says why.

    ``copy_differs``: whether the lake's bytes are others than the source's; None where that
    cannot be told without reading the source.
    """

    state: Integrity
    note: str | None = None
    copy_differs: bool | None = None


def parse_sidecar(body: bytes, file_name: str) -> Published:
    """Read a sidecar: its first token is the digest, its second the file's name if there is one.

    Sidecars end with a newline or do not, and carry SHA-256 (64 hex digits) or MD5 (32). One that
    names another file is not believed.
    """
    if len(body) > SIDECAR_BYTES:
        return OVERSIZED
    tokens = body.split()
    if not tokens:
        return Published(fault="the sidecar is empty")
    algorithm = _ALGORITHM.get(len(tokens[0]))
    if algorithm is None or _HEX.fullmatch(tokens[0]) is None:
        return Published(fault="the sidecar does not begin with a SHA-256 or MD5 digest")
    if len(tokens) > 1:
        named = tokens[1].lstrip(b"*").decode(errors="replace").rsplit("/", 1)[-1]
        if named != file_name:
            return Published(fault=f"the sidecar is for {named!r}")
    return Published(algorithm, tokens[0].decode().lower())


def find(seen: Digests, published: Published | None, source_etag: str | None) -> IntegrityFinding:
    """Compare what was read with what was published; ``published`` is None without a sidecar.

    Where the source's ETag is a plain MD5, it tells a wrong sidecar from a wrong copy.
    """
    plain = source_etag if is_md5(source_etag) else None
    differs = None if plain is None else plain != seen.md5
    if published is not None and published.digest:
        actual = seen.sha256 if published.algorithm == "sha256" else seen.md5
        if actual == published.digest:
            return IntegrityFinding(Integrity.VERIFIED, copy_differs=False)
        note = f"the bytes have {published.algorithm} {actual}, the sidecar says {published.digest}"
        return IntegrityFinding(Integrity.MISMATCH, note, copy_differs=differs)
    fault = published.fault if published is not None else None
    if differs:
        return IntegrityFinding(
            Integrity.MISMATCH, f"the bytes have md5 {seen.md5}, the source's ETag is {plain}", copy_differs=True
        )
    return IntegrityFinding(
        Integrity.NO_CHECKSUM if plain is None else Integrity.ETAG_VERIFIED, fault, copy_differs=differs
    )
