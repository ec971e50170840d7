"""What another run writes into the lake meanwhile is neither taken for this run's copy nor lost."""

from __future__ import annotations

import hashlib
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.lake.digests import LakeEtags
from lakehouse_assets.lake.report import PeriodState
from lakehouse_assets.sync.integrity.verify import Verifier
from lakehouse_assets.sync.progress import OnProgress, Progress, Stage
from lakehouse_assets_tests.faults.listings import Edited, without
from lakehouse_assets_tests.faults.proxy import LISTS, Answer, Forward, Meanwhile, Proxy, Request, Rule, refusal
from lakehouse_assets_tests.faults.trial import through
from lakehouse_assets_tests.world import World, body_of, days, scope

MIB = 1024**2
LARGE: dict[str, Any] = {"part_bytes": 5 * MIB, "large_bytes": MIB}
MODES = [SyncMode.DIRECT, SyncMode.RELAY, SyncMode.STAGED]


def md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def place(key: str) -> str:
    return f"archive/binance/{key}"


def once_moved(happens: Any) -> OnProgress:
    """Once, when all files are moved and the lake is not listed again yet."""
    left = [happens]

    def on_progress(progress: Progress) -> None:
        if progress.stage is Stage.MOVING and progress.files_done == progress.files_total and left:
            left.pop()()

    return on_progress


def assert_as_published(world: World, key: str, version: int = 1, size: int = 400) -> None:
    body = body_of(key, version, size)
    assert world.lake_body(place(key)) == body
    row = world.manifest().read(()).row(by_predicate=pl.col("key") == key, named=True)
    assert (row["state"], row["source_etag"]) == ("present", md5(body))
    assert row["lake_etag"] == world.lake_files(place(key))[place(key)][0].strip('"')
    assert row["integrity"] in {"verified", "etag_verified", "unverified"}
    assert row["verified_etag"] in {row["lake_etag"], None}


def assert_kept(world: World, body: bytes) -> None:
    kept = world.lake_files("_superseded/")
    assert md5(body) in {etag.strip('"') for etag, _modified in kept.values()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("last", "rewritten"),
    [("2024-03-01", False), ("2024-03-01", True), ("2024-03-03", False)],
    ids=["single", "rewritten", "many"],
)
@pytest.mark.parametrize("sidecars", [True, False], ids=["sidecars", "bare"])
def test_a_late_write_of_the_same_size_is_not_taken_for_the_copy(
    world: World, mode: SyncMode, last: str, rewritten: bool, sidecars: bool
) -> None:
    keys = world.publish(["BTCUSDT"], days("2024-03-01", last), sidecars=sidecars)
    asked = scope(world.entry(), "2024-03-01", last)
    if rewritten:
        world.engine().sync(asked, mode=mode)
        world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=sidecars, version=2)
    late = body_of(keys[0], 9, 400)
    report = world.engine().sync(
        asked, mode=mode, on_progress=once_moved(lambda: world.overwrite_in_lake(place(keys[0]), late))
    )
    assert {period.state for period in report.periods} == {PeriodState.COMPLETE}
    for key in keys:
        assert_as_published(world, key, 2 if rewritten else 1)
    assert_kept(world, late)
    assert world.engine().sync(asked).total("copied") == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_late_write_of_a_sidecar_is_not_taken_for_the_copy(world: World, mode: SyncMode) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"])
    asked = scope(world.entry(), "2024-03-01")
    late = f"{'0' * 64}  {key.rsplit('/', 1)[1]}\n".encode()
    sidecar = f"{place(key)}.CHECKSUM"
    world.engine().sync(asked, mode=mode, on_progress=once_moved(lambda: world.overwrite_in_lake(sidecar, late)))
    assert world.lake_body(sidecar).startswith(hashlib.sha256(body_of(key, 1, 400)).hexdigest().encode())
    assert Verifier(world.source, world.lake).verify(asked.entry.dataset, asked.names).complaints == ()


