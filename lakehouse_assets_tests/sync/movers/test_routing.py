"""Modes on real stores: verbatim copies of one version, bounded memory, and the choice of the mode."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.embedded.identities import source_policy
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.report import PeriodState, SyncReport
from lakehouse_assets.sync.movers import multipart_cleanup, probe
from lakehouse_assets.sync.movers.base import Copy, ObjectHeaders, TransferOptions
from lakehouse_assets.sync.movers.flow_control import AdaptiveConcurrency
from lakehouse_assets.sync.movers.probe import PROBE_FOLDER, Capability, recorded_capability
from lakehouse_assets.sync.movers.routing import route_of
from lakehouse_assets.sync.progress import Progress, Stage
from lakehouse_assets_tests.faults.proxy import LISTS, READS, WRITES, Meanwhile, Proxy, Refusal, Rule
from lakehouse_assets_tests.faults.trial import through
from lakehouse_assets_tests.world import World, body_of, days, scope

DAY = "2024-03-01"
WEEK = ("2024-03-01", "2024-03-07")
MIB = 1024**2
PARTS: dict[str, Any] = {"part_bytes": 5 * MIB, "large_bytes": MIB}
ARCHIVE = "archive/"


@pytest.fixture(scope="module")
def far() -> Iterator[EmbeddedStore]:
    """A second server, with credentials of its own."""
    with EmbeddedStore() as running:
        yield running


@pytest.fixture
def bucket(world: World) -> Iterator[World]:
    """The world with a source bucket of its own, whose policy a test may change."""
    name = f"source-{world.tag.lower()}"
    client = world.store.admin_bucket(name).boto3_client()
    client.create_bucket(Bucket=name)
    client.put_bucket_policy(Bucket=name, Policy=source_policy(name))
    world.source = world.store.source(name)
    return world


def deny_sync(world: World, *keys: str) -> None:
    """The source refuses the lake's identity (for these keys, or all), and allows everyone else."""
    name = world.source.name
    policy = json.loads(source_policy(name))
    for statement in (
        {"Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::000000000000:user/sync"}, "Action": ["s3:GetObject"]},
    ):
        policy["Statement"].append(statement | {"Resource": [f"arn:aws:s3:::{name}/{key}" for key in keys or ("*",)]})
    world.store.admin_bucket(name).boto3_client().put_bucket_policy(Bucket=name, Policy=json.dumps(policy))


def allow_everyone(world: World) -> None:
    name = world.source.name
    world.store.admin_bucket(name).boto3_client().put_bucket_policy(Bucket=name, Policy=source_policy(name))


def put_large(world: World, size: int, *, sidecar: bool = True) -> tuple[str, bytes]:
    key, body = world.key("BTCUSDT", DAY), os.urandom(size)
    world.put(key, body, sidecar=sidecar)
    return key, body


def sync(world: World, mode: SyncMode = SyncMode.AUTO, *, last: str = DAY, **limits: Any) -> SyncReport:
    return world.engine(**limits).sync(scope(world.entry(), DAY, last), mode=mode)


def row(world: World, key: str) -> dict[str, Any]:
    return world.manifest().read(()).row(by_predicate=pl.col("key") == key, named=True)


def unfinished(world: World) -> list[str]:
    client = world.store.admin_bucket(world.lake.bucket.name).boto3_client()
    uploads = client.list_multipart_uploads(Bucket=world.lake.bucket.name, Prefix=world.lake.prefix)
    return [upload["Key"] for upload in uploads.get("Uploads", [])]


def failures(report: SyncReport) -> list[str]:
    return [failure.reason for period in report.periods for failure in period.failures]


