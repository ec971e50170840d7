"""Dagster's overhead of a 31-partition range run: from launch to end, minus the engine's own seconds.

A real deployment on a temporary home: ``dagster dev`` (webserver, daemon, queued runs, default launcher),
the run launched through GraphQL as the UI does it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets.process import spawn_tethered
from lakehouse_assets_tests.benchmarks.support.bench import FIRST, Bench, Shape, bench
from lakehouse_assets_tests.benchmarks.support.measure import Row, Sample, fastest_and_slowest, seconds
from lakehouse_assets_tests.world import KLINES

SHAPE = Shape(10, 31, 1_000)
START_SECONDS = 120.0
RUN_SECONDS = 120.0
POLL_SECONDS = 0.05
_HOME = """\
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1}
telemetry: {enabled: false}
"""
_WORKSPACE = """\
load_from:
  - python_module: {module_name: lakehouse_assets.definitions, location_name: lakehouse}
"""
_LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
_RUN = """
query ($id: ID!, $key: AssetKeyInput!) {
  runOrError(runId: $id) { ... on Run { status creationTime startTime endTime } }
  assetNodeOrError(assetKey: $key) { ... on AssetNode { assetMaterializations(limit: 40) {
    runId metadataEntries { label ... on FloatMetadataEntry { floatValue } } } } } }
"""


def run(repeat: int) -> list[Row]:
    with bench(SHAPE) as archive, _deployment(archive) as url:
        samples: list[Sample] = []
        engine: list[Sample] = []
        waiting: list[Sample] = []
        _range_run(url)  # the first one also pays for the code location's caches
        for _ in range(repeat):
            total, queued, own = _range_run(url)
            samples.append(Sample(total - own))
            waiting.append(Sample(queued))
            engine.append(Sample(own))
    case = "range run of 31 partitions, 310 objects in place"
    return [
        Row(
            case,
            "Dagster's own",
            seconds(samples),
            budget="5 s",
            note=f"{fastest_and_slowest(samples)}, `dagster dev`, queued",
        ),
        Row(case, "of it before the step's process started", seconds(waiting)),
        Row(case, "engine's own", seconds(engine), note="sum of the partitions' `seconds`"),
    ]


def _range_run(url: str) -> tuple[float, float, float]:
    """Seconds from launch to end, seconds until the run started, and the engine's seconds."""
    key = {"path": list(Dataset.parse(KLINES).asset_key)}
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "lakehouse",
        "pipelineName": "__ASSET_JOB",
        "assetSelection": [key],
        "assetCheckSelection": None,
    }
    tags = range_tags(str(FIRST), str(SHAPE.last))
    metadata = {"tags": [{"key": name, "value": value} for name, value in tags.items()]}
    asked = time.time()
    params = {"selector": selector, "runConfigData": {}, "mode": "default", "executionMetadata": metadata}
    launched = _ask(url, _LAUNCH, {"params": params})["launchRun"]
    if "run" not in launched:
        raise RuntimeError(f"the run was not launched: {launched}")
    run_id = launched["run"]["runId"]
    deadline = time.monotonic() + RUN_SECONDS
    while True:
        answer = _ask(url, _RUN, {"id": run_id, "key": key})
        seen = answer["runOrError"]
        if seen["status"] in {"SUCCESS", "FAILURE", "CANCELED"}:
            break
        if time.monotonic() > deadline:
            raise RuntimeError(f"the run did not end: {seen}")
        time.sleep(POLL_SECONDS)
    own = [
        entry["floatValue"]
        for materialization in answer["assetNodeOrError"]["assetMaterializations"]
        if materialization["runId"] == run_id
        for entry in materialization["metadataEntries"]
        if entry["label"] == "seconds"
    ]
    if seen["status"] != "SUCCESS" or len(own) != SHAPE.days:
        raise RuntimeError(f"{seen['status']} with {len(own)} of {SHAPE.days} partitions")
    return seen["endTime"] - asked, seen["startTime"] - asked, sum(own)


@contextmanager
def _deployment(archive: Bench) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "dagster.yaml").write_text(_HOME, encoding="utf-8")
        (home / "workspace.yaml").write_text(_WORKSPACE, encoding="utf-8")
        matrix = {
            "dataset": KLINES,
            "intervals": ["1m"],
            "symbols": {"include": [f"{archive.world.tag}*"]},
            "first_period": str(FIRST),
        }
        (home / "matrix.yaml").write_text(json.dumps({"datasets": [matrix]}), encoding="utf-8")
        url = f"http://127.0.0.1:{_free_port()}"
        log = (home / "dagster.log").open("wb")
        process = spawn_tethered(
            [sys.executable, "-m", "dagster", "dev", "-w", str(home / "workspace.yaml"), "-p", url.rpartition(":")[2]],
            env=_environment(archive, home),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait_until_ready(url, process, home / "dagster.log")
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            log.close()


def _environment(archive: Bench, home: Path) -> dict[str, str]:
    here = {"DAGSTER_HOME": str(home), "LAKEHOUSE_MATRIX": str(home / "matrix.yaml")}
    return os.environ | here | archive.variables(archive.new_lake)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            nodes = _ask(url, "{ assetNodes { id } }", {})["assetNodes"]
        except OSError:
            nodes = []
        if nodes:
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"dagster dev did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")
        time.sleep(POLL_SECONDS * 10)


def _ask(url: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/graphql",
        data=json.dumps({"query": query, "variables": variables}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        document = json.load(answer)
    if "errors" in document:
        raise RuntimeError(str(document["errors"])[:500])
    return document["data"]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
