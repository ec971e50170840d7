"""Copies by the store that s5cmd cannot request: objects over 5 GiB, tags, and objects that replace one.

boto3 requests them one by one. CopyObject is limited to 5 GiB, so larger objects are copied in parts: UploadPartCopy in
parallel per object, aborted when a part fails, so that no unfinished upload is billed. The lake's ETag then differs
from the source's.

Every request is conditional on the planned source ETag and on the lake's listed object (if the store supports that
condition), and writes the tags together with the object: no object is ever in the lake without its tags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lakehouse_assets.archive.bucket import POOL_CONNECTIONS
from lakehouse_assets.archive.errors import CLIENT_ERRORS, StoreFault, fault_of
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.lake.store.conditional_writes import with_condition
from lakehouse_assets.sync.movers.base import BucketMover, Copy, OnOutcome, Outcome
from lakehouse_assets.sync.movers.flow_control import CircuitBreaker
from lakehouse_assets.sync.movers.multipart import Upload, etag_of, part_bytes, part_ranges

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LARGE_AT_ONCE = 4
PARTS_AT_ONCE = 32
_OF_LAKE = {"CreateMultipartUpload", "CompleteMultipartUpload", "AbortMultipartUpload", "PutObject", "UploadPart"}
"""Requests that only the lake answers; a copy may be refused because of either side."""

_KEPT_HEADERS = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Metadata")
"""Headers that CopyObject copies from the source, and that a multipart upload has to set."""


class CopyObjectMover(BucketMover):
    """CopyObject, or UploadPartCopy above ``large_bytes``: one request or one upload per object."""

    mode = SyncMode.DIRECT

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        writer = self._lake.boto3_client()
        breaker = CircuitBreaker(self._options)
        small = [copy for copy in copies if copy.size <= self._options.large_bytes]
        large = [copy for copy in copies if copy.size > self._options.large_bytes]
        workers = min(self._concurrency.workers, POOL_CONNECTIONS)
        outcomes = in_threads(
            small,
            lambda copy: self._copy_at_once(copy, writer),
            on_outcome,
            mode=self.mode,
            workers=workers,
            breaker=breaker,
        )
        if large:
            reader = self._source.boto3_client()
            with ThreadPoolExecutor(min(workers, PARTS_AT_ONCE)) as part_pool:
                outcomes += in_threads(
                    large,
                    lambda copy: self._copy_in_parts(copy, reader, writer, part_pool),
                    on_outcome,
                    mode=self.mode,
                    workers=LARGE_AT_ONCE,
                    breaker=breaker,
                )
        return outcomes

    def _from(self, copy: Copy) -> dict[str, Any]:
        condition = {"CopySourceIfMatch": copy.etag} if copy.etag else {}
        return {"CopySource": {"Bucket": self._source.name, "Key": copy.source_key}, **condition}

    def _copy_at_once(self, copy: Copy, writer: S3Client) -> str | None:
        headers = self._options.headers
        request: dict[str, Any] = {"Bucket": self._lake.name, "Key": copy.lake_key}
        request |= self._from(copy) | headers.extra_args()
        if tags := headers.tagging():
            request |= {"Tagging": tags, "TaggingDirective": "REPLACE"}
        # Most stores support conditions on PutObject; on CopyObject they are new.
        condition = copy.condition if self._options.conditional else {}
        return etag_of(
            with_condition(condition, lambda given: writer.copy_object(**request, **given)["CopyObjectResult"])
        )

    def _copy_in_parts(self, copy: Copy, reader: S3Client, writer: S3Client, pool: ThreadPoolExecutor) -> str | None:
        condition: dict[str, Any] = {"IfMatch": copy.etag} if copy.etag else {}
        head: dict[str, Any] = dict(reader.head_object(Bucket=self._source.name, Key=copy.source_key, **condition))
        kept = {name: head[name] for name in _KEPT_HEADERS if head.get(name)}
        upload = Upload(writer, self._lake.name, copy.lake_key, kept | self._options.headers.upload_args())
        parts = [
            pool.submit(upload.copy, number, **self._from(copy), CopySourceRange=f"bytes={start}-{end - 1}")
            for number, (start, end) in enumerate(
                part_ranges(copy.size, part_bytes(copy.size, self._options.part_bytes)), start=1
            )
        ]
        try:
            done = [part.result() for part in parts]
            return upload.complete(done, copy.condition if self._options.conditional else {})
        except BaseException:
            for part in parts:
                part.cancel()
            wait(parts)
            upload.abort()
            raise


def in_threads(
    copies: Sequence[Copy],
    work: Callable[[Copy], str | None],
    on_outcome: OnOutcome,
    *,
    mode: SyncMode,
    workers: int,
    breaker: CircuitBreaker,
) -> list[Outcome]:
    """Run ``work`` for each copy in so many threads; one outcome per copy.

    ``work`` makes boto3's requests and returns the written ETag.
    """

    def move_one(copy: Copy) -> Outcome:
        fault, written_etag = breaker.tripped(), None
        if fault is None:
            try:
                written_etag = work(copy)
            except (*CLIENT_ERRORS, OSError) as error:
                fault = write_fault(error)
            breaker.observe(fault)
        return Outcome(copy, mode, fault, written_etag=written_etag)

    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done in as_completed([pool.submit(move_one, copy) for copy in copies]):
            outcomes.append(done.result())
            on_outcome(outcomes[-1])
    return outcomes


def write_fault(error: Exception) -> StoreFault:
    """The fault of a failed request. A failed condition comes as a HEAD's bare 412 or as an error code, and concerns
    either the source or the lake."""
    fault = fault_of(error)
    of_lake = _operation(error) in _OF_LAKE
    if of_lake and fault.code in {"NoSuchKey", "404"}:
        return StoreFault.overtaking()  # AWS returns this if the object to be replaced is gone
    if not fault.is_refused_condition:
        return replace(fault, of_lake=of_lake)
    if _is_of_source(error):
        return StoreFault("Rewritten", "the source's object changed while it was copied")
    return StoreFault.overtaking()


def _operation(error: Exception) -> str:
    return error.operation_name if isinstance(error, ClientError) else ""


def _is_of_source(error: Exception) -> bool:
    """Whether the source's condition failed. Not every store tells for a copy; the next listing does."""
    if _operation(error) not in {*_OF_LAKE, "CopyObject"}:
        return True
    condition = error.response.get("Error", {}).get("Condition", "") if isinstance(error, ClientError) else ""
    return "copy-source" in str(condition).lower()