# Relay


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 5 * MIB + 1, 12 * MIB + 345])
def test_a_relay_is_verbatim_and_verified_at_any_size(world: World, size: int) -> None:
    key, body = put_large(world, size)
    report = sync(world, SyncMode.RELAY, **PARTS)
    assert report.total("copied") == 1
    assert world.lake_body(f"archive/binance/{key}") == body
    seen = row(world, key)
    assert (seen["integrity"], seen["mode"]) == ("verified", "relay")
    assert seen["sha256"] == hashlib.sha256(body).hexdigest()
    assert seen["md5"] == hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert ("-" in seen["lake_etag"]) == (size > 5 * MIB)
    assert sync(world, SyncMode.RELAY, **PARTS).total("copied") == 0
    assert unfinished(world) == []


def test_a_relay_works_inside_a_running_event_loop(world: World) -> None:
    world.publish(["BTCUSDT"], days(*WEEK))

    async def in_a_notebook() -> SyncReport:
        return sync(world, SyncMode.RELAY, last=WEEK[1])

    assert asyncio.run(in_a_notebook()).copied_by_mode == {"relay": 7}


@pytest.mark.parametrize("mode", [SyncMode.DIRECT, SyncMode.RELAY, SyncMode.STAGED])
@pytest.mark.parametrize("error", [InputError("enough"), BrokenPipeError("enough")])
def test_errors_of_a_callback_are_raised_unchanged(world: World, mode: SyncMode, error: Exception) -> None:
    world.publish(["BTCUSDT"], days(*WEEK))

    def refuse(progress: Progress) -> None:
        if progress.stage is Stage.MOVING:
            raise error

    with pytest.raises(type(error), match="enough"):
        world.engine().sync(scope(world.entry(), *WEEK), mode=mode, on_progress=refuse)
    assert world.engine().sync(scope(world.entry(), *WEEK)).total("present") == 7


def test_a_direct_copy_of_an_object_rewritten_after_the_listing_counts_as_copied(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY])

    def rewrite(progress: Progress) -> None:
        if progress.stage is Stage.LISTED:
            world.put(key, body_of(key, 2, 500))

    report = world.engine().sync(scope(world.entry(), DAY), mode=SyncMode.DIRECT, on_progress=rewrite)
    assert (report.total("copied"), row(world, key)["mode"]) == (1, "direct")
    assert row(world, key)["source_etag"] == row(world, key)["lake_etag"]


@pytest.mark.parametrize("key", ["odd\nname.zip", "double//slash.zip", "bell\a.zip"])
def test_a_key_that_a_relay_does_not_support_is_named_and_the_others_are_copied(world: World, key: str) -> None:
    options = TransferOptions(workers=4)
    [mover] = route_of(
        SyncMode.RELAY,
        world.source,
        world.lake,
        options,
        concurrency=AdaptiveConcurrency(options.workers),
        try_first=None,
    ).movers
    [first, last] = world.publish(["BTCUSDT"], ["2024-01-01", "2024-01-02"], sidecars=False)
    client = world.source.boto3_client()
    copies = [
        Copy(
            name,
            world.lake.key(f"archive/{name}"),
            client.head_object(Bucket=world.source.name, Key=name)["ContentLength"],
        )
        for name in (first, last)
    ]
    odd = Copy(key, world.lake.key(f"archive/{key}"), 3)
    outcomes = {done.copy: done.fault for done in mover.move([copies[0], odd, copies[1]], lambda _outcome: None)}
    assert [outcomes[copy] for copy in copies] == [None, None]
    fault = outcomes[odd]
    assert fault is not None
    assert fault.code == "UnsupportedKey"


def test_many_large_objects_are_relayed_one_after_another_with_the_smallest_memory_budget(world: World) -> None:
    """A budget of two parts is less than any of them requests: none may wait forever."""
    bodies = {world.key(symbol, DAY): os.urandom(11 * MIB) for symbol in ("AUSDT", "BUSDT", "CUSDT")}
    for key, body in bodies.items():
        world.put(key, body)
    assert sync(world, SyncMode.RELAY, **PARTS, relay_bytes=1).total("copied") == 3
    for key, body in bodies.items():
        assert world.lake_body(f"archive/binance/{key}") == body


