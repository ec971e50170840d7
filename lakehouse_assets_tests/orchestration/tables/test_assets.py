"""Table assets on a real Dagster instance: what is materialized, what the checks report, what requests a run."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.archive.matrix import DatasetEntry, load_matrix
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.archives.verification import build_verification_asset
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets.orchestration.partitions import build_partitions
from lakehouse_assets.orchestration.tables.assets import build_table_asset, build_table_partitions
from lakehouse_assets.orchestration.tables.reporting import _files_check
from lakehouse_assets.tables.quality.rows import QUALITY_SCHEMA
from lakehouse_assets.tables.report import BuildReport
from lakehouse_assets.tables.table import tables_of
from lakehouse_assets_tests.orchestration.conftest import Runner, resources_of
from lakehouse_assets_tests.tables.tabled import Tabled, candles, zipped
from lakehouse_assets_tests.world import World

ONE, TWO, THREE = DAYS = ("2024-03-01", "2024-03-02", "2024-03-03")


class TableRunner:
    """Archives and table of one world on one instance."""

    def __init__(self, runner: Runner, tabled: Tabled) -> None:
        self.runner = runner
        self.tabled = tabled
        self.table = build_table_asset(tabled.entry, "s3://lake")
        self.archives = [build_archive_asset(entry, "s3://lake") for entry in tabled.entries]

    def archive(self, first: str, last: str | None = None) -> dg.ExecuteInProcessResult:
        [entry] = [one for one in self.tabled.entries if len(str(one.first_period)) == len(first)]
        return self.runner.run(entry, first, last or first)

    def build(self, first: str, last: str, **config: Any) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [*self.archives, self.table],
            selection=[self.table.key],
            instance=self.runner.instance,
            resources=resources_of(self.tabled.world),
            raise_on_error=False,
            run_config={"ops": {self.table.op.name: {"config": config}}} if config else None,
            tags=range_tags(first, last),
        )

    def materialized(self) -> list[str]:
        return sorted(self.runner.instance.get_materialized_partitions(self.table.key))

    def latest(self, period: str) -> dg.AssetMaterialization:
        records = self.runner.instance.fetch_materializations(
            dg.AssetRecordsFilter(self.table.key, asset_partitions=[period]), limit=1
        ).records
        return records[0].asset_materialization


@pytest.fixture
def tables(runner: Runner, world: World) -> TableRunner:
    return TableRunner(runner, Tabled(world, monthly=True))


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


# What a run reports


def test_each_period_is_materialized_with_its_rows_and_the_checks_pass(tables: TableRunner) -> None:
    tables.tabled.publish(["BTC", "ETH"], [ONE, THREE])
    tables.archive(ONE, THREE)
    result = tables.build(ONE, THREE)
    assert result.success
    assert tables.materialized() == [ONE, THREE]
    event = tables.latest(ONE)
    metadata = {name: value.value for name, value in event.metadata.items()}
    assert metadata["dagster/partition_row_count"] == 48
    assert metadata["dagster/row_count"] == 96
    assert metadata["objects_daily"] == 2
    assert metadata["snapshot"].startswith("binance/um/klines@")
    lineage = metadata["dagster/column_lineage"].deps_by_column
    assert [dep.column_name for dep in lineage["quote_volume"]] == ["quote_volume"] * 2
    assert event.tags["dagster/data_version"]
    checks = checks_of(result)
    assert {name: check.passed for name, check in checks.items()} == {"files": True, "quality": True, "expected": True}
    assert checks["files"].metadata["periods_empty"].value == 1
    assert checks["quality"].metadata["rows"].value == 96


def test_a_bad_archive_is_named_by_the_check_and_the_rest_is_materialized(tables: TableRunner) -> None:
    tables.tabled.publish(["BTC"], [ONE])
    key = tables.tabled.world.key("ETH", ONE, interval="1h")
    tables.tabled.world.put(key, b"no zip")
    tables.archive(ONE)
    result = tables.build(ONE, ONE)
    assert result.success
    assert tables.materialized() == [ONE]
    check = checks_of(result)["files"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "the other objects of their periods were written" in check.description
    assert key in check.metadata["objects"].value


def test_the_check_names_periods_that_an_earlier_version_read_differently(world: World) -> None:
    [entry] = tables_of([world.entry()])
    report = BuildReport(
        table=entry.table.name,
        periods=(),
        snapshot=None,
        table_rows=0,
        seconds=0.0,
        bytes_read=0,
        bytes_written=0,
        quality=QUALITY_SCHEMA.to_frame(),
        outdated=("2024-03-01", "2024-03-02"),
    )
    check = _files_check(dg.AssetKey(entry.table.asset_key), entry, report)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "2 periods (2024-03-01 to 2024-03-02) were written by a version that read" in (check.description or "")


def test_block_fails_the_period_and_the_check_says_that_it_was_not_written(runner: Runner, world: World) -> None:
    tables = TableRunner(runner, Tabled(world, on_bad_file="block"))
    tables.tabled.publish(["BTC"], [ONE, TWO])
    world.put(world.key("ETH", ONE, interval="1h"), b"no zip")
    tables.archive(ONE, TWO)
    result = tables.build(ONE, TWO)
    assert not result.success
    assert tables.materialized() == [TWO]
    check = checks_of(result)["files"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "not written (on_bad_file: block)" in check.description


def test_missing_rows_are_summed_up_and_the_worst_periods_named(tables: TableRunner) -> None:
    tables.tabled.publish(["BTC", "ETH"], [ONE, TWO])
    tables.archive(ONE, TWO)
    tables.build(ONE, TWO)
    world = tables.tabled.world
    tables.tabled.publish_rows("ETH", ONE, rows=20)
    tables.tabled.publish_rows("ETH", TWO, rows=21)
    world.put(world.key("BTC", TWO, interval="1h"), zipped("BTC", candles(TWO, "1h", 100.0).replace(",7,", ",0,")))
    tables.archive(ONE, TWO)
    check = checks_of(tables.build(ONE, TWO))["quality"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    numbers = ("rows_missing", "rows_undecided", "rows_breaking_relations", "rows_sharing_keys")
    assert [check.metadata[name].value for name in numbers] == [4, 3, 24, 0]
    worst = check.metadata["worst"].value
    assert f"| {ONE} | {world.symbol('ETH')} | 1h | error | 20 | 4 |" in worst
    assert f"| {TWO} | {world.symbol('ETH')} | 1h | warning | 21 | 0 | 3 |" in worst
    broken = f"volume exactly where trades were counted: 24 rows, first at {TWO} 00:00:00"
    assert f"{broken} (volume=10.0, trade_count=0)" in worst


# What is defined


def test_a_table_never_shares_a_run_with_its_archives(world: World) -> None:
    for monthly in (True, False):
        tabled = Tabled(world, monthly=monthly)
        table = build_table_asset(tabled.entry, "s3://lake")
        sizes = {
            asset.backfill_policy.max_partitions_per_run
            for entry in tabled.entries
            for asset in (build_archive_asset(entry, "s3://lake"), build_verification_asset(entry))
        }
        assert table.backfill_policy.max_partitions_per_run not in sizes
        assert table.op.pool == "table_binance_um_klines"


def test_every_table_of_the_packaged_matrix_has_its_columns_and_its_location() -> None:
    tables = tables_of(load_matrix().entries)
    assert [entry.table.name for entry in tables] == [
        "binance/spot/klines",
        "binance/um/klines",
        "binance/um/fundingRate",
        "binance/um/metrics",
        "binance/cm/klines",
        "binance/cm/aggTrades",
    ]
    for entry in tables:
        [spec] = build_table_asset(entry, "s3://lake").specs
        assert spec.metadata["dagster/uri"] == f"s3://lake/tables/{entry.table.name}"
        columns = spec.metadata["dagster/column_schema"].columns
        assert [column.name for column in columns] == list(entry.table.schema.polars)
        assert all(column.description and column.type for column in columns)


@pytest.mark.parametrize("name", ["binance/spot/trades/daily", "htx/spot/trades/daily"])
def test_a_table_has_the_time_zone_of_its_exchange_and_of_its_archive(name: str) -> None:
    archive = DatasetEntry.model_validate({"dataset": name})
    [entry] = tables_of([archive])
    assert build_table_partitions(entry).timezone == build_partitions(archive).timezone
    assert build_table_partitions(entry).timezone == archive.dataset.source.timezone


def test_partitions_begin_with_the_first_archive_and_are_months_where_only_months_are_published(world: World) -> None:
    days = build_table_partitions(Tabled(world, monthly=True).entry)
    [funding] = tables_of([world.entry("binance/um/fundingRate/monthly", first_period="2024-01")])
    [ended] = tables_of([world.entry("binance/option/EOHSummary/daily")])
    assert days.get_first_partition_key() == "2019-12-31"
    assert build_table_partitions(funding).get_first_partition_key() == "2024-01"
    assert build_table_partitions(ended).get_last_partition_key() == "2023-10-23"
