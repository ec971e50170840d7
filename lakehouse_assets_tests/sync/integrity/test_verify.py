"""Full verification against a real store: the objects that are read, the findings, and their scope."""

from __future__ import annotations

import hashlib

import polars as pl
import pytest

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.sync.integrity.verify import Verification, Verifier
from lakehouse_assets_tests.faults.proxy import READS, Proxy, Rule, Truncated
from lakehouse_assets_tests.faults.trial import through
from lakehouse_assets_tests.world import KLINES, World, body_of, scope

DAY = "2024-03-01"


def verify(world: World, **options) -> Verification:
    return Verifier(world.source, world.lake).verify(Dataset.parse(KLINES), [DAY], **options)


def sync(world: World, mode: SyncMode = SyncMode.DIRECT):
    return world.engine().sync(scope(world.entry(), DAY), mode=mode)


def row_of(world: World, key: str) -> dict:
    return world.manifest().read([DAY]).row(by_predicate=pl.col("key") == key, named=True)


def test_direct_copies_are_unverified_until_they_are_read(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY])
    sync(world)
    assert row_of(world, key)["integrity"] == Integrity.UNVERIFIED
    done = verify(world)
    assert (done.objects_read, done.bytes_read, done.complaints) == (1, 400, ())
    row = row_of(world, key)
    assert (row["integrity"], row["verified_etag"]) == (Integrity.VERIFIED, row["lake_etag"])
    assert row["sha256"] == row["published_digest"] == hashlib.sha256(body_of(key, 1, 400)).hexdigest()
    assert verify(world).objects_read == 0
    assert verify(world, force=True).objects_read == 1


def test_relayed_objects_are_not_read_again(world: World) -> None:
    world.publish(["BTCUSDT"], [DAY])
    sync(world, SyncMode.RELAY)
    done = verify(world)
    assert (done.objects_read, done.total(Integrity.VERIFIED)) == (0, 1)


def test_a_wrong_sidecar_is_attributed_to_the_exchange_and_checked_again_when_it_changes(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY], sidecars=False)
    world.put(f"{key}.CHECKSUM", f"{'0' * 64}  {key.rsplit('/', 1)[1]}\n".encode(), sidecar=False)
    sync(world)
    [complaint] = verify(world).complaints
    assert (complaint.key, complaint.state, complaint.copy_differs) == (key, "mismatch", False)
    assert "the sidecar says 000" in complaint.note
    assert verify(world).objects_read == 0
    assert sync(world).total("copied") == 0
    assert len(verify(world).complaints) == 1

    world.publish(["BTCUSDT"], [DAY])
    sync(world)
    assert verify(world).complaints == ()
    assert row_of(world, key)["integrity"] == Integrity.VERIFIED


def test_a_copy_that_differs_from_its_source_is_detected_and_copied_again(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY])
    sync(world)
    world.overwrite_in_lake(f"archive/binance/{key}", b"x" * 400)
    # The manifest gets the ETag of the damaged copy, as after silent damage in the store.
    etag = hashlib.md5(b"x" * 400).hexdigest()
    world.manifest().replace([DAY], lambda rows: rows.with_columns(lake_etag=pl.lit(etag)), run_id=None)
    [complaint] = verify(world).complaints
    assert complaint.copy_differs
    assert "they differ" in complaint.note or "the sidecar says" in complaint.note
    assert sync(world).total("copied") == 1
    assert verify(world).complaints == ()
    assert world.lake_body(f"archive/binance/{key}") == body_of(key, 1, 400)


def test_an_object_without_a_sidecar_is_verified_by_its_etag(world: World) -> None:
    world.publish(["BTCUSDT"], [DAY], sidecars=False)
    sync(world)
    done = verify(world)
    assert (done.objects_read, done.total(Integrity.ETAG_VERIFIED)) == (0, 1)


@pytest.mark.parametrize("mode", [SyncMode.DIRECT, SyncMode.RELAY, SyncMode.STAGED])
def test_an_oversized_sidecar_is_recorded_and_not_read(world: World, mode: SyncMode) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY])
    world.put(f"{key}.CHECKSUM", b"0" * 2**21, sidecar=False)
    assert sync(world, mode).periods[0].is_complete
    # A read of the body would end halfway.
    with Proxy(world.store.endpoint_url, Rule(Truncated(), READS, ".CHECKSUM")).running() as proxy:
        done = verify(through(world, proxy, max_attempts=1), force=True)
    assert (done.objects_read, done.unread, done.complaints) == (1, (), ())
    row = row_of(world, key)
    assert (row["integrity"], row["verified_etag"]) == (Integrity.ETAG_VERIFIED, row["lake_etag"])
    assert row["integrity_note"] == "the sidecar has more than 4096 bytes"


def test_an_object_replaced_in_the_lake_is_not_verified_by_its_old_row(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY])
    sync(world)
    world.overwrite_in_lake(f"archive/binance/{key}", b"somebody else's")
    done = verify(world)
    assert done.objects_read == 0
    [left] = done.unread
    assert (left.key, left.state) == (key, "changed")
    assert left.note.startswith("it was replaced, where it was last seen on 20")
    assert row_of(world, key)["integrity"] is None


def test_a_finding_does_not_apply_to_content_committed_during_the_verification(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY])
    sync(world)
    hashed = Verifier._published

    def rewritten_meanwhile(self, dataset, name, row):
        published = hashed(self, dataset, name, row)
        world.put(key, body_of(key, 2, 400))
        sync(world)
        return published

    monkeypatch.setattr(Verifier, "_published", rewritten_meanwhile)
    verify(world)
    monkeypatch.undo()
    assert row_of(world, key)["integrity"] == Integrity.UNVERIFIED
    assert verify(world).total(Integrity.VERIFIED) == 1


def test_a_sample_has_the_same_objects_every_time(world: World) -> None:
    # Names differ in every test run; the odds that a sample of 5 % has none of 400 objects are 1 in 10**8.
    world.publish([f"S{number}USDT" for number in range(400)], [DAY])
    sync(world)
    first = verify(world, sampled=True).objects_read
    assert 0 < first < 100
    assert verify(world, sampled=True).objects_read == 0
    assert verify(world).objects_read == 400 - first
