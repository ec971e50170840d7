"""Freshness policies: of schedules' assets by their cron, of followed tables by their cadence, as the daemon judges."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.archive.lateness import DEFAULTS
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Period
from lakehouse_assets.definitions import defs
from lakehouse_assets.orchestration.reports.coverage import COVERAGE
from lakehouse_assets.orchestration.reports.outlook import OUTLOOK
from lakehouse_assets.orchestration.tables.assets import build_table_asset
from lakehouse_assets.tables.table import tables_of
from lakehouse_assets_tests.dagster_internals import freeze_time, freshness_state

SECOND = timedelta(seconds=1)
KLINES = {"dataset": "binance/um/klines/daily", "intervals": ["1h"]}
MONTHLY_KLINES = KLINES | {"dataset": "binance/um/klines/monthly"}
FUNDING = {"dataset": "binance/um/fundingRate/monthly"}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def materialize(instance: dg.DagsterInstance, key: dg.AssetKey, at: datetime, partition: str | None = None) -> None:
    with freeze_time(at):
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))


# Schedules


def test_every_report_and_catalog_of_a_schedule_has_a_policy_of_the_same_cron_and_no_other_asset_has_one() -> None:
    made = defs()
    graph = made.resolve_asset_graph()
    expected = {
        key: (schedule.cron_schedule, schedule.execution_timezone)
        for schedule in made.schedules or ()
        for key in graph.executable_asset_keys & made.resolve_job_def(schedule.job_name).asset_layer.selected_asset_keys
        if key.path[0] in {"reports", "catalog"}
    }
    policies = {key: graph.get(key).freshness_policy_or_from_metadata for key in graph.get_all_asset_keys()}
    assert len(expected) == 9
    assert expected == {
        key: (policy.deadline_cron, policy.timezone) for key, policy in policies.items() if policy is not None
    }


@pytest.mark.parametrize(
    ("key", "tick", "every"),
    [
        (COVERAGE, datetime(2024, 3, 1, 12, 40, tzinfo=UTC), timedelta(days=1)),
        (OUTLOOK, datetime(2024, 3, 1, 12, 10, tzinfo=UTC), timedelta(hours=1)),
        (dg.AssetKey(["catalog", "binance"]), datetime(2024, 3, 1, 12, 30, tzinfo=UTC), timedelta(days=1)),
    ],
)
def test_a_report_is_fresh_until_the_next_tick_passes_without_one(
    instance: dg.DagsterInstance, key: dg.AssetKey, tick: datetime, every: timedelta
) -> None:
    node = defs().resolve_asset_graph().get(key)

    def state(now: datetime) -> str:
        return freshness_state(instance, node, now)

    assert state(tick) == "UNKNOWN"
    materialize(instance, key, tick + 90 * SECOND)
    assert state(tick + every - SECOND) == "PASS"
    # The run of the next tick may take its time, but not until the tick after it.
    assert state(tick + every + SECOND) == "PASS"
    assert state(tick + 2 * every - SECOND) == "PASS"
    assert state(tick + 2 * every + SECOND) == "FAIL"
    materialize(instance, key, tick + 2 * every + 90 * SECOND)
    assert state(tick + 2 * every + 91 * SECOND) == "PASS"


# Tables


def table_node(*archives: dict[str, Any], is_followed: bool = True) -> Any:
    [entry] = tables_of([DatasetEntry.model_validate(archive) for archive in archives])
    [spec] = build_table_asset(entry, "s3://lake", is_followed=is_followed).specs
    return dg.Definitions(assets=[spec]).resolve_asset_graph().get(spec.key)


@pytest.mark.parametrize(
    ("archives", "days"),
    [
        ([KLINES], 3),
        ([KLINES, MONTHLY_KLINES], 3),
        ([KLINES | {"paused": True}, MONTHLY_KLINES], 45),
        ([FUNDING], 45),
        ([KLINES | {"paused": True}], None),
        ([{"dataset": "binance/option/EOHSummary/daily"}], None),  # its publication ended
    ],
)
def test_a_table_has_a_policy_while_an_archive_of_it_is_published_and_followed(
    archives: list[dict[str, Any]], days: int | None
) -> None:
    policy = table_node(*archives).freshness_policy_or_from_metadata
    assert (None if policy is None else policy.fail_window.to_timedelta()) == (days and timedelta(days=days))


def test_a_table_that_nothing_follows_unasked_has_no_policy() -> None:
    assert table_node(KLINES, is_followed=False).freshness_policy_or_from_metadata is None


def test_the_tables_of_the_code_location_have_one_only_where_sensors_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def policies() -> set[str]:
        graph = defs().resolve_asset_graph()
        keys = [key for key in graph.get_all_asset_keys() if graph.get(key).is_partitioned]
        return {key.path[-1] for key in keys if graph.get(key).freshness_policy_or_from_metadata is not None}

    assert policies() == set()
    monkeypatch.setenv("LAKEHOUSE_SENSORS_RUNNING", "true")
    assert policies() == {"table"}


@pytest.mark.parametrize(
    ("archive", "first"), [(KLINES, "2024-02-28"), (FUNDING, "2024-01"), (FUNDING, "2024-02"), (FUNDING, "2024-12")]
)
def test_a_table_fails_when_its_archive_has_stalled_and_not_before(
    instance: dg.DagsterInstance, archive: dict[str, Any], first: str
) -> None:
    node, cadence = table_node(archive), DatasetEntry.model_validate(archive).dataset.cadence
    period = Period.parse(first, cadence)
    materialize(instance, node.key, midnight(period.end), first)
    stalled = midnight(period.next().end) + DEFAULTS[cadence].stalled
    assert freshness_state(instance, node, stalled - SECOND) == "PASS"
    assert freshness_state(instance, node, stalled + timedelta(days=3)) == "FAIL"


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
