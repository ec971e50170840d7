"""Objects over 5 GiB, copied by the store in parts: CopyObject ends there, and so does s5cmd.

UploadPartCopy runs in parallel per object, each part bound to the ETag that was planned. A copy
that fails is aborted, so that no unfinished upload is billed; what a killed process left behind
is aborted by the next copy of the same key once it is a day old (a younger one may be another
run's). The lake's ETag then differs from the source's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from s3transfer.exceptions import S3CopyFailedError

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.archive.store_errors import CLIENT_ERRORS, StoreFault, fault_of
from lakehouse_assets.sync.transfer import Copy, OnOutcome, Outcome, TransferOptions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OBJECTS_AT_ONCE = 4
PARTS_AT_ONCE = 16
SMALLEST_PART = 5 * 1024**2
"""S3's floor for every part but the last."""

MOST_PARTS = 10_000
STALE = timedelta(days=1)

_OF_LAKE = {"CreateMultipartUpload", "CompleteMultipartUpload", "AbortMultipartUpload"}
"""Requests that only the lake answers; an UploadPartCopy may be refused for either side's sake."""

_log = logging.getLogger(__name__)


class LargeMover:
    """Server-side multipart copies. A part of a small object serves for tests of a low threshold."""

    mode = SyncMode.DIRECT

    def __init__(self, source: Bucket, lake: Bucket, options: TransferOptions) -> None:
        self._source = source
        self._lake = lake
        self._headers = options.headers.extra_args()
        self._part = max(options.part_bytes, SMALLEST_PART)

    def move(self, copies: Sequence[Copy], on_outcome: OnOutcome) -> list[Outcome]:
        if not copies:
            return []
        reader, writer = self._source.boto3_client(), self._lake.boto3_client()
        outcomes: list[Outcome] = []
        with ThreadPoolExecutor(max_workers=OBJECTS_AT_ONCE) as pool:
            for done in as_completed([pool.submit(self._copy, copy, reader, writer) for copy in copies]):
                outcomes.append(done.result())
                on_outcome(outcomes[-1])
        return outcomes

    def _copy(self, copy: Copy, reader: S3Client, writer: S3Client) -> Outcome:
        part = max(self._part, -(-copy.size // MOST_PARTS))
        config = TransferConfig(multipart_threshold=1, multipart_chunksize=part, max_concurrency=PARTS_AT_ONCE)
        try:
            self._abort_stale(copy, writer)
            writer.copy(
                {"Bucket": self._source.name, "Key": copy.source_key},
                self._lake.name,
                copy.lake_key,
                ExtraArgs=self._headers | ({"CopySourceIfMatch": copy.etag} if copy.etag else {}),
                SourceClient=reader,
                Config=config,
            )
        except (*CLIENT_ERRORS, S3CopyFailedError) as error:
            return Outcome(copy, self.mode, _fault_of(error))
        return Outcome(copy, self.mode)

    def _abort_stale(self, copy: Copy, writer: S3Client) -> None:
        try:
            uploads = writer.list_multipart_uploads(Bucket=self._lake.name, Prefix=copy.lake_key).get("Uploads", [])
        except CLIENT_ERRORS as error:
            # Tidying needs a right (s3:ListBucketMultipartUploads) that copying does not.
            _log.info("Unfinished uploads of %s could not be listed: %s", copy.lake_key, fault_of(error))
            return
        for upload in uploads:
            if upload.get("Key") == copy.lake_key and upload["Initiated"] < datetime.now(UTC) - STALE:
                writer.abort_multipart_upload(Bucket=self._lake.name, Key=copy.lake_key, UploadId=upload["UploadId"])


def _fault_of(error: Exception) -> StoreFault:
    """A refused condition has three faces: a HEAD's bare 412, a part's error code, s3transfer's own error."""
    fault = fault_of(error)
    if isinstance(error, S3CopyFailedError) or fault.code in {"412", "PreconditionFailed"}:
        return StoreFault("Rewritten", "the source's object changed while it was copied")
    of_lake = isinstance(error, ClientError) and error.operation_name in _OF_LAKE
    return replace(fault, of_lake=of_lake)
