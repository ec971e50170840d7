"""Objects that others delete or replace in the lake: their rows no longer describe the former copy."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.lake.coverage import CoverageStatus, coverage
from lakehouse_assets.lake.report import PeriodState
from lakehouse_assets.sync.adopt import rebuild_manifest
from lakehouse_assets.sync.integrity.verify import Verifier
from lakehouse_assets.sync.movers.multipart import Upload
from lakehouse_assets.tables.inputs import inputs_of
from lakehouse_assets.tables.table import Table
from lakehouse_assets_tests.world import World, body_of, client_of, scope

DAY = "2024-03-01"


def verified(world: World, **published: Any) -> str:
    """An object that was copied and verified."""
    [key] = world.publish(["BTCUSDT"], [DAY], **published)
    world.engine().sync(scope(world.entry(), DAY), mode=SyncMode.RELAY)
    assert row_of(world)["integrity"] in {"verified", "etag_verified"}
    return key


def row_of(world: World) -> dict[str, Any]:
    return world.manifest().read([DAY]).row(0, named=True)


def look(world: World, by: str) -> None:
    """Record the lake's content in one of the ways that do not copy the object."""
    entry = world.entry()
    if by == "verify":
        Verifier(world.source, world.lake).verify(entry.dataset, [DAY])
    elif by == "record":
        world.engine().record(scope(entry, DAY))
    else:
        world.publish(["ETHUSDT"], [DAY])
        world.engine().sync(scope(entry, DAY, symbols=(world.symbol("ETHUSDT"),)))


@pytest.mark.parametrize("by", ["verify", "record", "partial sync"])
@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_the_row_of_an_object_that_left_the_lake_is_not_verified_and_keeps_its_seen_at(
    world: World, by: str, replaced: bool
) -> None:
    key = verified(world)
    seen = row_of(world)["seen_at"]
    if replaced:
        world.overwrite_in_lake(f"archive/binance/{key}", body_of(key, 9, 400))
    else:
        world.delete_in_lake(f"archive/binance/{key}")
    look(world, by)
    row = row_of(world)
    assert row["state"] == ("changed" if replaced else "missing")
    assert (row["lake_etag"], row["integrity"], row["sha256"], row["verified_at"]) == (None, None, None, None)
    assert row["seen_at"] == seen

    covered = coverage(world.lake, world.entry().dataset, symbol=world.symbol("BTCUSDT"))
    assert covered["cover"].to_list() == [CoverageStatus.MISSING]
    manifests = {Cadence.DAILY: world.manifest().read([DAY]).filter(pl.col("key") == key)}
    inputs = inputs_of(Table.of(world.entry().dataset), manifests, [DAY], {})
    assert (inputs.used.height, inputs.lacking.height) == (0, 1)
    assert world.engine().check(scope(world.entry(), DAY)).periods[0].state is PeriodState.INCOMPLETE

    assert world.engine().sync(scope(world.entry(), DAY)).total("copied") == 1
    assert world.lake_body(f"archive/binance/{key}") == body_of(key, 1, 400)
    assert row_of(world)["seen_at"] > seen
    kept = [etag.strip('"') for etag, _ in world.lake_files("_superseded/").values()]
    others = hashlib.md5(body_of(key, 9, 400), usedforsecurity=False).hexdigest()
    assert kept == ([others] if replaced else [])


def test_a_verification_names_a_deleted_object_once_and_does_not_count_it(world: World) -> None:
    key = verified(world)
    world.delete_in_lake(f"archive/binance/{key}")
    done = Verifier(world.source, world.lake).verify(world.entry().dataset, [DAY])
    assert done.states == {DAY: {}}
    [gone] = done.unread
    assert (gone.key, gone.state) == (key, "missing")
    assert gone.note.startswith(
        f"it is no longer in the lake, where it was last seen on {row_of(world)['seen_at']:%Y-%m-%d}"
    )
    assert Verifier(world.source, world.lake).verify(world.entry().dataset, [DAY]).unread == ()


def test_a_withdrawn_object_that_was_deleted_from_the_lake_is_no_longer_verified(world: World) -> None:
    key = verified(world)
    world.withdraw(key)
    world.delete_in_lake(f"archive/binance/{key}")
    world.engine().sync(scope(world.entry(), DAY))
    row = row_of(world)
    assert (row["state"], row["lake_etag"], row["integrity"]) == ("vanished", None, None)
    assert row["seen_at"] is not None


def test_a_lost_sidecar_is_reported_and_copied_again(world: World) -> None:
    key = verified(world)
    world.delete_in_lake(f"archive/binance/{key}.CHECKSUM")
    done = Verifier(world.source, world.lake).verify(world.entry().dataset, [DAY])
    assert [unread.note.split(",")[0] for unread in done.unread] == ["its sidecar is no longer in the lake"]
    assert row_of(world)["lake_etag"] is not None
    assert world.engine().sync(scope(world.entry(), DAY)).total("sidecars_copied") == 1


