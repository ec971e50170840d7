"""A table as of a time: by the timestamps in its commits, not by the age of the lake's objects."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import obstore
import pytest
from deltalake import DeltaTable

from lakehouse_assets.errors import InputError, StoreError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables import read_table, snapshot
from lakehouse_assets_tests.faults.listings import edited, html
from lakehouse_assets_tests.tables.tabled import Tabled
from lakehouse_assets_tests.world import World, client_of

ONE = "2024-03-01"
NAME = "binance/um/klines"
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def log_entry(version: int) -> str:
    return f"tables/{NAME}/_delta_log/{version:020}.json"


def committed(world: World, version: int, when: datetime) -> None:
    """Change the timestamp in a commit."""
    store, key = world.lake.bucket.object_store(), world.lake.key(log_entry(version))
    lines = [json.loads(line) for line in bytes(obstore.get(store, key).bytes()).decode().splitlines()]
    for line in lines:
        if "commitInfo" in line:
            line["commitInfo"]["timestamp"] = int(when.timestamp() * 1000)
    world.overwrite_in_lake(log_entry(version), "\n".join(map(json.dumps, lines)).encode())


@pytest.fixture
def tabled(world: World) -> Tabled:
    """A table that was created at noon, with a price of 1 an hour later, of 2 after two hours, and of 3 after three."""
    made = Tabled(world)
    for price in (1.0, 2.0, 3.0):
        made.publish(["BTC"], [ONE], price=price)
        made.sync(ONE)
        # The commits are moved to the past, and all versions have to stay readable.
        made.builder(retention_days=100_000).build([ONE])
    for version in range(4):
        committed(world, version, NOON + timedelta(hours=version))
    return made


def version_at(lake: Lake, hours: float) -> int:
    return snapshot(NAME, NOON + timedelta(hours=hours), lake=lake).version


def test_a_response_that_is_not_a_listing_of_the_log_is_an_error(tabled: Tabled) -> None:
    lake = tabled.world.lake
    with (
        edited(lake.bucket, html, below=lake.key(f"tables/{NAME}/")) as bucket,
        pytest.raises(StoreError, match="NotAListing"),
    ):
        version_at(Lake(bucket, lake.prefix.strip("/")), 1.5)


def test_a_copied_lake_has_the_same_version_at_a_time(tabled: Tabled) -> None:
    lake = tabled.world.lake
    moved = Lake(lake.bucket, f"{lake.prefix.strip('/')}-moved")
    client = client_of(lake.bucket)
    for name in tabled.world.lake_files(f"tables/{NAME}/"):
        client.copy_object(
            Bucket=lake.bucket.name,
            Key=moved.key(name),
            CopySource={"Bucket": lake.bucket.name, "Key": lake.key(name)},
        )
    for hours, version in ((0.5, 0), (1, 1), (1.5, 1), (2.5, 2), (3.5, 3), (9, 3)):
        assert version_at(moved, hours) == version_at(lake, hours) == version, hours
    as_of = NOON + timedelta(hours=2.5)
    assert set(read_table(NAME, as_of=as_of, lake=moved).collect()["close"]) == {2.0}
    assert snapshot(NAME, as_of, lake=moved).id == snapshot(NAME, as_of, lake=lake).id


def test_a_commit_with_an_early_timestamp_counts_as_its_predecessors_time(tabled: Tabled) -> None:
    committed(tabled.world, 2, NOON - timedelta(days=400))
    assert [version_at(tabled.world.lake, hours) for hours in (0.5, 1.5, 2.5, 3.5)] == [0, 2, 2, 3]


def test_a_commit_with_a_timestamp_in_the_future_does_not_hide_later_ones(tabled: Tabled) -> None:
    committed(tabled.world, 2, datetime.now(UTC) + timedelta(days=400))
    assert [version_at(tabled.world.lake, hours) for hours in (0.5, 1.5, 2.5, 3.5)] == [0, 2, 2, 3]


def test_a_time_before_the_table_is_refused(tabled: Tabled) -> None:
    with pytest.raises(InputError, match=r"was created at 2024-03-01 12:00:00.* it did not exist at 2024-03-01 11:00"):
        version_at(tabled.world.lake, -1)


def test_a_time_before_the_oldest_log_entry_is_refused_and_the_error_names_the_oldest_time(tabled: Tabled) -> None:
    lake = tabled.world.lake
    DeltaTable(lake.url(tabled.table.place), version=2, storage_options=lake.delta_options).create_checkpoint()
    for version in (0, 1):
        tabled.world.delete_in_lake(log_entry(version))
    assert [version_at(lake, hours) for hours in (2, 2.5, 3.5)] == [2, 2, 3]
    oldest = re.escape("The oldest possible as_of is 2024-03-01 14:00:00")
    with pytest.raises(InputError, match=f"the log no longer has its versions before 2. {oldest}"):
        version_at(lake, 1.5)