@pytest.mark.parametrize("size", [400, 17 * MIB])
def test_an_object_rewritten_before_the_relay_reads_it_is_not_copied_partially(world: World, size: int) -> None:
    key, _body = put_large(world, size)
    later = os.urandom(size)

    def rewrite(progress: Progress) -> None:
        if progress.stage is Stage.LISTED:
            world.put(key, later)

    engine = world.engine(**PARTS)
    report = engine.sync(scope(world.entry(), DAY), mode=SyncMode.RELAY, on_progress=rewrite)
    assert report.periods[0].state is PeriodState.INCOMPLETE
    assert failures(report) == ["Rewritten: the source's object changed while it was read"]
    assert row(world, key)["state"] == "failed"
    assert world.lake_files("archive/") == {}
    assert unfinished(world) == []
    assert sync(world, SyncMode.RELAY, **PARTS).total("copied") == 1
    assert world.lake_body(f"archive/binance/{key}") == later


def test_an_object_rewritten_between_two_parts_is_not_a_mixture_of_both_versions(world: World) -> None:
    key, _body = put_large(world, 42 * MIB)
    later = os.urandom(42 * MIB)
    rule = Rule(Meanwhile(lambda: world.put(key, later)), READS, key, whole_key=True, first=6, most=1)
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        report = sync(through(world, proxy, lake=False), SyncMode.RELAY, **PARTS, relay_bytes=10 * MIB)
    assert rule.struck == 1
    assert failures(report) == ["Rewritten: the source's object changed while it was read"]
    assert f"archive/binance/{key}" not in world.lake_files("archive/")
    assert unfinished(world) == []


@pytest.mark.parametrize(
    ("operations", "status", "code"),
    [
        (("UploadPart",), 403, "AccessDenied"),
        (("CompleteMultipartUpload",), 403, "AccessDenied"),
        (READS, 404, "NoSuchKey"),
    ],
)
def test_a_relay_that_fails_half_way_leaves_nothing_behind(
    world: World, operations: tuple[str, ...], status: int, code: str
) -> None:
    key, _body = put_large(world, 17 * MIB, sidecar=False)
    rule = Rule(Refusal(status, code), operations, key.rsplit("/", 1)[1], first=2 if len(operations[0]) < 12 else 1)
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        report = sync(through(world, proxy), SyncMode.RELAY, **PARTS)
    assert rule.struck
    assert [reason.split(":")[0] for reason in failures(report)] == [code]
    assert world.lake_files("archive/") == {}
    assert unfinished(world) == []
    assert sync(world, SyncMode.RELAY, **PARTS).total("copied") == 1


# Two servers


def test_between_two_servers_auto_relays_and_direct_is_refused(world: World, far: EmbeddedStore) -> None:
    remote = World(far)
    remote.lake = world.lake
    keys = remote.publish(["BTCUSDT"], days(*WEEK))
    assert far.sync.access_key_id != world.store.sync.access_key_id
    with pytest.raises(InputError, match="Mode direct needs source and lake at one endpoint") as refusal:
        sync(remote, SyncMode.DIRECT)
    assert far.endpoint_url in str(refusal.value)
    assert world.store.endpoint_url in str(refusal.value)
    report = sync(remote, last=WEEK[1])
    assert report.copied_by_mode == {"relay": 7}
    assert report.mode_note == "source and lake are at different endpoints"
    for key in keys:
        assert world.lake_body(f"archive/binance/{key}") == body_of(key, 1, 400)
    assert set(remote.manifest().read(())["integrity"]) == {"verified"}


def test_between_two_servers_with_two_identities_staged_works_as_well(world: World, far: EmbeddedStore) -> None:
    remote = World(far)
    remote.lake = world.lake
    remote.publish(["BTCUSDT"], [DAY])
    remote.source = replace(far.admin_bucket(remote.source.name))
    assert sync(remote, SyncMode.STAGED).copied_by_mode == {"staged": 1}
    assert set(remote.manifest().read(())["integrity"]) == {"verified"}


