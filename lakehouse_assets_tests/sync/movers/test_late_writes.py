"""Objects that another run writes into the lake meanwhile are neither recorded as this run's copies nor lost."""

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


def once_moved(action: Any) -> OnProgress:
    """A callback that runs an action once, after all files are moved and before the lake is listed again."""
    left = [action]

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
def test_a_late_write_of_the_same_size_is_not_recorded_as_the_copy(
    world: World, mode: SyncMode, last: str, rewritten: bool, sidecars: bool
) -> None:
    keys = world.publish(["BTCUSDT"], days("2024-03-01", last), sidecars=sidecars)
    requested = scope(world.entry(), "2024-03-01", last)
    if rewritten:
        world.engine().sync(requested, mode=mode)
        world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=sidecars, version=2)
    late = body_of(keys[0], 9, 400)
    report = world.engine().sync(
        requested, mode=mode, on_progress=once_moved(lambda: world.overwrite_in_lake(place(keys[0]), late))
    )
    assert {period.state for period in report.periods} == {PeriodState.COMPLETE}
    for key in keys:
        assert_as_published(world, key, 2 if rewritten else 1)
    assert_kept(world, late)
    assert world.engine().sync(requested).total("copied") == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_late_write_of_a_sidecar_is_not_recorded_as_the_copy(world: World, mode: SyncMode) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"])
    requested = scope(world.entry(), "2024-03-01")
    late = f"{'0' * 64}  {key.rsplit('/', 1)[1]}\n".encode()
    sidecar = f"{place(key)}.CHECKSUM"
    world.engine().sync(requested, mode=mode, on_progress=once_moved(lambda: world.overwrite_in_lake(sidecar, late)))
    assert world.lake_body(sidecar).startswith(hashlib.sha256(body_of(key, 1, 400)).hexdigest().encode())
    assert Verifier(world.source, world.lake).verify(requested.entry.dataset, requested.names).complaints == ()


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
        # s5cmd has no conditional copies, so its copies can only be checked afterwards.
        (SyncMode.DIRECT, 400, "CopyObject", True),
    ],
)
def test_an_object_that_another_run_writes_meanwhile_is_preserved_before_it_is_replaced(
    world: World, mode: SyncMode, size: int, operation: str, replaces: bool
) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"], size=size, sidecars=False)
    requested = scope(world.entry(), "2024-03-01")
    if replaces:
        world.engine().sync(requested)
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
        report = through(world, proxy).engine(**LARGE).sync(requested, mode=mode)
    assert rule.struck == 1
    assert report.periods[0].state is PeriodState.COMPLETE
    assert_as_published(world, key, 2 if replaces else 1, size)
    assert_kept(world, others)


def test_a_file_that_others_keep_overwriting_fails_and_the_next_run_copies_it(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=False)
    requested = scope(world.entry(), "2024-03-01")
    versions = iter(range(10, 20))
    rule = Rule(
        Meanwhile(lambda: world.overwrite_in_lake(place(key), body_of(key, next(versions), 400))),
        ("PutObject",),
        world.lake.key(place(key)),
        whole_key=True,
    )
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        report = through(world, proxy).engine().sync(requested, mode=SyncMode.RELAY)
    assert rule.struck == 3
    [failure] = report.periods[0].failures
    assert failure.reason == "Overtaken: another run has changed the object in the lake meanwhile"
    assert world.engine().sync(requested).total("copied") == 1
    assert_as_published(world, key)
    for version in range(10, 13):
        assert_kept(world, body_of(key, version, 400))


@pytest.mark.parametrize("read", [True, False], ids=["read", "unread"])
@pytest.mark.parametrize("sidecars", [True, False], ids=["sidecars", "bare"])
def test_a_wrong_manifest_row_is_detected_by_plan_check_verification_and_sync(
    world: World, read: bool, sidecars: bool
) -> None:
    """A former version recorded such rows: the lake's bytes differ from the source's, but the state is present."""
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=sidecars)
    requested = scope(world.entry(), "2024-03-01")
    world.engine().sync(requested, mode=SyncMode.DIRECT)
    others = body_of(key, 9, 400)
    world.overwrite_in_lake(place(key), others)
    wrong: dict[str, Any] = {"lake_etag": md5(others), "integrity": "etag_verified"}
    if read:
        wrong |= {"md5": md5(others), "sha256": hashlib.sha256(others).hexdigest(), "verified_etag": md5(others)}
    world.manifest().replace(requested.names, lambda rows: rows.with_columns(**_literals(wrong)), run_id=None)

    assert world.engine().plan(requested).summary().changed == 1
    assert world.engine().check(requested).periods[0].state is PeriodState.INCOMPLETE
    [complaint] = Verifier(world.source, world.lake).verify(requested.entry.dataset, requested.names).complaints
    assert complaint.copy_differs
    world.manifest().replace(requested.names, lambda rows: rows.with_columns(**_literals(wrong)), run_id=None)
    assert world.engine().sync(requested, mode=SyncMode.DIRECT).total("copied") == 1
    assert_as_published(world, key)
    assert_kept(world, others)


