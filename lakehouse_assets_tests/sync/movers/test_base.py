"""Limits of a transfer: retries, concurrency and deadlines, and the headers of every object."""

from __future__ import annotations

import asyncio
import io
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lakehouse_assets.archive.bucket import Bucket, Credentials
from lakehouse_assets.archive.errors import StoreFault
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.sync.movers.base import Copy, ObjectHeaders, Outcome, TransferOptions
from lakehouse_assets.sync.movers.direct import DirectMover
from lakehouse_assets.sync.movers.flow_control import AdaptiveConcurrency
from lakehouse_assets.sync.movers.relay import RelayMover
from lakehouse_assets.sync.movers.s5cmd import S5cmd, executable
from lakehouse_assets.sync.movers.s5cmd_protocol import CopyCommand, CopyFlags
from lakehouse_assets.sync.movers.staged import StagedMover
from lakehouse_assets_tests.faults.proxy import (
    READS,
    WRITES,
    Answer,
    Forward,
    Hang,
    Latency,
    Proxy,
    Refusal,
    Request,
    Rule,
)
from lakehouse_assets_tests.faults.trial import through
from lakehouse_assets_tests.world import World, body_of, days, scope

WEEK = ("2024-03-01", "2024-03-07")
ARCHIVE = "archive/"
COPY = Copy("a", "b", 1)
FAILED = Outcome(COPY, SyncMode.DIRECT, StoreFault("SlowDown", "please"))
DONE = Outcome(COPY, SyncMode.DIRECT)
HEADERS = ObjectHeaders(
    storage_class="STANDARD_IA", sse="aws:kms", sse_kms_key_id="key-1", acl="bucket-owner-full-control"
)


def numbered(count: int) -> list[CopyCommand]:
    return [CopyCommand(f"s3://a/{number}", f"s3://b/{number}") for number in range(count)]


def refusing(error: str, then: str = "") -> str:
    """A script that answers each line of a batch with an error, as s5cmd does; ``then`` is another sed command."""
    answer = rf'{{"operation":"cp","command":"cp \1 \2","error":"{error}"}}'.replace('"', '\\"')
    return rf"""sed -u "s|^cp --raw '\(.*\)' '\(.*\)'$|{answer}|{then}" >&2""" + "\n"


# Circuit breaker


def test_a_batch_in_which_every_copy_fails_is_stopped_early(impostor) -> None:
    # Even on a busy machine, most commands have no answer when the batch is stopped.
    error = "AccessDenied: no status code: 403, request id: 1, host id: "
    impostor(refusing(error, then="; 100q") + "sleep 600\n")
    commands = numbered(1000)
    reported: list[CopyCommand] = []
    outcomes = S5cmd(identity=Bucket(name="x", anonymous=True), failures_in_a_row=20).run(
        commands, on_outcome=lambda command, _fault: reported.append(command)
    )
    assert sorted(reported, key=str) == sorted(commands, key=str)
    assert {fault.code for fault in outcomes.values()} == {"AccessDenied"}
    assert any("given up after 20 failures in a row" in fault.message for fault in outcomes.values())


def test_missing_objects_do_not_end_a_batch(impostor) -> None:
    impostor(refusing("NoSuchKey: gone status code: 404, request id: 1, host id: "))
    outcomes = S5cmd(identity=Bucket(name="x", anonymous=True), failures_in_a_row=20).run(numbered(100))
    assert {(fault.code, fault.message) for fault in outcomes.values()} == {("NoSuchKey", "gone")}


def test_a_busy_batch_ends_at_its_deadline(impostor) -> None:
    impostor("cat > /dev/null; while true; do echo busy; sleep 0.05; done")
    outcomes = S5cmd(identity=Bucket(name="x", anonymous=True), deadline_seconds=1.0).run(numbered(3))
    assert {(fault.code, fault.message) for fault in outcomes.values()} == {("Deadline", "s5cmd was ended after 1 s")}


def test_a_relay_ends_at_its_deadline_with_every_object_named(world: World) -> None:
    world.publish(["BTCUSDT"], days(*WEEK))
    with Proxy(world.store.endpoint_url, Rule(Latency(0.5), READS, "data/futures")).running() as proxy:
        slow = through(world, proxy, lake=False)
        report = slow.engine(relay_workers=1, deadline_seconds=1.2).sync(scope(world.entry(), *WEEK))
    assert 0 < report.total("present") + report.total("copied") < 14
    assert {failure.reason.split(": ")[-2] for period in report.periods for failure in period.failures} == {"Deadline"}


