"""Integrity: parsing a sidecar, the state that follows from it, and how long that state stays recorded."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.lake.digests import SIDECAR_HEAD, Digests
from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.sync.integrity.sidecars import (
    SIDECAR_BYTES,
    IntegrityFinding,
    Published,
    compare_digests,
    parse_sidecar,
)
from lakehouse_assets_tests.world import World, body_of, scope

NAME = "BTCUSDT-1m-2024-03-01.zip"
BODY = b"what the exchange published"
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
SEEN = Digests(SHA256, MD5)
OTHER = "0" * 64
DAY = "2024-03-01"


@pytest.mark.parametrize(
    "text",
    [
        f"{SHA256}  {NAME}\n",
        f"{SHA256}  {NAME}",
        f"{SHA256} *{NAME}\r\n",
        f"{SHA256}\t./some/folder/{NAME}\n",
        f"\n  {SHA256}\n",
        f"{SHA256.upper()}  {NAME}\n",
        f"{SHA256}  {NAME}\n{OTHER}  other.zip\n",
    ],
)
def test_the_first_token_is_the_digest_in_any_line_format(text: str) -> None:
    assert parse_sidecar(text.encode(), NAME) == Published("sha256", SHA256)


def test_a_digest_of_32_digits_is_an_md5() -> None:
    assert parse_sidecar(f"{MD5}  {NAME}".encode(), NAME) == Published("md5", MD5)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "the sidecar is empty"),
        (b" \r\n\t", "the sidecar is empty"),
        (b"<html>busy</html>", "the sidecar does not begin with a SHA-256 or MD5 digest"),
        (SHA256[:-1].encode(), "the sidecar does not begin with a SHA-256 or MD5 digest"),
        (b"g" * 64, "the sidecar does not begin with a SHA-256 or MD5 digest"),
        (bytes(range(256)), "the sidecar does not begin with a SHA-256 or MD5 digest"),
        (f"{SHA256}  ETHUSDT-1m-2024-03-01.zip".encode(), "the sidecar is for 'ETHUSDT-1m-2024-03-01.zip'"),
        (f"{SHA256} ".encode() + b"\xff\xfe", "the sidecar is for '\\ufffd\\ufffd'"),
        (SHA256.encode() + b" " * 10_000_000, "the sidecar has more than 4096 bytes"),
    ],
)
def test_an_invalid_sidecar_has_no_digest_but_a_fault(body: bytes, fault: str) -> None:
    published = parse_sidecar(body, NAME)
    assert (published.algorithm, published.digest) == ("", "")
    assert published.fault == fault.encode().decode("unicode_escape")


def test_the_movers_keep_enough_of_a_sidecar_to_see_that_it_is_too_large() -> None:
    assert SIDECAR_HEAD > SIDECAR_BYTES


@given(st.binary(max_size=300))
@example(b"\x00" * 64)
@example(("٣" * 32).encode())
def test_any_bytes_give_a_digest_or_a_fault_and_never_an_error(body: bytes) -> None:
    published = parse_sidecar(body, NAME)
    assert bool(published.digest) != bool(published.fault)
    if published.digest:
        assert len(published.digest) == {"sha256": 64, "md5": 32}[published.algorithm]
        assert set(published.digest) <= set("0123456789abcdef")
        assert Published.of(published.digest) == published


@given(st.binary(max_size=200), st.sampled_from(["sha256", "md5"]), st.booleans(), st.booleans(), st.booleans())
def test_a_sidecar_in_any_format_of_an_exchange_verifies_its_object(
    body: bytes, algorithm: str, upper: bool, named: bool, newline: bool
) -> None:
    digest = hashlib.new(algorithm, body, usedforsecurity=False).hexdigest()
    text = (digest.upper() if upper else digest) + (f"  {NAME}" if named else "") + ("\n" if newline else "")
    seen = Digests(hashlib.sha256(body).hexdigest(), hashlib.md5(body, usedforsecurity=False).hexdigest())
    assert compare_digests(seen, parse_sidecar(text.encode(), NAME), None).state is Integrity.VERIFIED


MULTIPART = f"{MD5}-3"
FAULTY = Published(fault="the sidecar is empty")


@pytest.mark.parametrize(
    ("published", "etag", "state", "differs"),
    [
        (Published("sha256", SHA256), MD5, Integrity.VERIFIED, False),
        (Published("sha256", SHA256), MULTIPART, Integrity.VERIFIED, False),
        (Published("md5", MD5), None, Integrity.VERIFIED, False),
        # The sidecar is wrong: the bytes equal the source's.
        (Published("sha256", OTHER), MD5, Integrity.MISMATCH, False),
        # The copy is wrong.
        (Published("sha256", OTHER), "f" * 32, Integrity.MISMATCH, True),
        # Only the source can show which of the two is wrong.
        (Published("sha256", OTHER), MULTIPART, Integrity.MISMATCH, None),
        (None, MD5, Integrity.ETAG_VERIFIED, False),
        (None, "f" * 32, Integrity.MISMATCH, True),
        (None, MULTIPART, Integrity.NO_CHECKSUM, None),
        (None, None, Integrity.NO_CHECKSUM, None),
        (FAULTY, MD5, Integrity.ETAG_VERIFIED, False),
        (FAULTY, "f" * 32, Integrity.MISMATCH, True),
        (FAULTY, MULTIPART, Integrity.NO_CHECKSUM, None),
    ],
)
def test_the_state_follows_from_bytes_sidecar_and_etag(
    published: Published | None, etag: str | None, state: Integrity, differs: bool | None
) -> None:
    finding = compare_digests(SEEN, published, etag)
    assert (finding.state, finding.copy_differs) == (state, differs)


def test_a_finding_has_a_note_unless_it_is_simply_verified() -> None:
    assert compare_digests(SEEN, Published("sha256", SHA256), MD5) == IntegrityFinding(
        Integrity.VERIFIED, copy_differs=False
    )
    assert compare_digests(SEEN, FAULTY, MD5).note == "the sidecar is empty"
    wrong = compare_digests(SEEN, Published("sha256", OTHER), MD5).note
    assert wrong is not None
    assert SHA256 in wrong
    assert OTHER in wrong


# In the manifest


def row(world: World, key: str) -> dict[str, Any]:
    return world.manifest().read([DAY]).row(by_predicate=pl.col("key") == key, named=True)


def sync(world: World, mode: SyncMode = SyncMode.RELAY) -> int:
    return world.engine().sync(scope(world.entry(), DAY), mode=mode).total("copied")


@pytest.mark.parametrize("mode", [SyncMode.RELAY, SyncMode.STAGED])
def test_objects_that_pass_through_this_machine_are_verified_without_another_read(world: World, mode: SyncMode) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY])
    sync(world, mode)
    body = body_of(key, 1, 400)
    seen = row(world, key)
    assert (seen["integrity"], seen["integrity_note"], seen["copy_differs"]) == ("verified", None, False)
    assert seen["sha256"] == seen["published_digest"] == hashlib.sha256(body).hexdigest()
    assert seen["md5"] == hashlib.md5(body, usedforsecurity=False).hexdigest()
    assert seen["verified_etag"] == seen["lake_etag"]
    assert seen["verified_at"] is not None


def test_a_direct_copy_is_unverified_or_without_a_sidecar_verified_by_its_etag(world: World) -> None:
    [with_sidecar] = world.publish(["BTCUSDT"], [DAY])
    [bare] = world.publish(["ETHUSDT"], [DAY], sidecars=False)
    sync(world, SyncMode.DIRECT)
    assert row(world, with_sidecar)["integrity"] == "unverified"
    assert row(world, bare)["integrity"] == "etag_verified"
    assert row(world, with_sidecar)["verified_etag"] is None


def test_recorded_integrity_stays_while_nothing_changes(world: World) -> None:
    """Even if the source only changes the last-modified time, and if another mode would be used."""
    [key] = world.publish(["BTCUSDT"], [DAY])
    sync(world)
    before = row(world, key)
    assert sync(world) == 0
    assert row(world, key) == before
    time.sleep(1.1)  # listings show whole seconds
    world.put(key, body_of(key, 1, 400))
    assert sync(world, SyncMode.DIRECT) == 0
    touched = row(world, key)
    assert touched["source_last_modified"] > before["source_last_modified"]
    assert (
        touched
        | {name: before[name] for name in touched if name.endswith("source_last_modified")}
        | {name: before[name] for name in ("sidecar_last_modified", "seen_at")}
        == before
    )


def test_a_rewritten_object_is_unverified_until_it_is_read_again(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY])
    sync(world)
    former = row(world, key)
    world.put(key, body_of(key, 2, 400))
    sync(world, SyncMode.DIRECT)
    now = row(world, key)
    assert (now["integrity"], now["sha256"], now["verified_etag"]) == ("unverified", None, None)
    assert now["former_sha256"] == former["sha256"]


def test_an_object_rewritten_without_its_sidecar_is_a_mismatch(world: World) -> None:
    """The exchange did not update the sidecar: the old one is still recorded, and does not match."""
    [key] = world.publish(["BTCUSDT"], [DAY])
    sync(world)
    world.put(key, body_of(key, 2, 400), sidecar=False)
    assert sync(world) == 1
    now = row(world, key)
    assert (now["integrity"], now["copy_differs"]) == ("mismatch", False)
    assert sync(world) == 0
    assert row(world, key) == now


def test_a_new_sidecar_makes_an_unread_object_unverified_again(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY], sidecars=False)
    sync(world, SyncMode.DIRECT)
    assert row(world, key)["integrity"] == "etag_verified"
    world.put(f"{key}.CHECKSUM", f"{OTHER}  {key.rsplit('/', 1)[1]}\n".encode(), sidecar=False)
    assert sync(world, SyncMode.DIRECT) == 0
    assert row(world, key)["integrity"] == "unverified"


def test_a_withdrawn_sidecar_does_not_change_the_recorded_integrity(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY])
    sync(world)
    before = row(world, key)
    world._upstream.delete_object(Bucket=world.source.name, Key=f"{key}.CHECKSUM")
    assert sync(world) == 0
    after = row(world, key)
    updated = {"sidecar_withdrawn": True, "seen_at": after["seen_at"]}
    assert after == before | updated
    assert sync(world) == 0
    assert row(world, key) == after


def test_a_sidecar_of_ten_megabytes_is_copied_and_not_used(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], [DAY], sidecars=False)
    huge = hashlib.sha256(body_of(key, 1, 400)).hexdigest().encode() + b" " * 10_000_000
    world.put(f"{key}.CHECKSUM", huge, sidecar=False)
    report = world.engine(part_bytes=5 * 1024**2).sync(scope(world.entry(), DAY), mode=SyncMode.RELAY)
    assert report.total("sidecars_copied") == 1
    now = row(world, key)
    assert (now["integrity"], now["integrity_note"]) == ("etag_verified", "the sidecar has more than 4096 bytes")
