"""A multipart upload into the lake: visible once it is completed, aborted after any failure."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse_assets.archive.errors import CLIENT_ERRORS
from lakehouse_assets.lake.store.conditional_writes import with_condition

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MOST_PARTS = 10_000
SMALLEST_PART = 5 * 1024**2
"""S3's minimum for every part but the last."""


def part_bytes(size: int, wanted: int) -> int:
    """The part size for an object of ``size`` bytes: ``wanted``, within S3's limits."""
    return max(wanted, SMALLEST_PART, -(-size // MOST_PARTS))


def part_ranges(size: int, part: int) -> list[tuple[int, int]]:
    """Start and end (exclusive) of each part."""
    return [(start, min(start + part, size)) for start in range(0, size, part)]


class Upload:
    """One upload; its requests block and raise boto3's errors. Threads may write different parts at a time."""

    def __init__(self, client: S3Client, bucket: str, key: str, headers: Mapping[str, Any]) -> None:
        """Start the upload; ``headers`` are the object's, tags included."""
        self._client = client
        self._target: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._target["UploadId"] = client.create_multipart_upload(**self._target, **headers)["UploadId"]

    def put(self, number: int, body: bytes) -> dict[str, Any]:
        answer = self._client.upload_part(**self._target, PartNumber=number, Body=body)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def copy(self, number: int, **source: Any) -> dict[str, Any]:
        answer: Any = self._client.upload_part_copy(**self._target, PartNumber=number, **source)
        return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

    def complete(self, parts: Sequence[dict[str, Any]], condition: Mapping[str, Any]) -> str | None:
        """Make the object visible, unless the condition fails; returns the object's ETag."""
        request: dict[str, Any] = self._target | {"MultipartUpload": {"Parts": list(parts)}}
        return etag_of(
            with_condition(condition, lambda given: self._client.complete_multipart_upload(**request, **given))
        )

    def abort(self) -> None:
        """Discard the upload. Call it when no part is in flight: a part that arrives afterwards would stay."""
        with contextlib.suppress(*CLIENT_ERRORS):
            self._client.abort_multipart_upload(**self._target)


def etag_of(answer: Mapping[str, Any]) -> str | None:
    """The ETag in an answer of boto3, without quotes."""
    etag = answer.get("ETag")
    return etag.strip('"') if etag else None
