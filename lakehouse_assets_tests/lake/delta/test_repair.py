"""Damaged tables: readers name the remedy, and the rebuild command works without the right to delete."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import polars as pl
import pytest

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.errors import DamagedError, StoreError
from lakehouse_assets.lake.catalog_store import read_symbols
from lakehouse_assets.lake.coverage import coverage
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest_cache import ManifestCache
from lakehouse_assets.lake.manifest_stats import ManifestStats
from lakehouse_assets.lake.period_metrics import period_metrics
from lakehouse_assets.lake.sync_log import SYNC_LOG_TABLE, read_sync_log, rebuild_sync_log
from lakehouse_assets.sync.adopt import rebuild_manifest
from lakehouse_assets.sync.engine import Engine
from lakehouse_assets.sync.integrity.verify import Verifier
from lakehouse_assets.sync.movers.diagnostics import Health, check_records
from lakehouse_assets.tables.delta import open_table
from lakehouse_assets_tests.faults.listings import edited, html
from lakehouse_assets_tests.faults.proxy import READS, Proxy, Refusal, Rule
from lakehouse_assets_tests.faults.trial import through
from lakehouse_assets_tests.world import KLINES, World, days, scope

DATASET = Dataset.parse(KLINES)
PLACE = DATASET.manifest_prefix
WEEK = days("2024-02-28", "2024-03-02")
COMMAND = "lakehouse rebuild-manifests binance/um/klines/daily"


def log_of(world: World, place: str = PLACE) -> list[str]:
    return sorted(key for key in world.lake_files(f"{place}/_delta_log/") if key.endswith(".json"))


def files_of(world: World) -> list[str]:
    return sorted(key for key in world.lake_files(f"{PLACE}/month=") if key.endswith(".parquet"))


def checkpoint(world: World) -> str:
    table = world.manifest().table()
    assert table is not None
    table.create_checkpoint()
    [key] = [key for key in world.lake_files(f"{PLACE}/_delta_log/") if key.endswith(".checkpoint.parquet")]
    return key


def hint(world: World, body: bytes) -> None:
    world.overwrite_in_lake(f"{PLACE}/_delta_log/_last_checkpoint", body)


def of_another_kind() -> bytes:
    """A readable file with our column names and other types."""
    body = io.BytesIO()
    pl.DataFrame({"key": [1, 2], "size": ["small", "large"]}).write_parquet(body)
    return body.getvalue()


LOG_DAMAGES: dict[str, Callable[[World], object]] = {
    "a commit is gone": lambda world: world.delete_in_lake(log_of(world)[1]),
    "the first commit is gone": lambda world: world.delete_in_lake(log_of(world)[0]),
    "a commit is garbled": lambda world: world.overwrite_in_lake(log_of(world)[1], b"\x00no commit{"),
    "the last commit is cut": lambda world: world.overwrite_in_lake(
        log_of(world)[-1], world.lake_body(log_of(world)[-1])[:200]
    ),
    "a checkpoint is gone": lambda world: world.delete_in_lake(checkpoint(world)),
    "a checkpoint is garbled": lambda world: world.overwrite_in_lake(checkpoint(world), b"PAR1"),
    "the hint lies": lambda world: hint(world, json.dumps({"version": 99, "size": 3}).encode()),
}
FILE_DAMAGES: dict[str, Callable[[World], object]] = {
    "rows are gone": lambda world: world.delete_in_lake(files_of(world)[-1]),
    "rows are of another kind": lambda world: world.overwrite_in_lake(files_of(world)[-1], of_another_kind()),
    "rows are garbled": lambda world: world.overwrite_in_lake(files_of(world)[-1], b"PAR1" + b"x" * 500 + b"PAR1"),
}


@pytest.fixture
def synced(world: World) -> World:
    """Four days, copied by two runs and one of them verified; so the manifest has facts that no listing has."""
    world.publish(["BTCUSDT", "ETHUSDT"], WEEK)
    world.engine().sync(scope(world.entry(), WEEK[0], WEEK[1]), mode=SyncMode.RELAY, run_id="one")
    world.engine().sync(scope(world.entry(), WEEK[2], WEEK[3]), mode=SyncMode.DIRECT, run_id="two")
    return world


@pytest.mark.parametrize("damage", LOG_DAMAGES | FILE_DAMAGES)
def test_a_damaged_manifest_is_rebuilt_from_its_readable_files(synced: World, damage: str) -> None:
    before = synced.manifest().read(())
    files = set(synced.lake_files("_manifest/"))
    (LOG_DAMAGES | FILE_DAMAGES)[damage](synced)
    with pytest.raises(DamagedError, match=f"{COMMAND}.$"):
        synced.engine().sync(scope(synced.entry(), WEEK[0], WEEK[-1]))
    assert rebuild_manifest(synced.lake, synced.entry()) == before.height
    after = synced.manifest().read(())
    if damage in LOG_DAMAGES:
        assert after.equals(before)
    else:
        assert after["key"].equals(before["key"])
        assert set(after["mode"]) == {"relay", "rebuilt"}
    gone = files - set(synced.lake_files("_manifest/"))
    assert len(gone) <= 1, "whoever rebuilds deletes nothing"
    assert rebuild_manifest(synced.lake, synced.entry()) == 0
    report = synced.engine().sync(scope(synced.entry(), WEEK[0], WEEK[-1]))
    assert (report.total("copied"), report.total("present")) == (0, before.height)
    assert synced.manifest().read(())["source_etag"].null_count() == 0


def test_an_invalid_listing_is_not_taken_for_a_missing_table(synced: World) -> None:
    with edited(synced.lake.bucket, html, below=synced.lake.key("_manifest/")) as bucket:
        lake = Lake(bucket, synced.lake.prefix.strip("/"))
        for look in (
            lambda: coverage(lake, DATASET),
            lambda: read_sync_log(lake),
            lambda: open_table(lake, PLACE),
            lambda: Engine(synced.source, lake).plan(scope(synced.entry(), WEEK[0])),
        ):
            with pytest.raises(StoreError, match="NotAListing"):
                look()


def test_a_rebuild_from_an_invalid_listing_restarts_nothing(synced: World) -> None:
    before = synced.manifest().read(())
    log = log_of(synced)
    body = synced.lake_body(log[1])
    synced.delete_in_lake(log[1])
    with edited(synced.lake.bucket, html, below=synced.lake.key(PLACE)) as bucket:
        lake = Lake(bucket, synced.lake.prefix.strip("/"))
        with pytest.raises(StoreError, match="NotAListing"):
            rebuild_manifest(lake, synced.entry())
    synced.overwrite_in_lake(log[1], body)
    assert log_of(synced) == log
    assert synced.manifest().read(()).equals(before)


def test_every_reader_of_a_damaged_manifest_names_the_rebuild_command(synced: World) -> None:
    [march] = [key for key in files_of(synced) if "2024-03" in key]
    synced.overwrite_in_lake(march, b"no rows")
    for look in (
        lambda: coverage(synced.lake, DATASET),
        lambda: ManifestStats(synced.lake).of(DATASET),
        lambda: ManifestCache().known(synced.manifest()),
        lambda: period_metrics(synced.lake, DATASET, since=WEEK[0]),
        lambda: Verifier(synced.source, synced.lake).verify(DATASET, WEEK),
        lambda: synced.manifest().symbols(WEEK),
        lambda: synced.manifest().replace(WEEK, lambda rows: rows, run_id=None),
    ):
        with pytest.raises(DamagedError, match=f"^Reading the manifest .* {COMMAND}.$"):
            look()


@pytest.mark.parametrize("damage", ["a commit is gone", "rows are gone", "the hint lies"])
def test_doctor_finds_a_damaged_manifest_without_reading_a_row(synced: World, damage: str) -> None:
    (LOG_DAMAGES | FILE_DAMAGES)[damage](synced)
    [finding] = check_records(synced.lake, [DATASET, Dataset.parse("binance/spot/klines/daily")])
    assert (finding.about, finding.health) == (f"lake: {PLACE}", Health.ERROR)
    assert COMMAND in finding.advice
    rebuild_manifest(synced.lake, synced.entry())
    assert [each.health for each in check_records(synced.lake, [DATASET])] == [Health.OK]


def test_a_cached_manifest_sees_the_rebuilt_one(synced: World) -> None:
    memory = ManifestCache()
    before = memory.known(synced.manifest()).complete
    LOG_DAMAGES["a checkpoint is gone"](synced)
    rebuild_manifest(synced.lake, synced.entry())
    assert memory.known(synced.manifest()).complete == before == dict.fromkeys(WEEK, 2)


def test_a_row_is_recovered_only_for_the_content_in_the_lake(synced: World) -> None:
    key = synced.key("BTCUSDT", WEEK[0])
    synced.overwrite_in_lake(DATASET.lake_key(key), b"other bytes")
    LOG_DAMAGES["a commit is gone"](synced)
    rebuild_manifest(synced.lake, synced.entry())
    row = synced.manifest().read(()).row(by_predicate=pl.col("key") == key, named=True)
    assert (row["mode"], row["source_etag"], row["sha256"]) == ("rebuilt", None, None)


@pytest.mark.parametrize("refusal", [Refusal(403, "AccessDenied"), Refusal(503, "SlowDown"), Refusal(500, "")])
def test_a_lake_that_refuses_is_not_taken_for_a_damaged_manifest(synced: World, refusal: Refusal) -> None:
    before = synced.lake_files("_manifest/")
    with Proxy(synced.store.endpoint_url, Rule(refusal, READS, PLACE)).running() as proxy:
        faulty = through(synced, proxy, max_attempts=1)
        with pytest.raises(StoreError) as refused:
            rebuild_manifest(faulty.lake, synced.entry())
    assert not isinstance(refused.value, DamagedError)
    assert synced.lake_files("_manifest/") == before


def test_a_damaged_sync_log_is_rebuilt_from_its_files(synced: World) -> None:
    before = read_sync_log(synced.lake)
    synced.delete_in_lake(log_of(synced, SYNC_LOG_TABLE)[0])
    [finding] = check_records(synced.lake, [DATASET])
    assert (finding.health, "rebuild-manifests _syncs" in finding.advice) == (Health.WARNING, True)
    assert rebuild_sync_log(synced.lake) == before.height == 4
    assert read_sync_log(synced.lake).sort("period").equals(before.sort("period"))
    assert rebuild_sync_log(synced.lake) == 0


def test_the_remedy_depends_on_the_table(world: World) -> None:
    for place in ("_catalog/binance/symbols", "tables/binance/um/klines"):
        world.overwrite_in_lake(f"{place}/_delta_log/{0:020}.json", b"no commit")
    with pytest.raises(DamagedError, match=r"symbols failed: .*move the table away: the next run creates a new one"):
        read_symbols(world.lake, "binance")
    with pytest.raises(DamagedError, match="move it away and materialize it anew"):
        open_table(world.lake, "tables/binance/um/klines")
