"""Archive assets on a real instance: a partition is materialized only when it is complete (key and range runs)."""

from __future__ import annotations

from copy import copy

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.errors import InputError
from lakehouse_assets.orchestration.archives import complete_check as complete_check_module
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.dagster_tags import RANGE_TAGS
from lakehouse_assets_tests.dagster_internals import check_rows
from lakehouse_assets_tests.faults.listings import edited, without
from lakehouse_assets_tests.orchestration.conftest import Runner, resources_of
from lakehouse_assets_tests.world import World, body_of, days

FIRST, BAD, LAST = "2024-03-01", "2024-03-03", "2024-03-05"


GOOD, WARNED, FAILED = (
    (True, dg.AssetCheckSeverity.WARN),
    (False, dg.AssetCheckSeverity.WARN),
    (False, dg.AssetCheckSeverity.ERROR),
)


def complete_check(runner: Runner, result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    """The evaluation of the check `complete` from the event log: the result of a failed run does not have it."""
    logs = runner.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    logged = [log.dagster_event.event_specific_data for log in logs]
    [evaluation] = [evaluation for evaluation in logged if evaluation.check_name == "complete"]
    assert evaluation.partition is None
    return evaluation


def status(runner: Runner, result: dg.ExecuteInProcessResult) -> tuple[bool, dg.AssetCheckSeverity]:
    evaluation = complete_check(runner, result)
    return evaluation.passed, evaluation.severity


def observations(runner: Runner, result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetObservation]:
    """By partition: those of the run's periods that are not complete."""
    logs = runner.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION)
    observed = [log.dagster_event.asset_observation_data.asset_observation for log in logs]
    return {observation.partition: observation for observation in observed}


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
    assert status(runner, result) == GOOD
    assert (
        complete_check(runner, result).description
        == f"{FIRST}: All 2 objects are in the lake. No period is incomplete."
    )


@pytest.mark.parametrize("as_range", [False, True])
def test_an_incomplete_partition_is_not_materialized_and_fails(runner: Runner, world: World, as_range: bool) -> None:
    entry = world.entry()
    key, _other = world.publish(["BTCUSDT", "ETHUSDT"], [BAD])
    with world.refused_writes(key):
        result = runner.run(entry, BAD, BAD if as_range else None)
    assert not result.success
    assert runner.materialized(entry) == []
    assert status(runner, result) == FAILED
    assert key in complete_check(runner, result).description
    [observation] = observations(runner, result).values()
    assert (observation.partition, observation.metadata["state"].value) == (BAD, "incomplete")
    assert key in observation.description
    assert f"`{key}`" in observation.metadata["failures"].value
    assert "what to do" in observation.metadata["failures"].value


def test_in_a_range_with_one_bad_day_only_that_day_is_not_materialized(runner: Runner, world: World) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT", "ETHUSDT"], days(FIRST, LAST))
    with world.refused_writes(world.key("ETHUSDT", BAD)):
        result = runner.run(entry, FIRST, LAST)
    assert not result.success
    good = [day for day in days(FIRST, LAST) if day != BAD]
    assert runner.materialized(entry) == good
    assert list(observations(runner, result)) == [BAD]
    evaluation = complete_check(runner, result)
    assert evaluation.description == f"{LAST}: All 2 objects are in the lake. 1 period is incomplete: {BAD}."
    assert evaluation.metadata["periods_incomplete"].value == 1
    link = f"[{BAD}](/assets/binance/um/klines/daily?view=partitions&partition={BAD})"
    assert f"| {link} | 2 | 1 | 0 |" in evaluation.metadata["worst"].value
    assert evaluation.metadata["coverage_page"].value.endswith("_reports/coverage/binance_um_klines_daily.html")
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
    assert status(runner, result) == WARNED
    observation = observations(runner, result)["2024-03-02"]
    assert observation.metadata["state"].value == "not_published"
    assert observation.description == "The exchange has published nothing for this period yet."


def test_a_partial_run_records_an_observation_until_the_period_is_complete(runner: Runner, world: World) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT", "ETHUSDT"], [FIRST])
    partial = runner.run(entry, FIRST, symbols=[world.symbol("BTCUSDT")], mode="direct")
    assert partial.success
    assert runner.materialized(entry) == []
    [observation] = partial.asset_observations_for_node(partial.job_def.nodes[0].name)
    assert observation.partition == FIRST
    assert observation.metadata["objects_copied"].value == 1
    assert status(runner, partial) == FAILED

    rest = runner.run(entry, FIRST, symbols=[world.symbol("ETHUSDT")], intervals=["1m"])
    assert rest.success
    assert runner.materialized(entry) == [FIRST]


