"""Aborts unfinished multipart uploads that a killed run left in the lake: they are invisible, and billed.

A sync that moves an object in parts first aborts its dataset's uploads that are too old to belong to a live run. That
takes two requests; a sync without large objects makes none. Uploads of a dataset that never moves a large object again
are left to a lifecycle rule of the bucket.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from lakehouse_assets.archive.errors import CLIENT_ERRORS, fault_of
from lakehouse_assets.lake.lake import Lake

DEADLINES = 4
"""An upload older than so many batch deadlines (a day by default) does not belong to a live run."""

_log = logging.getLogger(__name__)


def abort_leftovers(lake: Lake, below: str, *, deadline_seconds: float) -> int:
    """Abort old unfinished uploads below a folder of the lake; returns their number.

    A refusal is logged, not raised: unlike moving, it needs the permission s3:ListBucketMultipartUploads.
    """
    before = datetime.now(UTC) - DEADLINES * timedelta(seconds=deadline_seconds)
    client = lake.bucket.boto3_client()
    aborted = 0
    try:
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=lake.bucket.name, Prefix=lake.key(below))
        for page in pages:
            for upload in page.get("Uploads", []):
                if upload["Initiated"] < before:
                    client.abort_multipart_upload(
                        Bucket=lake.bucket.name, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    aborted += 1
    except CLIENT_ERRORS as error:
        _log.info("Unfinished uploads below %s could not be aborted: %s", lake.url(below), fault_of(error))
    return aborted
