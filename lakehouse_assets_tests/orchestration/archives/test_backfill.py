"""Backfills, single runs and the discovery sensor on real services, driven as the UI does.

One deployment serves the whole file. The backfill is launched first and read last: the daemon's
backfill loop takes 30 s, and the other tests use that time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets_tests.orchestration.services import Services, running_services, tags_of, wait_for
from lakehouse_assets_tests.world import KLINES, World, body_of, days

METRICS = "binance/um/metrics/daily"
TRACKED = "binance/spot/klines/daily"
SENSOR = "binance_discovery"

WEEK = days("2024-03-01", "2024-03-07")
BAD, UNPUBLISHED, UNPUBLISHED_BESIDE_BAD = "2024-03-03", "2024-03-05", "2024-03-02"
GOOD = [day for day in WEEK if day not in {BAD, UNPUBLISHED, UNPUBLISHED_BESIDE_BAD}]
PARTITIONS_PER_RUN = 3

_TODAY = datetime.now(UTC).date()
TRACKED_DAYS = [str(_TODAY - timedelta(days=2)), str(_TODAY - timedelta(days=1))]
"""The last two days that had ended when the tests began: midnight may pass between two tests."""


@dataclass
class Deployment:
    """The services, the world that they use, and the backfill that was launched on them."""

    services: Services
    world: World
    backfill_id: str
    refusal: ExitStack = field(default_factory=ExitStack)


@pytest.fixture(scope="module")
def deployment(store: EmbeddedStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    world = World(store)
    home = tmp_path_factory.mktemp("services")
    symbols = {"include": [f"{world.tag}*"]}
    matrix = {
        "datasets": [
            {"dataset": KLINES, "intervals": ["1m"], "symbols": symbols, "partitions_per_run": PARTITIONS_PER_RUN},
            {"dataset": METRICS, "symbols": symbols},
            {"dataset": TRACKED, "intervals": ["1m"], "symbols": symbols, "follow_from": TRACKED_DAYS[0]},
        ]
    }
    (home / "matrix.yaml").write_text(yaml.safe_dump(matrix), encoding="utf-8")
    world.publish(["BTCUSDT", "ETHUSDT"], [*GOOD, BAD])
    variables = {
        "LAKEHOUSE_MATRIX": str(home / "matrix.yaml"),
        **world.settings,
        "LAKEHOUSE_SYNC_WORKERS": "16",
        "LAKEHOUSE_DISCOVERY_TICK_SECONDS": "5",
        "LAKEHOUSE_DISCOVERY_SETTLE_SECONDS": "1",
    }
    with ExitStack() as refusal, running_services(home / "dagster", variables) as services:
        refusal.enter_context(world.refused_writes(world.key("ETHUSDT", BAD)))
        services.start_sensor(SENSOR)
        yield Deployment(services, world, services.launch_backfill(KLINES, WEEK), refusal)


@pytest.fixture(scope="module")
def services(deployment: Deployment) -> Services:
    return deployment.services


@pytest.fixture(scope="module")
def backfill(deployment: Deployment) -> dict[str, Any]:
    """The backfill once it has ended."""
    return deployment.services.finished_backfill(deployment.backfill_id)


@pytest.fixture(scope="module")
def healed(deployment: Deployment, backfill: dict[str, Any]) -> dict[str, Any]:
    """A run of the bad day alone, once the lake accepts its writes again."""
    deployment.refusal.close()
    return deployment.services.finished_run(deployment.services.launch_run(KLINES, BAD))


# While the backfill runs: single partitions and the sensor


def test_the_sensor_requests_one_run_for_new_periods_and_it_materializes_them(deployment: Deployment) -> None:
    services, world = deployment.services, deployment.world
    first_day, day = TRACKED_DAYS
    first = wait_for(lambda: _done(services.ticks(SENSOR)), "a first tick", seconds=150)
    assert (first["status"], first["skipReason"]) == ("SKIPPED", "Nothing new."), first["error"]

    world.publish(["BTCUSDT", "ETHUSDT"], [first_day, day], dataset=TRACKED)
    tick = wait_for(
        lambda: next((tick for tick in services.ticks(SENSOR) if tick["runIds"]), None), "a request", seconds=150
    )
    [run_id], [run_key] = tick["runIds"], tick["runKeys"]
    assert run_key.startswith(f"{TRACKED}@{first_day}..{day}@")
    run = services.finished_run(run_id)
    assert run["status"] == "SUCCESS"
    assert {
        "dagster/asset_partition_range_start": first_day,
        "dagster/asset_partition_range_end": day,
        "dagster/sensor_name": SENSOR,
        "lakehouse/attempt": "1",
    }.items() <= tags_of(run).items()
    assert services.partitions(TRACKED) == {first_day: "MATERIALIZED", day: "MATERIALIZED"}
    assert services.check(TRACKED, "complete")["status"] == "SUCCEEDED"
    # The sensor records this check and the run repeats it: the UI never shows it as open or outdated.
    assert services.check(TRACKED, "published")["status"] in {"SUCCEEDED", "FAILED"}


def test_the_materialize_button_materializes_one_partition(deployment: Deployment) -> None:
    services, day = deployment.services, "2024-03-01"
    deployment.world.publish(["BTCUSDT", "ETHUSDT"], [day], dataset=METRICS)
    run = services.finished_run(services.launch_run(METRICS, day))
    assert run["status"] == "SUCCESS"
    assert services.partitions(METRICS) == {day: "MATERIALIZED"}
    check = services.check(METRICS, "complete")
    assert check["status"] == "SUCCEEDED"
    assert check["evaluation"]["description"] == f"{day}: All 2 objects are in the lake. No period is incomplete."
    [event] = services.materializations(METRICS, day)
    assert "dagster/backfill" not in event["tags"]


def test_a_partial_run_records_an_observation_until_the_partition_is_complete(deployment: Deployment) -> None:
    services, world, day = deployment.services, deployment.world, "2024-03-02"
    world.publish(["BTCUSDT", "ETHUSDT"], [day], dataset=METRICS)
    config = {"symbols": [world.symbol("BTCUSDT")], "mode": "direct"}
    run = services.finished_run(services.launch_run(METRICS, day, config))
    assert run["status"] == "SUCCESS"
    assert day not in services.partitions(METRICS)
    assert services.materializations(METRICS, day) == []
    [observed] = services.observations(METRICS, day)
    assert (observed["metadata"]["objects_copied"], observed["metadata"]["objects_expected"]) == ("1", "2")
    check = services.check(METRICS, "complete")
    assert check["status"] == "FAILED"
    assert world.key("ETHUSDT", day, dataset=METRICS) in check["evaluation"]["description"]

    rest = services.finished_run(services.launch_run(METRICS, day, {"symbols": [world.symbol("ETHUSDT")]}))
    assert rest["status"] == "SUCCESS"
    assert services.partitions(METRICS)[day] == "MATERIALIZED"
    assert services.check(METRICS, "complete")["status"] == "SUCCEEDED"


def test_the_outlook_names_the_running_backfill(deployment: Deployment) -> None:
    services = deployment.services
    run = services.finished_run(services.launch_report("reports/outlook"))
    assert run["status"] == "SUCCESS"
    [event] = services.materializations("reports/outlook")
    shown = event["metadata"]["backfills"]
    assert f"| {deployment.backfill_id} | {KLINES} | " in shown or shown == "No backfill is running."


# The backfill


def test_a_backfill_with_one_bad_day_materializes_all_good_days(services: Services, backfill: dict[str, Any]) -> None:
    shown = services.partitions(KLINES)
    # Dagster shows every day of a failed run that was not materialized as failed; see the last test.
    assert shown.pop(UNPUBLISHED_BESIDE_BAD) == "FAILED"
    assert shown == dict.fromkeys(GOOD, "MATERIALIZED") | {BAD: "FAILED"}
    assert services.partition_stats(KLINES) == {
        "numMaterialized": len(GOOD),
        "numFailed": 2,
        "numMaterializing": 0,
    }


def test_a_day_that_was_not_published_is_missing_and_observed_so(services: Services, backfill: dict[str, Any]) -> None:
    assert UNPUBLISHED not in services.partitions(KLINES)
    for day in (UNPUBLISHED, UNPUBLISHED_BESIDE_BAD):
        [observed] = services.observations(KLINES, day)
        assert observed["metadata"]["state"] == "not_published"
        assert observed["description"] == "The exchange has published nothing for this period yet."


def test_the_check_names_the_bad_day_and_its_observation_the_object_and_what_to_do(
    deployment: Deployment, backfill: dict[str, Any]
) -> None:
    check = deployment.services.check(KLINES, "complete")
    assert (check["status"], check["evaluation"]["severity"]) == ("FAILED", "ERROR")
    assert f"1 period is incomplete: {BAD}." in check["evaluation"]["description"]
    [observed] = deployment.services.observations(KLINES, BAD)
    assert deployment.world.key("ETHUSDT", BAD) in observed["description"]
    assert "what to do" in observed["metadata"]["failures"]


def test_a_backfill_takes_as_few_runs_as_the_matrix_allows(backfill: dict[str, Any]) -> None:
    tags = [tags_of(run) for run in backfill["runs"]]
    ranges = sorted(
        (run_tags["dagster/asset_partition_range_start"], run_tags["dagster/asset_partition_range_end"])
        for run_tags in tags
    )
    assert ranges == [(WEEK[0], WEEK[2]), (WEEK[3], WEEK[5]), (WEEK[6], WEEK[6])]
    assert sorted(run["status"] for run in backfill["runs"]) == ["FAILURE", "SUCCESS", "SUCCESS"]


def test_the_backfill_ends_and_counts_its_partitions(backfill: dict[str, Any]) -> None:
    assert backfill["status"] == "COMPLETED_FAILED"
    assert backfill["error"] is None
    [counts] = backfill["assetBackfillData"]["assetBackfillStatuses"]
    assert (counts["numPartitionsTargeted"], counts["numPartitionsMaterialized"]) == (len(WEEK), len(GOOD))


def test_materializations_of_a_backfill_carry_its_tag_and_their_own_figures(
    deployment: Deployment, backfill: dict[str, Any]
) -> None:
    for day in GOOD:
        [event] = deployment.services.materializations(KLINES, day)
        assert event["tags"]["dagster/backfill"] == deployment.backfill_id
        assert len(event["tags"]["dagster/data_version"]) == 16
        metadata = event["metadata"]
        assert (metadata["objects_expected"], metadata["objects_copied"]) == ("2", "2")
        assert metadata["copies_by_mode"] == '{"direct": 2}'
        assert metadata["lake_uri"].startswith("s3://lake/")
        assert "failures" not in metadata
    [observed] = deployment.services.observations(KLINES, BAD)
    assert (observed["metadata"]["objects_present"], observed["metadata"]["objects_failed"]) == ("1", "1")
    assert "AccessDenied" in observed["metadata"]["failures"]


def test_a_failed_day_is_materialized_by_a_later_run(services: Services, healed: dict[str, Any]) -> None:
    assert healed["status"] == "SUCCESS"
    assert services.partitions(KLINES)[BAD] == "MATERIALIZED"
    assert services.check(KLINES, "complete")["status"] == "SUCCEEDED"
    [event] = services.materializations(KLINES, BAD)
    assert (event["metadata"]["objects_copied"], event["metadata"]["objects_skipped"]) == ("1", "1")


def test_a_materialized_day_fails_once_its_rewritten_object_is_refused(
    deployment: Deployment, healed: dict[str, Any]
) -> None:
    services, world, day = deployment.services, deployment.world, WEEK[0]
    key = world.key("BTCUSDT", day)
    world.put(key, body_of(key, 2, 400))
    with world.refused_writes(key):
        run = services.finished_run(services.launch_run(KLINES, day))
    assert run["status"] == "FAILURE"
    assert services.partitions(KLINES)[day] == "FAILED"
    check = services.check(KLINES, "complete")
    assert (check["status"], check["runId"]) == ("FAILED", run["runId"])
    assert f"1 period is incomplete: {day}." in check["evaluation"]["description"]


def test_an_unpublished_day_shown_as_failed_is_missing_after_a_run_of_its_own(services: Services) -> None:
    run = services.finished_run(services.launch_run(KLINES, UNPUBLISHED_BESIDE_BAD))
    assert run["status"] == "SUCCESS"
    assert UNPUBLISHED_BESIDE_BAD not in services.partitions(KLINES)


def _done(ticks: list[dict[str, Any]]) -> dict[str, Any] | None:
    return next((tick for tick in ticks if tick["status"] != "STARTED"), None)
