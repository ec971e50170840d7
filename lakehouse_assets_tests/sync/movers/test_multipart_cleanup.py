"""Unfinished uploads of killed runs: a later sync aborts the old ones, and keeps those that may be in use."""

from __future__ import annotations

import logging
import os
import signal
from dataclasses import replace

import pytest

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.sync.movers import multipart_cleanup
from lakehouse_assets.sync.movers.multipart_cleanup import abort_leftovers
from lakehouse_assets_tests.faults.proxy import Meanwhile, Proxy, Refusal, Rule
from lakehouse_assets_tests.faults.trial import through
from lakehouse_assets_tests.faults.victim import Archive, Victim, etag_of
from lakehouse_assets_tests.world import KLINES, World, scope

DAY = "2024-03-01"
MIB = 1024**2
BELOW = Dataset.parse(KLINES).lake_prefix


def unfinished(world: World) -> list[str]:
    client = world.store.admin_bucket(world.lake.bucket.name).boto3_client()
    uploads = client.list_multipart_uploads(Bucket=world.lake.bucket.name, Prefix=world.lake.prefix)
    return [upload["Key"].removeprefix(world.lake.prefix) for upload in uploads.get("Uploads", [])]


def begin_upload(world: World, relative: str) -> None:
    client = world.lake.bucket.boto3_client()
    client.create_multipart_upload(Bucket=world.lake.bucket.name, Key=world.lake.key(relative))


def test_uploads_left_by_a_killed_relay_are_aborted_by_a_later_sync_of_the_dataset(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, body = world.key("BTCUSDT", DAY), os.urandom(22 * MIB)
    world.put(key, body, sidecar=False)
    monkeypatch.setenv("LAKEHOUSE_SYNC_PART_BYTES", str(5 * MIB))
    victims: list[Victim] = []

    def kill() -> None:
        victims[0].kill()

    rule = Rule(Meanwhile(kill), ("UploadPart",), first=2, most=1)
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        # The lake has another endpoint than the source, so the mode is relay.
        victims.append(Victim(Archive(through(world, proxy, source=False), DAY, DAY, {key: etag_of(body)})))
        assert victims[0].end() == -signal.SIGKILL
    assert rule.struck == 1
    place = f"archive/binance/{key}"
    assert unfinished(world) == [place]
    assert place not in world.lake_files()

    engine = world.engine(part_bytes=5 * MIB)
    assert engine.sync(scope(world.entry(), DAY), mode=SyncMode.RELAY).total("copied") == 1
    assert world.lake_body(place) == body
    assert unfinished(world) == [place], "a young upload may be another run's"
    monkeypatch.setattr(multipart_cleanup, "DEADLINES", 0)
    world.put(world.key("ETHUSDT", DAY), body, sidecar=False)
    assert engine.sync(scope(world.entry(), DAY), mode=SyncMode.RELAY).total("copied") == 1
    assert unfinished(world) == []
    assert world.lake_body(place) == body


def test_only_old_uploads_of_the_dataset_are_aborted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for relative in (f"{BELOW}BTCUSDT/1m/x.zip", "archive/binance/data/spot/x.zip", "tables/x.parquet"):
        begin_upload(world, relative)
    assert abort_leftovers(world.lake, BELOW, deadline_seconds=3600) == 0
    monkeypatch.setattr(multipart_cleanup, "DEADLINES", 0)
    assert abort_leftovers(world.lake, BELOW, deadline_seconds=3600) == 1
    assert sorted(unfinished(world)) == ["archive/binance/data/spot/x.zip", "tables/x.parquet"]


def test_a_sync_of_small_objects_does_not_list_uploads(world: World) -> None:
    world.publish(["BTCUSDT"], [DAY])
    with Proxy(world.store.endpoint_url).running() as proxy:
        through(world, proxy).engine().sync(scope(world.entry(), DAY))
        assert not [request for request in proxy.requests if "uploads" in request.target]


def test_a_lake_that_refuses_to_list_its_uploads_is_synced(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.put(world.key("BTCUSDT", DAY), os.urandom(6 * MIB))
    rule = Rule(Refusal(403, "AccessDenied"), ("OfBucket",))
    with Proxy(world.store.endpoint_url, rule).running() as proxy, caplog.at_level(logging.INFO):
        faulty = through(world, proxy)
        faulty.lake = replace(faulty.lake)
        report = faulty.engine(part_bytes=5 * MIB).sync(scope(world.entry(), DAY), mode=SyncMode.RELAY)
    assert report.total("copied") == 1
    assert rule.struck >= 1
    assert "could not be aborted: AccessDenied" in caplog.text