def _literals(values: dict[str, str]) -> dict[str, pl.Expr]:
    return {name: pl.lit(value) for name, value in values.items()}


def test_etags_that_are_not_md5_sums_are_no_evidence_of_a_difference(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With KMS, an ETag has the form of an MD5 sum without being one."""
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=False)
    requested = scope(world.entry(), "2024-03-01")
    monkeypatch.setattr(LakeEtags, "are_md5", lambda *_: False)
    late = body_of(key, 9, 400)
    report = world.engine().sync(
        requested,
        mode=SyncMode.DIRECT,
        on_progress=once_moved(lambda: world.overwrite_in_lake(place(key), late)),
    )
    assert report.total("copied") == 1
    assert world.engine().sync(requested).total("copied") == 0
    assert set(world.manifest().read(())["integrity"]) == {"unverified"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("times", [1, 2])
def test_an_object_that_is_missing_only_from_the_lake_s_listing_is_not_overwritten(
    world: World, mode: SyncMode, times: int
) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=False)
    requested = scope(world.entry(), "2024-03-01")
    world.engine().sync(requested)
    world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=False, version=2)
    rule = Rule(Edited(without("<Key>"), world.lake.key("archive/")), LISTS)
    with Proxy(world.store.endpoint_url, rule).running() as proxy:
        for _ in range(times):
            report = through(world, proxy).engine().sync(requested, mode=mode)
            assert report.periods[0].state is PeriodState.INCOMPLETE
    assert world.lake_body(place(key)) == body_of(key, 1, 400)
    assert world.engine().sync(requested).total("copied") == 1
    assert_as_published(world, key, 2)
    assert_kept(world, body_of(key, 1, 400))


class _WithoutConditions:
    """A store that answers 501 to conditional writes."""

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
def test_a_store_without_conditional_writes_gets_unconditional_ones(
    world: World, mode: SyncMode, size: int, operation: str, conditional: bool
) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"], size=size, sidecars=False)
    requested = scope(world.entry(), "2024-03-01")
    world.engine().sync(requested)
    world.publish(["BTCUSDT"], ["2024-03-01"], size=size, sidecars=False, version=2)
    archive_root = world.lake.key("archive/")
    with Proxy(world.store.endpoint_url, Rule(_WithoutConditions(), (operation,), archive_root)).running() as proxy:
        report = through(world, proxy).engine(**LARGE, conditional=conditional).sync(requested, mode=mode)
    assert report.total("copied") == 1
    assert_as_published(world, key, 2, size)
    [kept] = world.manifest().read(())["superseded_key"]
    assert world.lake_body(kept) == body_of(key, 1, size)


def test_the_next_file_is_read_if_the_smallest_is_missing(world: World) -> None:
    world.overwrite_in_lake("there", b"body")
    files = pl.DataFrame(
        [("gone", md5(b""), 0), ("there", md5(b"body"), 4)], schema=["place", "etag", "size"], orient="row"
    )
    etags = LakeEtags(world.lake)
    assert etags.are_md5(files)
    assert not etags.are_md5(files.head(1))


def test_integrity_does_not_carry_over_to_another_etag_of_the_source(world: World) -> None:
    """The lake's ETag, of a multipart upload, stays the same, but it was verified against other content."""
    world.publish(["BTCUSDT"], ["2024-03-01"], size=6 * MIB)
    requested = scope(world.entry(), "2024-03-01")
    world.engine(**LARGE).sync(requested, mode=SyncMode.RELAY)
    assert world.manifest().read(())["integrity"].to_list() == ["verified"]
    world.manifest().replace(requested.names, lambda rows: rows.with_columns(source_etag=pl.lit("0" * 32)), run_id=None)
    assert world.engine(**LARGE).sync(requested).total("copied") == 0
    assert world.manifest().read(())["integrity"].to_list() == ["unverified"]
    Verifier(world.source, world.lake).verify(requested.entry.dataset, requested.names)
    assert world.manifest().read(())["integrity"].to_list() == ["verified"]
