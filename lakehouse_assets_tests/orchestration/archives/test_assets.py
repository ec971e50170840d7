"""Archive assets on a real instance: a partition is materialized only when it is complete (key and range runs)."""

from __future__ import annotations

from copy import copy

import dagster as dg
import pytest

from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.dagster_tags import RANGE_TAGS
from lakehouse_assets_tests.faults.listings import edited, without
from lakehouse_assets_tests.orchestration.conftest import Runner, resources_of
from lakehouse_assets_tests.world import World, body_of, days

FIRST, BAD, LAST = "2024-03-01", "2024-03-03", "2024-03-05"


def evaluations(runner: Runner, result: dg.ExecuteInProcessResult) -> list[dg.AssetCheckEvaluation]:
    """Evaluations of the check `complete` from the event log: the result of a failed run does not have them."""
    logs = runner.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    logged = [log.dagster_event.event_specific_data for log in logs]
    return [evaluation for evaluation in logged if evaluation.check_name == "complete"]


def statuses(runner: Runner, result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, dg.AssetCheckSeverity]]:
    return {e.partition: (e.passed, e.severity) for e in evaluations(runner, result)}


def test_a_complete_partition_is_materialized_with_its_figures(runner: Runner, world: World) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT", "ETHUSDT"], [FIRST])
    result = runner.run(entry, FIRST)
    assert result.success
    assert runner.materialized(entry) == [FIRST]
    metadata = runner.metadata(entry, FIRST)
    assert {name: metadata[name] for name in metadata if name.startswith("objects_")} == {
        "objects_expected": 2,
        "objects_present": 2,
        "objects_copied": 2,
        "objects_skipped": 0,
        "objects_failed": 0,
        "objects_vanished": 0,
        "objects_by_integrity": {"unverified": 2},
    }
    assert metadata["sidecars_copied"] == 2
    assert metadata["copies_by_mode"] == {"direct": 2}
    assert metadata["operations_saved"] == 16
    assert metadata["bytes_copied"] == metadata["bytes"] > 800
    assert metadata["seconds"] > 0
    assert metadata["bytes_per_second"] == pytest.approx(metadata["bytes_copied"] / metadata["seconds"], rel=0.05)
    assert metadata["source_uri"] == "s3://data.binance.vision/data/futures/um/daily/klines/"
    assert metadata["lake_uri"] == world.lake.url("archive/binance/data/futures/um/daily/klines/")
    assert "failures" not in metadata
    assert statuses(runner, result) == {FIRST: (True, dg.AssetCheckSeverity.WARN)}


@pytest.mark.parametrize("as_range", [False, True])
def test_an_incomplete_partition_is_not_materialized_and_fails(runner: Runner, world: World, as_range: bool) -> None:
    entry = world.entry()
    key, _other = world.publish(["BTCUSDT", "ETHUSDT"], [BAD])
    with world.refused_writes(key):
        result = runner.run(entry, BAD, BAD if as_range else None)
    assert not result.success
    assert runner.materialized(entry) == []
    [evaluation] = evaluations(runner, result)
    assert (evaluation.partition, evaluation.passed, evaluation.severity) == (BAD, False, dg.AssetCheckSeverity.ERROR)
    assert key in evaluation.description
    assert f"`{key}`" in evaluation.metadata["failures"].value
    assert "what to do" in evaluation.metadata["failures"].value


def test_in_a_range_with_one_bad_day_only_that_day_is_not_materialized(runner: Runner, world: World) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT", "ETHUSDT"], days(FIRST, LAST))
    with world.refused_writes(world.key("ETHUSDT", BAD)):
        result = runner.run(entry, FIRST, LAST)
    assert not result.success
    good = [day for day in days(FIRST, LAST) if day != BAD]
    assert runner.materialized(entry) == good
    assert {day for day, (passed, _severity) in statuses(runner, result).items() if passed} == set(good)
    partitions = (
        runner.instance.event_log_storage.get_latest_asset_partition_materialization_attempts_without_materializations(
            dg.AssetKey(entry.dataset.asset_key)
        )
    )
    assert list(partitions) == [BAD]


