"""Tests what a source and a lake permit: rights, conditional writes, and the modes of copying.

Probes write only below ``_doctor/``, and read at most one small object of a source.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import polars as pl

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.dataset import ARCHIVE_FOLDER, Dataset
from lakehouse_assets.archive.errors import CLIENT_ERRORS, StoreFault, fault_of
from lakehouse_assets.archive.listing import read_keys
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.errors import DamagedError, InputError, StoreError
from lakehouse_assets.lake.delta.repair import check_table
from lakehouse_assets.lake.lake import Lake, versioning_of
from lakehouse_assets.lake.manifest import manifest_remedy
from lakehouse_assets.lake.store.capabilities import BODY, FOLDER, POLICIES, PROBE, check_capabilities
from lakehouse_assets.lake.store.health import Health, HealthFinding
from lakehouse_assets.lake.sync_log import SYNC_LOG_REMEDY, SYNC_LOG_TABLE
from lakehouse_assets.sync.movers.base import Copy, TransferOptions
from lakehouse_assets.sync.movers.flow_control import AdaptiveConcurrency
from lakehouse_assets.sync.movers.routing import route_of

_NOWHERE = f"{ARCHIVE_FOLDER}/{FOLDER}/never-written"
_KEYS_LISTED = 200
"""Keys of a dataset; the smallest object among them is copied."""

_CHECKS_AT_ONCE = 16

SKEW_NOTED, SKEW_REFUSED = timedelta(minutes=1), timedelta(minutes=15)
"""S3 refuses requests whose date differs by 15 minutes from its own clock."""


def check_lake(lake: Lake) -> Iterator[HealthFinding]:
    """Check that the identity has the rights that syncs and tables need, and no more."""
    bucket = replace(lake.bucket, max_attempts=2)
    if bucket.plain_http or not bucket.verify_tls:
        yield _encryption(bucket, "lake: TLS")
    client = bucket.boto3_client()
    try:
        answer = client.list_objects_v2(Bucket=bucket.name, Prefix=lake.prefix, MaxKeys=1)
    except CLIENT_ERRORS as error:
        yield _refused("lake: list", fault_of(error))
        return
    yield HealthFinding("lake: list", Health.OK, f"{lake.url()} answers")
    yield _clock(answer)
    rights = list(_rights(client, lake))
    yield from rights
    if all(finding.health is not Health.ERROR for finding in rights):
        yield from check_capabilities(client, lake)
    versioning = versioning_of(lake)
    yield HealthFinding(
        "lake: versioning",
        Health.OK,
        f"{'on' if versioning.enabled else 'off'}: {versioning.reason}",
        "" if versioning.enabled else "former bytes of rewritten files are kept as objects below _superseded/",
    )


def _rights(client: Any, lake: Lake) -> Iterator[HealthFinding]:
    name, probe = lake.bucket.name, lake.key(PROBE)
    try:
        client.put_object(Bucket=name, Key=probe, Body=BODY)
    except CLIENT_ERRORS as error:
        yield _refused("lake: write", fault_of(error))
        return
    yield HealthFinding("lake: write", Health.OK, f"{lake.url(PROBE)} was written")
    try:
        client.get_object(Bucket=name, Key=probe)["Body"].read()
        yield HealthFinding("lake: read", Health.OK, "the written object can be read")
    except CLIENT_ERRORS as error:
        yield _refused("lake: read", fault_of(error))
    try:
        # No object has this key, so nothing is lost; the store checks the right all the same.
        client.delete_object(Bucket=name, Key=lake.key(_NOWHERE))
        yield HealthFinding(
            "lake: delete",
            Health.WARNING,
            f"this identity may delete below {ARCHIVE_FOLDER}/",
            "take the right away: syncs never delete, and a mirror is safest where nobody can (deploy/aws)",
        )
    except CLIENT_ERRORS as error:
        fault = fault_of(error)
        yield (
            HealthFinding("lake: delete", Health.OK, "this identity may not delete, as intended")
            if fault.code in {"AccessDenied", "403"}
            else HealthFinding("lake: delete", Health.NOTE, f"could not be tested: {fault}")
        )


def check_records(lake: Lake, datasets: Sequence[Dataset]) -> Iterator[HealthFinding]:
    """Check that the manifests of the datasets and the sync log are complete. Reads no rows."""
    remedies = {dataset.manifest_prefix: manifest_remedy(dataset) for dataset in datasets}
    remedies[SYNC_LOG_TABLE] = SYNC_LOG_REMEDY

    def check(place: str) -> HealthFinding | None:
        try:
            check_table(lake, place, remedy=remedies[place])
        except DamagedError as error:
            health = Health.WARNING if place == SYNC_LOG_TABLE else Health.ERROR
            return HealthFinding(f"lake: {place}", health, error.finding, error.remedy)
        except StoreError as error:
            return HealthFinding(f"lake: {place}", Health.WARNING, str(error))
        return None

    with ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool:
        findings = [finding for finding in pool.map(check, remedies) if finding is not None]
    yield from findings or [HealthFinding("lake: records", Health.OK, "the manifests are complete")]


def check_source(
    dataset: Dataset, source: Bucket, lake: Lake | None, options: TransferOptions
) -> Iterator[HealthFinding]:
    """Check that an exchange's archive can be listed and, with a ``lake``, copied in each mode."""
    about = dataset.exchange
    impatient = replace(source, max_attempts=2)
    if source.plain_http or not source.verify_tls:
        yield _encryption(source, f"{about}: TLS")
    started = time.monotonic()
    try:
        answer = impatient.boto3_client().list_objects_v2(
            Bucket=source.name, Prefix=dataset.source_prefix, MaxKeys=_KEYS_LISTED
        )
    except CLIENT_ERRORS as error:
        yield _refused(f"{about}: list", fault_of(error))
        return
    contents = pl.DataFrame(
        [(entry["Key"], entry["Size"], entry["ETag"].strip('"')) for entry in answer.get("Contents", [])],
        schema={"key": pl.String, "size": pl.Int64, "etag": pl.String},
        orient="row",
    )
    url = f"s3://{source.name}/{dataset.source_prefix}"
    if contents.is_empty():
        yield HealthFinding(
            f"{about}: list", Health.WARNING, f"nothing is published below {url}", "see: lakehouse discover"
        )
        return
    seconds = time.monotonic() - started
    yield HealthFinding(f"{about}: list", Health.OK, f"{url} answered in {seconds:.2f} s")
    if lake is None:
        return
    copyable = read_keys(dataset, contents).filter("fits").sort("size").rows(named=True)
    if not copyable:
        yield HealthFinding(
            f"{about}: copies", Health.NOTE, f"none of the first {_KEYS_LISTED} keys is an archive object"
        )
        return
    smallest = copyable[0]
    options = replace(options, conditional=False)  # to overwrite an earlier probe's object
    for mode in (SyncMode.DIRECT, SyncMode.RELAY, SyncMode.STAGED):
        copy = Copy(
            source_key=smallest["key"],
            lake_key=lake.key(f"{FOLDER}/{dataset.exchange}-{mode.value}"),
            size=smallest["size"],
            etag=smallest["etag"],
        )
        yield _check_mode(about, mode, copy, (source, lake), options)


