"""The check `expected`: a period's figures are compared with those of earlier periods in the lake."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
from deltalake import write_deltalake

from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA
from lakehouse_assets.lake.period_metrics import period_metrics
from lakehouse_assets.lake.sync_log import SYNC_LOG_SCHEMA, SYNC_LOG_TABLE
from lakehouse_assets.orchestration.archives.expected_check import evaluate
from lakehouse_assets.orchestration.check_names import EXPECTED
from lakehouse_assets_tests.orchestration.conftest import Runner
from lakehouse_assets_tests.world import World, days

TODAY = "2024-03-01"


def remember(world: World, count: int, *, symbols: int = 3) -> None:
    """Write a manifest and a sync log of that many days before TODAY, as syncs would have."""
    dataset = world.entry().dataset
    today = date.fromisoformat(TODAY)
    past = days(str(today - timedelta(days=count)), str(today - timedelta(days=1)))
    published = {day: datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1, hours=9) for day in past}
    rows = [
        {
            "month": day[:7],
            "period": day,
            "symbol": f"{world.tag}S{number}",
            "key": f"{day}/{number}",
            "state": "present",
            "size": 1_000 + 7 * (int(day[-2:]) % 3),
            "source_last_modified": published[day],
            "synced_at": published[day] + timedelta(minutes=20),
        }
        for day in past
        for number in range(symbols)
    ]
    syncs = [
        {
            "month": day[:7],
            "synced_at": published[day],
            "dataset": dataset.name,
            "period": day,
            "bytes_copied": 3_000,
            "seconds": 1.5,
            "objects_failed": 0,
        }
        for day in past
    ]
    for table, written, schema in (
        (dataset.manifest_prefix, rows, MANIFEST_SCHEMA),
        (SYNC_LOG_TABLE, syncs, SYNC_LOG_SCHEMA),
    ):
        write_deltalake(
            world.lake.url(table),
            pl.from_dicts(written, schema=schema),
            mode="append",
            partition_by=["month"],
            storage_options=world.lake.delta_options,
        )


def test_a_period_with_half_the_symbols_is_unusual_and_warns(runner: Runner, world: World) -> None:
    remember(world, 40)
    world.publish(["S0"], [TODAY], size=1_000)
    result = runner.run(world.entry(), TODAY)
    assert result.success
    [check] = [evaluation for evaluation in result.get_asset_check_evaluations() if evaluation.check_name == EXPECTED]
    assert (check.passed, check.severity, check.partition) == (False, dg.AssetCheckSeverity.WARN, None)
    description = "symbols of 2024-03-01: 1 symbols, unusually low: expected 2.56 to 3.5 (median 3 of 40 periods"
    assert description in check.description
    assert check.metadata["unusual"].value >= 3
    assert "| 2024-03-01 | low | bytes of 2024-03-01:" in check.metadata["verdicts"].value


def test_a_usual_period_passes_and_a_new_dataset_has_nothing_to_compare_with(runner: Runner, world: World) -> None:
    world.publish(["S0", "S1", "S2"], [TODAY], size=1_000)
    [first] = [e for e in runner.run(world.entry(), TODAY).get_asset_check_evaluations() if e.check_name == EXPECTED]
    description = "8 figures of 1 periods are as usual; 0 of them have enough history."
    assert (first.passed, first.description) == (True, description)


def test_period_metrics_come_from_the_manifest_and_the_sync_log(world: World) -> None:
    remember(world, 3)
    known = period_metrics(world.lake, world.entry().dataset, since="2024-02-28")
    assert known.columns == [
        "period",
        "objects",
        "symbols",
        "bytes",
        "discovery_lag",
        "seconds",
        "throughput",
        "retries",
        "failures",
    ]
    assert known.rows() == [
        ("2024-02-28", 3.0, 3.0, 3_021.0, 1_200.0, 1.5, 2_000.0, 0.0, 0.0),
        ("2024-02-29", 3.0, 3.0, 3_042.0, 1_200.0, 1.5, 2_000.0, 0.0, 0.0),
    ]


def test_a_lake_without_history_has_no_period_metrics(world: World) -> None:
    assert period_metrics(world.lake, world.entry().dataset, since="2024-02-28").is_empty()
    assert evaluate(world.lake, world.entry().dataset, [TODAY]) == []


def test_an_unreadable_sync_log_fails_no_run(runner: Runner, world: World) -> None:
    """The sync succeeds, and the manifest's figures are compared; only those of the sync log are unknown."""
    world.publish(["S0"], [TODAY])
    world.overwrite_in_lake(f"{SYNC_LOG_TABLE}/_delta_log/00000000000000000000.json", b"no commit")
    result = runner.run(world.entry(), TODAY)
    assert result.success
    checks = {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}
    assert checks["complete"].passed
    assert (checks[EXPECTED].description or "").startswith("4 figures of 1 periods")