@pytest.mark.parametrize(
    ("mode", "size", "operation", "replaces"),
    [
        (SyncMode.RELAY, 400, "PutObject", False),
        (SyncMode.RELAY, 400, "PutObject", True),
        (SyncMode.STAGED, 400, "PutObject", False),
        (SyncMode.STAGED, 400, "PutObject", True),
        (SyncMode.RELAY, 6 * MIB, "CompleteMultipartUpload", False),
        (SyncMode.RELAY, 6 * MIB, "CompleteMultipartUpload", True),
        (SyncMode.STAGED, 6 * MIB, "CompleteMultipartUpload", True),
        (SyncMode.DIRECT, 6 * MIB, "CompleteMultipartUpload", True),
        # s5cmd knows no conditions, so what it copies can only be looked at afterwards.
        (SyncMode.DIRECT, 400, "CopyObject", True),
    ],
)
def test_what_another_run_has_written_meanwhile_is_not_overwritten(
    world: World, mode: SyncMode, size: int, operation: str, replaces: bool
) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"], size=size, sidecars=False)
    asked = scope(world.entry(), "2024-03-01")
    if replaces:
        world.engine().sync(asked)
        world.publish(["BTCUSDT"], ["2024-03-01"], size=size, sidecars=False, version=2)
    others = body_of(key, 9, 500)
    rule = Rule(
        Meanwhile(lambda: world.overwrite_in_lake(place(key), others)),
        (operation,),
        world.lake.key(place(key)),
        whole_key=True,
        most=1,
    )
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        report = through(world, proxy).engine(**LARGE).sync(asked, mode=mode)
    assert rule.struck == 1
    assert report.periods[0].state is PeriodState.COMPLETE
    assert_as_published(world, key, 2 if replaces else 1, size)
    assert_kept(world, others)


def test_a_file_that_others_write_again_and_again_has_failed_and_the_next_run_brings_it(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=False)
    asked = scope(world.entry(), "2024-03-01")
    versions = iter(range(10, 20))
    rule = Rule(
        Meanwhile(lambda: world.overwrite_in_lake(place(key), body_of(key, next(versions), 400))),
        ("PutObject",),
        world.lake.key(place(key)),
        whole_key=True,
    )
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        report = through(world, proxy).engine().sync(asked, mode=SyncMode.RELAY)
    assert rule.struck == 3
    [failure] = report.periods[0].failures
    assert failure.reason == "Overtaken: another run has changed the object in the lake meanwhile"
    assert world.engine().sync(asked).total("copied") == 1
    assert_as_published(world, key)
    for version in range(10, 13):
        assert_kept(world, body_of(key, version, 400))


@pytest.mark.parametrize("read", [True, False], ids=["read", "unread"])
@pytest.mark.parametrize("sidecars", [True, False], ids=["sidecars", "bare"])
def test_a_row_that_was_wrong_before_is_found_by_every_look(world: World, read: bool, sidecars: bool) -> None:
    """As a former version recorded it: the lake's bytes are others than the source's, and the row says present."""
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=sidecars)
    asked = scope(world.entry(), "2024-03-01")
    world.engine().sync(asked, mode=SyncMode.DIRECT)
    others = body_of(key, 9, 400)
    world.overwrite_in_lake(place(key), others)
    wrong: dict[str, Any] = {"lake_etag": md5(others), "integrity": "etag_verified"}
    if read:
        wrong |= {"md5": md5(others), "sha256": hashlib.sha256(others).hexdigest(), "verified_etag": md5(others)}
    world.manifest().replace(asked.names, lambda rows: rows.with_columns(**_literals(wrong)), run_id=None)

    assert world.engine().plan(asked).summary().changed == 1
    assert world.engine().check(asked).periods[0].state is PeriodState.INCOMPLETE
    [complaint] = Verifier(world.source, world.lake).verify(asked.entry.dataset, asked.names).complaints
    assert complaint.copy_differs
    world.manifest().replace(asked.names, lambda rows: rows.with_columns(**_literals(wrong)), run_id=None)
    assert world.engine().sync(asked, mode=SyncMode.DIRECT).total("copied") == 1
    assert_as_published(world, key)
    assert_kept(world, others)


def _literals(values: dict[str, str]) -> dict[str, pl.Expr]:
    return {name: pl.lit(value) for name, value in values.items()}


