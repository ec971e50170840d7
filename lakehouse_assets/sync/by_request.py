"""Copies by the store that s5cmd cannot ask for: of objects over 5 GiB, and with tags.

boto3 asks for them one by one. CopyObject ends at 5 GiB, so larger objects are copied in parts:
UploadPartCopy in parallel per object, aborted when anything fails, so that no unfinished upload is
billed; the lake's ETag then differs from the source's. Every request is bound to the ETag that was
planned, and writes the tags with the object: none is ever in the lake without them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lakehouse_assets.archive.bucket import POOL_CONNECTIONS, Bucket
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.archive.store_errors import CLIENT_ERRORS, StoreFault, fault_of
from lakehouse_assets.sync.transfer import Copy, OnOutcome, Outcome, Patience, Throttle, TransferOptions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LARGE_AT_ONCE = 4
PARTS_AT_ONCE = 32
SMALLEST_PART = 5 * 1024**2
"""S3's floor for every part but the last."""

MOST_PARTS = 10_000

_OF_LAKE = {"CreateMultipartUpload", "CompleteMultipartUpload", "AbortMultipartUpload", "PutObject", "UploadPart"}
"""Requests that only the lake answers; a copy may be refused for either side's sake."""

_KEPT_HEADERS = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Metadata")
"""What CopyObject takes over from the source, and a multipart upload has to be told."""


class RequestMover:
    """CopyObject, or UploadPartCopy above ``large_bytes``: one request or one upload per object."""

    mode = SyncMode.DIRECT

    def __init__(
        self, source: Bucket, lake: Bucket, options: TransferOptions, throttle: Throttle | None = None
    ) -> None:
        self._source = source
        self._lake = lake
        self._options = options
        self._throttle = throttle or Throttle(options.workers)
        self._part = max(options.part_bytes, SMALLEST_PART)

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        writer = self._lake.boto3_client()
        patience = Patience(self._options)
        small = [copy for copy in copies if copy.size <= self._options.large_bytes]
        large = [copy for copy in copies if copy.size > self._options.large_bytes]
        tags = self._options.headers.tagging()
        small_args = self._options.headers.extra_args()
        if tags:
            small_args |= {"Tagging": tags, "TaggingDirective": "REPLACE"}

        def copy_whole(copy: Copy) -> None:
            writer.copy_object(
                Bucket=self._lake.name, Key=copy.lake_key, **self._from(copy), **small_args, **_bound_to(copy)
            )

        workers = min(self._throttle.workers, POOL_CONNECTIONS)
        outcomes = in_threads(small, copy_whole, on_outcome, mode=self.mode, workers=workers, patience=patience)
        if large:
            reader = self._source.boto3_client()
            with ThreadPoolExecutor(min(workers, PARTS_AT_ONCE)) as parts:
                outcomes += in_threads(
                    large,
                    lambda copy: self._copy_in_parts(copy, reader, writer, parts),
                    on_outcome,
                    mode=self.mode,
                    workers=LARGE_AT_ONCE,
                    patience=patience,
                )
        return outcomes

    def _from(self, copy: Copy) -> dict[str, Any]:
        return {"CopySource": {"Bucket": self._source.name, "Key": copy.source_key}}

    def _copy_in_parts(self, copy: Copy, reader: S3Client, writer: S3Client, parts: ThreadPoolExecutor) -> None:
        target: dict[str, Any] = {"Bucket": self._lake.name, "Key": copy.lake_key}
        bound: dict[str, Any] = {"IfMatch": copy.etag} if copy.etag else {}
        head: dict[str, Any] = dict(reader.head_object(Bucket=self._source.name, Key=copy.source_key, **bound))
        kept = {name: head[name] for name in _KEPT_HEADERS if head.get(name)}
        tags = self._options.headers.tagging()
        upload: dict[str, Any] = target | {
            "UploadId": writer.create_multipart_upload(
                **target, **kept, **self._options.headers.extra_args(), **({"Tagging": tags} if tags else {})
            )["UploadId"]
        }

        def copy_part(number: int, first: int, last: int) -> Any:
            answer = writer.upload_part_copy(
                **upload,
                **self._from(copy),
                **_bound_to(copy),
                PartNumber=number,
                CopySourceRange=f"bytes={first}-{last}",
            )
            return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

        part = max(self._part, -(-copy.size // MOST_PARTS))
        asked = [
            parts.submit(copy_part, number, first, min(first + part, copy.size) - 1)
            for number, first in enumerate(range(0, copy.size, part), start=1)
        ]
        try:
            done = [each.result() for each in asked]
            writer.complete_multipart_upload(**upload, MultipartUpload={"Parts": done})
        except BaseException:
            for each in asked:
                each.cancel()
            wait(asked)  # a part that arrives after the abort would stay
            with contextlib.suppress(*CLIENT_ERRORS):
                writer.abort_multipart_upload(**upload)
            raise


def in_threads(
    copies: Sequence[Copy],
    work: Callable[[Copy], None],
    on_outcome: OnOutcome,
    *,
    mode: SyncMode,
    workers: int,
    patience: Patience,
) -> list[Outcome]:
    """Do ``work`` (requests of boto3) for each copy, so many at a time; one outcome per copy."""

    def one(copy: Copy) -> Outcome:
        fault = patience.verdict()
        if fault is None:
            try:
                work(copy)
            except (*CLIENT_ERRORS, OSError) as error:
                fault = _fault_of(error)
            patience.observe(fault)
        return Outcome(copy, mode, fault)

    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done in as_completed([pool.submit(one, copy) for copy in copies]):
            outcomes.append(done.result())
            on_outcome(outcomes[-1])
    return outcomes


def _bound_to(copy: Copy) -> dict[str, Any]:
    return {"CopySourceIfMatch": copy.etag} if copy.etag else {}


def _fault_of(error: Exception) -> StoreFault:
    """A refused condition has two faces: a HEAD's bare 412 and an error code."""
    fault = fault_of(error)
    if fault.code in {"412", "PreconditionFailed"}:
        return StoreFault("Rewritten", "the source's object changed while it was copied")
    of_lake = isinstance(error, ClientError) and error.operation_name in _OF_LAKE
    return replace(fault, of_lake=of_lake)