# Large direct copies


def test_a_large_object_is_copied_in_parts_by_the_store(world: World) -> None:
    key, body = put_large(world, 12 * MIB)
    with Proxy(world.store.endpoint_url).running() as proxy:
        report = sync(through(world, proxy), SyncMode.DIRECT, **PARTS)
        assert proxy.counts(key)["UploadPartCopy"] == 3
        assert proxy.counts(key)["GetObject"] == 0
        etags = {r.header("x-amz-copy-source-if-match") for r in proxy.requests if r.operation == "UploadPartCopy"}
    assert report.copied_by_mode == {"direct": 1}
    assert len(etags) == 1
    assert None not in etags
    assert world.lake_body(f"archive/binance/{key}") == body
    assert row(world, key)["lake_etag"].endswith("-3")
    assert row(world, key)["integrity"] == "unverified"
    assert sync(world, SyncMode.DIRECT, **PARTS).total("copied") == 0


@pytest.mark.parametrize("moment", ["listed", "part"])
def test_a_large_object_rewritten_during_its_copy_is_not_a_mixture_of_both_versions(world: World, moment: str) -> None:
    key, _body = put_large(world, 12 * MIB)
    later = os.urandom(12 * MIB)

    def rewrite(progress: Progress | None = None) -> None:
        if progress is None or (progress.stage is Stage.LISTED and moment == "listed"):
            world.put(key, later)

    rules = [Rule(Meanwhile(rewrite), ("UploadPartCopy",), most=1)] if moment == "part" else []
    with Proxy(world.store.endpoint_url, *rules).running() as proxy:
        engine = through(world, proxy).engine(**PARTS)
        report = engine.sync(scope(world.entry(), DAY), mode=SyncMode.DIRECT, on_progress=rewrite)
    # Either the rewrite precedes the copy (which then has only the new content), or the copy is refused.
    if f"archive/binance/{key}" in world.lake_files("archive/"):
        assert world.lake_body(f"archive/binance/{key}") == later
        assert moment == "part"
    else:
        assert failures(report) == ["Rewritten: the source's object changed while it was copied"]
    assert unfinished(world) == []
    sync(world, SyncMode.DIRECT, **PARTS)
    assert world.lake_body(f"archive/binance/{key}") == later
    assert row(world, key)["state"] == "present"


def test_a_large_copy_that_is_refused_is_aborted(world: World) -> None:
    key, _body = put_large(world, 12 * MIB)
    rule = Rule(Refusal(403, "AccessDenied"), ("UploadPartCopy",), first=2)
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        report = sync(through(world, proxy), SyncMode.DIRECT, **PARTS)
    assert ["AccessDenied" in reason for reason in failures(report)] == [True]
    assert unfinished(world) == []
    assert f"archive/binance/{key}" not in world.lake_files("archive/")