def test_recording_never_accepts_a_replacement_as_the_copy(world: World) -> None:
    """The ETag of a multipart upload cannot be compared with a digest, so only the manifest could confirm it."""
    key = verified(world, size=6 * 1024**2)
    client = world.lake.bucket.boto3_client()
    target: dict[str, Any] = {"Bucket": world.lake.bucket.name, "Key": world.lake.key(f"archive/binance/{key}")}
    upload = target | {"UploadId": client.create_multipart_upload(**target)["UploadId"]}
    part = client.upload_part(**upload, PartNumber=1, Body=body_of(key, 9, 6 * 1024**2))
    done = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**upload, MultipartUpload=done)
    for _ in range(2):
        world.engine().record(scope(world.entry(), DAY))
        assert row_of(world)["state"] == "changed"
    assert world.engine().sync(scope(world.entry(), DAY)).total("copied") == 1
    assert world.lake_body(f"archive/binance/{key}") == body_of(key, 1, 6 * 1024**2)


def test_checks_without_a_difference_commit_nothing(world: World) -> None:
    verified(world)
    before = world.lake_files("_manifest/")
    world.engine().record(scope(world.entry(), DAY))
    Verifier(world.source, world.lake).verify(world.entry().dataset, [DAY])
    rebuild_manifest(world.lake, world.entry())
    assert world.lake_files("_manifest/") == before


def test_a_rebuild_marks_deleted_objects_as_missing(world: World) -> None:
    key = verified(world)
    world.publish(["ETHUSDT"], [DAY])
    world.engine().sync(scope(world.entry(), DAY))
    world.delete_in_lake(f"archive/binance/{key}")
    assert rebuild_manifest(world.lake, world.entry()) == 0
    rows = world.manifest().read([DAY])
    assert dict(rows.select("key", "state").iter_rows())[key] == "missing"


def test_a_manifest_without_seen_at_falls_back_to_verified_at(world: World) -> None:
    key = verified(world)
    world.manifest().replace([DAY], lambda rows: rows.with_columns(seen_at=None, error=pl.lit("old")), run_id=None)
    old = row_of(world)
    assert old["seen_at"] is None
    world.delete_in_lake(f"archive/binance/{key}")
    Verifier(world.source, world.lake).verify(world.entry().dataset, [DAY])
    assert abs(row_of(world)["seen_at"] - old["verified_at"]) < timedelta(seconds=1)


def test_a_superseded_key_with_other_content_is_neither_overwritten_nor_trusted(world: World) -> None:
    key = verified(world)
    etag = row_of(world)["lake_etag"]
    taken = world.entry().dataset.superseded_key(key, etag)
    world.overwrite_in_lake(taken, b"somebody else's")
    world.put(key, body_of(key, 2, 400))
    assert world.engine().sync(scope(world.entry(), DAY)).total("copied") == 1
    assert world.lake_body(taken) == b"somebody else's"
    row = row_of(world)
    assert (row["former_etag"], row["superseded_key"]) == (etag, f"{taken}-2")
    assert world.lake_body(f"{taken}-2") == body_of(key, 1, 400)


def test_a_superseded_key_with_the_same_bytes_and_another_etag_is_reused(world: World) -> None:
    """S3 with KMS gives copies another ETag; runs that fail to replace the object must not add a copy each time."""
    key = verified(world)
    place = world.entry().dataset.superseded_key(key, row_of(world)["lake_etag"])
    upload = Upload(client_of(world.lake.bucket), world.lake.bucket.name, world.lake.key(place), {})
    assert upload.complete([upload.put(1, body_of(key, 1, 400))], {}) != row_of(world)["lake_etag"]
    world.put(key, body_of(key, 2, 400))
    assert world.engine().sync(scope(world.entry(), DAY)).total("copied") == 1
    assert row_of(world)["superseded_key"] == place
    assert set(world.lake_files(place)) == {place}


def test_an_object_whose_superseded_keys_are_all_taken_is_not_replaced(world: World) -> None:
    key = verified(world)
    taken = world.entry().dataset.superseded_key(key, row_of(world)["lake_etag"])
    for place in (taken, *(f"{taken}-{number}" for number in range(2, 6))):
        world.overwrite_in_lake(place, b"somebody else's")
    world.put(key, body_of(key, 2, 400), sidecar=False)
    [failure] = world.engine().sync(scope(world.entry(), DAY)).periods[0].failures
    assert "5 places are taken by other content" in failure.reason
    assert world.lake_body(f"archive/binance/{key}") == body_of(key, 1, 400)
