"""The engine against a real store: what is copied, what is kept, what is reported."""

from __future__ import annotations

import time

import polars as pl
import pytest

from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.errors import InputError, StoreError
from lakehouse_assets.lake.report import NOT_COPIED, PeriodState
from lakehouse_assets.sync.progress import Progress, Stage
from lakehouse_assets_tests.world import World, body_of, days, scope

WEEK = ("2024-03-01", "2024-03-07")


@pytest.mark.parametrize("mode", list(SyncMode))
def test_a_sync_copies_every_object_and_its_sidecar_verbatim(world: World, mode: SyncMode) -> None:
    keys = world.publish(["BTCUSDT", "币安USDT"], days(*WEEK))
    report = world.engine().sync(scope(world.entry(), *WEEK), mode=mode)

    assert [period.state for period in report.periods] == [PeriodState.COMPLETE] * 7
    assert (report.total("copied"), report.total("sidecars_copied")) == (14, 14)
    assert report.copied_by_mode == {"direct" if mode is SyncMode.AUTO else mode.value: 14}
    for key in keys:
        assert world.lake_body(f"archive/binance/{key}") == body_of(key, 1, 400)
    assert len(world.lake_files("archive/")) == 28


def test_a_direct_copy_saves_four_of_five_operations_per_file_and_a_staged_one_none(world: World) -> None:
    world.publish(["BTCUSDT"], days(*WEEK))
    direct = world.engine().sync(scope(world.entry(), "2024-03-01", "2024-03-03"), mode=SyncMode.DIRECT)
    staged = world.engine().sync(scope(world.entry(), "2024-03-04", "2024-03-07"), mode=SyncMode.STAGED)
    assert direct.total("operations_saved") == 3 * 2 * 4
    assert staged.total("operations_saved") == 0


def test_a_second_sync_copies_nothing_and_commits_nothing(world: World) -> None:
    world.publish(["BTCUSDT", "ETHUSDT"], days(*WEEK))
    world.engine().sync(scope(world.entry(), *WEEK))
    before = world.lake_files()
    report = world.engine().sync(scope(world.entry(), *WEEK))
    assert (report.total("copied"), report.total("skipped"), report.total("present")) == (0, 14, 14)
    assert world.lake_files() == before


def test_a_rewritten_object_of_the_same_size_is_copied_again_and_its_former_bytes_are_preserved(world: World) -> None:
    [key, *_others] = world.publish(["BTCUSDT", "ETHUSDT"], days(*WEEK))
    world.engine().sync(scope(world.entry(), *WEEK))
    before = world.lake_files("archive/")
    former_etag = before[f"archive/binance/{key}"][0].strip('"')
    world.put(key, body_of(key, 2, 400))

    report = world.engine().sync(scope(world.entry(), *WEEK), run_id="second")

    assert (report.total("copied"), report.total("sidecars_copied")) == (1, 1)
    assert world.lake_body(f"archive/binance/{key}") == body_of(key, 2, 400)
    row = world.manifest().read(["2024-03-01"]).row(by_predicate=pl.col("key") == key, named=True)
    assert row["former_etag"] == former_etag
    assert world.lake_body(row["superseded_key"]) == body_of(key, 1, 400)
    changed = {name for name, seen in world.lake_files("archive/").items() if before[name] != seen}
    assert changed == {f"archive/binance/{key}", f"archive/binance/{key}.CHECKSUM"}
    assert world.engine().sync(scope(world.entry(), *WEEK)).total("copied") == 0


def test_a_versioned_bucket_preserves_the_former_bytes_itself(world: World) -> None:
    client = world.store.admin_bucket("lake").boto3_client()
    client.create_bucket(Bucket=f"versioned-{world.tag.lower()}")
    world.lake = type(world.lake)(world.store.admin_bucket(f"versioned-{world.tag.lower()}"))
    name = world.lake.bucket.name
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"])
    world.engine().sync(scope(world.entry(), "2024-03-01"))
    world.put(key, body_of(key, 2, 400))
    assert world.engine().sync(scope(world.entry(), "2024-03-01")).total("copied") == 1
    assert world.lake_files("_superseded/") == {}
    versions = client.list_object_versions(Bucket=name, Prefix=f"archive/binance/{key}")["Versions"]
    assert len([version for version in versions if not version["Key"].endswith(".CHECKSUM")]) == 2


