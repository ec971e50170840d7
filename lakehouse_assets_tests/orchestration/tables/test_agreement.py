"""Agreement of a month: across intervals, and of daily with monthly archives."""

from __future__ import annotations

from datetime import date

import dagster as dg

from lakehouse_assets.embedded.samples.archive import sample_files
from lakehouse_assets.orchestration.tables.agreement import build_agreement_assets
from lakehouse_assets.orchestration.tables.assets import build_table_asset
from lakehouse_assets.tables.quality.agreement import AGREEMENT_SCHEMA
from lakehouse_assets.tables.records import PeriodRecords
from lakehouse_assets.tables.table import tables_of
from lakehouse_assets_tests.orchestration.conftest import resources_of
from lakehouse_assets_tests.tables.tabled import Tabled
from lakehouse_assets_tests.world import World, scope

MONTH = "2024-03"
DAYS = ("2024-03-01", "2024-03-02")


def compare(tabled: Tabled, instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    [asset] = build_agreement_assets([tabled.entry])
    result = dg.materialize(
        [build_table_asset(tabled.entry, "s3://lake"), asset],
        selection=[asset.key],
        instance=instance,
        resources=resources_of(tabled.world),
        partition_key=MONTH,
    )
    [check] = result.get_asset_check_evaluations()
    return check


def test_candles_and_archives_that_agree_pass(world: World, instance: dg.DagsterInstance) -> None:
    tabled = Tabled(world, intervals=["1m", "1h"], monthly=True)
    for interval in ("1m", "1h"):
        tabled.publish(["BTC"], DAYS, interval=interval, flat=True)
        tabled.publish(["BTC"], [MONTH], interval=interval, flat=True)
    tabled.sync(*DAYS)
    tabled.sync(MONTH)
    tabled.build(*DAYS)
    check = compare(tabled, instance)
    assert check.passed, check.metadata
    # Hours of two days across intervals; minutes and hours of two days across cadences.
    assert check.metadata["rows_compared"].value == 48 + 2880 + 48
    kept = PeriodRecords(world.lake, tabled.table.agreement_place, AGREEMENT_SCHEMA).read([MONTH])
    assert sorted(kept["comparison"]) == ["1m in 1h", "daily in monthly", "daily in monthly"]


def test_candles_of_several_days_are_not_compared_with_a_single_day(world: World, instance: dg.DagsterInstance) -> None:
    intervals = ["12h", "1d", "3d", "1w"]
    tabled = Tabled(world)
    tabled.entries = [world.entry("binance/um/klines/monthly", intervals=intervals)]
    [tabled.entry] = tables_of(tabled.entries)
    month, symbols = date(2024, 3, 1), [world.symbol("BTC")]
    for file in sample_files(
        "um", "klines", "monthly", symbols=symbols, intervals=intervals, first=month, last=month, sidecars=False
    ):
        world.put(file.key, file.body)
    world.engine().sync(scope(tabled.entries[0], MONTH))
    tabled.build("2024-03-03", "2024-03-04")
    check = compare(tabled, instance)
    assert check.passed, check.metadata
    assert check.metadata["rows_compared"].value == 2


def test_differences_are_named(world: World, instance: dg.DagsterInstance) -> None:
    tabled = Tabled(world, intervals=["1m", "1h"], monthly=True)
    tabled.publish(["BTC"], DAYS, interval="1m", flat=True)
    tabled.publish(["BTC"], DAYS, interval="1h", flat=True, price=7.0)
    tabled.publish(["BTC"], [MONTH], interval="1m", flat=True, price=8.0)
    tabled.sync(*DAYS)
    tabled.sync(MONTH)
    tabled.build(*DAYS)
    check = compare(tabled, instance)
    assert not check.passed
    assert check.metadata["rows_differing"].value == 48 + 2880
    for comparison in ("1m in 1h", "daily in monthly"):
        assert f"| {world.symbol('BTC')} | " in check.metadata["worst"].value
        assert comparison in check.metadata["worst"].value


def test_there_is_no_agreement_asset_where_nothing_can_be_compared(world: World) -> None:
    assert build_agreement_assets([Tabled(world).entry]) == []
