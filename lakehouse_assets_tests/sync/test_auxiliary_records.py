"""Records beside the manifest (sync log, capabilities): no fault in reading or writing them stops a sync."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse_assets.lake import commit, sync_log
from lakehouse_assets.lake.commit import write_rows
from lakehouse_assets.lake.period_metrics import period_metrics
from lakehouse_assets.lake.report import PeriodState
from lakehouse_assets.lake.sync_log import SYNC_LOG_SCHEMA, SYNC_LOG_TABLE, SyncTotals, read_sync_log
from lakehouse_assets.sync.engine import Engine, EngineOptions
from lakehouse_assets.sync.movers import probe
from lakehouse_assets.sync.movers.probe import PROBE_FOLDER, Capability, recorded_capability
from lakehouse_assets_tests.faults.proxy import LISTS, READS, Fault, Hang, Proxy, Refusal, Rule
from lakehouse_assets_tests.faults.trial import through
from lakehouse_assets_tests.world import KLINES, World, days, scope

MARCH = days("2024-03-01", "2024-03-03")
EVERYTHING = (*READS, *LISTS, "PutObject", "HeadObject")


@dataclass(frozen=True)
class Problem:
    fault: Fault
    operations: tuple[str, ...] = EVERYTHING


PROBLEMS = {
    "refused": Problem(Refusal(403, "AccessDenied")),
    "read only": Problem(Refusal(403, "AccessDenied"), ("PutObject",)),
    "busy": Problem(Refusal(503, "SlowDown")),
    "silent": Problem(Hang()),
    "others first": Problem(Refusal(412, "PreconditionFailed"), ("PutObject",)),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_record_that_cannot_be_read_or_written_stops_no_sync(
    world: World, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    monkeypatch.setattr(
        sync_log, "FAIL_FAST_OPTIONS", commit.FAIL_FAST_OPTIONS | {"timeout": "300ms", "retry_timeout": "500ms"}
    )
    monkeypatch.setattr(sync_log, "RECORD_SECONDS", 0.3)
    monkeypatch.setattr(probe, "TIMEOUT", timedelta(seconds=0.3))
    world.publish(["BTCUSDT"], MARCH)
    injected = PROBLEMS[problem]
    rules = [Rule(injected.fault, injected.operations, record) for record in (SYNC_LOG_TABLE, PROBE_FOLDER)]
    with Proxy(world.store.endpoint_url, *rules).running() as proxy:
        faulty = through(world, proxy)
        engine = Engine(faulty.source, faulty.lake, EngineOptions(window_objects=1))
        report = engine.sync(scope(world.entry(), MARCH[0], MARCH[-1]))
        assert all(rule.struck for rule in rules)
        known = period_metrics(faulty.lake, world.entry().dataset, since=MARCH[0])
        assert known["objects"].to_list() == [1.0] * len(MARCH)
    assert {period.state for period in report.periods} == {PeriodState.COMPLETE}
    assert world.manifest().read(()).height == len(MARCH)


@pytest.mark.parametrize("body", [b"no commit", b'{"add": 1}'])
def test_a_damaged_sync_log_is_logged_once_and_stops_no_sync(
    world: World, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    world.publish(["BTCUSDT"], MARCH)
    world.engine().sync(scope(world.entry(), MARCH[0]))
    world.overwrite_in_lake(f"{SYNC_LOG_TABLE}/_delta_log/00000000000000000000.json", body)
    caplog.set_level(logging.WARNING, sync_log.__name__)
    engine = Engine(world.source, world.lake, EngineOptions(window_objects=1))
    assert engine.sync(scope(world.entry(), MARCH[1], MARCH[-1])).total("copied") == len(MARCH) - 1
    [line] = [record.getMessage() for record in caplog.records]
    assert "lakehouse rebuild-manifests _syncs" in line


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b" " * 2**17,
        b'{"works": true, "reason": "", "asked_at": "2024-01-01T00:00:00"}',
        b'{"works": false, "reason": "", "asked_at": "9999-01-01T00:00:00Z"}',
    ],
)
def test_an_implausible_capability_record_is_ignored(world: World, body: bytes) -> None:
    world.overwrite_in_lake(f"{PROBE_FOLDER}/{world.source.name}.json", body)
    assert recorded_capability(world.source, world.lake) is None


def test_a_capability_with_a_time_in_the_future_is_probed_again() -> None:
    ahead = Capability(works=False, reason="", asked_at=datetime.now(UTC) + timedelta(hours=1))
    assert not ahead.is_current


# Reading the sync log


def append(world: World, month: str, *, number: int = 1) -> None:
    empty = dict.fromkeys(SYNC_LOG_SCHEMA)
    known = {"dataset": KLINES, "period": f"{month}-01", "state": "complete", "bytes_copied": number}
    rows = [empty | known | {"month": month, "synced_at": datetime.now(UTC)}]
    write_rows(world.lake, SYNC_LOG_TABLE, pl.DataFrame(rows, schema=SYNC_LOG_SCHEMA), partition_by=["month"])


def requests_of_reading(world: World) -> int:
    with Proxy(world.store.endpoint_url).running() as proxy:
        read_sync_log(through(world, proxy).lake)
        return len(proxy.requests)


def test_requests_to_read_the_sync_log_do_not_grow_with_its_length(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "COMPACT_EVERY", 3)
    requests = []
    for syncs in (5, 10):
        while read_sync_log(world.lake).height < syncs:
            append(world, "2024-03", number=2)
        requests.append(requests_of_reading(world))
    assert requests[1] <= requests[0] + 2
    rows = read_sync_log(world.lake)
    assert (rows.height, rows["bytes_copied"].sum()) == (10, 20)


def test_only_the_requested_months_are_read(world: World) -> None:
    for month in ("2024-01", "2024-02", "2024-03"):
        append(world, month)
    with Proxy(world.store.endpoint_url).running() as proxy:
        rows = read_sync_log(through(world, proxy).lake, since=datetime(2024, 3, 15, tzinfo=UTC).date())
        assert not proxy.counts("month=2024-01") + proxy.counts("month=2024-02")
    assert rows["month"].to_list() == ["2024-03"]


def test_totals_read_a_month_again_only_when_it_has_changed(world: World) -> None:
    for month in ("2024-01", "2024-02"):
        append(world, month, number=5)
    with Proxy(world.store.endpoint_url).running() as proxy:
        totals = SyncTotals(through(world, proxy).lake)
        assert totals.read()["bytes_copied"].sum() == 10
        append(world, "2024-02", number=7)
        proxy.requests.clear()
        again = totals.read()
        assert not proxy.counts("month=2024-01")
    assert dict(again.select("month", "bytes_copied").iter_rows()) == {"2024-01": 5, "2024-02": 12}
    assert (again["periods"].sum(), set(again["dataset"]), set(again["state"])) == (3, {KLINES}, {"complete"})


def test_the_sync_log_is_compacted_on_request(world: World) -> None:
    for month in ("2024-01", "2024-01", "2024-02"):
        append(world, month)
    sync_log.compact_sync_log(world.lake)
    files, _ = commit.read_months(world.lake, SYNC_LOG_TABLE, SYNC_LOG_SCHEMA, lambda _month, _files: False)
    assert {month: len(names) for month, names in files.items()} == {"2024-01": 1, "2024-02": 1}
    assert read_sync_log(world.lake).height == 3
