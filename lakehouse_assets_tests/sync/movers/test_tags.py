"""Object tags: every object is written with them, in every mode and at every size, or not at all."""

from __future__ import annotations

import os
from typing import Any

import pytest

from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.errors import InputError
from lakehouse_assets.settings import load_settings
from lakehouse_assets.sync.movers.base import ObjectHeaders
from lakehouse_assets_tests.faults.proxy import WRITES, Proxy, Refusal, Rule
from lakehouse_assets_tests.faults.trial import through
from lakehouse_assets_tests.world import World, body_of, scope

DAY = "2024-03-01"
MIB = 1024**2
WAYS = [SyncMode.DIRECT, SyncMode.RELAY, SyncMode.STAGED]
TAGS = {"team": "quant research", "cost:centre": "a/b+c=d@e"}
HEADERS = ObjectHeaders(tags=TAGS, storage_class="STANDARD_IA")
IN_PARTS: dict[str, Any] = {"part_bytes": 5 * MIB, "large_bytes": 6 * MIB}


def tags_of(world: World, below: str) -> dict[str, dict[str, str]]:
    """The tags of everything below a folder of the lake."""
    name = world.lake.bucket.name
    client = world.store.admin_bucket(name).boto3_client()
    return {
        key: {
            tag["Key"]: tag["Value"]
            for tag in client.get_object_tagging(Bucket=name, Key=world.lake.key(key))["TagSet"]
        }
        for key in world.lake_files(below)
    }


@pytest.mark.parametrize("mode", WAYS)
@pytest.mark.parametrize("size", [400, 12 * MIB])
def test_tags_are_written_with_the_object_in_every_mode(world: World, mode: SyncMode, size: int) -> None:
    key, body = world.key("BTCUSDT", DAY), os.urandom(size)
    world.put(key, body)
    world._upstream.put_object_tagging(
        Bucket=world.source.name, Key=key, Tagging={"TagSet": [{"Key": "theirs", "Value": "1"}]}
    )
    with Proxy(world.store.endpoint_url).running() as proxy:
        engine = through(world, proxy).engine(headers=HEADERS, **IN_PARTS)
        report = engine.sync(scope(world.entry(), DAY), mode=mode)
        requests = [request for request in proxy.requests if "archive/" in request.key]
    assert report.copied_by_mode == {mode.value: 1}
    assert world.lake_body(f"archive/binance/{key}") == body
    assert tags_of(world, "archive/") == {f"archive/binance/{name}": TAGS for name in (key, f"{key}.CHECKSUM")}
    assert not [request for request in requests if "tagging" in request.target], "tagged only after it was written"
    begun = {"PutObject", "CopyObject", "CreateMultipartUpload"}
    written = [request for request in requests if request.operation in begun]
    assert {request.header("x-amz-storage-class") for request in written} == {"STANDARD_IA"}
    if mode is SyncMode.DIRECT:
        assert proxy.counts("data/futures")["GetObject"] == 0


def test_former_bytes_are_preserved_with_tags(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY])
    engine = world.engine(headers=HEADERS)
    engine.sync(scope(world.entry(), DAY))
    world.put(key, body_of(key, 2, 400))
    assert engine.sync(scope(world.entry(), DAY)).copied_by_mode == {"direct": 1}
    kept = tags_of(world, "_superseded/")
    assert len(kept) == 2
    assert list(kept.values()) == [TAGS, TAGS]


@pytest.mark.parametrize("mode", WAYS)
def test_a_tagged_copy_that_the_lake_refuses_is_named(world: World, mode: SyncMode) -> None:
    keys = world.publish(["BTCUSDT", "ETHUSDT"], [DAY])
    rule = Rule(Refusal(403, "AccessDenied"), WRITES, keys[0])
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        report = through(world, proxy).engine(headers=HEADERS).sync(scope(world.entry(), DAY), mode=mode)
    assert (report.total("present"), report.total("failed")) == (1, 1)
    [failure] = report.periods[0].failures
    assert failure.key == keys[0]
    assert failure.reason.startswith("AccessDenied: ")
    assert world.engine(headers=HEADERS).sync(scope(world.entry(), DAY), mode=mode).total("copied") == 1


def test_a_tagged_copy_of_an_object_rewritten_meanwhile_is_refused_and_planned_again(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY])

    def rewrite(progress: Any) -> None:
        if progress.stage == "listed":
            world.put(key, body_of(key, 2, 400))

    engine = world.engine(headers=HEADERS)
    report = engine.sync(scope(world.entry(), DAY), mode=SyncMode.DIRECT, on_progress=rewrite)
    assert report.total("copied") == 1
    assert world.lake_body(f"archive/binance/{key}") == body_of(key, 2, 400)
    assert engine.sync(scope(world.entry(), DAY), mode=SyncMode.DIRECT).total("copied") == 0


def test_a_tagged_batch_in_which_every_copy_fails_is_stopped_early(world: World) -> None:
    world.publish([f"S{number}USDT" for number in range(30)], [DAY], sidecars=False)
    rule = Rule(Refusal(403, "AccessDenied"), WRITES, "archive/")
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        engine = through(world, proxy).engine(headers=HEADERS, workers=2, failures_in_a_row=5)
        report = engine.sync(scope(world.entry(), DAY), mode=SyncMode.DIRECT)
        assert proxy.counts("archive/").total() <= 5 + 2
    assert report.total("failed") == 30
    assert any("given up after 5 failures in a row" in failure.reason for failure in report.periods[0].failures)


def test_tags_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_LAKE_TAGS", "team=quant research, cost:centre=a/b+c=d@e")
    assert load_settings().lake.headers.tags == TAGS
    monkeypatch.setenv("LAKEHOUSE_LAKE_TAGS", "")
    assert load_settings().lake.headers.tags == {}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("team", "'team' is not a tag; write key=value"),
        ("=quant", "is not a tag"),
        ("a=1,,b=2", "'' is not a tag"),
        ("a=1,a=2", "the tag 'a' is given twice"),
        ("a=<b>", "S3 does not accept the tag a=<b>"),
        (f"{'k' * 129}=v", "at most 128 characters"),
        ("aws:team=x", "begins with aws:, which is reserved"),
        (",".join(f"k{number}=v" for number in range(11)), "S3 accepts at most 10 tags per object, not 11"),
    ],
)
def test_tags_that_s3_would_refuse_are_refused_at_once(monkeypatch: pytest.MonkeyPatch, text: str, word: str) -> None:
    monkeypatch.setenv("LAKEHOUSE_LAKE_TAGS", text)
    with pytest.raises(InputError) as refusal:
        load_settings()
    assert "LAKEHOUSE_LAKE_TAGS" in str(refusal.value)
    assert word in str(refusal.value)
