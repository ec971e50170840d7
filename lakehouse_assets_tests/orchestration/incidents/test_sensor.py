"""The incident sensor on a real Dagster instance: a failure is notified, and resolved once it has recovered."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_aws.s3 import S3Resource

from lakehouse_assets.errors import ErrorKind, Side, StoreError
from lakehouse_assets.lake.incident_store import LakeIncidentStore, fallback_file
from lakehouse_assets.observability.incidents.causes import Cause, Severity
from lakehouse_assets.observability.incidents.lifecycle import resolve
from lakehouse_assets.observability.incidents.model import Note
from lakehouse_assets.observability.incidents.notification import Notifier
from lakehouse_assets.observability.incidents.service import IncidentService
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets.orchestration.discovery.cursor import DiscoveryCursor, problem_of
from lakehouse_assets.orchestration.incidents import run_events
from lakehouse_assets.orchestration.incidents.sensor import INCIDENTS, build_incident_report
from lakehouse_assets.orchestration.resources import LakeResource, SourceResource
from lakehouse_assets_tests.dagster_internals import record_tick
from lakehouse_assets_tests.faults.listings import edited, without
from lakehouse_assets_tests.observability.sinks import Webhook
from lakehouse_assets_tests.orchestration.conftest import Runner
from lakehouse_assets_tests.orchestration.incidents.conftest import Watch
from lakehouse_assets_tests.world import World, days

NOWHERE = {"endpoint_url": "http://127.0.0.1:9", "max_attempts": 1}
FIRST, BAD, LAST = "2024-03-01", "2024-03-02", "2024-03-03"


def check(watch: Watch, name: str, *, passed: bool, asset: str | None = None, text: str = "") -> None:
    """Report an evaluation without a run, as a sensor does."""
    watch.runner.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey((asset or watch.entry.dataset.name).split("/")),
            check_name=name,
            passed=passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=text,
        )
    )


def test_a_failed_partition_is_notified_after_a_minute_and_resolved_when_it_materializes(
    watch: Callable[..., Watch], webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_INCIDENTS_URLS", f"json://127.0.0.1:{webhook.port}/")
    monkeypatch.setenv("LAKEHOUSE_INCIDENTS_DAGSTER_URL", "https://dagster.example.org")
    # More events than a page: the sensor has to read all pages of a run.
    monkeypatch.setattr(run_events, "EVENTS_PER_PAGE", 2)
    harness = watch()
    harness.world.publish(["BTCUSDT"], days(FIRST, LAST))
    with harness.world.refused_writes(harness.world.key("BTCUSDT", BAD)):
        assert not harness.runner.run(harness.entry, FIRST, LAST).success
    harness.tick()
    assert webhook.received == []
    state = harness.tick(later=timedelta(seconds=60))
    name = harness.entry.dataset.name
    assert harness.live() == {Cause.TRANSFER_FAILS: {(name, BAD)}}
    [incident] = state.live()
    [document] = [document for _, document in webhook.received]
    assert document["title"] == "[error] binance: objects cannot be copied into the lake (opened)"
    assert f"https://dagster.example.org/runs/{incident.firing[0].signal.run_id}" in document["message"]
    assert f"{name}?view=partitions&partition={BAD}" in document["message"]
    assert f"{name} {BAD}: 1 of 1 objects" in document["message"]
    assert harness.runner.run(harness.entry, BAD).success
    harness.tick()
    harness.tick(later=timedelta(minutes=6))
    assert (harness.live(), len(webhook.received)) == ({}, 2)
    assert webhook.titles[-1].endswith("(resolved)")


def test_a_run_that_fails_before_its_first_partition_fails_all_of_them(watch: Callable[..., Watch]) -> None:
    harness = watch()
    asset = build_archive_asset(harness.entry, "s3://lake")
    unreachable = {**harness.resources, "source": SourceResource(s3=S3Resource(use_unsigned_session=True, **NOWHERE))}
    result = dg.materialize(
        [asset],
        instance=harness.runner.instance,
        resources=unreachable,
        raise_on_error=False,
        tags=range_tags(FIRST, LAST),
    )
    assert not result.success
    harness.tick()
    assert harness.live() == {Cause.LISTING_FAILS: {(harness.entry.dataset.name, day) for day in days(FIRST, LAST)}}


def test_an_implausible_listing_is_an_incident_of_the_listing_and_not_of_the_transfer(
    watch: Callable[..., Watch], world: World
) -> None:
    harness = watch()
    world.publish(["AUSDT", "BUSDT"], days(FIRST, LAST))
    assert harness.runner.run(harness.entry, FIRST, LAST).success
    faulty = copy(world)
    with edited(world.source, without("<Key>")) as faulty.source:
        assert not Runner(faulty, harness.runner.instance).run(harness.entry, FIRST, LAST).success
    harness.tick()
    assert harness.live() == {Cause.LISTING_FAILS: {(harness.entry.dataset.name, day) for day in days(FIRST, LAST)}}


def test_an_unreachable_lake_does_not_suppress_its_own_notification(
    watch: Callable[..., Watch], webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_INCIDENTS_URLS", f"json://127.0.0.1:{webhook.port}/")
    harness = watch()
    harness.world.publish(["BTCUSDT"], [FIRST])
    reachable = harness.resources
    unreachable_s3 = reachable["lake"].s3.model_dump() | NOWHERE
    harness.resources = {
        **reachable,
        "lake": LakeResource(
            s3=S3Resource(**unreachable_s3), bucket=reachable["lake"].bucket, prefix=reachable["lake"].prefix
        ),
    }
    dg.materialize(
        [build_archive_asset(harness.entry, "s3://lake")],
        instance=harness.runner.instance,
        resources=harness.resources,
        raise_on_error=False,
        partition_key=FIRST,
    )
    harness.tick()
    harness.tick(later=timedelta(seconds=60))
    assert webhook.titles == ["[critical] lake: the lake refuses requests or does not answer (opened)"]
    assert json.loads(fallback_file(harness.fallback, harness.world.lake).read_text())["ahead"]
    assert harness.world.lake_files("_incidents/") == {}
    harness.resources = reachable
    harness.tick()
    assert (set(harness.live()), len(webhook.received)) == ({Cause.LAKE_REFUSES}, 1)
    assert set(harness.world.lake_files("_incidents/")) == {"_incidents/book.json"}
    assert harness.runner.run(harness.entry, FIRST).success
    harness.tick()
    harness.tick(later=timedelta(minutes=6))
    assert (harness.live(), len(webhook.received)) == ({}, 2)


def checked(asset: str, name: str) -> list[Any]:
    """An asset that is not of the matrix, with a check of the given name."""
    key = dg.AssetKey(asset.split("/"))
    return [dg.AssetSpec(key), dg.asset_check(asset=key, name=name)(lambda: dg.AssetCheckResult(passed=True))]


@pytest.mark.parametrize(
    ("name", "cause"),
    [("expected", Cause.UNUSUAL), ("checksums", Cause.CHECKSUM_MISMATCH), ("freshness", Cause.CHECK_FAILS)],
)
def test_a_failing_check_is_an_incident_until_it_passes(watch: Callable[..., Watch], name: str, cause: Cause) -> None:
    harness = watch()
    asset = harness.entry.dataset.name + ("/verified" if name == "checksums" else "")
    if name == "freshness":
        asset = "binance/table"
        harness.extra = checked(asset, name)
    check(harness, name, passed=False, asset=asset, text="bytes of 2024-03-01: 3 bytes, unusually low")
    harness.tick()
    assert harness.live() == {cause: {(asset, None)}}
    [member] = harness.state.live()[0].firing
    assert member.signal.text == "bytes of 2024-03-01: 3 bytes, unusually low"
    check(harness, name, passed=True, asset=asset)
    harness.tick(later=timedelta(seconds=61))
    assert harness.live() == {}


def test_several_late_datasets_of_an_exchange_are_one_incident_of_the_exchange(watch: Callable[..., Watch]) -> None:
    harness = watch()
    names = [f"binance/um/other{number}/daily" for number in range(4)]
    for name in names:
        key = dg.AssetKey(name.split("/"))
        harness.extra += [
            dg.AssetSpec(key),
            dg.asset_check(asset=key, name="published")(lambda: dg.AssetCheckResult(passed=True)),
        ]
    for name in names:
        check(harness, "published", passed=name != names[0], asset=name, text="due 6 h ago")
    harness.tick()
    assert harness.live() == {Cause.DATASET_LATE: {(names[0], None)}}
    check(harness, "published", passed=False, asset=names[1], text="due 5 h ago")
    harness.tick()
    assert harness.live() == {Cause.EXCHANGE_STALLED: {("binance", None), *((name, None) for name in names[:2])}}


def test_a_period_that_discovery_gave_up_is_an_incident(watch: Callable[..., Watch]) -> None:
    harness = watch()
    key = dg.AssetKey(harness.entry.dataset.asset_key)
    harness.runner.instance.report_runless_asset_event(
        dg.AssetObservation(
            key, partition=BAD, description="Gave up after 8 failed runs.", metadata={"incident": "gave_up"}
        )
    )
    harness.runner.instance.report_runless_asset_event(
        dg.AssetObservation(key, partition=FIRST, metadata={"objects": 1})
    )
    harness.tick()
    assert harness.live() == {Cause.TRANSFER_FAILS: {(harness.entry.dataset.name, BAD)}}


@pytest.mark.parametrize(
    ("problem", "cause"),
    [
        (StoreError("Listing", "Unreachable", side=Side.SOURCE, kind=ErrorKind.UNREACHABLE), Cause.EXCHANGE_STALLED),
        (StoreError("Reading the manifest", "Unreachable", side=Side.LAKE), Cause.LAKE_REFUSES),
        (ValueError("a fault of ours"), Cause.EXCHANGE_STALLED),
        (None, None),
    ],
)
@pytest.mark.parametrize("runs", [(), ("a run",)], ids=["skipped", "requested"])
def test_a_problem_of_a_discovery_sensor_is_an_incident_by_the_fields_of_its_error(
    watch: Callable[..., Watch], problem: Exception | None, cause: Cause | None, runs: tuple[str, ...]
) -> None:
    harness = watch()
    name = harness.entry.dataset.name
    cursor = DiscoveryCursor()
    if problem is not None:
        cursor.of(name).problem = problem_of(problem)
    # The message mentions both sides: only the fields of the error decide.
    reason = f"{name}: Listing s3://x/ failed; {harness.world.lake.url()} failed"
    record_tick(harness.runner.instance, "binance_discovery", cursor=cursor.write(), reason=reason, runs=runs)
    harness.tick()
    assert set(harness.live()) == ({cause} if cause else set())
    assert all(member.signal.text for incident in harness.state.live() for member in incident.firing)


@pytest.mark.usefixtures("stored_instance")
def test_an_old_failure_is_no_incident_when_the_sensor_first_runs(
    runner: Runner, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT"], [FIRST])
    with world.refused_writes(world.key("BTCUSDT", FIRST)):
        assert not runner.run(entry, FIRST).success
    harness = Watch(runner, entry, tmp_path, monkeypatch)
    harness.tick()
    assert harness.live() == {}


def test_a_tick_that_ends_before_its_cursor_is_stored_is_not_notified_twice(
    watch: Callable[..., Watch], webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_INCIDENTS_URLS", f"json://127.0.0.1:{webhook.port}/")
    harness = watch()
    harness.world.publish(["BTCUSDT"], [FIRST])
    with harness.world.refused_writes(harness.world.key("BTCUSDT", FIRST)):
        assert not harness.runner.run(harness.entry, FIRST).success
    before = harness.cursor
    for _ in range(3):
        harness.cursor = before
        harness.tick(later=timedelta(seconds=60))
    assert len(webhook.received) == 1


def test_the_page_is_reported_when_incidents_change_and_can_be_rebuilt(watch: Callable[..., Watch]) -> None:
    harness = watch()
    assert harness.events == []
    check(harness, "expected", passed=False, text="3 | 4 bytes")
    harness.tick()
    [reported] = harness.events
    assert reported.asset_key == INCIDENTS
    assert reported.metadata["incidents_open"].value == 1
    assert "`binance-unusual-" in reported.metadata["open"].value
    assert "3 \\| 4 bytes" in reported.metadata["open"].value
    harness.tick()
    assert harness.events == []
    result = dg.materialize([build_incident_report()], instance=harness.runner.instance, resources=harness.resources)
    [page] = result.asset_materializations_for_node("__".join(INCIDENTS.path))
    assert page.metadata["open"] == reported.metadata["open"]
    assert page.metadata["undelivered"].value == "None."


def test_an_incident_resolved_by_a_person_is_notified_and_stays_resolved(
    watch: Callable[..., Watch], webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_INCIDENTS_URLS", f"json://127.0.0.1:{webhook.port}/")
    harness = watch()
    check(harness, "checksums", passed=False, asset=f"{harness.entry.dataset.name}/verified")
    [incident] = harness.tick(later=timedelta(seconds=61)).live()
    assert incident.severity is Severity.ERROR
    service = IncidentService(LakeIncidentStore(harness.world.lake, None), Notifier())
    note = Note(who="anna", at=datetime.now(UTC), text="the exchange knows")
    service.change(lambda state: resolve(state, incident.id, note), note.at)
    harness.tick()
    assert harness.live() == {}
    assert "Resolved by anna: the exchange knows." in webhook.received[-1][1]["message"]
