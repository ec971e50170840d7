"""Probes what a lake's store can do beyond reading and writing, with requests on a small object.

Many stores implement S3, each incompletely: some refuse a request, some accept it and ignore part of it. Both count as
a missing capability, and the finding says what the lack costs.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from lakehouse_assets.archive.errors import CLIENT_ERRORS, fault_of
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.store.conditional_writes import CONDITIONS_NEEDED, probe_conditional_writes
from lakehouse_assets.lake.store.health import Health, HealthFinding

FOLDER = "_doctor"
PROBE = f"{FOLDER}/probe"
BODY = b"lakehouse doctor"
_ETAG = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
_OTHER_ETAG = "0" * 32
_NOT_MET = {"412", "PreconditionFailed"}


@dataclass(frozen=True, slots=True)
class StoreCapability:
    """One capability. ``probe`` returns what is wrong, None if the store has it, and raises what the store refuses.
    ``confirmation`` describes a store that has it; ``health`` and ``advice`` are for one that lacks it."""

    about: str
    confirmation: str
    probe: Callable[[Any, Lake], str | None]
    health: Health
    advice: str


def check_capabilities(client: Any, lake: Lake) -> Iterator[HealthFinding]:
    """A finding per capability. BODY must have been written to PROBE."""
    fault = probe_conditional_writes(lake, PROBE)
    about = "lake: conditional writes"
    if fault is None:
        yield HealthFinding(about, Health.OK, "the store refuses to overwrite an existing object")
    else:
        advice = fault.advice or (CONDITIONS_NEEDED if fault.is_of_request else POLICIES)
        yield HealthFinding(about, Health.ERROR, f"{fault.code}: {fault.message}", advice)
    for capability in _CAPABILITIES:
        try:
            problem = capability.probe(client, lake)
        except CLIENT_ERRORS as error:
            problem = f"refused: {fault_of(error)}"
        if problem is None:
            yield HealthFinding(capability.about, Health.OK, capability.confirmation)
        else:
            yield HealthFinding(capability.about, capability.health, problem, capability.advice)


POLICIES = "see deploy/aws for the policies that syncs need"


def _place(lake: Lake, relative: str = PROBE) -> dict[str, Any]:
    return {"Bucket": lake.bucket.name, "Key": lake.key(relative)}


def _is_refused(request: Callable[[], object]) -> bool:
    """Whether the store refuses a request whose condition does not hold. Raises any other error."""
    try:
        request()
    except ClientError as error:
        if fault_of(error).code in _NOT_MET:
            return True
        raise
    return False


def _has_md5_etags(client: Any, lake: Lake) -> str | None:
    etag = client.head_object(**_place(lake))["ETag"].strip('"')
    return None if etag == _ETAG else f"the ETag of {len(BODY)} bytes is {etag}, not their MD5"


def _replaces_conditionally(client: Any, lake: Lake) -> str | None:
    place = _place(lake)
    client.put_object(**place, Body=BODY, IfMatch=client.head_object(**place)["ETag"])
    if _is_refused(lambda: client.put_object(**place, Body=BODY, IfMatch=f'"{_OTHER_ETAG}"')):
        return None
    return "the store replaces an object whose ETag is another"


def _copies_conditionally(client: Any, lake: Lake) -> str | None:
    def copy(etag: str) -> object:
        return client.copy_object(**_place(lake, f"{PROBE}-copy"), CopySource=_place(lake), CopySourceIfMatch=etag)

    copy(client.head_object(**_place(lake))["ETag"])
    if _is_refused(lambda: copy(f'"{_OTHER_ETAG}"')):
        return None
    return "the store copies an object whose ETag is another"


def _uploads_parts(client: Any, lake: Lake) -> str | None:
    _in_parts(client, lake, lambda upload: client.upload_part(**upload, PartNumber=1, Body=BODY)["ETag"])
    return None


def _copies_parts(client: Any, lake: Lake) -> str | None:
    def part(upload: dict[str, Any]) -> str:
        return client.upload_part_copy(
            **upload, PartNumber=1, CopySource=_place(lake), CopySourceRange=f"bytes=0-{len(BODY) - 1}"
        )["CopyPartResult"]["ETag"]

    _in_parts(client, lake, part)
    return None


def _in_parts(client: Any, lake: Lake, part: Callable[[dict[str, Any]], str]) -> None:
    place = _place(lake, f"{PROBE}-parts")
    upload = {**place, "UploadId": client.create_multipart_upload(**place)["UploadId"]}
    try:
        parts = [{"PartNumber": 1, "ETag": part(upload)}]
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    except CLIENT_ERRORS:
        with contextlib.suppress(*CLIENT_ERRORS):
            client.abort_multipart_upload(**upload)
        raise


def _lists(client: Any, lake: Lake) -> str | None:
    """Lists the probes: a key, and other keys that begin with it."""
    client.put_object(**_place(lake, f"{PROBE}-2"), Body=BODY)
    below = {"Bucket": lake.bucket.name, "Prefix": lake.key(PROBE)}

    def keys(**further: str) -> list[str]:
        return [entry["Key"] for entry in client.list_objects_v2(**below, **further).get("Contents", [])]

    listed = keys()
    if not {lake.key(PROBE), lake.key(f"{PROBE}-2")} <= set(listed):
        return "the listing lacks objects that were just written"
    if listed != sorted(listed, key=str.encode):
        return "keys are not listed in order"
    if keys(StartAfter=lake.key(PROBE)) != [key for key in listed if key > lake.key(PROBE)]:
        return "start-after is ignored"
    return None


def _misses(client: Any, lake: Lake) -> str | None:
    try:
        client.head_object(**_place(lake, f"{FOLDER}/never-written"))
    except ClientError as error:
        code = fault_of(error).code
        return None if code in {"404", "NoSuchKey", "NotFound"} else f"a missing object is answered with {code}"
    return "the store has an object that was never written"


_CAPABILITIES = (
    StoreCapability(
        "lake: ETags",
        "are the MD5 of the content",
        _has_md5_etags,
        Health.NOTE,
        "syncs compare copies by size only; `lakehouse verify` compares their bytes",
    ),
    StoreCapability(
        "lake: conditional replacement",
        "the store replaces an object only if its ETag matches",
        _replaces_conditionally,
        Health.WARNING,
        "incidents and rewritten files are written with If-Match: without it, two processes may overwrite each "
        "other's; update the store",
    ),
    StoreCapability(
        "lake: conditional copies",
        "the store copies an object only if its ETag matches",
        _copies_conditionally,
        Health.NOTE,
        "former versions of rewritten files are downloaded and uploaded instead of copied",
    ),
    StoreCapability(
        "lake: multipart uploads",
        "the store accepts them",
        _uploads_parts,
        Health.WARNING,
        "objects over 16 MiB (LAKEHOUSE_SYNC_PART_BYTES) cannot be relayed; allow the requests, or use mode direct",
    ),
    StoreCapability(
        "lake: copies in parts",
        "the store accepts them",
        _copies_parts,
        Health.NOTE,
        "objects over 5 GiB are relayed: their bytes pass through this machine",
    ),
    StoreCapability(
        "lake: listing in order",
        "sorted by key, from any key on, with objects that were just written",
        _lists,
        Health.ERROR,
        "syncs and Delta tables rely on the listing: use another store",
    ),
    StoreCapability(
        "lake: missing objects",
        "are told apart from forbidden ones",
        _misses,
        Health.WARNING,
        "allow s3:ListBucket on the lake; without it, a missing object looks like a refusal",
    ),
)
