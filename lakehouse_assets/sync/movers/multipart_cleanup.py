"""Unfinished multipart uploads that a killed run left in the lake: invisible, and billed.

A sync that moves anything large enough for parts first aborts those of its dataset that are too
old to be a living run's. That costs it two requests, and a sync that moves nothing large none. What
is left of a dataset that never moves anything large again, a lifecycle rule of the bucket ends.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from lakehouse_assets.archive.errors import CLIENT_ERRORS, fault_of
from lakehouse_assets.lake.lake import Lake

DEADLINES = 4
"""An upload that is as old as so many deadlines of a batch (a day, if nothing else is set) is no living run's."""

_log = logging.getLogger(__name__)


def abort_leftovers(lake: Lake, below: str, *, deadline_seconds: float) -> int:
    """Abort old unfinished uploads below a folder of the lake; returns how many.

    Never raises for the lake's refusal: tidying needs a right (s3:ListBucketMultipartUploads) that
    moving does not.
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
        _log.info("Unfinished uploads below %s could not be ended: %s", lake.url(below), fault_of(error))
    return aborted
