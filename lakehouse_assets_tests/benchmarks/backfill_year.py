"""A backfill of 365 days of three archives through Dagster's services, and what the UI's queries take afterwards.

The services run with deploy/local's dagster.yaml; objects are small, so nearly all time is Dagster's. During a second
year a new day is published, and the discovery sensor is started; half-way the year is canceled, and re-executed from
failure. Raises RuntimeError if the re-execution asks for other days than the missing ones, or if a run of the backfill
starts while the new day's run waits.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.orchestration.dagster_tags import RANGE_TAGS
from lakehouse_assets_tests.benchmarks.support.measure import Row
from lakehouse_assets_tests.benchmarks.ui_live_query import live_query
from lakehouse_assets_tests.orchestration.services import Services, running_services, tags_of, wait_for
from lakehouse_assets_tests.paths import DEPLOY
from lakehouse_assets_tests.world import KLINES, World, days

DATASETS = (KLINES, "binance/spot/klines/daily", "binance/um/metrics/daily")
YEARS = (days("2022-01-01", "2022-12-31"), days("2023-01-01", "2023-12-31"))
NEW_DAY = "2024-01-01"
QUICK_DAYS = 186
SECONDS_AT_MOST = 3600.0

_LAUNCH = """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_CANCEL = """mutation ($id: String!) { cancelPartitionBackfill(backfillId: $id) {
  __typename ... on CancelBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_REEXECUTE = """mutation ($params: ReexecutionParams!) { reexecutePartitionBackfill(reexecutionParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_BACKFILL = """query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
  status error { message }
  runs(limit: 500) { status assetSelection { path } tags { key value } } } } }"""
_RUNS = """{ runsOrError(limit: 500) { ... on Runs { results { tags { key value }
  stats { ... on RunStatsSnapshot { enqueuedTime launchTime } } } } } }"""
_HEALTH = """query ($keys: [AssetKeyInput!]!) { assetNodes(assetKeys: $keys) {
  partitionStats { numMaterialized numFailed numPartitions }
  assetPartitionStatuses { ... on TimePartitionStatuses { ranges { status startKey endKey } } } } }"""

Days = set[tuple[str, str]]
"""Datasets with one of their days each."""


@dataclass(frozen=True, slots=True)
class Database:
    """What Dagster keeps in SQLite: the instance's databases, and one per run. ``events`` are those of the runs."""

    events: int
    check_rows: int
    size_bytes: int

    @classmethod
    def of(cls, home: Path) -> Database:
        files = [path for path in home.rglob("*.db*") if path.is_file()]
        databases = [path for path in files if path.suffix == ".db"]
        return cls(
            events=sum(_count(path, "event_logs") for path in databases if path.name != "index.db"),
            check_rows=sum(_count(path, "asset_check_executions") for path in databases),
            size_bytes=sum(_size(path) for path in files),
        )


def run(repeat: int, *, quick: bool) -> list[Row]:
    whole, canceled = (year[: QUICK_DAYS if quick else None] for year in YEARS)
    dagster_yaml = (DEPLOY / "local" / "dagster.yaml").read_text(encoding="utf-8")
    with EmbeddedStore() as store, tempfile.TemporaryDirectory() as folder:
        world, home, matrix = World(store), Path(folder) / "dagster", Path(folder) / "matrix.yaml"
        for dataset in DATASETS:
            world.publish(["BTCUSDT"], [*whole, *canceled], dataset=dataset)
        matrix.write_text(json.dumps({"datasets": [_entry(world, name) for name in DATASETS]}), encoding="utf-8")
        variables = {**world.settings, "LAKEHOUSE_MATRIX": str(matrix)}
        with running_services(home, variables, dagster_yaml=dagster_yaml) as services:
            rows = _whole_year(services, home, whole)
            rows += _queries(services, repeat)
            return rows + _canceled_year(services, world, canceled)


def _entry(world: World, dataset: str) -> dict[str, Any]:
    intervals = {"intervals": ["1m"]} if "klines" in dataset else {}
    return {
        "dataset": dataset,
        "symbols": {"include": [f"{world.tag}*"]},
        "first_period": YEARS[0][0],
        "follow_from": NEW_DAY,
        **intervals,
    }


def _whole_year(services: Services, home: Path, year: Sequence[str]) -> list[Row]:
    case, before, started = f"{len(DATASETS)} archives x {len(year)} days", Database.of(home), time.monotonic()
    ended = _finished(services, _launch(services, year))
    seconds = time.monotonic() - started
    if ended["status"] != "COMPLETED_SUCCESS" or _materialized(services, year) != _all(year):
        raise RuntimeError(f"the backfill ended {ended['status']}: {ended['error']}")
    after, partitions = Database.of(home), len(_all(year))
    events, checks = after.events - before.events, after.check_rows - before.check_rows
    size = after.size_bytes - before.size_bytes
    return [
        Row(case, "launch to end", seconds, note=f"{os.getloadavg()[1]:.1f} processes wanted a core at the end"),
        Row(case, "runs", len(ended["runs"]), unit="", note=f"each of {len(DATASETS)} archives"),
        Row(case, "event rows", events, unit="", note=f"{events / partitions:.1f} a partition"),
        Row(case, "check rows", checks, unit="", note=f"{checks / partitions:.2f} a partition"),
        Row(case, "database", size / 1e6, unit="MB", note=f"{size / partitions / 1e3:.1f} kB a partition"),
    ]


def _canceled_year(services: Services, world: World, year: Sequence[str]) -> list[Row]:
    case, half = f"{len(DATASETS)} archives x {len(year)} days, canceled half-way", len(_all(year)) // 2
    first = _launch(services, year)
    wait_for(lambda: _materialized(services, year) or None, "the first days", seconds=SECONDS_AT_MOST)
    new_day = _new_day(services, world)
    wait_for(lambda: len(_materialized(services, year)) >= half or None, "half of it", seconds=SECONDS_AT_MOST)
    started = time.monotonic()
    _ask(services, _CANCEL, "cancelPartitionBackfill", id=first)
    canceled = _finished(services, first)
    cancel_seconds = time.monotonic() - started
    missing = _all(year) - _materialized(services, year)
    params = {"parentRunId": first, "strategy": "FROM_FAILURE"}
    started = time.monotonic()
    ended = _finished(services, _ask(services, _REEXECUTE, "reexecutePartitionBackfill", params=params)["backfillId"])
    seconds, asked = time.monotonic() - started, _requested(ended)
    if (canceled["status"], ended["status"]) != ("CANCELED", "COMPLETED_SUCCESS"):
        raise RuntimeError(f"canceled: {canceled['status']}, re-executed: {ended['status']}, {ended['error']}")
    if not missing or asked != missing or _materialized(services, year) != _all(year):
        raise RuntimeError(f"missing: {len(missing)}, asked for: {len(asked)}, of both: {len(asked & missing)}")
    done = len(_all(year)) - len(missing)
    asked_note = f"{len(ended['runs'])} runs asked for the {len(missing)} missing partitions, and no others"
    return [
        Row(case, "a new day's run waits", new_day, note="no run of the backfill started in this time"),
        Row(case, "cancel to canceled", cancel_seconds, note=f"{done} of {len(_all(year))} partitions were done"),
        Row(case, "re-executed from failure", seconds, note=asked_note),
    ]


def _new_day(services: Services, world: World) -> float:
    """Seconds that the run of a day waits that is published while a backfill runs."""
    world.publish(["BTCUSDT"], [NEW_DAY], dataset=KLINES)
    services.start_sensor("binance_discovery")

    def launched() -> tuple[float, float] | None:
        runs = services.query(_RUNS)["runsOrError"]["results"]
        for run in runs:
            if "dagster/sensor_name" in tags_of(run) and run["stats"]["launchTime"]:
                return run["stats"]["enqueuedTime"], run["stats"]["launchTime"]
        return None

    queued, started = wait_for(launched, "the run of the new day", seconds=SECONDS_AT_MOST)
    times = [run["stats"]["launchTime"] or 0 for run in services.query(_RUNS)["runsOrError"]["results"]]
    if overtaking := [at for at in times if queued < at < started]:
        raise RuntimeError(f"{len(overtaking)} runs were started while the new day's run waited")
    return started - queued


def _queries(services: Services, repeat: int) -> list[Row]:
    """Processor seconds of webserver and code server for the UI's queries on the filled archives."""
    keys = [{"path": name.split("/")} for name in DATASETS]
    queries: dict[str, tuple[str, dict[str, Any]]] = {
        "the live query": (live_query(), {"assetKeys": keys}),
        "partition health": (_HEALTH, {"keys": keys}),
    }
    rows = []
    for name, (text, variables) in queries.items():
        services.query(text, **variables)  # fills caches, as the first poll of a webserver
        samples = []
        for _ in range(repeat):
            before = services.processor_seconds("web") + services.processor_seconds("code")
            services.query(text, **variables)
            samples.append(services.processor_seconds("web") + services.processor_seconds("code") - before)
        rows.append(Row("the UI then", name, median(samples), unit="s of processor"))
    return rows


def _launch(services: Services, year: Sequence[str]) -> str:
    params = {"assetSelection": [{"path": name.split("/")} for name in DATASETS], "partitionNames": list(year)}
    return _ask(services, _LAUNCH, "launchPartitionBackfill", params=params)["backfillId"]


def _ask(services: Services, text: str, field: str, **variables: Any) -> dict[str, Any]:
    answer = services.query(text, **variables)[field]
    if "backfillId" not in answer:
        raise RuntimeError(f"{field}: {answer}")
    return answer


def _finished(services: Services, backfill: str) -> dict[str, Any]:
    def poll() -> dict[str, Any] | None:
        answer = services.query(_BACKFILL, id=backfill)["partitionBackfillOrError"]
        return answer if answer["status"].startswith(("COMPLETED", "FAILED", "CANCELED")) else None

    return wait_for(poll, f"the end of backfill {backfill}", seconds=SECONDS_AT_MOST)


def _requested(backfill: dict[str, Any]) -> Days:
    requested: Days = set()
    for found in backfill["runs"]:
        first, last = (tags_of(found)[tag] for tag in RANGE_TAGS)
        requested |= {("/".join(key["path"]), day) for key in found["assetSelection"] for day in days(first, last)}
    return requested


def _materialized(services: Services, year: Sequence[str]) -> Days:
    wanted = set(year)
    return {
        (name, day)
        for name in DATASETS
        for day, status in services.partitions(name).items()
        if status == "MATERIALIZED" and day in wanted
    }


def _all(year: Sequence[str]) -> Days:
    return {(name, day) for name in DATASETS for day in year}


def _size(path: Path) -> int:
    """Bytes; 0 if SQLite deleted the file, a write-ahead log, in the meantime."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _count(database: Path, table: str) -> int:
    with closing(sqlite3.connect(database)) as connection:
        exists = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] if exists else 0