def test_the_check_judges_all_periods_and_names_the_worst_first(runner: Runner, world: World) -> None:
    entry = world.entry()
    world.publish(["AUSDT", "BUSDT", "CUSDT"], days(FIRST, LAST))
    refused = [world.key(symbol, "2024-03-02") for symbol in ("AUSDT", "BUSDT")] + [world.key("AUSDT", BAD)]
    with world.refused_writes(*refused):
        assert not runner.run(entry, FIRST, BAD).success
    later = runner.run(entry, "2024-03-04", LAST)
    assert later.success
    assert status(runner, later) == FAILED
    assert complete_check(runner, later).description == (
        f"{LAST}: All 3 objects are in the lake. 2 periods are incomplete: 2024-03-02, {BAD}."
    )
    assert status(runner, runner.run(entry, BAD)) == FAILED
    healed = runner.run(entry, "2024-03-02")
    assert status(runner, healed) == GOOD
    assert complete_check(runner, healed).metadata["periods_incomplete"].value == 0


def test_a_manifest_that_cannot_be_read_does_not_fail_the_sync(
    runner: Runner, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_manifest: object) -> pl.DataFrame:
        raise InputError("no manifest today")

    monkeypatch.setattr(complete_check_module, "incomplete_periods", refuse)
    world.publish(["BTCUSDT"], [FIRST])
    result = runner.run(world.entry(), FIRST)
    assert result.success
    assert status(runner, result) == GOOD
    logs = [record.user_message for record in runner.instance.all_logs(result.run_id)]
    assert "Other periods of binance/um/klines/daily are not judged: no manifest today" in logs


def test_a_run_leaves_no_planned_rows_of_checks_behind(runner: Runner, world: World) -> None:
    """Dagster plans an unpartitioned check once per partition of a run, and never updates those rows."""
    world.publish(["BTCUSDT"], days(FIRST, LAST))
    result = runner.run(world.entry(), FIRST, LAST)
    statuses = check_rows(runner.instance, result.run_id)
    assert statuses == {("complete", "SUCCEEDED"): 1, ("expected", "SUCCEEDED"): 1, ("published", "SUCCEEDED"): 1}


def test_a_check_without_partitions_judges_the_manifest(runner: Runner, world: World) -> None:
    """The UI launches an unpartitioned check so."""
    entry = world.entry()
    [key] = world.publish(["BTCUSDT"], [BAD])
    with world.refused_writes(key):
        runner.run(entry, BAD)
    asset = build_archive_asset(entry, "s3://lake")
    job = dg.Definitions([asset], resources=resources_of(world)).resolve_implicit_global_asset_job_def()
    alone = job.get_subset(asset_selection=set(), asset_check_selection={dg.AssetCheckKey(asset.key, "complete")})
    result = alone.execute_in_process(instance=runner.instance)
    assert result.success
    assert status(runner, result) == FAILED
    assert complete_check(runner, result).description == f"1 period is incomplete: {BAD}."


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
    assert status(runner, result) == FAILED
    assert key in complete_check(runner, result).description
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
    failed = observations(runner, outage)
    assert list(failed) == days(FIRST, LAST)
    assert {observation.description.partition(" that were")[0] for observation in failed.values()} == {
        f"Listing {entry.dataset.source_url} lacks 4 of 4 objects"
    }
    assert status(runner, outage) == FAILED
    assert complete_check(runner, outage).metadata["periods_incomplete"].value == 5
    assert accepted.success
    assert status(runner, accepted) == GOOD
    assert "withdrew all" in complete_check(runner, accepted).description


def test_a_folder_that_is_no_symbol_is_named_by_the_check_and_the_metadata(runner: Runner, world: World) -> None:
    entry = world.entry()
    world.publish(["AUSDT", "B USDT", "\u202eTDSUC"], [FIRST])
    result = runner.run(entry, FIRST)
    assert result.success
    assert runner.materialized(entry) == [FIRST]
    assert status(runner, result) == WARNED
    evaluation = complete_check(runner, result)
    names = [world.symbol("B USDT"), world.symbol("\\u202eTDSUC")]
    assert all(name in evaluation.description for name in names)
    metadata = runner.metadata(entry, FIRST)
    assert (metadata["symbols_left_out"], metadata["symbols_left_out_named"]) == (2, sorted(names))
