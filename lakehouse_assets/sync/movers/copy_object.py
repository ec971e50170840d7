"""Copies by the store that s5cmd cannot ask for: of objects over 5 GiB, with tags, and of those that replace one.

boto3 asks for them one by one. CopyObject ends at 5 GiB, so larger objects are copied in parts:
UploadPartCopy in parallel per object, aborted when anything fails, so that no unfinished upload is
billed; the lake's ETag then differs from the source's. Every request is bound to the ETag that was
planned, and to what the lake had (where the store knows that condition), and writes the tags with the
object: none is ever in the lake without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lakehouse_assets.archive.bucket import POOL_CONNECTIONS, Bucket
from lakehouse_assets.archive.errors import CLIENT_ERRORS, StoreFault, fault_of
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.lake.store.conditional_writes import under
from lakehouse_assets.sync.movers.base import (
    AdaptiveConcurrency,
    CircuitBreaker,
    Copy,
    OnOutcome,
    Outcome,
    TransferOptions,
)
from lakehouse_assets.sync.movers.multipart import Upload, etag_of, part_bytes, spans

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LARGE_AT_ONCE = 4
PARTS_AT_ONCE = 32
_OF_LAKE = {"CreateMultipartUpload", "CompleteMultipartUpload", "AbortMultipartUpload", "PutObject", "UploadPart"}
"""Requests that only the lake answers; a copy may be refused for either side's sake."""

_KEPT_HEADERS = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Metadata")
"""What CopyObject takes over from the source, and a multipart upload has to be told."""


class CopyObjectMover:
    """CopyObject, or UploadPartCopy above ``large_bytes``: one request or one upload per object."""

    mode = SyncMode.DIRECT

    def __init__(
        self, source: Bucket, lake: Bucket, options: TransferOptions, throttle: AdaptiveConcurrency | None = None
    ) -> None:
        self._source = source
        self._lake = lake
        self._options = options
        self._throttle = throttle or AdaptiveConcurrency(options.workers)

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        writer = self._lake.boto3_client()
        patience = CircuitBreaker(self._options)
        small = [copy for copy in copies if copy.size <= self._options.large_bytes]
        large = [copy for copy in copies if copy.size > self._options.large_bytes]
        workers = min(self._throttle.workers, POOL_CONNECTIONS)
        outcomes = in_threads(
            small,
            lambda copy: self._copy_whole(copy, writer),
            on_outcome,
            mode=self.mode,
            workers=workers,
            patience=patience,
        )
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
        bound = {"CopySourceIfMatch": copy.etag} if copy.etag else {}
        return {"CopySource": {"Bucket": self._source.name, "Key": copy.source_key}, **bound}

    def _copy_whole(self, copy: Copy, writer: S3Client) -> str | None:
        headers = self._options.headers
        asked: dict[str, Any] = {"Bucket": self._lake.name, "Key": copy.lake_key}
        asked |= self._from(copy) | headers.extra_args()
        if tags := headers.tagging():
            asked |= {"Tagging": tags, "TaggingDirective": "REPLACE"}
        # Conditions on PutObject are common, those on CopyObject are new.
        condition = copy.condition if self._options.conditional else {}
        return etag_of(under(condition, lambda bound: writer.copy_object(**asked, **bound)["CopyObjectResult"]))

    def _copy_in_parts(self, copy: Copy, reader: S3Client, writer: S3Client, parts: ThreadPoolExecutor) -> str | None:
        bound: dict[str, Any] = {"IfMatch": copy.etag} if copy.etag else {}
        head: dict[str, Any] = dict(reader.head_object(Bucket=self._source.name, Key=copy.source_key, **bound))
        kept = {name: head[name] for name in _KEPT_HEADERS if head.get(name)}
        upload = Upload(writer, self._lake.name, copy.lake_key, kept | self._options.headers.upload_args())
        asked = [
            parts.submit(upload.copy, number, **self._from(copy), CopySourceRange=f"bytes={start}-{end - 1}")
            for number, (start, end) in enumerate(
                spans(copy.size, part_bytes(copy.size, self._options.part_bytes)), start=1
            )
        ]
        try:
            done = [each.result() for each in asked]
            return upload.complete(done, copy.condition if self._options.conditional else {})
        except BaseException:
            for each in asked:
                each.cancel()
            wait(asked)
            upload.abort()
            raise


def in_threads(
    copies: Sequence[Copy],
    work: Callable[[Copy], str | None],
    on_outcome: OnOutcome,
    *,
    mode: SyncMode,
    workers: int,
    patience: CircuitBreaker,
) -> list[Outcome]:
    """Do ``work`` (requests of boto3, which returns the written ETag) for each copy, so many at a time; one outcome
    per copy."""

    def one(copy: Copy) -> Outcome:
        fault, written = patience.verdict(), None
        if fault is None:
            try:
                written = work(copy)
            except (*CLIENT_ERRORS, OSError) as error:
                fault = write_fault(error)
            patience.observe(fault)
        return Outcome(copy, mode, fault, written_etag=written)

    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done in as_completed([pool.submit(one, copy) for copy in copies]):
            outcomes.append(done.result())
            on_outcome(outcomes[-1])
    return outcomes


def write_fault(error: Exception) -> StoreFault:
    """A refused condition has two faces: a HEAD's bare 412 and an error code; and two sides."""
    fault = fault_of(error)
    of_lake = _operation(error) in _OF_LAKE
    if of_lake and fault.code in {"NoSuchKey", "404"}:
        return StoreFault.overtaking()  # AWS says so when what is to be replaced is gone
    if not fault.is_refused_condition:
        return replace(fault, of_lake=of_lake)
    if _is_of_source(error):
        return StoreFault("Rewritten", "the source's object changed while it was copied")
    return StoreFault.overtaking()


def _operation(error: Exception) -> str:
    return error.operation_name if isinstance(error, ClientError) else ""


def _is_of_source(error: Exception) -> bool:
    """Of a copy that is bound to both sides it is not known everywhere which refused; looking again tells."""
    if _operation(error) not in {*_OF_LAKE, "CopyObject"}:
        return True
    condition = error.response.get("Error", {}).get("Condition", "") if isinstance(error, ClientError) else ""
    return "copy-source" in str(condition).lower()