def test_a_lake_whose_etags_are_no_md5_sums_contradicts_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with KMS: an ETag that looks like another MD5 sum says nothing there."""
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=False)
    asked = scope(world.entry(), "2024-03-01")
    monkeypatch.setattr(LakeEtags, "are_md5", lambda *_: False)
    late = body_of(key, 9, 400)
    report = world.engine().sync(
        asked,
        mode=SyncMode.DIRECT,
        on_progress=once_moved(lambda: world.overwrite_in_lake(place(key), late)),
    )
    assert report.total("copied") == 1
    assert world.engine().sync(asked).total("copied") == 0
    assert set(world.manifest().read(())["integrity"]) == {"unverified"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("times", [1, 2])
def test_what_the_lake_s_listing_lacks_and_the_lake_still_has_is_not_overwritten(
    world: World, mode: SyncMode, times: int
) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=False)
    asked = scope(world.entry(), "2024-03-01")
    world.engine().sync(asked)
    world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=False, version=2)
    rule = Rule(Edited(without("<Key>"), world.lake.key("archive/")), LISTS)
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        for _ in range(times):
            report = through(world, proxy).engine().sync(asked, mode=mode)
            assert report.periods[0].state is PeriodState.INCOMPLETE
    assert world.lake_body(place(key)) == body_of(key, 1, 400)
    assert world.engine().sync(asked).total("copied") == 1
    assert_as_published(world, key, 2)
    assert_kept(world, body_of(key, 1, 400))


class _KnowsNoConditions:
    """A store that answers 501 to a write with a condition on what is there."""

    async def strike(self, request: Request, forward: Forward) -> Answer:
        if request.header("if-match") or request.header("if-none-match"):
            return refusal(501, "NotImplemented")
        return await forward(request)


@pytest.mark.parametrize(
    ("mode", "size", "operation", "conditional"),
    [
        (SyncMode.DIRECT, 400, "CopyObject", True),
        (SyncMode.DIRECT, 400, "CopyObject", False),
        (SyncMode.DIRECT, 6 * MIB, "CompleteMultipartUpload", True),
        (SyncMode.RELAY, 400, "PutObject", True),
        (SyncMode.RELAY, 400, "PutObject", False),
        (SyncMode.RELAY, 6 * MIB, "CompleteMultipartUpload", True),
        (SyncMode.STAGED, 400, "PutObject", True),
        (SyncMode.STAGED, 400, "PutObject", False),
        (SyncMode.STAGED, 6 * MIB, "CompleteMultipartUpload", True),
    ],
)
def test_a_store_that_knows_no_conditions_there_gets_writes_without_them(
    world: World, mode: SyncMode, size: int, operation: str, conditional: bool
) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"], size=size, sidecars=False)
    asked = scope(world.entry(), "2024-03-01")
    world.engine().sync(asked)
    world.publish(["BTCUSDT"], ["2024-03-01"], size=size, sidecars=False, version=2)
    place_ = world.lake.key("archive/")
    with Proxy(world.store.endpoint_url, Rule(_KnowsNoConditions(), (operation,), place_)).running() as proxy:
        report = through(world, proxy).engine(**LARGE, conditional=conditional).sync(asked, mode=mode)
    assert report.total("copied") == 1
    assert_as_published(world, key, 2, size)
    [kept] = world.manifest().read(())["superseded_key"]
    assert world.lake_body(kept) == body_of(key, 1, size)


def test_a_proof_is_read_from_the_next_file_where_the_smallest_is_gone(world: World) -> None:
    world.overwrite_in_lake("there", b"body")
    files = pl.DataFrame(
        [("gone", md5(b""), 0), ("there", md5(b"body"), 4)], schema=["place", "etag", "size"], orient="row"
    )
    etags = LakeEtags(world.lake)
    assert etags.are_md5(files)
    assert not etags.are_md5(files.head(1))


def test_integrity_is_not_carried_to_another_etag_of_the_source(world: World) -> None:
    """The lake's ETag, of a multipart upload, stays: what was found of it was found beside another content."""
    world.publish(["BTCUSDT"], ["2024-03-01"], size=6 * MIB)
    asked = scope(world.entry(), "2024-03-01")
    world.engine(**LARGE).sync(asked, mode=SyncMode.RELAY)
    assert world.manifest().read(())["integrity"].to_list() == ["verified"]
    world.manifest().replace(asked.names, lambda rows: rows.with_columns(source_etag=pl.lit("0" * 32)), run_id=None)
    assert world.engine(**LARGE).sync(asked).total("copied") == 0
    assert world.manifest().read(())["integrity"].to_list() == ["unverified"]
    Verifier(world.source, world.lake).verify(asked.entry.dataset, asked.names)
    assert world.manifest().read(())["integrity"].to_list() == ["verified"]
