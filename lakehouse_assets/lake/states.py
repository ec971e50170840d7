"""The states of an archive object, as manifests record them."""

from __future__ import annotations

from enum import StrEnum


class ObjectState(StrEnum):
    """The state of an object (or its sidecar) by source, lake and manifest.

    ``missing``: the source has it, the lake does not. ``changed``: the lake's copy has other content than the source.
    ``present``: the lake has the source's content. ``vanished``: withdrawn, the source no longer lists it and the
    lake's copy stays.
    """

    MISSING = "missing"
    CHANGED = "changed"
    PRESENT = "present"
    WITHDRAWN = "vanished"


COPIED_STATES = (ObjectState.MISSING.value, ObjectState.CHANGED.value)
"""States of objects that a sync copies."""

FAILED = "failed"
"""The state of a manifest row whose copy failed; no plan has it."""


class Integrity(StrEnum):
    """The integrity of an object's bytes in the lake.

    ``verified``: their digest is the one in the sidecar.
    ``etag_verified``: no usable sidecar, but their MD5 is the source's plain ETag.
    ``mismatch``: their digest differs from the published one.
    ``no_checksum``: read, but the exchange publishes no digest to compare with.
    ``unverified``: not read yet.
    """

    VERIFIED = "verified"
    ETAG_VERIFIED = "etag_verified"
    MISMATCH = "mismatch"
    NO_CHECKSUM = "no_checksum"
    UNVERIFIED = "unverified"


FILE_PREFIXES = ("", "sidecar_")
"""Prefixes of the columns of an object and of its sidecar."""