def test_a_failed_step_is_not_retried_by_dagster(runner: Runner, world: World) -> None:
    [key] = world.publish(["BTCUSDT"], [BAD])
    asset = build_archive_asset(world.entry(), "s3://lake")
    job = dg.define_asset_job("job", [asset], op_retry_policy=dg.RetryPolicy(max_retries=2))
    definitions = dg.Definitions([asset], jobs=[job], resources=resources_of(world))
    with world.refused_writes(key):
        result = definitions.resolve_job_def("job").execute_in_process(
            partition_key=BAD, instance=runner.instance, raise_on_error=False
        )
    assert not result.success
    kinds = [event.event_type for event in result.all_events]
    assert dg.DagsterEventType.STEP_FAILURE in kinds
    assert dg.DagsterEventType.STEP_UP_FOR_RETRY not in kinds


@pytest.mark.parametrize("as_range", [False, True])
def test_an_unpublished_period_stays_missing_and_only_warns(runner: Runner, world: World, as_range: bool) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT"], [FIRST])
    result = runner.run(entry, *(("2024-03-01", "2024-03-02") if as_range else ("2024-03-02",)))
    assert result.success
    assert runner.materialized(entry) == ([FIRST] if as_range else [])
    assert statuses(runner, result)["2024-03-02"] == (False, dg.AssetCheckSeverity.WARN)


def test_a_partial_run_records_an_observation_until_the_period_is_complete(runner: Runner, world: World) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT", "ETHUSDT"], [FIRST])
    partial = runner.run(entry, FIRST, symbols=[world.symbol("BTCUSDT")], mode="direct")
    assert partial.success
    assert runner.materialized(entry) == []
    [observation] = partial.asset_observations_for_node(partial.job_def.nodes[0].name)
    assert observation.partition == FIRST
    assert observation.metadata["objects_copied"].value == 1
    [evaluation] = evaluations(runner, partial)
    assert not evaluation.passed

    rest = runner.run(entry, FIRST, symbols=[world.symbol("ETHUSDT")], intervals=["1m"])
    assert rest.success
    assert runner.materialized(entry) == [FIRST]


def test_the_check_refers_to_the_materialization_that_it_evaluated(runner: Runner, world: World) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT"], [FIRST])
    result = runner.run(entry, FIRST)
    [evaluation] = evaluations(runner, result)
    [record] = runner.instance.fetch_materializations(dg.AssetKey(entry.dataset.asset_key), limit=1).records
    assert evaluation.target_materialization_data.storage_id == record.storage_id


def test_a_run_of_the_check_alone_copies_nothing_and_names_the_missing_object(runner: Runner, world: World) -> None:
    entry = world.entry()
    [key] = world.publish(["BTCUSDT"], [FIRST])
    asset = build_archive_asset(entry, "s3://lake")
    result = dg.materialize(
        [asset],
        selection=dg.AssetSelection.checks(dg.AssetCheckKey(asset.key, "complete")),
        instance=runner.instance,
        resources=resources_of(world),
        tags=dict.fromkeys(RANGE_TAGS, FIRST),
    )
    assert result.success
    [evaluation] = evaluations(runner, result)
    assert not evaluation.passed
    assert key in evaluation.description
    assert world.lake_files() == {}


def test_a_second_run_copies_nothing_and_keeps_the_data_version(runner: Runner, world: World) -> None:
    entry = world.entry()
    [key] = world.publish(["BTCUSDT"], [FIRST])

    def version() -> str:
        [record] = runner.instance.fetch_materializations(dg.AssetKey(entry.dataset.asset_key), limit=1).records
        return record.asset_materialization.tags["dagster/data_version"]

    runner.run(entry, FIRST)
    first = version()
    runner.run(entry, FIRST)
    assert runner.metadata(entry, FIRST)["objects_copied"] == 0
    assert version() == first
    world.put(key, body_of(key, 2, 400))
    runner.run(entry, FIRST)
    assert runner.metadata(entry, FIRST)["objects_copied"] == 1
    assert version() != first


