"""The states of an archive object, as manifests record them."""

from __future__ import annotations

from enum import StrEnum


class ObjectState(StrEnum):
    """An object (or its sidecar) by its source, its lake and its manifest.

    ``missing``: the source has it, the lake does not. ``changed``: the lake's copy has other content than the
    source's. ``present``: the lake has what the source has. ``vanished``: the source no longer lists it, and the
    lake's copy stays.
    """

    MISSING = "missing"
    CHANGED = "changed"
    PRESENT = "present"
    WITHDRAWN = "vanished"


COPIED_STATES = (ObjectState.MISSING.value, ObjectState.CHANGED.value)
"""States of objects that a sync copies."""

FAILED = "failed"
"""The state of a manifest row that no plan gives: its copy failed."""


class Integrity(StrEnum):
    """What is known of an object's bytes in the lake.

    ``verified``: their digest is the one that the sidecar publishes.
    ``etag_verified``: no usable sidecar, but their MD5 is the source's plain ETag.
    ``mismatch``: their digest is another one than published.
    ``no_checksum``: read, but the exchange publishes nothing to compare with.
    ``unverified``: not read yet.
    """

    VERIFIED = "verified"
    ETAG_VERIFIED = "etag_verified"
    MISMATCH = "mismatch"
    NO_CHECKSUM = "no_checksum"
    UNVERIFIED = "unverified"