def _check_mode(
    about: str, mode: SyncMode, copy: Copy, sides: tuple[Bucket, Lake], options: TransferOptions
) -> HealthFinding:
    source, lake = sides
    name = f"{about}: {mode.value}"
    try:
        [mover] = route_of(
            mode, source, lake, options, concurrency=AdaptiveConcurrency(options.workers), try_first=None
        ).movers
    except InputError as error:
        return HealthFinding(name, Health.NOTE, str(error))
    started = time.monotonic()
    [outcome] = mover.move([copy], lambda _outcome: None)
    if outcome.fault is None:
        return HealthFinding(name, Health.OK, f"copied {copy.size} bytes in {time.monotonic() - started:.2f} s")
    advice = "mode auto uses another mode" if mode is SyncMode.DIRECT else ""
    return HealthFinding(
        name, Health.NOTE if mode is SyncMode.DIRECT else Health.WARNING, f"refused: {outcome.fault}", advice
    )


def _encryption(bucket: Bucket, about: str) -> HealthFinding:
    problem = "plain HTTP" if bucket.plain_http else "the certificate is not checked"
    return HealthFinding(about, Health.WARNING, f"{bucket.endpoint_url}: {problem}", "use https, except on one machine")


def _clock(answer: Any) -> HealthFinding:
    text = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if text is None:
        return HealthFinding("clock", Health.NOTE, "the store returns no time")
    skew = abs(datetime.now(UTC) - parsedate_to_datetime(text))
    difference = f"{skew.total_seconds():.0f} s apart from the lake's"
    if skew < SKEW_NOTED:
        return HealthFinding("clock", Health.OK, difference)
    health = Health.WARNING if skew < SKEW_REFUSED else Health.ERROR
    return HealthFinding("clock", health, difference, "set this machine's clock; S3 refuses requests 15 minutes off")


def _refused(about: str, fault: StoreFault) -> HealthFinding:
    return HealthFinding(
        about,
        Health.ERROR,
        f"{fault.code}: {fault.message}",
        fault.advice or POLICIES,
    )
