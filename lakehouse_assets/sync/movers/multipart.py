"""An upload in parts into the lake: visible when it is completed, aborted when anything goes wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse_assets.archive.errors import CLIENT_ERRORS
from lakehouse_assets.lake.store.conditional_writes import under

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MOST_PARTS = 10_000
SMALLEST_PART = 5 * 1024**2
"""S3's floor for every part but the last."""


def part_bytes(size: int, wanted: int) -> int:
    """The size of the parts of an object of ``size`` bytes: as wanted, as far as S3 allows."""
    return max(wanted, SMALLEST_PART, -(-size // MOST_PARTS))


def spans(size: int, part: int) -> list[tuple[int, int]]:
    """Begin and end of each part."""
    return [(start, min(start + part, size)) for start in range(0, size, part)]


class Upload:
    """One upload; its requests block, and raise what boto3 raises. Safe for threads that write different parts."""

    def __init__(self, client: S3Client, bucket: str, key: str, written_with: Mapping[str, Any]) -> None:
        """Begin it; ``written_with`` is what the object gets: headers, tags."""
        self._client = client
        self._target: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._target["UploadId"] = client.create_multipart_upload(**self._target, **written_with)["UploadId"]

    def put(self, number: int, body: bytes) -> dict[str, Any]:
        answer = self._client.upload_part(**self._target, PartNumber=number, Body=body)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def copy(self, number: int, **source: Any) -> dict[str, Any]:
        answer: Any = self._client.upload_part_copy(**self._target, PartNumber=number, **source)
        return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

    def complete(self, parts: Sequence[dict[str, Any]], condition: Mapping[str, Any]) -> str | None:
        """Make it visible, unless the condition refuses it; the object's ETag."""
        asked: dict[str, Any] = self._target | {"MultipartUpload": {"Parts": list(parts)}}
        return etag_of(under(condition, lambda bound: self._client.complete_multipart_upload(**asked, **bound)))

    def abort(self) -> None:
        """Call it when no part is under way: one that arrives afterwards would stay."""
        with contextlib.suppress(*CLIENT_ERRORS):
            self._client.abort_multipart_upload(**self._target)


def etag_of(answer: Mapping[str, Any]) -> str | None:
    """The ETag that an answer of boto3 names, without quotes."""
    etag = answer.get("ETag")
    return etag.strip('"') if etag else None