def test_a_relay_in_which_every_copy_fails_is_stopped_early(world: World) -> None:
    keys = world.publish(["BTCUSDT"], days(*WEEK))
    with Proxy(world.store.endpoint_url, Rule(Refusal(403, "AccessDenied"), WRITES, ARCHIVE)).running() as proxy:
        refused = through(world, proxy)
        report = refused.engine(relay_workers=2, failures_in_a_row=3).sync(scope(world.entry(), *WEEK), mode="relay")
        assert proxy.counts(ARCHIVE)["PutObject"] <= 4
    reasons = [failure.reason for period in report.periods for failure in period.failures]
    assert len(reasons) == len(keys)
    assert any("given up after 3 failures in a row" in reason for reason in reasons)


# Adaptive concurrency


def test_adaptive_concurrency_halves_when_throttled_and_recovers_step_by_step() -> None:
    concurrency = AdaptiveConcurrency(256)
    seen = []
    for outcomes in ([DONE, FAILED], [FAILED], [DONE], [DONE], [DONE]):
        concurrency.observe(outcomes)
        seen.append(concurrency.workers)
    assert seen == [128, 64, 80, 100, 125]
    for _batch in range(50):
        concurrency.observe([FAILED])
    assert concurrency.workers == AdaptiveConcurrency.MIN_WORKERS
    for _batch in range(50):
        concurrency.observe([DONE])
    assert concurrency.workers == 256


def test_adaptive_concurrency_never_raises_a_low_number_of_workers() -> None:
    concurrency = AdaptiveConcurrency(4)
    concurrency.observe([FAILED])
    assert concurrency.workers == 4


@pytest.mark.parametrize("code", ["InternalError", "AccessDenied", "NoSuchKey", "Stalled"])
def test_other_faults_do_not_reduce_concurrency(code: str) -> None:
    concurrency = AdaptiveConcurrency(64)
    concurrency.observe([Outcome(COPY, SyncMode.DIRECT, StoreFault(code, ""))])
    assert concurrency.workers == 64


# Retries


@pytest.mark.parametrize(
    ("status", "code", "tries"),
    [(503, "SlowDown", 3), (500, "InternalError", 3), (403, "AccessDenied", 1), (404, "NoSuchBucket", 1)],
)
def test_only_transient_faults_are_retried_when_nothing_was_copied(
    world: World, status: int, code: str, tries: int
) -> None:
    world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=False)
    with Proxy(world.store.endpoint_url, Rule(Refusal(status, code), WRITES, ARCHIVE)).running() as proxy:
        engine = through(world, proxy).engine(retries=0, attempts=3)
        report = engine.sync(scope(world.entry(), "2024-03-01"), mode=SyncMode.DIRECT)
        assert proxy.counts(ARCHIVE)["CopyObject"] == tries
    assert report.periods[0].failures[0].reason.startswith(f"{code}: ")


@pytest.mark.parametrize(
    ("status", "code", "tries"),
    [(503, "SlowDown", 3), (500, "InternalError", 3), (403, "AccessDenied", 1), (404, "NoSuchKey", 1)],
)
def test_only_transient_faults_are_retried_when_something_was_copied(
    world: World, status: int, code: str, tries: int
) -> None:
    [_good, bad] = world.publish(["BTCUSDT"], ["2024-03-01", "2024-03-02"], sidecars=False)
    rule = Rule(Refusal(status, code), ("CopyObject",), bad)
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        engine = through(world, proxy).engine(retries=0, attempts=5)
        rule.most = 2 if tries == 3 else None
        report = engine.sync(scope(world.entry(), "2024-03-01", "2024-03-02"), mode=SyncMode.DIRECT)
        assert proxy.counts(bad)["CopyObject"] == tries
    assert report.total("present") == (2 if tries == 3 else 1)


# Concurrency of the tools


class Gauge:
    """Forwards requests and counts how many were in progress at a time."""

    def __init__(self) -> None:
        self.most = 0
        self._now = 0

    async def strike(self, request: Request, forward: Forward) -> Answer:
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0.05)
        try:
            return await forward(request)
        finally:
            self._now -= 1


def test_after_a_slow_down_s5cmd_is_started_with_half_of_its_workers(world: World, impostor, tmp_path: Path) -> None:
    real, started = executable(), tmp_path / "started"
    impostor(f'echo "$@" >> {started}\nexec {real} "$@"\n')
    world.publish(["BTCUSDT"], days(*WEEK))
    with Proxy(world.store.endpoint_url, Rule(Refusal(503, "SlowDown"), WRITES, ARCHIVE, most=14)).running() as proxy:
        slow = through(world, proxy)
        report = slow.engine(workers=32, retries=0).sync(scope(world.entry(), *WEEK), mode=SyncMode.DIRECT)
    assert report.total("present") == 7
    widths = [line.split()[line.split().index("--numworkers") + 1] for line in started.read_text().splitlines()]
    assert widths[:2] == ["32", "16"]