def test_a_monthly_dataset_has_months_as_partitions(runner: Runner, world: World) -> None:
    funding = "binance/um/fundingRate/monthly"
    entry = world.entry(funding)
    world.publish(["BTCUSDT"], ["2024-02", "2024-03"], dataset=funding)
    assert runner.run(entry, "2024-02", "2024-03").success
    assert runner.materialized(entry) == ["2024-02", "2024-03"]


def test_one_line_per_partition_is_logged_and_none_per_object(runner: Runner, world: World) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT", "ETHUSDT"], days(FIRST, LAST))
    result = runner.run(entry, FIRST, LAST)
    records = runner.instance.all_logs(result.run_id)
    lines = [r.user_message for r in records if r.user_message.startswith(f"{entry.dataset} ")]
    assert len(lines) == 5
    assert not [r for r in records if ".zip" in r.message]


def test_an_unrecognized_key_is_logged_once_per_run(runner: Runner, world: World) -> None:
    [key] = world.publish(["BTCUSDT"], [FIRST])
    world.put(f"{key.rsplit('-', 3)[0]}-2024-03-02-draft.zip", b"stray", sidecar=False)
    result = runner.run(world.entry(), FIRST, LAST)
    notes = [r.user_message for r in runner.instance.all_logs(result.run_id) if "not archive objects" in r.user_message]
    assert len(notes) == 1
    assert "2024-03-02-draft.zip': its name is not of the data set's form" in notes[0]


def test_the_asset_has_its_group_kinds_description_owners_pool_and_backfill_policy(world: World) -> None:
    asset = build_archive_asset(world.entry(partitions_per_run=7), "s3://lake/p")
    spec = asset.get_asset_spec(dg.AssetKey(["binance", "um", "klines", "daily"]))
    assert spec.group_name == "binance/um"
    assert spec.kinds == {"s3", "s5cmd"}
    assert "s3://data.binance.vision/data/futures/um/daily/klines/" in spec.description
    assert "s3://lake/p/archive/binance/data/futures/um/daily/klines/" in spec.description
    assert spec.owners
    assert asset.op.pool == "archive_binance"
    assert asset.backfill_policy.max_partitions_per_run == 7


def test_an_implausible_listing_fails_all_periods_and_the_check_says_why(runner: Runner, world: World) -> None:
    entry = world.entry()
    world.publish(["AUSDT", "BUSDT", "CUSDT", "DUSDT"], days(FIRST, LAST))
    assert runner.run(entry, FIRST, LAST).success
    faulty = copy(world)
    with edited(world.source, without("<Key>")) as faulty.source:
        outage = Runner(faulty, runner.instance).run(entry, FIRST, LAST)
        assert not outage.success
        accepted = Runner(faulty, runner.instance).run(entry, FIRST, LAST, accept_withdrawals=True)
    failed = evaluations(runner, outage)
    assert statuses(runner, outage) == dict.fromkeys(days(FIRST, LAST), (False, dg.AssetCheckSeverity.ERROR))
    assert {e.description.partition(" that were")[0] for e in failed} == {
        f"Listing {entry.dataset.source_url} lacks 4 of 4 objects"
    }
    assert accepted.success
    assert all("withdrew all" in e.description for e in evaluations(runner, accepted))


def test_a_folder_that_is_no_symbol_is_named_by_the_check_and_the_metadata(runner: Runner, world: World) -> None:
    entry = world.entry()
    world.publish(["AUSDT", "B USDT", "\u202eTDSUC"], [FIRST])
    result = runner.run(entry, FIRST)
    assert result.success
    assert runner.materialized(entry) == [FIRST]
    assert statuses(runner, result) == {FIRST: (False, dg.AssetCheckSeverity.WARN)}
    [evaluation] = evaluations(runner, result)
    names = [world.symbol("B USDT"), world.symbol("\\u202eTDSUC")]
    assert all(name in evaluation.description for name in names)
    metadata = runner.metadata(entry, FIRST)
    assert (metadata["symbols_left_out"], metadata["symbols_left_out_named"]) == (2, sorted(names))
