"""The discovery sensor on a real instance and a real store; only the clock is set by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.archive.bucket import Credentials
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.discovery import tick, time_budget
from lakehouse_assets.orchestration.discovery.cursor import (
    MAX_ATTEMPTS,
    MAX_PENDING,
    DiscoveryCursor,
    PendingPeriod,
    problems_of,
)
from lakehouse_assets.sync import changes
from lakehouse_assets_tests.orchestration.watcher import (
    FIRST_PAUSE,
    SETTLE,
    Watcher,
    lake_at,
    periods,
    resources_of,
)
from lakehouse_assets_tests.world import KLINES, World, body_of, days, scope

METRICS = "binance/um/metrics/daily"
FUNDING = "binance/um/fundingRate/monthly"
NEW = "2024-03-04"


@pytest.fixture
def entry(world: World) -> DatasetEntry:
    return world.entry(follow_from="2024-03-01")


# What is requested, and when


def test_the_newest_period_of_every_dataset_is_requested_once_it_settled(watcher: Watcher, world: World) -> None:
    entries = [world.entry(name, follow_from="2024-02-01") for name in (KLINES, METRICS, FUNDING)]
    for dataset, period in ((KLINES, NEW), (METRICS, NEW), (FUNDING, "2024-02")):
        world.publish(["BTCUSDT", "ETHUSDT"], [period], dataset=dataset)
    requests = watcher.settle(*entries)
    assert {(tuple(r.asset_selection), r.partition_key) for r in requests} == {
        ((dg.AssetKey(["binance", "um", "klines", "daily"]),), NEW),
        ((dg.AssetKey(["binance", "um", "metrics", "daily"]),), NEW),
        ((dg.AssetKey(["binance", "um", "fundingRate", "monthly"]),), "2024-02"),
    }
    for request in requests:
        dataset, period, fingerprint, attempt = request.run_key.split("@")
        assert (dataset, period) == (request.asset_selection[0].to_user_string(), request.partition_key)
        assert (len(fingerprint), attempt) == (16, "1")
        assert request.tags == {
            "lakehouse/dataset": dataset,
            "lakehouse/attempt": "1",
            "lakehouse/objects": "2",
            "lakehouse/fingerprints": fingerprint,
            "lakehouse/lake": world.lake.label,
            "dagster/priority": "30",
        }
        assert request.run_config == {}


def test_a_period_whose_listing_still_changes_is_not_requested(
    watcher: Watcher, world: World, entry: DatasetEntry
) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        world.publish([symbol], [NEW])
        assert watcher.tick(entry, later=SETTLE - 1) == []
        assert "not settled" in watcher.reason
    assert watcher.tick(entry, later=SETTLE - 1) == []
    assert periods(watcher.tick(entry, later=1)) == [NEW]


@pytest.mark.parametrize(("symbols", "at_once"), [(19, True), (18, False)])
def test_a_period_with_95_percent_of_the_one_before_is_requested_at_once(
    watcher: Watcher, world: World, entry: DatasetEntry, symbols: int, at_once: bool
) -> None:
    names = [f"S{number}USDT" for number in range(20)]
    world.publish(names, ["2024-03-03"])
    watcher.copied(entry, "2024-03-03")
    world.publish(names[:symbols], [NEW])
    assert periods(watcher.tick(entry)) == ([NEW] if at_once else [])


def test_a_period_is_not_requested_before_it_is_over_in_utc(
    watcher: Watcher, world: World, entry: DatasetEntry
) -> None:
    world.publish(["BTCUSDT"], ["2024-03-05"])
    watcher.now = datetime(2024, 3, 5, 23, 50, tzinfo=UTC)
    assert watcher.settle(entry) == []
    watcher.now = datetime(2024, 3, 6, tzinfo=UTC)
    assert periods(watcher.settle(entry)) == ["2024-03-05"]


def test_a_month_is_not_requested_before_it_is_over(watcher: Watcher, world: World) -> None:
    entry = world.entry(FUNDING, follow_from="2024-02-10")
    world.publish(["BTCUSDT"], ["2024-01", "2024-02"], dataset=FUNDING)
    watcher.now = datetime(2024, 2, 29, 23, 50, tzinfo=UTC)
    assert watcher.settle(entry) == []
    watcher.now = datetime(2024, 3, 1, tzinfo=UTC)
    assert periods(watcher.settle(entry)) == ["2024-02"]


def test_history_before_follow_from_is_never_requested(watcher: Watcher, world: World) -> None:
    world.publish(["BTCUSDT"], days("2024-02-20", NEW))
    assert periods(watcher.settle(world.entry(follow_from="2024-03-03"))) == [f"2024-03-03..{NEW}"]


def test_without_follow_from_a_dataset_is_tracked_from_the_first_poll(watcher: Watcher, world: World) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT"], days("2024-03-01", "2024-03-06"))
    assert watcher.settle(entry) == []
    watcher.now = datetime(2024, 3, 7, 8, tzinfo=UTC)
    assert periods(watcher.settle(entry)) == ["2024-03-05..2024-03-06"]


# No run is requested twice, except after a failure


def test_no_run_is_requested_while_one_is_in_progress(watcher: Watcher, world: World, entry: DatasetEntry) -> None:
    world.publish(["BTCUSDT"], [NEW])
    [request] = watcher.settle(entry)
    run = watcher.run(request, dg.DagsterRunStatus.NOT_STARTED)
    world.publish(["ETHUSDT"], [NEW])
    for status in (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING):
        assert watcher.tick(entry, later=86_000) == []
        assert "Runs in progress: 1" in watcher.reason
        watcher.instance.run_storage.handle_run_event(run.run_id, _status_event(status))


def test_a_failed_run_is_requested_again_with_growing_pauses_until_it_is_given_up(
    watcher: Watcher, world: World, entry: DatasetEntry, capsys: pytest.CaptureFixture[str]
) -> None:
    world.publish(["BTCUSDT"], [NEW])
    [request] = watcher.settle(entry)
    keys = [request.run_key]
    pause = FIRST_PAUSE
    for attempt in range(2, MAX_ATTEMPTS + 1):
        watcher.run(request, dg.DagsterRunStatus.FAILURE)
        assert watcher.tick(entry, later=60) == []  # notices that the run has ended
        assert watcher.tick(entry, later=pause - 1) == []
        [request] = watcher.tick(entry, later=1)
        assert request.tags["lakehouse/attempt"] == str(attempt)
        keys.append(request.run_key)
        pause = min(2 * pause, 6 * 3600)
    assert len(set(keys)) == MAX_ATTEMPTS

    watcher.run(request, dg.DagsterRunStatus.FAILURE)
    for _ in range(5):
        assert watcher.tick(entry, later=6 * 3600) == []
        assert f"Gave up after {MAX_ATTEMPTS} failed runs each: {KLINES}@{NEW}" in watcher.reason
    assert f"{KLINES}@{NEW}: gave up" in capsys.readouterr().err
    [incident] = [event for event in watcher.events if isinstance(event, dg.AssetObservation)]
    assert (incident.partition, incident.metadata["failed_runs"].value) == (NEW, MAX_ATTEMPTS)

    world.publish(["ETHUSDT"], [NEW])  # other objects: the attempts begin anew
    assert watcher.tick(entry, later=6 * 3600) == []
    [fresh] = watcher.tick(entry, later=SETTLE)
    assert fresh.tags["lakehouse/attempt"] == "1"
    assert fresh.run_key not in keys


def test_a_new_period_is_requested_beside_as_much_history_that_is_given_up_as_the_cursor_keeps(
    watcher: Watcher, world: World
) -> None:
    entry = world.entry(follow_from="2022-01-01")
    cursor = DiscoveryCursor(ticked=int(watcher.now.timestamp()))
    given_up = PendingPeriod("0123456789abcdef", MAX_ATTEMPTS, int(watcher.now.timestamp()))
    cursor.of(entry.dataset.name).pending = dict.fromkeys(days("2022-01-01", "2023-12-31")[:MAX_PENDING], given_up)
    watcher.cursor = cursor.write()
    world.publish(["BTCUSDT"], [NEW])
    assert periods(watcher.settle(entry)) == [NEW]


def test_a_run_that_was_deleted_counts_as_ended(watcher: Watcher, world: World, entry: DatasetEntry) -> None:
    world.publish(["BTCUSDT"], [NEW])
    [request] = watcher.settle(entry)
    watcher.instance.delete_run(watcher.run(request, dg.DagsterRunStatus.STARTED).run_id)
    assert watcher.tick(entry, later=60) == []
    [retry] = watcher.tick(entry, later=FIRST_PAUSE)
    assert retry.tags["lakehouse/attempt"] == "2"


def test_a_copied_period_is_not_requested_again_and_leaves_the_cursor(
    watcher: Watcher, world: World, entry: DatasetEntry
) -> None:
    world.publish(["BTCUSDT"], [NEW])
    [request] = watcher.settle(entry)
    watcher.copied(entry, NEW)
    watcher.run(request, dg.DagsterRunStatus.SUCCESS)
    for _ in range(12):
        assert watcher.tick(entry, later=1200) == []
        assert watcher.reason == "Nothing new."
    assert DiscoveryCursor.read(watcher.cursor).of(KLINES).pending == {}


def test_objects_published_after_the_run_are_requested_with_a_new_fingerprint(watcher: Watcher, world: World) -> None:
    entry = world.entry(follow_from=NEW)
    world.publish(["BTCUSDT"], [NEW])
    [request] = watcher.settle(entry)
    watcher.copied(entry, NEW)
    watcher.run(request, dg.DagsterRunStatus.SUCCESS)
    assert watcher.tick(entry, later=60) == []
    world.publish(["ETHUSDT"], [NEW])
    assert watcher.tick(entry, later=3600) == []
    assert "not settled" in watcher.reason
    [late] = watcher.tick(entry, later=SETTLE)
    assert (late.partition_key, late.tags["lakehouse/attempt"]) == (NEW, "1")
    assert late.run_key != request.run_key


def test_a_run_that_left_the_period_incomplete_is_followed_by_another(
    watcher: Watcher, world: World, entry: DatasetEntry
) -> None:
    world.publish(["BTCUSDT"], [NEW])
    [request] = watcher.settle(entry)
    world.publish(["ETHUSDT"], [NEW])
    world.engine().sync(scope(entry, NEW, symbols=(world.symbol("BTCUSDT"),)))
    watcher.run(request, dg.DagsterRunStatus.SUCCESS)
    assert watcher.tick(entry, later=60) == []
    assert watcher.tick(entry, later=FIRST_PAUSE) == []
    [second] = watcher.tick(entry, later=SETTLE)
    assert second.run_key.rsplit("@", 2)[1] != request.run_key.rsplit("@", 2)[1]


def test_a_file_that_was_rewritten_soon_after_is_requested(watcher: Watcher, world: World) -> None:
    entry = world.entry(follow_from=NEW)
    [key] = world.publish(["BTCUSDT"], [NEW])
    watcher.copied(entry, NEW)
    assert watcher.tick(entry) == []
    world.put(key, body_of(key, 2, 400))
    assert watcher.tick(entry, later=3600) == []
    assert periods(watcher.tick(entry, later=SETTLE)) == [NEW]


def test_a_withdrawn_object_is_requested_once_for_the_manifest_but_a_withdrawn_sidecar_is_not(
    watcher: Watcher, world: World
) -> None:
    entry = world.entry(follow_from=NEW)
    kept, gone = world.publish(["BTCUSDT", "ETHUSDT"], [NEW])
    watcher.copied(entry, NEW)
    watcher.tick(entry)
    world.store.admin_bucket(world.source.name).boto3_client().delete_object(
        Bucket=world.source.name, Key=f"{kept}.CHECKSUM"
    )
    assert watcher.tick(entry, later=3600) == []
    world.withdraw(gone)
    assert watcher.tick(entry, later=3600) == []
    [request] = watcher.tick(entry, later=SETTLE)
    watcher.obey(entry, request)
    for _ in range(3):
        assert watcher.tick(entry, later=3600) == []
    assert watcher.reason == "Nothing new."


# What a poll costs


def test_while_no_canary_changed_only_canaries_are_listed(watcher: Watcher, world: World) -> None:
    # All tests share the canaries, so this one uses a dataset and a year of its own.
    name, day = "binance/um/indexPriceKlines/daily", "2021-06-01"
    canary, other = "BTCUSDT", world.symbol("XUSDT")
    entry = world.entry(name, follow_from=day, symbols={"include": [canary, f"{world.tag}*"]})
    layout = Dataset.parse(name).layout
    period = Dataset.parse(name).period(day)
    keys = {symbol: layout.key_of(symbol=symbol, interval="1m", period=period) for symbol in (canary, other)}
    watcher.now = datetime(2021, 6, 2, 8, tzinfo=UTC)
    watcher.tick(entry)
    world.put(keys[other], b"x")
    for _ in range(3):
        watcher.gateway.listed.clear()
        assert watcher.tick(entry, later=60) == []
        assert watcher.gateway.listed == [f"{keys[canary].rsplit('/', 1)[0]}/"]
    world.put(keys[canary], b"y")
    try:
        assert periods(watcher.settle(entry)) == [day]
        assert any(world.tag in prefix for prefix in watcher.gateway.listed)
    finally:
        world.withdraw(keys[canary])


def test_when_all_periods_are_complete_nothing_is_listed(watcher: Watcher, world: World, entry: DatasetEntry) -> None:
    world.publish(["BTCUSDT"], days("2024-03-01", NEW))
    watcher.copied(entry, *days("2024-03-01", NEW))
    watcher.tick(entry)
    watcher.gateway.listed.clear()
    for _ in range(3):
        assert watcher.tick(entry, later=60) == []
    assert watcher.gateway.listed == []


def test_while_the_newest_day_is_being_copied_the_others_are_not_listed_every_tick(
    watcher: Watcher, world: World, entry: DatasetEntry
) -> None:
    world.publish(["BTCUSDT"], [NEW])
    [request] = watcher.settle(entry)
    watcher.run(request, dg.DagsterRunStatus.STARTED)
    watcher.tick(entry, later=3600)
    for _ in range(3):
        watcher.gateway.listed.clear()
        assert watcher.tick(entry, later=60) == []
        assert watcher.gateway.listed == []


def test_a_day_costs_one_listing_per_symbol_however_long_the_history_is(watcher: Watcher, world: World) -> None:
    entry = world.entry(follow_from="2020-01-01")
    world.publish(["BTCUSDT", "ETHUSDT"], ["2020-01-01", NEW])
    watcher.copied(entry, "2020-01-01")
    watcher.tick(entry)
    watcher.gateway.listed.clear()
    watcher.tick(entry, later=SETTLE)
    root, *folders = watcher.gateway.listed
    assert root == Dataset.parse(KLINES).source_prefix
    assert sorted(folders) == [f"{root}{world.symbol(name)}/1m/" for name in ("BTCUSDT", "ETHUSDT")]


def test_a_tick_stops_at_its_budget_and_the_next_one_resumes(watcher: Watcher, world: World) -> None:
    entries = [world.entry(name, follow_from="2024-02-01") for name in (KLINES, METRICS, FUNDING)]
    for dataset, period in ((KLINES, NEW), (METRICS, NEW), (FUNDING, "2024-02")):
        world.publish(["BTCUSDT"], [period], dataset=dataset)
    watcher.settings = {"budget_seconds": 0.05, "settle_seconds": 0}
    watcher.gateway.delay = 0.1
    requested = []
    for expected in (METRICS, FUNDING, KLINES):
        requested += [watcher.tick(*entries, later=60)]
        assert DiscoveryCursor.read(watcher.cursor).next_dataset == expected
    assert [r.asset_selection[0].to_user_string() for [r] in requested] == [KLINES, METRICS, FUNDING]


def test_a_listing_longer_than_a_tick_is_continued_in_the_next(
    watcher: Watcher, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "BATCH_FOLDERS", 1)
    entry = world.entry(follow_from=NEW)
    names = [f"S{number}USDT" for number in range(6)]
    world.publish(names, [NEW])
    watcher.settings = {"budget_seconds": 0.1, "settle_seconds": 0}
    watcher.gateway.delay = 0.05
    requested: list[dg.RunRequest] = []
    ticks = 0
    while not requested:
        requested = watcher.tick(entry, later=1)
        watcher.restart()
        ticks += 1
        assert ticks < 20
    assert ticks > 3
    listed = [prefix for prefix in watcher.gateway.listed if prefix.endswith("/1m/")]
    assert sorted(listed) == [f"{entry.dataset.source_prefix}{world.symbol(name)}/1m/" for name in names]
    assert [(request.partition_key, request.tags["lakehouse/objects"]) for request in requested] == [(NEW, "6")]


def test_a_source_that_does_not_answer_ends_the_tick_in_time_and_the_next_begins_with_others(
    watcher: Watcher, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_budget, "LIMIT_SECONDS", 0.3)
    entries = [world.entry(name, follow_from="2024-02-01") for name in (KLINES, METRICS)]
    watcher.gateway.delay = 100
    assert watcher.tick(*entries) == []
    assert watcher.gateway.answered == 0
    assert watcher.reason.startswith(f"{KLINES}: no answer within 0.3 s")
    assert DiscoveryCursor.read(watcher.cursor).next_dataset == METRICS


def test_a_tick_requests_no_more_runs_than_the_limit(
    watcher: Watcher, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tick, "REQUESTS_PER_TICK", 2)
    entries = [world.entry(name, follow_from="2024-03-02") for name in (KLINES, METRICS)]
    for dataset in (KLINES, METRICS):
        world.publish(["BTCUSDT"], ["2024-03-02", NEW], dataset=dataset)
    watcher.settings = {"settle_seconds": 0}
    ticks = [watcher.tick(*entries, later=60) for _ in range(2)]
    assert [[(r.asset_selection[0].path[2], r.partition_key) for r in requests] for requests in ticks] == [
        [("klines", NEW), ("klines", "2024-03-02")],
        [("metrics", NEW), ("metrics", "2024-03-02")],
    ]


# Outages


def test_a_source_outage_skips_the_tick_and_loses_nothing(watcher: Watcher, world: World, entry: DatasetEntry) -> None:
    world.publish(["BTCUSDT"], [NEW])
    [request] = watcher.settle(entry)
    watcher.run(request, dg.DagsterRunStatus.FAILURE)
    watcher.tick(entry, later=60)
    watcher.gateway.refusal = (403, "AccessDenied")
    assert watcher.tick(entry, later=FIRST_PAUSE) == []
    assert "binance/um/klines/daily: Listing s3://data.binance.vision" in watcher.reason
    assert "closed for maintenance" in watcher.reason
    assert problems_of(watcher.cursor) == {KLINES: "source"}
    watcher.gateway.refusal = None
    [retry] = watcher.tick(entry, later=60)
    assert problems_of(watcher.cursor) == {}
    assert retry.tags["lakehouse/attempt"] == "2"


def test_a_lake_outage_skips_the_tick_and_loses_nothing(watcher: Watcher, world: World, entry: DatasetEntry) -> None:
    world.publish(["BTCUSDT"], [NEW])
    [request] = watcher.settle(entry)
    watcher.run(request, dg.DagsterRunStatus.FAILURE)
    watcher.tick(entry, later=60)
    working_lake = watcher.lake
    watcher.lake = lake_at(world, credentials=Credentials("who", "wrong-secret"))
    assert watcher.tick(entry, later=FIRST_PAUSE) == []
    assert f"{KLINES}: Reading the manifest s3://lake/" in watcher.reason
    assert "wrong-secret" not in watcher.reason
    watcher.lake = lake_at(world, endpoint_url="http://127.0.0.1:9")
    assert watcher.tick(entry, later=FIRST_PAUSE) == []
    assert "Unreachable" in watcher.reason
    assert watcher.reason.isprintable()
    assert problems_of(watcher.cursor) == {KLINES: "lake"}
    watcher.lake = working_lake
    [retry] = watcher.tick(entry, later=60)
    assert retry.tags["lakehouse/attempt"] == "2"


def test_one_dataset_that_cannot_be_read_does_not_stop_the_others(
    watcher: Watcher, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [world.entry(name, follow_from="2024-03-01") for name in (KLINES, METRICS)]
    for dataset in (KLINES, METRICS):
        world.publish(["BTCUSDT"], [NEW], dataset=dataset)
    real = tick.tracked_periods

    def broken(entry: DatasetEntry, *args: Any, **more: Any) -> Any:
        if entry.dataset.name == KLINES:
            raise RuntimeError("the table is odd")
        return real(entry, *args, **more)

    monkeypatch.setattr(tick, "tracked_periods", broken)
    assert watcher.tick(*entries) == []
    assert f"{KLINES}: RuntimeError: the table is odd" in watcher.reason
    [request] = watcher.tick(*entries, later=SETTLE)
    assert request.asset_selection == [dg.AssetKey(METRICS.split("/"))]


# What is kept


@pytest.mark.usefixtures("stored_instance")
def test_after_a_restart_no_run_is_requested_twice(watcher: Watcher, world: World, entry: DatasetEntry) -> None:
    world.publish(["BTCUSDT"], [NEW])
    [request] = watcher.settle(entry)
    watcher.run(request, dg.DagsterRunStatus.STARTED)
    with dg.DagsterInstance.from_ref(watcher.instance.get_ref()) as restarted:
        watcher.instance = restarted
        assert watcher.tick(entry, later=86_000) == []


@pytest.mark.parametrize("lost", [None, "not a cursor", '{"asked": 7}'])
def test_a_lost_cursor_starts_anew_but_no_run_is_requested_twice(
    watcher: Watcher, world: World, entry: DatasetEntry, lost: str | None
) -> None:
    world.publish(["BTCUSDT"], [NEW])
    [request] = watcher.settle(entry)
    run = watcher.run(request, dg.DagsterRunStatus.STARTED)
    watcher.cursor = lost
    assert watcher.settle(entry) == []
    assert "Runs in progress: 1" in watcher.reason
    watcher.instance.report_run_failed(run)
    watcher.cursor = lost
    [retry] = watcher.settle(entry)
    assert retry.tags["lakehouse/attempt"] == "2"


def test_datasets_that_left_the_matrix_leave_the_cursor(watcher: Watcher, world: World) -> None:
    klines, metrics = (world.entry(name) for name in (KLINES, METRICS))
    watcher.tick(klines, metrics)
    assert METRICS in watcher.cursor
    watcher.tick(klines)
    assert METRICS not in watcher.cursor


# As the daemon evaluates it


@pytest.mark.usefixtures("stored_instance")
def test_dagster_accepts_the_requests_for_existing_partitions(
    watcher: Watcher, world: World, entry: DatasetEntry
) -> None:
    world.publish(["BTCUSDT"], [NEW])
    watcher.settings = {"settle_seconds": 0}
    sensor = watcher.sensor(entry)
    definitions = dg.Definitions(
        [build_archive_asset(entry, "s3://lake")], sensors=[sensor], resources=resources_of(world)
    )
    with watcher.context(definitions=definitions, instance_ref=watcher.instance.get_ref()) as context:
        data = definitions.resolve_sensor_def("binance_discovery").evaluate_tick(context)
    [request] = data.run_requests
    assert request.partition_key == NEW
    assert request.tags["dagster/partition"] == NEW
    assert data.cursor


def test_there_is_one_sensor_per_exchange_with_the_configured_interval(watcher: Watcher, world: World) -> None:
    watcher.settings = {"tick_seconds": 7}
    sensor = watcher.sensor(world.entry(KLINES), world.entry(METRICS))
    assert (sensor.name, sensor.minimum_interval_seconds) == ("binance_discovery", 7)


def _status_event(status: dg.DagsterRunStatus) -> dg.DagsterEvent:
    kinds = {
        dg.DagsterRunStatus.STARTING: dg.DagsterEventType.RUN_STARTING,
        dg.DagsterRunStatus.STARTED: dg.DagsterEventType.RUN_START,
        dg.DagsterRunStatus.CANCELING: dg.DagsterEventType.RUN_CANCELING,
    }
    return dg.DagsterEvent(event_type_value=kinds[status].value, job_name="job")


# A clock that was ahead


@pytest.mark.parametrize("follow_from", ["2024-03-01", None])
def test_one_tick_with_a_clock_ahead_suppresses_no_later_request(
    watcher: Watcher, world: World, follow_from: str | None
) -> None:
    entry = world.entry(follow_from=follow_from)
    world.publish(["BTCUSDT"], days("2024-03-01", NEW))
    watcher.copied(entry, *days("2024-03-01", NEW))
    watcher.now += timedelta(days=400)
    watcher.tick(entry)
    watcher.now -= timedelta(days=400)
    key = world.key("BTCUSDT", "2024-03-03")
    world.put(key, body_of(key, 2, 400))
    hours = [watcher.tick(entry, later=tick.RELIST_SECONDS) for _ in range(2)]
    assert [periods(requests) for requests in hours] == [[], ["2024-03-03"]]
    watcher.now = datetime(2024, 3, 6, 8, tzinfo=UTC)
    world.publish(["BTCUSDT"], ["2024-03-05"])
    assert "2024-03-05" in periods([*watcher.tick(entry), *watcher.tick(entry, later=SETTLE)])
