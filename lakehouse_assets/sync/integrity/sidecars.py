"""Integrity as a recorded state: the digest that a sidecar publishes, compared with the bytes.

Exchanges publish wrong, empty and misnamed sidecars, some for years. A mismatch is therefore a state of an object and
never an exception: the object is kept and listed, tables leave it out, and it is checked again when the object or its
sidecar changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lakehouse_assets.lake.digests import Digests
from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.lake.store.etags import is_md5

SIDECAR_BYTES = 4096
"""A sidecar has about 100 bytes; a much larger file is not one."""

_HEX = re.compile(rb"[0-9a-fA-F]+")
_ALGORITHM = {64: "sha256", 32: "md5"}


@dataclass(frozen=True, slots=True)
class Published:
    """A sidecar's digest (lower-case hex) or, with an empty ``digest``, the fault of the sidecar."""

    algorithm: str = ""
    digest: str = ""
    fault: str = ""

    @classmethod
    def of(cls, digest: str) -> Published:
        """A recorded digest; its length determines the algorithm."""
        return cls(_ALGORITHM[len(digest)], digest)


OVERSIZED = Published(fault=f"the sidecar has more than {SIDECAR_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class IntegrityFinding:
    """The integrity of one object; ``note`` is a line with the reason unless it is simply verified.

    ``copy_differs``: whether the lake's bytes differ from the source's; None if only reading the source can tell.
    """

    state: Integrity
    note: str | None = None
    copy_differs: bool | None = None


def parse_sidecar(body: bytes, file_name: str) -> Published:
    """Parse a sidecar: the first token is the digest, an optional second one the file's name.

    The digest is SHA-256 (64 hex digits) or MD5 (32); a final newline is optional. The digest of a sidecar that names
    another file is not used.
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


def compare_digests(seen: Digests, published: Published | None, source_etag: str | None) -> IntegrityFinding:
    """Compare the digests of the lake's bytes with the published one; ``published`` is None without a sidecar.

    If the source's ETag is a plain MD5, it distinguishes a wrong sidecar from a wrong copy.
    """
    source_md5 = source_etag if is_md5(source_etag) else None
    differs = None if source_md5 is None else source_md5 != seen.md5
    if published is not None and published.digest:
        actual = seen.sha256 if published.algorithm == "sha256" else seen.md5
        if actual == published.digest:
            return IntegrityFinding(Integrity.VERIFIED, copy_differs=False)
        note = f"the bytes have {published.algorithm} {actual}, the sidecar says {published.digest}"
        return IntegrityFinding(Integrity.MISMATCH, note, copy_differs=differs)
    fault = published.fault if published is not None else None
    if differs:
        return IntegrityFinding(
            Integrity.MISMATCH, f"the bytes have md5 {seen.md5}, the source's ETag is {source_md5}", copy_differs=True
        )
    return IntegrityFinding(
        Integrity.NO_CHECKSUM if source_md5 is None else Integrity.ETAG_VERIFIED, fault, copy_differs=differs
    )
