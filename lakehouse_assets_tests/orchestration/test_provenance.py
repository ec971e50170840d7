"""What Dagster's UI calls fresh and stale, computed by its own resolver after real runs."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.archives.source import build_source_assets, source_key
from lakehouse_assets.orchestration.archives.verification import build_verification_asset
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets.orchestration.tables.assets import build_table_asset
from lakehouse_assets_tests.dagster_internals import CachingStaleStatusResolver, LoadingContextForTest
from lakehouse_assets_tests.orchestration.conftest import Runner, resources_of
from lakehouse_assets_tests.tables.tabled import Tabled
from lakehouse_assets_tests.world import World, days

ONE, TWO, THREE = DAYS = ("2024-03-01", "2024-03-02", "2024-03-03")
FEBRUARY, MARCH = "2024-02", "2024-03"
FRESH: list[str] = []


class Lineage:
    """Daily and monthly archive, verification and table of one world on one instance."""

    def __init__(self, runner: Runner, world: World) -> None:
        self.runner = runner
        self.tabled = Tabled(world, monthly=True)
        self.daily, self.monthly = self.tabled.entries
        self.archive = dg.AssetKey(self.daily.dataset.asset_key)
        self.verified = build_verification_asset(self.daily)
        self.table = build_table_asset(self.tabled.entry, "s3://lake")

    def assets(self, daily: DatasetEntry | None = None) -> list[Any]:
        archives = [build_archive_asset(entry, "s3://lake") for entry in (daily or self.daily, self.monthly)]
        return [*build_source_assets(), *archives, self.verified, self.table]

    def sync(self, first: str, last: str | None = None) -> None:
        [entry] = [one for one in self.tabled.entries if len(str(one.first_period)) == len(first)]
        assert self.runner.run(entry, first, last or first).success

    def build(self, asset: dg.AssetsDefinition, first: str, last: str) -> None:
        result = dg.materialize(
            self.assets(),
            selection=[asset.key],
            instance=self.runner.instance,
            resources=resources_of(self.runner.world),
            tags=range_tags(first, last),
        )
        assert result.success

    def build_all(self, first: str, last: str) -> None:
        for asset in (self.table, self.verified):
            self.build(asset, first, last)

    def causes(self, key: dg.AssetKey, day: str, *, daily: DatasetEntry | None = None) -> list[str]:
        """Why a partition is stale; nothing if it is fresh."""
        resources = resources_of(self.runner.world)
        graph = dg.Definitions(self.assets(daily), resources=resources).resolve_asset_graph()
        instance = self.runner.instance
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        causes = [cause.reason for cause in resolver.get_stale_causes(key, day)]
        assert resolver.get_status(key, day).value == ("STALE" if causes else "FRESH")
        return causes

    def stale(self, key: dg.AssetKey) -> dict[str, list[str]]:
        """The stale days of DAYS, with the reasons."""
        return {day: causes for day in DAYS if (causes := self.causes(key, day))}


CHANGED = ["has a new dependency data version"]


@pytest.fixture
def lineage(runner: Runner, world: World) -> Lineage:
    return Lineage(runner, world)


def test_table_and_verification_stay_fresh_when_their_archive_is_synced_again_with_the_same_content(
    lineage: Lineage,
) -> None:
    lineage.tabled.publish(["BTC"], DAYS)
    lineage.tabled.publish(["ETH"], [FEBRUARY, MARCH])
    lineage.sync(ONE, THREE)
    lineage.sync(FEBRUARY, MARCH)
    lineage.build_all(ONE, THREE)
    for again in ((ONE, THREE), (TWO, TWO), (FEBRUARY, MARCH)):
        lineage.sync(*again)
        assert lineage.stale(lineage.table.key) == {}
        assert lineage.stale(lineage.verified.key) == {}
    assert lineage.stale(lineage.archive) == {}


def test_a_rewritten_day_makes_its_table_and_its_verification_stale_until_they_are_built_again(
    lineage: Lineage,
) -> None:
    lineage.tabled.publish(["BTC"], DAYS)
    lineage.sync(ONE, THREE)
    lineage.build_all(ONE, THREE)
    lineage.tabled.publish(["BTC"], [TWO], price=7.0)
    lineage.sync(ONE, THREE)
    assert lineage.stale(lineage.table.key) == {TWO: CHANGED}
    assert lineage.stale(lineage.verified.key) == {TWO: CHANGED}
    lineage.build_all(TWO, TWO)
    assert lineage.stale(lineage.table.key) == {}
    assert lineage.stale(lineage.verified.key) == {}


def test_a_month_that_is_new_or_rewritten_makes_its_days_stale_and_another_month_does_not(lineage: Lineage) -> None:
    lineage.tabled.publish(["BTC"], DAYS)
    lineage.tabled.publish(["ETH"], [FEBRUARY])
    lineage.sync(ONE, THREE)
    lineage.sync(FEBRUARY)
    lineage.build(lineage.table, ONE, THREE)
    for price in (5.0, 7.0):
        lineage.tabled.publish(["ETH"], [MARCH], price=price)
        lineage.sync(MARCH)
        assert lineage.stale(lineage.table.key) == dict.fromkeys(DAYS, CHANGED)
        lineage.build(lineage.table, ONE, THREE)
        lineage.tabled.publish(["ETH"], [FEBRUARY], price=price)
        lineage.sync(FEBRUARY)
        assert lineage.stale(lineage.table.key) == {}


def test_a_changed_matrix_entry_shows_as_a_new_code_version_of_the_archive_only(lineage: Lineage, world: World) -> None:
    lineage.tabled.publish(["BTC"], [ONE])
    lineage.sync(ONE)
    lineage.build_all(ONE, ONE)
    wider = world.entry(intervals=["1m", "1h"])
    assert lineage.causes(lineage.archive, ONE, daily=wider) == ["has a new code version"]
    for key in (lineage.table.key, lineage.verified.key):
        assert lineage.causes(key, ONE, daily=wider) == FRESH


def test_a_changed_schema_shows_as_a_new_code_version_of_the_table(
    lineage: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage.tabled.publish(["BTC"], [ONE])
    lineage.sync(ONE)
    lineage.build(lineage.table, ONE, ONE)
    monkeypatch.setattr("lakehouse_assets.orchestration.tables.assets.schema_digest", lambda table: "another")
    lineage.table = build_table_asset(lineage.tabled.entry, "s3://lake")
    assert lineage.causes(lineage.table.key, ONE) == ["has a new code version"]


def test_observations_of_the_exchange_s_bucket_make_nothing_stale(lineage: Lineage) -> None:
    instance, source = lineage.runner.instance, source_key("binance")
    lineage.tabled.publish(["BTC"], [ONE])
    lineage.sync(ONE)
    lineage.build_all(ONE, ONE)
    for number in range(2):
        instance.report_runless_asset_event(dg.AssetObservation(source, metadata={"datasets": number}))
        for key in (lineage.archive, lineage.table.key, lineage.verified.key):
            assert lineage.causes(key, ONE) == FRESH
        lineage.sync(ONE)


def test_inputs_are_looked_up_once_per_run_however_many_partitions_it_has(
    lineage: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage.tabled.publish(["BTC"], days(ONE, "2024-03-10"))
    lineage.sync(ONE, "2024-03-10")
    asked = 0
    records, tags = lineage.runner.instance.get_asset_records, "get_latest_tags_by_partition"
    storage = lineage.runner.instance.event_log_storage
    by_partition = getattr(storage, tags)

    def counted(read: Any) -> Any:
        def count(*args: Any, **kwargs: Any) -> Any:
            nonlocal asked
            asked += 1
            return read(*args, **kwargs)

        return count

    monkeypatch.setattr(lineage.runner.instance, "get_asset_records", counted(records))
    monkeypatch.setattr(storage, tags, counted(by_partition))
    counts = []
    for last in (ONE, "2024-03-10"):
        asked = 0
        lineage.build(lineage.table, ONE, last)
        counts.append(asked)
    assert counts[0] == counts[1] > 0
    assert lineage.causes(lineage.table.key, "2024-03-10") == FRESH
