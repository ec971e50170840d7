"""Maintenance with its own identity: compacted files, removed files, and versions that stay readable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import dagster as dg
import polars as pl
import pytest
from dagster_aws.s3 import S3Resource

from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.errors import InputError, StoreError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.orchestration.resources import MaintenanceResource
from lakehouse_assets.orchestration.tables.maintenance import (
    COMPACT,
    VACUUM,
    build_maintenance_assets,
    build_maintenance_schedules,
)
from lakehouse_assets.tables import read_table, snapshot
from lakehouse_assets.tables.delta import files_of, open_table
from lakehouse_assets.tables.write import maintenance
from lakehouse_assets.tables.write.maintenance import compact, vacuum
from lakehouse_assets_tests.tables.tabled import Tabled
from lakehouse_assets_tests.world import World

DAYS = ("2024-03-01", "2024-03-02", "2024-03-03")
LATER = date(2024, 4, 1)


@pytest.fixture(scope="module")
def root_lake() -> Iterator[EmbeddedStore]:
    """A store of its own with the lake at the bucket's root, where the maintenance identity has its rights."""
    with EmbeddedStore() as running:
        yield running


@pytest.fixture
def tabled(root_lake: EmbeddedStore) -> Iterator[Tabled]:
    """Three days of two symbols, built day by day."""
    world = World(root_lake)
    world.lake = Lake(root_lake.lake())
    made = Tabled(world)
    made.publish(["BTC", "ETH"], DAYS)
    made.sync(DAYS[0], DAYS[-1])
    for day in DAYS:
        made.build(day)
    yield made
    admin = root_lake.admin_bucket(root_lake.lake_bucket).boto3_client()
    for name in world.lake_files():
        admin.delete_object(Bucket=root_lake.lake_bucket, Key=name)


def as_maintenance(tabled: Tabled) -> Lake:
    lake = tabled.world.lake
    return replace(lake, bucket=replace(lake.bucket, credentials=tabled.world.store.maintenance))


def parquet_files(tabled: Tabled) -> pl.DataFrame:
    return files_of(open_table(tabled.world.lake, tabled.table.place))


def test_small_files_of_a_closed_month_become_one_sorted_by_symbol_and_time(tabled: Tabled) -> None:
    before = tabled.rows().sort("symbol", "time")
    assert parquet_files(tabled).height == 3
    done = compact(as_maintenance(tabled), tabled.table, today=LATER)
    assert (done.months, done.files_before, done.files_after) == (1, 3, 1)
    [path] = parquet_files(tabled)["path"]
    stored = pl.read_parquet(
        tabled.world.lake.url(f"{tabled.table.place}/{path}"),
        storage_options=tabled.world.lake.delta_options,
        hive_partitioning=False,
    )
    assert stored.select("symbol", "time").equals(stored.select("symbol", "time").sort("symbol", "time"))
    assert tabled.rows().sort("symbol", "time").equals(before)
    again = compact(as_maintenance(tabled), tabled.table, today=LATER)
    assert (again.months, again.files_before) == (0, 0)


def test_the_open_month_is_not_compacted(tabled: Tabled) -> None:
    assert compact(as_maintenance(tabled), tabled.table, today=date(2024, 3, 31)).months == 0
    assert parquet_files(tabled).height == 3


def test_one_day_of_a_compacted_month_can_be_replaced(tabled: Tabled) -> None:
    compact(as_maintenance(tabled), tabled.table, today=LATER)
    tabled.publish(["ETH"], [DAYS[1]], price=7.0)
    tabled.sync(DAYS[0], DAYS[-1])
    report = tabled.build(*DAYS)
    assert [period.state.value for period in report.periods] == ["unchanged", "written", "unchanged"]
    prices = tabled.prices()
    assert prices.pop(("ETH", DAYS[1])) == {7.0}
    assert set(map(tuple, prices.values())) == {(100.0,)}
    assert tabled.rows().height == 6 * 24


