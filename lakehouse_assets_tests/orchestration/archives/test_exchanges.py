"""Every exchange through Dagster: a backfill of its layouts, its time zone, its limits, its way of copying."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import EXCHANGES, exchange_named
from lakehouse_assets.archive.exchanges.layout import ALL_SYMBOLS, SymbolLocation
from lakehouse_assets.archive.listing import Lister
from lakehouse_assets.archive.matrix import ArchiveMatrix, DatasetEntry
from lakehouse_assets.archive.period import period_range
from lakehouse_assets.embedded.samples.objects import contained, sample_objects
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.archives.verification import build_verification_asset
from lakehouse_assets.orchestration.discovery.sensors import build_discovery_sensors
from lakehouse_assets.orchestration.partitions import build_partitions
from lakehouse_assets.orchestration.resources import build_resources
from lakehouse_assets.settings import load_settings
from lakehouse_assets.sync.changes import newest_period, seen_by_canaries
from lakehouse_assets_tests.orchestration.conftest import Runner
from lakehouse_assets_tests.world import World

# Dataset, first and last period of a range, and the mode that moves its objects on one store.
RANGES = [
    ("bybit/derivatives/trades/daily", "2024-02-28", "2024-03-01", "direct"),
    ("gate/spot/candlesticks/daily", "2024-02-28", "2024-03-01", "direct"),
    ("gate/futures_usdt/orderbooks/daily", "2024-02-29", "2024-03-01", "direct"),
    ("bitmex/derivatives/trade/daily", "2024-02-28", "2024-03-01", "direct"),
    ("htx/futures/mark_klines/daily", "2026-02-27", "2026-03-01", "direct"),
    ("kucoin/spot/depth/daily", "2025-02-27", "2025-03-01", "relay"),
]

MakeWorld = Callable[[str], World]


@pytest.fixture
def world_of(store: EmbeddedStore) -> MakeWorld:
    return lambda name: World(store, name.split("/")[0])


def publish(world: World, entry: DatasetEntry, first: str, last: str) -> dict[str, bytes]:
    """Sample objects (and sidecars) in the source, by key."""
    dataset = entry.dataset
    nowhere = dataset.layout.symbol_location is SymbolLocation.NOWHERE
    symbols = [ALL_SYMBOLS] if nowhere else [world.symbol(name) for name in ("BTC", "ETH")]
    files = list(
        sample_objects(
            dataset,
            symbols=symbols,
            intervals=entry.intervals,
            first=dataset.period(first),
            last=dataset.period(last),
        )
    )
    for file in files:
        world.put(file.key, file.body, sidecar=False)
    return {file.key: file.body for file in files}


def entry_of(world: World, name: str) -> DatasetEntry:
    publication = Dataset.parse(name).publication
    return world.entry(name, **({"intervals": list(publication.intervals[:2])} if publication.intervals else {}))


@pytest.mark.parametrize("case", RANGES, ids=lambda case: case[0])
def test_a_backfill_copies_every_layout_into_the_lake_and_a_second_one_copies_nothing(
    world_of: MakeWorld, instance: dg.DagsterInstance, case: tuple[str, str, str, str]
) -> None:
    name, first, last, mode = case
    world = world_of(name)
    runner, entry = Runner(world, instance), entry_of(world, name)
    files = publish(world, entry, first, last)
    assert runner.run(entry, first, last).success
    periods = [str(period) for period in period_range(entry.dataset.period(first), entry.dataset.period(last))]
    assert runner.materialized(entry) == periods

    in_lake = world.lake_files("archive/")
    assert {key.removeprefix(entry.dataset.lake_root): etag.strip('"') for key, (etag, _) in in_lake.items()} == {
        key: hashlib.md5(body).hexdigest() for key, body in files.items()
    }
    suffix = entry.dataset.source.sidecar_suffix
    objects = sorted(key for key in files if not (suffix and key.endswith(suffix)))
    rows = world.manifest(name).read([])
    assert sorted(rows["key"]) == objects
    assert set(rows["state"]) == {"present"}
    assert set(rows["mode"]) == {mode}
    assert rows["sidecar_lake_etag"].null_count() == (0 if suffix else rows.height)
    assert rows.n_unique(["period", "symbol", "interval", "part"]) == rows.height

    assert runner.run(entry, first, last).success
    for period in periods:
        metadata = runner.metadata(entry, period)
        assert (metadata["objects_copied"], metadata["objects_skipped"]) == (0, len(objects) // len(periods))


def test_only_a_rewritten_hour_is_copied(world_of: MakeWorld, instance: dg.DagsterInstance) -> None:
    name = "gate/spot/orderbooks/daily"
    world = world_of(name)
    runner, entry = Runner(world, instance), entry_of(world, name)
    publish(world, entry, "2024-05-31", "2024-05-31")
    assert runner.run(entry, "2024-05-31").success
    key = entry.dataset.layout.key_of(
        symbol=world.symbol("BTC"), interval=None, period=entry.dataset.period("2024-05-31"), part="07"
    )
    world.put(key, contained(key, "rewritten\n"))
    assert runner.run(entry, "2024-05-31").success
    assert runner.metadata(entry, "2024-05-31")["objects_copied"] == 1
    replaced = world.manifest(name).read([]).filter(pl.col("former_etag").is_not_null())
    assert replaced.select("key", "part").rows() == [(key, "07")]


@pytest.mark.parametrize(
    ("name", "period", "canary"),
    [
        ("bybit/spot/trades/monthly", "2022-12", "BTCUSDT"),
        ("gate/spot/orderbooks/daily", "2021-07-30", "BTC_USDT"),
        ("bitmex/derivatives/quote/daily", "2016-02-29", ALL_SYMBOLS),
    ],
)
def test_a_new_period_is_detected_by_its_canaries(world_of: MakeWorld, name: str, period: str, canary: str) -> None:
    world, nowhere = world_of(name), canary == ALL_SYMBOLS
    entry = DatasetEntry.model_validate({"dataset": name} | ({} if nowhere else {"symbols": {"include": [canary]}}))
    dataset = entry.dataset
    lister, periods = Lister(world.source), [dataset.period(period)]
    assert seen_by_canaries(entry, lister, periods) == set()
    [file, *_] = sample_objects(dataset, symbols=[canary], first=periods[0], last=periods[0])
    world.put(file.key, file.body)
    assert seen_by_canaries(entry, lister, periods) == {period}


# BitMEX


def test_a_day_of_bitmex_with_a_header_only_is_complete(world_of: MakeWorld, instance: dg.DagsterInstance) -> None:
    world = world_of("bitmex")
    runner, entry = Runner(world, instance), world.entry("bitmex/derivatives/quote/daily")
    world.put("data/quote/20141123.csv.gz", contained("20141123.csv.gz", "timestamp,symbol,bidSize\n"))
    assert runner.run(entry, "2014-11-23").success
    assert runner.materialized(entry) == ["2014-11-23"]
    assert runner.run(entry, "2014-11-24").success
    assert runner.materialized(entry) == ["2014-11-23"]


# Gate


def test_an_empty_file_of_gate_is_mirrored(world_of: MakeWorld, instance: dg.DagsterInstance) -> None:
    world = world_of("gate")
    runner, entry = Runner(world, instance), world.entry("gate/futures_usdt/trades/monthly")
    key = f"futures_usdt/trades/202107/{world.symbol('XCH_USDT')}-202107.csv.gz"
    world.put(key, b"")
    assert runner.run(entry, "2021-07").success
    [row] = world.manifest(entry.dataset.name).read([]).to_dicts()
    assert (row["key"], row["state"], row["size"]) == (key, "present", 0)


def test_known_faults_of_gate_s_files_are_in_the_asset_description(world_of: MakeWorld) -> None:
    asset = build_archive_asset(world_of("gate").entry("gate/futures_usdt/trades/monthly"), "s3://lake")
    [spec] = asset.specs
    assert "85 files of futures of 2021-07 contain trades of the spot market" in str(spec.description)


# HTX


def test_the_day_of_htx_ends_at_16_00_utc() -> None:
    entry = DatasetEntry.model_validate({"dataset": "htx/spot/trades/daily"})
    partitions = build_partitions(entry)
    before, after = datetime(2026, 11, 10, 15, 59, tzinfo=UTC), datetime(2026, 11, 10, 16, 0, tzinfo=UTC)
    assert partitions.get_partition_keys(current_time=before)[-1] == "2026-11-09"
    assert partitions.get_partition_keys(current_time=after)[-1] == "2026-11-10"
    for moment, day in ((before, "2026-11-09"), (after, "2026-11-10")):
        assert str(newest_period(entry, entry.dataset.source.today(moment))) == day
    binance = DatasetEntry.model_validate({"dataset": "binance/um/metrics/daily"})
    assert build_partitions(binance).get_partition_keys(current_time=after)[-1] == "2026-11-09"


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_partition_keys_equal_the_periods_in_every_exchange_s_time_zone(exchange: str) -> None:
    for publication in exchange_named(exchange).publications:
        name = "/".join((exchange, *publication.id))
        intervals = {"intervals": "all"} if publication.intervals else {}
        entry = DatasetEntry.model_validate({"dataset": name, **intervals})
        now = datetime(2026, 11, 10, 20, tzinfo=UTC)
        keys = build_partitions(entry).get_partition_keys(current_time=now)
        assert keys[0] == str(entry.first_period)
        assert keys[-1] == str(newest_period(entry, entry.dataset.source.today(now)))


# KuCoin


def test_an_md5_sidecar_is_verified_while_copying(world_of: MakeWorld, instance: dg.DagsterInstance) -> None:
    world = world_of("kucoin")
    runner, entry = Runner(world, instance), world.entry("kucoin/spot/trades/daily")
    good, bad = (
        f"data/spot/daily/trades/{symbol}/{symbol}-trades-2024-05-13.zip"
        for symbol in (world.symbol("BTCUSDT"), world.symbol("ETHUSDT"))
    )
    for key, digest in ((good, hashlib.md5(contained(good, "1,2,3\n")).hexdigest()), (bad, "0" * 32)):
        world.put(key, contained(key, "1,2,3\n"), sidecar=False)
        world.put(f"{key}.CHECKSUM", f"{digest}  {key.rsplit('/', 1)[1]}\n".encode(), sidecar=False)
    assert runner.run(entry, "2024-05-13").success
    states = dict(world.manifest(entry.dataset.name).read([]).select("key", "integrity").iter_rows())
    assert states == {good: "verified", bad: "mismatch"}


def test_no_server_side_copy_is_requested_from_kucoin(world_of: MakeWorld, instance: dg.DagsterInstance) -> None:
    world = world_of("kucoin")
    runner, entry = Runner(world, instance), world.entry("kucoin/spot/trades/daily")
    publish(world, entry, "2024-05-14", "2024-05-14")
    failed = runner.run(entry, "2024-05-14", mode="direct")
    assert not failed.success
    [event] = [event for event in failed.all_events if event.is_step_failure]
    error = str(event.step_failure_data.error)
    assert "k-line-history-data is not known to let another store copy from it; use mode auto" in error
    assert runner.run(entry, "2024-05-14", mode="auto").success


# All exchanges


def test_assets_of_every_publication_can_be_defined_together() -> None:
    entries = []
    for exchange in EXCHANGES.values():
        for publication in exchange.publications:
            name = "/".join((exchange.name, *publication.id))
            intervals = {"intervals": "all"} if publication.intervals else {}
            entries.append(DatasetEntry.model_validate({"dataset": name, **intervals}))
    matrix = ArchiveMatrix(entries=tuple(entries))
    assets = [
        asset
        for entry in matrix.entries
        for asset in (build_archive_asset(entry, "s3://lake"), build_verification_asset(entry))
    ]
    resources = build_resources(load_settings())
    definitions = dg.Definitions(assets=assets, sensors=build_discovery_sensors(matrix), resources=resources)
    dg.Definitions.validate_loadable(definitions)
    sensors = [sensor.name for sensor in definitions.sensors or ()]
    assert sensors == [f"{name}_discovery" for name in EXCHANGES]
    nowhere = [entry for entry in entries if entry.dataset.layout.symbol_location is SymbolLocation.NOWHERE]
    assert [entry.dataset.exchange for entry in nowhere] == ["bitmex", "bitmex"]