def test_uploads_that_a_killed_copy_left_are_aborted_once_they_are_old(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, body = put_large(world, 12 * MIB)
    client = world.store.admin_bucket("lake").boto3_client()
    place = world.lake.key(f"archive/binance/{key}")
    client.create_multipart_upload(Bucket="lake", Key=place)
    sync(world, SyncMode.DIRECT, **PARTS)
    assert unfinished(world) == [place], "a young upload may be another run's"
    monkeypatch.setattr(multipart_cleanup, "DEADLINES", 0)
    world.put(key, body[::-1])
    assert sync(world, SyncMode.DIRECT, **PARTS).total("copied") == 1
    assert unfinished(world) == []


# The probe


def assert_direct_is_known_to_be_refused(world: World, report: SyncReport) -> None:
    """The refusal is recorded with the store's reason, which the report quotes."""
    capability = recorded_capability(world.source, world.lake)
    assert capability is not None
    assert not capability.works
    assert "AccessDenied" in capability.reason
    assert capability.reason in (report.mode_note or "")


def test_a_refused_direct_copy_is_recorded_with_its_reason_and_not_probed_again(bucket: World) -> None:
    bucket.publish(["BTCUSDT"], days(*WEEK))
    deny_sync(bucket)
    first = sync(bucket, last=WEEK[1])
    assert first.copied_by_mode == {"relay": 7}
    assert_direct_is_known_to_be_refused(bucket, first)

    bucket.publish(["ETHUSDT"], days(*WEEK))
    with Proxy(bucket.store.endpoint_url).running() as proxy:
        second = sync(through(bucket, proxy), last=WEEK[1])
        assert proxy.counts(ARCHIVE)["CopyObject"] == 0
    assert second.copied_by_mode == {"relay": 7}
    assert second.mode_note == first.mode_note


def test_a_capability_record_expires_and_a_changed_policy_is_noticed(bucket: World) -> None:
    bucket.publish(["BTCUSDT"], [DAY])
    deny_sync(bucket)
    assert sync(bucket).copied_by_mode == {"relay": 1}
    allow_everyone(bucket)
    bucket.publish(["ETHUSDT"], [DAY])
    assert sync(bucket).copied_by_mode == {"relay": 1}, "not probed again while the capability is current"
    capability = recorded_capability(bucket.source, bucket.lake)
    assert capability is not None
    aged = capability.model_copy(update={"asked_at": datetime.now(UTC) - probe.REFUSED_FOR - timedelta(minutes=1)})
    bucket.overwrite_in_lake(f"{PROBE_FOLDER}/{bucket.source.name}.json", aged.model_dump_json().encode())
    bucket.publish(["XRPUSDT"], [DAY])
    report = sync(bucket)
    assert (report.copied_by_mode, report.mode_note) == ({"direct": 1}, None)
    renewed = recorded_capability(bucket.source, bucket.lake)
    assert renewed is not None
    assert renewed.works


def test_a_recorded_capability_is_revoked_when_every_copy_of_a_sync_is_refused(bucket: World) -> None:
    bucket.publish(["BTCUSDT"], days(*WEEK))
    assert sync(bucket, last=WEEK[1]).copied_by_mode == {"direct": 7}
    deny_sync(bucket)
    bucket.publish(["ETHUSDT"], days(*WEEK))
    with Proxy(bucket.store.endpoint_url).running() as proxy:
        report = sync(through(bucket, proxy), last=WEEK[1], batch_objects=4, workers=2)
        assert proxy.counts(ARCHIVE)["CopyObject"] == 4, "probed again after the first batch"
    assert report.copied_by_mode == {"relay": 7}
    assert_direct_is_known_to_be_refused(bucket, report)


def test_a_recorded_capability_stays_when_only_some_copies_are_refused(bucket: World) -> None:
    [_first, *others] = bucket.publish(["BTCUSDT"], days(*WEEK))
    assert sync(bucket).copied_by_mode == {"direct": 1}
    deny_sync(bucket, *others[:3])
    assert sync(bucket, last=WEEK[1]).copied_by_mode == {"direct": 3, "relay": 3}
    capability = recorded_capability(bucket.source, bucket.lake)
    assert capability is not None
    assert capability.works


@pytest.mark.parametrize("body", [b"", b"no json", b'{"works": "perhaps"}'])
def test_an_unreadable_capability_record_is_probed_again(bucket: World, body: bytes) -> None:
    bucket.publish(["BTCUSDT"], [DAY])
    bucket.overwrite_in_lake(f"{PROBE_FOLDER}/{bucket.source.name}.json", body)
    assert sync(bucket).copied_by_mode == {"direct": 1}


def test_a_refusal_expires_sooner_than_a_success() -> None:
    now = datetime.now(UTC)
    for works, lifetime in ((True, probe.WORKS_FOR), (False, probe.REFUSED_FOR)):
        old, young = (now - lifetime - timedelta(minutes=1), now - lifetime + timedelta(minutes=1))
        assert not Capability(works=works, reason="", asked_at=old).is_current
        assert Capability(works=works, reason="", asked_at=young).is_current
        # Written by a clock that was ahead: its age is unknown.
        assert not Capability(works=works, reason="", asked_at=now + timedelta(days=400)).is_current


def test_only_an_object_whose_direct_copy_is_refused_is_relayed(bucket: World) -> None:
    keys = bucket.publish(["BTCUSDT"], days(*WEEK))
    deny_sync(bucket, keys[3])
    with Proxy(bucket.store.endpoint_url).running() as proxy:
        report = sync(through(bucket, proxy), last=WEEK[1])
        assert proxy.counts(ARCHIVE)["PutObject"] == 1
    assert report.copied_by_mode == {"direct": 6, "relay": 1}
    assert row(bucket, keys[3])["mode"] == "relay"
    assert report.mode_note is None


def test_a_lake_that_refuses_every_write_records_no_capability(world: World) -> None:
    keys = world.publish(["BTCUSDT"], days(*WEEK))
    with world.refused_writes(*keys):
        report = sync(world, last=WEEK[1])
    assert {reason.split(": ")[-2] for reason in failures(report)} == {"AccessDenied"}
    assert recorded_capability(world.source, world.lake) is None
    assert sync(world, last=WEEK[1]).copied_by_mode == {"direct": 7}


def test_a_missing_object_is_no_reason_to_give_up_direct_mode(world: World) -> None:
    [key, *_others] = world.publish(["BTCUSDT"], days(*WEEK), sidecars=False)

    def withdraw(progress: Progress) -> None:
        if progress.stage is Stage.LISTED:
            world.withdraw(key)

    report = world.engine().sync(scope(world.entry(), *WEEK), on_progress=withdraw)
    assert report.copied_by_mode == {"direct": 6}
    capability = recorded_capability(world.source, world.lake)
    assert capability is None or capability.works


# Limits of modes


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        (ObjectHeaders(acl="bucket-owner-full-control"), "acl"),
        (ObjectHeaders(sse="AES256"), "sse"),
        (ObjectHeaders(sse="aws:kms", sse_kms_key_id="k"), "sse and sse_kms_key_id"),
    ],
)
def test_relay_refuses_headers_that_it_cannot_write(world: World, headers: ObjectHeaders, word: str) -> None:
    world.publish(["BTCUSDT"], [DAY])
    with pytest.raises(InputError, match=f"Mode relay cannot write objects with {word}; use mode auto"):
        sync(world, SyncMode.RELAY, headers=headers)


def test_auto_leaves_out_a_mode_that_cannot_write_the_headers(bucket: World) -> None:
    bucket.publish(["BTCUSDT"], [DAY])
    deny_sync(bucket)
    report = sync(bucket, headers=ObjectHeaders(acl="bucket-owner-full-control"))
    assert report.copied_by_mode == {"staged": 1}


@contextmanager
def counted(world: World) -> Iterator[tuple[World, Proxy]]:
    with Proxy(world.store.endpoint_url).running() as proxy:
        yield through(world, proxy), proxy


@pytest.mark.parametrize(("mode", "reads"), [(SyncMode.DIRECT, 0), (SyncMode.RELAY, 2), (SyncMode.STAGED, 2)])
def test_only_relay_and_staged_read_the_source(world: World, mode: SyncMode, reads: int) -> None:
    world.publish(["BTCUSDT"], [DAY])
    with counted(world) as (seen, proxy):
        sync(seen, mode)
        assert proxy.counts("data/futures")["GetObject"] == reads
        assert sum(proxy.counts(ARCHIVE)[name] for name in WRITES) == 2
        assert proxy.counts()[LISTS[0]] > 0