def test_after_a_slow_down_the_relay_halves_its_concurrent_reads(world: World) -> None:
    world.publish(["BTCUSDT", "ETHUSDT"], days(*WEEK))
    before, after = Gauge(), Gauge()
    rules = [
        Rule(Refusal(503, "SlowDown"), WRITES, ARCHIVE, most=28),
        Rule(before, READS, "data/futures", most=28),
        Rule(after, READS, "data/futures"),
    ]
    with Proxy(world.store.endpoint_url, *rules).running() as proxy:
        slow = through(world, proxy, max_attempts=1)
        report = slow.engine(workers=16).sync(scope(world.entry(), *WEEK), mode=SyncMode.RELAY)
    assert report.total("present") == 14
    assert 8 < before.most <= 16
    assert 1 < after.most <= 8


def test_a_relay_of_a_large_object_takes_no_more_memory_than_of_a_small_one(world: World) -> None:
    """In a separate process: first 20 MiB, then 120 MiB, with at most 20 MiB in memory at a time."""
    small, large = (world.key(symbol, "2024-03-01") for symbol in ("AUSDT", "BUSDT"))
    body = bytes(range(256)) * 4096
    world.put(small, body * 20, sidecar=False)
    world.put(large, body * 120, sidecar=False)
    lake = world.lake.bucket
    program = rf"""
import re
from lakehouse_assets.archive.bucket import Bucket, Credentials
from lakehouse_assets.sync.movers.relay import RelayMover
from lakehouse_assets.sync.movers.base import Copy, TransferOptions
source = Bucket(name={world.source.name!r}, endpoint_url={world.source.endpoint_url!r}, anonymous=True)
lake = Bucket(
    name={lake.name!r},
    endpoint_url={lake.endpoint_url!r},
    credentials=Credentials({lake.credentials.access_key_id!r}, {lake.credentials.secret_access_key!r}),
)
mover = RelayMover(source, lake, TransferOptions(part_bytes=5 * 2**20, relay_bytes=20 * 2**20))
for key, size in (({small!r}, 20 * 2**20), ({large!r}, 120 * 2**20)):
    [outcome] = mover.move([Copy(key, {world.lake.prefix!r} + key, size)], lambda _outcome: None)
    assert outcome.fault is None, outcome
    print(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read()).group(1))
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    first, second = (int(line) / 1024 for line in output.split())
    assert second - first < 40, f"{first} MiB for the small one, {second} MiB for the large one"


# Headers


def test_object_headers_reach_s5cmd_and_boto3_in_their_own_syntax() -> None:
    options = TransferOptions(headers=HEADERS)
    elsewhere = Bucket(name="lake", endpoint_url="https://minio.example", anonymous=True)
    assert DirectMover(elsewhere, elsewhere, options).flags() == CopyFlags(
        extra=(
            *("--storage-class", "STANDARD_IA", "--sse", "aws:kms", "--sse-kms-key-id", "key-1"),
            *("--acl", "bucket-owner-full-control"),
        )
    )
    assert HEADERS.extra_args() == {
        "StorageClass": "STANDARD_IA",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "key-1",
        "ACL": "bucket-owner-full-control",
    }
    assert ObjectHeaders().flags() == ()
    assert ObjectHeaders().extra_args() == {}


@pytest.mark.parametrize("mode", [SyncMode.DIRECT, SyncMode.RELAY, SyncMode.STAGED])
def test_a_storage_class_reaches_the_lake_in_every_mode(world: World, mode: SyncMode) -> None:
    world.publish(["BTCUSDT"], ["2024-03-01"])
    with Proxy(world.store.endpoint_url).running() as proxy:
        engine = through(world, proxy).engine(headers=ObjectHeaders(storage_class="STANDARD_IA"))
        engine.sync(scope(world.entry(), "2024-03-01"), mode=mode)
        written = [r for r in proxy.requests if r.operation in WRITES and ARCHIVE in r.key]
    assert len(written) == 2
    assert {request.header("x-amz-storage-class") for request in written} == {"STANDARD_IA"}


def test_object_headers_reach_the_parts_of_a_large_copy(world: World) -> None:
    world.publish(["BTCUSDT"], ["2024-03-01"], size=2 * 1024**2, sidecars=False)
    headers = ObjectHeaders(storage_class="STANDARD_IA", acl="bucket-owner-full-control")
    with Proxy(world.store.endpoint_url).running() as proxy:
        engine = through(world, proxy).engine(headers=headers, large_bytes=1024**2)
        report = engine.sync(scope(world.entry(), "2024-03-01"), mode=SyncMode.DIRECT)
        [created] = [r for r in proxy.requests if r.operation == "CreateMultipartUpload"]
    assert report.total("copied") == 1
    assert created.header("x-amz-storage-class") == "STANDARD_IA"
    assert created.header("x-amz-acl") == "bucket-owner-full-control"


@pytest.mark.parametrize("mode", [SyncMode.DIRECT, SyncMode.RELAY, SyncMode.STAGED])
@pytest.mark.parametrize("sign", ["k", "币"])
def test_a_key_of_1024_bytes_is_copied_and_a_longer_one_named(world: World, mode: SyncMode, sign: str) -> None:
    """S3 allows 1,024 bytes; names between slashes are short, since SeaweedFS refuses long ones."""
    [short] = world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=False)
    root = world.lake.key("archive/")
    longest = _key_of(1024, f"long/{world.tag}/", sign)
    world.put(longest, body_of(longest, 1, 400), sidecar=False)
    target, beyond = _key_of(1024, root, sign), _key_of(1500, root, sign)
    places = {short: root + "short.zip", longest: target}
    copies = [Copy(source, place, 400) for source, place in places.items()]
    movers = {SyncMode.DIRECT: DirectMover, SyncMode.RELAY: RelayMover, SyncMode.STAGED: StagedMover}
    with Proxy(world.store.endpoint_url, Rule(Refusal(400, "KeyTooLongError"), WRITES, beyond)).running() as proxy:
        proxied = through(world, proxy)
        mover = movers[mode](proxied.source, proxied.lake.bucket, TransferOptions(workers=4, retries=0))
        outcomes = mover.move([*copies, Copy(short, beyond, 400)], lambda _outcome: None)
    faults = {outcome.copy.lake_key: outcome.fault for outcome in outcomes}
    assert [faults[copy.lake_key] for copy in copies] == [None, None]
    assert faults[beyond].code == "KeyTooLongError"
    for source, place in places.items():
        assert world.lake_body(place.removeprefix(world.lake.prefix)) == body_of(source, 1, 400)


def _key_of(size: int, root: str, sign: str) -> str:
    """A key of ``size`` bytes of UTF-8, in names of 60."""
    name = sign * (60 // len(sign.encode()))
    key = root + "/".join([name] * (size // 61))
    return (key.encode()[: size - 4].decode(errors="ignore").rstrip("/") + "x" * size).encode()[
        : size - 4
    ].decode() + ".zip"


# Secrets


@pytest.mark.parametrize("mode", [SyncMode.DIRECT, SyncMode.RELAY, SyncMode.STAGED])
def test_credentials_are_in_no_command_line_log_or_error(world: World, mode: SyncMode, tmp_path: Path) -> None:
    planted = Credentials("PLANTEDKEYID", "planted/secret+access=key", "planted-session-token")
    world.publish(["BTCUSDT"], days(*WEEK))
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    seen: list[str] = []

    def look() -> None:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                seen.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue

    rule = Rule(Hang(), WRITES, ARCHIVE)
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        wrong = through(world, proxy, max_attempts=1)
        wrong.lake = Lake(replace(wrong.lake.bucket, credentials=planted), world.lake.prefix)
        options = TransferOptions(workers=4, retries=0, stall_seconds=1.0, scratch=tmp_path)
        movers = {SyncMode.DIRECT: DirectMover, SyncMode.RELAY: RelayMover, SyncMode.STAGED: StagedMover}
        copies = [Copy(key, world.lake.key(f"archive/{key}"), 400) for key in world.publish(["BTCUSDT"], days(*WEEK))]
        results = movers[mode](wrong.source, wrong.lake.bucket, options).move(copies, lambda _outcome: look())
        try:
            wrong.engine(retries=0).sync(scope(world.entry(), *WEEK), mode=mode)
        except LakehouseError as error:
            results = [*results, error]
    logging.getLogger().removeHandler(handler)
    assert len(results) == len(copies) + 1, "the planted credentials were not refused"
    for text in (*seen, log.getvalue(), *map(str, results), *map(repr, results), repr(wrong.lake)):
        for secret in (planted.secret_access_key, planted.session_token, planted.access_key_id):
            assert secret is not None
            assert secret not in text