def test_a_concurrent_commit_of_a_builder_is_not_lost(tabled: Tabled, monkeypatch: pytest.MonkeyPatch) -> None:
    rows_of = maintenance._rows
    raced = []

    def read_while_a_builder_commits(*arguments: object) -> pl.DataFrame:
        if not raced:
            raced.append(True)
            tabled.publish(["ETH"], [DAYS[1]], price=7.0)
            tabled.sync(DAYS[1])
            tabled.build(DAYS[1])
        return rows_of(*arguments)

    monkeypatch.setattr(maintenance, "_rows", read_while_a_builder_commits)
    compact(as_maintenance(tabled), tabled.table, today=LATER)
    assert tabled.prices()["ETH", DAYS[1]] == {7.0}
    assert tabled.rows().height == 6 * 24
    assert parquet_files(tabled).height == 1


def test_vacuum_keeps_files_within_the_retention_and_removes_older_ones(tabled: Tabled) -> None:
    cited = snapshot(tabled.table.name, lake=tabled.world.lake)
    compact(as_maintenance(tabled), tabled.table, today=LATER)
    assert vacuum(as_maintenance(tabled), tabled.table, retention_days=30).files_removed == 0
    assert read_table(tabled.table.name, as_of=cited.id, lake=tabled.world.lake).collect().height == 6 * 24

    # As if the retention had passed.
    assert vacuum(as_maintenance(tabled), tabled.table, retention_days=0).files_removed >= 3
    assert len(tabled.data_files()) == 1
    assert tabled.rows().height == 6 * 24


def test_files_that_were_never_committed_are_removed(tabled: Tabled) -> None:
    uncommitted = f"{tabled.table.place}/interval=1h/month=2024-03/{'0' * 32}.parquet"
    tabled.world.overwrite_in_lake(uncommitted, b"of a killed run")
    assert vacuum(as_maintenance(tabled), tabled.table, retention_days=30).files_removed == 0
    vacuum(as_maintenance(tabled), tabled.table, retention_days=0)
    assert uncommitted not in tabled.data_files()
    assert tabled.rows().height == 6 * 24


def test_the_sync_identity_can_build_but_not_vacuum(tabled: Tabled) -> None:
    compact(as_maintenance(tabled), tabled.table, today=LATER)
    with pytest.raises(StoreError, match="AccessDenied"):
        vacuum(tabled.world.lake, tabled.table, retention_days=0)
    assert len(tabled.data_files()) == 4


# In Dagster


def resource(tabled: Tabled, *, default_chain: bool = False, **fields: str) -> MaintenanceResource:
    bucket = tabled.world.lake.bucket
    s3 = S3Resource(endpoint_url=bucket.endpoint_url, **fields)
    return MaintenanceResource(s3=s3, bucket=bucket.name, default_chain=default_chain)


def test_both_assets_process_the_tables_and_report_the_result(tabled: Tabled) -> None:
    key = tabled.world.store.maintenance
    identity = resource(tabled, aws_access_key_id=key.access_key_id, aws_secret_access_key=key.secret_access_key)
    result = dg.materialize(build_maintenance_assets([tabled.entry]), resources={"maintenance": identity})
    compacted, vacuumed = (
        result.asset_materializations_for_node("__".join(asset.path))[0].metadata for asset in (COMPACT, VACUUM)
    )
    assert (compacted["files_before"].value, compacted["files_after"].value) == (3, 1)
    assert (vacuumed["files_removed"].value, vacuumed["retention_days"].value) == (0, 30)


def test_maintenance_without_its_own_identity_does_nothing(tabled: Tabled) -> None:
    with pytest.raises(InputError, match="LAKEHOUSE_MAINTENANCE_ACCESS_KEY_ID"):
        resource(tabled).lake()
    assert resource(tabled, default_chain=True).lake().bucket.credentials is None


def test_schedules_compact_daily_and_vacuum_weekly() -> None:
    assert {schedule.name: schedule.cron_schedule for schedule in build_maintenance_schedules()} == {
        "compact_tables_daily": "40 3 * * *",
        "vacuum_tables_weekly": "40 4 * * 0",
    }