def test_an_object_with_only_a_new_last_modified_is_not_copied_but_the_time_is_recorded(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"])
    world.engine().sync(scope(world.entry(), "2024-03-01"))
    [before] = world.manifest().read(["2024-03-01"])["source_last_modified"]
    time.sleep(1.1)  # listings show whole seconds
    world.put(key, body_of(key, 1, 400))
    assert world.engine().sync(scope(world.entry(), "2024-03-01")).total("copied") == 0
    [after] = world.manifest().read(["2024-03-01"])["source_last_modified"]
    assert after > before


def test_a_withdrawn_object_is_kept_and_marked(world: World) -> None:
    [key, *_others] = world.publish(["BTCUSDT", "ETHUSDT"], ["2024-03-01"])
    world.engine().sync(scope(world.entry(), "2024-03-01"))
    world.withdraw(key)
    report = world.engine().sync(scope(world.entry(), "2024-03-01"))
    [period] = report.periods
    assert (period.state, period.expected, period.withdrawn) == (PeriodState.COMPLETE, 1, 1)
    assert world.lake_body(f"archive/binance/{key}") == body_of(key, 1, 400)
    states = dict(world.manifest().read(["2024-03-01"]).select("key", "state").iter_rows())
    assert states[key] == "vanished"


def test_a_withdrawn_symbol_is_still_read_from_the_manifest(world: World) -> None:
    for key in world.publish(["BTCUSDT"], ["2024-03-01"]):
        world.engine().sync(scope(world.entry(), "2024-03-01"))
        world.withdraw(key)
    [period] = world.engine().sync(scope(world.entry(), "2024-03-01")).periods
    assert (period.state, period.withdrawn) == (PeriodState.COMPLETE, 1)


def test_a_replaced_lake_copy_is_restored_and_the_replacement_is_preserved(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"])
    world.engine().sync(scope(world.entry(), "2024-03-01"))
    world.overwrite_in_lake(f"archive/binance/{key}", b"not what the exchange published")
    assert world.engine().sync(scope(world.entry(), "2024-03-01")).total("copied") == 1
    assert world.lake_body(f"archive/binance/{key}") == body_of(key, 1, 400)
    [kept] = world.lake_files("_superseded/")
    assert world.lake_body(kept) == b"not what the exchange published"


def test_a_deleted_lake_copy_is_copied_again(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"])
    world.engine().sync(scope(world.entry(), "2024-03-01"))
    world.delete_in_lake(f"archive/binance/{key}.CHECKSUM")
    report = world.engine().check(scope(world.entry(), "2024-03-01"))
    assert report.periods[0].state is PeriodState.INCOMPLETE
    assert report.periods[0].failures[0].key == f"{key}.CHECKSUM"
    report = world.engine().sync(scope(world.entry(), "2024-03-01"))
    assert (report.total("copied"), report.total("sidecars_copied")) == (0, 1)


def test_an_existing_mirror_without_a_manifest_is_adopted_without_a_copy(world: World) -> None:
    world.publish(["BTCUSDT"], days(*WEEK))
    world.engine().sync(scope(world.entry(), *WEEK))
    for key in world.lake_files("_manifest/"):
        world.delete_in_lake(key)
    report = world.engine().sync(scope(world.entry(), *WEEK))
    assert (report.total("copied"), report.total("present")) == (0, 7)
    assert set(world.manifest().read(())["mode"]) == {"adopted"}


def test_an_unpublished_period_is_neither_complete_nor_failed(world: World) -> None:
    world.publish(["BTCUSDT"], ["2024-03-01"])
    report = world.engine().sync(scope(world.entry(), "2024-03-01", "2024-03-02"))
    assert [period.state for period in report.periods] == [PeriodState.COMPLETE, PeriodState.NOT_PUBLISHED]


def test_a_partial_sync_copies_one_symbol_and_reports_completeness_over_all_symbols(world: World) -> None:
    world.publish(["BTCUSDT", "ETHUSDT"], ["2024-03-01"], intervals=["1m", "1h"])
    entry = world.entry(intervals=["1m", "1h"])
    btc = world.symbol("BTCUSDT")
    report = world.engine().sync(scope(entry, "2024-03-01", symbols=(btc,), intervals=("1m",)))
    [period] = report.periods
    assert (period.state, period.copied, period.expected) == (PeriodState.INCOMPLETE, 1, 4)
    assert period.failed == 0
    assert period.partial
    assert {failure.code for failure in period.failures} == {NOT_COPIED}
    rest = world.engine().sync(scope(entry, "2024-03-01"))
    assert (rest.periods[0].state, rest.total("copied")) == (PeriodState.COMPLETE, 3)


def test_symbols_outside_the_filter_and_sibling_symbols_are_not_copied(world: World) -> None:
    world.publish(["BTCUSDT", "BTCUSDT_240329"], ["2024-03-01"])
    entry = world.entry(symbols={"include": [world.symbol("BTCUSDT")]})
    report = world.engine().sync(scope(entry, "2024-03-01"))
    assert report.total("copied") == 1
    assert not [key for key in world.lake_files("archive/") if "_240329" in key]


def test_a_failure_has_the_code_of_its_own_fault(world: World) -> None:
    plain, beside = world.publish(["AUSDT", "BUSDT"], ["2024-03-01"])
    sidecar = world.exchange.sidecar_of(beside)
    with world.refused_writes(plain, sidecar):
        report = world.engine().sync(scope(world.entry(), "2024-03-01"), mode=SyncMode.DIRECT)
    codes = {failure.key: failure.code for failure in report.periods[0].failures}
    assert codes == {plain: "AccessDenied", sidecar: "AccessDenied"}


def test_a_missing_sidecar_upstream_does_not_make_a_period_incomplete(world: World) -> None:
    world.publish(["BTCUSDT"], ["2024-03-01"], sidecars=False)
    [period] = world.engine().sync(scope(world.entry(), "2024-03-01")).periods
    assert (period.state, period.sidecars_copied) == (PeriodState.COMPLETE, 0)


def test_unrecognized_keys_are_not_copied(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-03-01"])
    folder = key.rsplit("/", 1)[0]
    world.put(f"{folder}/part-00000-0fae7358.zip", b"spark", sidecar=False)
    world.put(f"{folder}/odd\nname.zip", b"odd", sidecar=False)
    report = world.engine().sync(scope(world.entry(), "2024-02-01", "2024-03-31"))
    assert report.total("copied") == 1
    assert len(world.lake_files("archive/")) == 2


def test_a_plan_writes_nothing_and_counts_what_a_sync_would_copy(world: World) -> None:
    world.publish(["BTCUSDT"], days(*WEEK))
    plan = world.engine().plan(scope(world.entry(), *WEEK))
    summary = plan.summary()
    assert (summary.objects, summary.sidecars, summary.missing, summary.present) == (7, 7, 7, 0)
    assert summary.bytes == sum(plan.copies()["size"]) > 7 * 400
    assert world.lake_files() == {}


def test_progress_counts_every_file_once(world: World) -> None:
    world.publish(["BTCUSDT"], days(*WEEK))
    seen: list[Progress] = []
    world.engine().sync(scope(world.entry(), *WEEK), on_progress=seen.append)
    moving = [progress.files_done for progress in seen if progress.stage is Stage.MOVING]
    assert moving == list(range(1, 15))
    assert [p.stage for p in seen if p.stage is not Stage.MOVING] == [
        Stage.LISTING, Stage.LISTED, Stage.MOVED, Stage.COMMITTING, Stage.COMMITTED,
    ]  # fmt: skip


def test_a_lake_that_refuses_writes_fails_every_object_by_name(world: World) -> None:
    world.publish(["BTCUSDT"], ["2024-03-01"])
    bucket = world.store.admin_bucket(world.source.name).boto3_client()
    forbidden = f"readonly-{world.tag.lower()}"
    bucket.create_bucket(Bucket=forbidden)
    world.lake = type(world.lake)(world.lake.bucket.with_name(forbidden))
    with pytest.raises(StoreError, match="AccessDenied"):
        world.engine().sync(scope(world.entry(), "2024-03-01"))


def test_an_unknown_symbol_or_interval_is_refused_before_anything_is_listed(world: World) -> None:
    world.publish(["BTCUSDT"], ["2024-03-01"])
    with pytest.raises(InputError, match="not collected at interval '5m'"):
        scope(world.entry(), "2024-03-01", intervals=("5m",))
    with pytest.raises(InputError, match="does not select the symbol 'XYZ'"):
        scope(world.entry(), "2024-03-01", symbols=("XYZ",))
    with pytest.raises(InputError, match="has no symbol"):
        world.engine().sync(scope(world.entry(), "2024-03-01", symbols=(world.symbol("NOPE"),)))


def test_direct_between_two_endpoints_is_refused_and_auto_relays(world: World) -> None:
    world.publish(["BTCUSDT"], ["2024-03-01"])
    elsewhere = world.source.endpoint_url.replace("127.0.0.1", "localhost")
    source = type(world.source)(name=world.source.name, endpoint_url=elsewhere, anonymous=True)
    with pytest.raises(InputError, match="Mode direct needs source and lake at one endpoint"):
        world.engine(source).sync(scope(world.entry(), "2024-03-01"), mode=SyncMode.DIRECT)
    report = world.engine(source).sync(scope(world.entry(), "2024-03-01"), mode=SyncMode.AUTO)
    assert report.copied_by_mode == {"relay": 1}
