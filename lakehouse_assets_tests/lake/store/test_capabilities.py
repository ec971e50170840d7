"""Missing capabilities of a store are found before anything is copied, reported, and worked around if possible."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import polars as pl
import pytest

from lakehouse_assets.archive.errors import StoreFault
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.errors import StoreError
from lakehouse_assets.lake.store.conditional_writes import PLACE
from lakehouse_assets.lake.store.health import Health
from lakehouse_assets.sync.movers.diagnostics import check_lake
from lakehouse_assets.sync.movers.routing import another_mode_may_help
from lakehouse_assets_tests.faults.proxy import (
    Answer,
    Fault,
    Forward,
    IgnoresCondition,
    Proxy,
    Refusal,
    RefusesHeader,
    Request,
    Rule,
)
from lakehouse_assets_tests.faults.trial import through
from lakehouse_assets_tests.world import World, body_of, client_of, scope

DAY = "2024-03-01"
CONDITIONAL = ("PutObject", "CompleteMultipartUpload")


@contextmanager
def lacking(world: World, fault: Fault, *operations: str, key: str = "") -> Iterator[tuple[World, Proxy]]:
    with Proxy(world.store.endpoint_url, Rule(fault, operations, key)).running() as proxy:
        yield through(world, proxy), proxy


def ignores(world: World) -> IgnoresCondition:
    return IgnoresCondition(client_of(world.store.admin_bucket(world.lake.bucket.name)), world.lake.bucket.name)


UNCONDITIONAL: dict[str, Callable[[World], Fault]] = {
    "501": lambda _: RefusesHeader("if-none-match"),
    "400": lambda _: RefusesHeader("if-none-match", 400, "InvalidArgument"),
    "405": lambda _: RefusesHeader("if-none-match", 405, "MethodNotAllowed"),
    "ignored": ignores,
}


@pytest.mark.parametrize("kind", UNCONDITIONAL)
def test_nothing_is_copied_to_a_store_without_conditional_writes(world: World, kind: str) -> None:
    world.publish(["BTCUSDT"], [DAY])
    with lacking(world, UNCONDITIONAL[kind](world), *CONDITIONAL) as (faulty, proxy):
        for _ in range(2):
            with pytest.raises(
                StoreError, match=r"^Writing conditionally to s3://.*If-None-Match.*Nothing was copied or recorded"
            ):
                faulty.engine().sync(scope(world.entry(), DAY))
        assert not proxy.counts("archive/")["CopyObject"]
    assert set(world.lake_files()) <= {PLACE}


def test_nothing_is_copied_if_records_may_not_be_written(world: World) -> None:
    world.publish(["BTCUSDT"], [DAY])
    with (
        lacking(world, Refusal(403, "AccessDenied"), "PutObject", key="_manifest/") as (faulty, _),
        pytest.raises(StoreError, match=r"AccessDenied.*check the credentials and the bucket's policy"),
    ):
        faulty.engine().sync(scope(world.entry(), DAY))
    assert not world.lake_files()


@pytest.mark.parametrize("fault", [Refusal(503, "SlowDown"), Refusal(409, "ConditionalRequestConflict")])
def test_a_transient_failure_does_not_count_as_a_missing_capability(world: World, fault: Refusal) -> None:
    world.publish(["BTCUSDT"], [DAY])
    with lacking(world, fault, "PutObject", key=PLACE) as (faulty, _):
        assert faulty.engine().sync(scope(world.entry(), DAY)).total("copied") == 1


def test_a_store_is_probed_once_with_one_request_and_not_at_all_without_a_copy(world: World) -> None:
    world.publish(["BTCUSDT"], [DAY])
    world.engine().sync(scope(world.entry(), DAY))
    world.overwrite_in_lake(PLACE, b"here already")
    with Proxy(world.store.endpoint_url).running() as proxy:
        other = through(world, proxy)
        other.engine().sync(scope(world.entry(), DAY))
        assert not proxy.counts(PLACE)
        for symbol in ("ETHUSDT", "LTCUSDT"):
            world.publish([symbol], [DAY])
            other.engine().sync(scope(world.entry(), DAY))
        assert proxy.counts(PLACE) == {"PutObject": 1}


@pytest.mark.parametrize("code", ["NotImplemented", "InvalidRequest", "405", "501"])
def test_an_unsupported_request_is_not_retried_but_another_kind_is_tried(code: str) -> None:
    fault = StoreFault(code, "", of_lake=True)
    assert (fault.is_final, fault.is_passing, another_mode_may_help(fault)) == (True, False, True)
    assert not another_mode_may_help(StoreFault("AccessDenied", "", of_lake=True))


# Superseded versions are kept another way if the store has no conditional copies


@pytest.mark.parametrize(
    "refuses", [RefusesHeader("x-amz-copy-source-if-match", *each) for each in ((), (400, "InvalidArgument"))]
)
@pytest.mark.parametrize("large", [False, True])
def test_former_versions_are_kept_without_conditional_copies(world: World, refuses: RefusesHeader, large: bool) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY])
    world.engine().sync(scope(world.entry(), DAY))
    world.publish(["BTCUSDT"], [DAY], version=2)
    with lacking(world, refuses, "CopyObject", "UploadPartCopy") as (faulty, proxy):
        limits = {"large_bytes": 100} if large else {}
        report = faulty.engine(**limits).sync(scope(world.entry(), DAY), mode=SyncMode.RELAY)
        assert proxy.struck
    assert (report.total("copied"), report.periods[0].is_complete) == (1, True)
    former = body_of(key, 1, 400)
    row = world.manifest().read([DAY]).row(by_predicate=pl.col("key") == key, named=True)
    assert row["former_etag"] == hashlib.md5(former, usedforsecurity=False).hexdigest()
    assert world.lake_body(row["superseded_key"]) == former


class AnotherBody:
    """A read that ignores its condition, and returns what another run has written meanwhile."""

    async def strike(self, request: Request, forward: Forward) -> Answer:
        answer = await forward(request)
        return Answer(answer.status, answer.headers, bytes(reversed(answer.body)))


def test_other_content_is_not_kept_under_the_key_of_the_former_version(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY])
    world.engine().sync(scope(world.entry(), DAY))
    world.publish(["BTCUSDT"], [DAY], version=2)
    rules = [
        Rule(RefusesHeader("x-amz-copy-source-if-match"), ("CopyObject",)),
        Rule(AnotherBody(), ("GetObject",), f"archive/binance/{key}"),
    ]
    with Proxy(world.store.endpoint_url, *rules).running() as proxy:
        report = through(world, proxy).engine().sync(scope(world.entry(), DAY), mode=SyncMode.DIRECT)
    [failure] = [each for each in report.periods[0].failures if each.key == key]
    assert "another run has replaced it meanwhile" in failure.reason
    assert world.lake_body(f"archive/binance/{key}") == body_of(key, 1, 400)


# Findings of doctor


class FromTheBeginning:
    """A listing that ignores start-after."""

    async def strike(self, request: Request, forward: Forward) -> Answer:
        answer = await forward(request)
        if "start-after" not in request.target:
            return answer
        key = request.target.partition("start-after=")[2].partition("&")[0].replace("%2F", "/").encode()
        body = answer.body.replace(b"<Contents>", b"<Contents><Key>" + key + b"</Key></Contents><Contents>", 1)
        return Answer(answer.status, answer.headers, body)


DOCTOR = [
    ("conditional replacement", RefusesHeader("if-match"), "PutObject", (Health.WARNING, "If-Match")),
    ("conditional replacement", "ignored", "PutObject", (Health.WARNING, "If-Match")),
    ("conditional copies", RefusesHeader("x-amz-copy-source-if-match"), "CopyObject", (Health.NOTE, "downloaded and")),
    ("conditional copies", "ignored", "CopyObject", (Health.NOTE, "downloaded and uploaded")),
    ("multipart uploads", Refusal(501, "NotImplemented"), "CreateMultipartUpload", (Health.WARNING, "relayed")),
    ("copies in parts", Refusal(501, "NotImplemented"), "UploadPartCopy", (Health.NOTE, "relayed")),
    ("listing in order", FromTheBeginning(), "ListObjects", (Health.ERROR, "use another store")),
    ("missing objects", Refusal(403, "AccessDenied"), "HeadObject", (Health.WARNING, "s3:ListBucket")),
]


@pytest.mark.parametrize(("about", "fault", "operation", "expected"), DOCTOR)
def test_doctor_reports_each_missing_capability_with_its_consequence(
    world: World, about: str, fault: Fault | str, operation: str, expected: tuple[Health, str]
) -> None:
    found = ignores(world) if isinstance(fault, str) else fault
    key = "never-written" if about == "missing objects" else ""
    with lacking(world, found, operation, key=key) as (faulty, _):
        findings = {finding.about: finding for finding in check_lake(faulty.lake)}
    finding = findings[f"lake: {about}"]
    assert finding.health is expected[0]
    assert expected[1] in finding.advice


def test_doctor_finds_no_problem_of_a_complete_store(world: World) -> None:
    healths = {finding.about: finding.health for finding in check_lake(world.lake)}
    assert set(healths.values()) == {Health.OK, Health.WARNING}
    assert [about for about, health in healths.items() if health is Health.WARNING] == ["lake: TLS"]
