"""`lakehouse up`: everything starts, listens on loopback only, and stops together."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import dagster as dg
import pytest
import yaml

from lakehouse_assets.cli.up.home import instance_configuration
from lakehouse_assets_tests.cli.conftest import LAKEHOUSE, RunLakehouse, clean_environment, processes_naming
from lakehouse_assets_tests.paths import ROOT
from lakehouse_assets_tests.world import days

REPOSITORY = ROOT
START_SECONDS = 120


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass
class Up:
    """A running `lakehouse up`."""

    process: subprocess.Popen[str]
    folder: Path
    port: int
    output: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def query(self, text: str) -> dict:
        request = Request(
            f"{self.url}/graphql",
            data=json.dumps({"query": text}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=30) as response:
            return json.load(response)["data"]

    def services(self) -> set[int]:
        """All processes that it started, including grandchildren."""
        return processes_naming(str(self.folder)) - {self.process.pid}


def start_up(folder: Path, port: int | None = None, settings: Mapping[str, str] | None = None) -> Up:
    folder.mkdir(exist_ok=True)
    port = port or free_port()
    process = subprocess.Popen(
        [str(LAKEHOUSE), "up", "--port", str(port), "--home", str(folder / "home")],
        env=clean_environment(folder, settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    output = []
    for line in process.stdout:
        output.append(line.rstrip())
        if "Stop with Ctrl-C" in line:
            return Up(process, folder, port, output)
    raise AssertionError(f"lakehouse up ended with {process.wait()}:\n" + "\n".join(output))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    up = start_up(tmp_path_factory.mktemp("up"))
    yield up
    up.process.kill()
    up.process.communicate()


def test_the_url_is_printed_once_the_webserver_answers(running: Up) -> None:
    assert any(line.split() == ["Dagster", "UI", running.url] for line in running.output)
    with urlopen(f"{running.url}/server_info", timeout=30) as response:
        assert "dagster_webserver_version" in json.load(response)


def test_the_default_matrix_is_loaded_and_every_daemon_is_healthy(running: Up) -> None:
    data = running.query(
        "{ assetNodes { assetKey { path } } instance { daemonHealth { allDaemonStatuses { required healthy } } } }"
    )
    assert ["binance", "um", "klines", "daily"] in [node["assetKey"]["path"] for node in data["assetNodes"]]
    assert all(
        daemon["healthy"] for daemon in data["instance"]["daemonHealth"]["allDaemonStatuses"] if daemon["required"]
    )


def test_the_sensors_are_running(running: Up) -> None:
    data = running.query(
        '{ sensorsOrError(repositorySelector: {repositoryName: "__repository__",'
        ' repositoryLocationName: "lakehouse"})'
        " { __typename ... on Sensors { results { name sensorState { status } } } } }"
    )
    sensors = {sensor["name"]: sensor["sensorState"]["status"] for sensor in data["sensorsOrError"]["results"]}
    assert sensors == dict.fromkeys(("binance_discovery", "incidents", "tables_follow"), "RUNNING")


def test_a_partition_of_the_sample_archive_is_materialized_by_a_run(running: Up) -> None:
    [first] = [line.split()[2] for line in running.output if line.startswith("Sample archive")]
    launched = running.query(
        'mutation { launchPipelineExecution(executionParams: {selector: {pipelineName: "__ASSET_JOB",'
        ' repositoryName: "__repository__", repositoryLocationName: "lakehouse",'
        ' assetSelection: [{path: ["binance", "cm", "aggTrades", "daily"]}],'
        ' assetCheckSelection: [{assetKey: {path: ["binance", "cm", "aggTrades", "daily"]}, name: "complete"}]},'
        f' mode: "default", executionMetadata: {{tags: [{{key: "dagster/partition", value: "{first}"}}]}}}})'
        " { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"
    )["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["runId"]
    query = (
        f'{{ runOrError(runId: "{run_id}") {{ ... on Run {{ status assetMaterializations {{ partition '
        "metadataEntries { label ... on IntMetadataEntry { intValue } } } } } }"
    )
    deadline = time.monotonic() + 150
    run = running.query(query)["runOrError"]
    while run["status"] not in {"SUCCESS", "FAILURE", "CANCELED"}:
        assert time.monotonic() < deadline, run
        time.sleep(0.5)
        run = running.query(query)["runOrError"]
    assert run["status"] == "SUCCESS"
    [materialization] = run["assetMaterializations"]
    assert materialization["partition"] == first
    copied = [entry["intValue"] for entry in materialization["metadataEntries"] if entry["label"] == "objects_copied"]
    assert copied == [2]


def test_every_port_is_on_loopback(running: Up) -> None:
    inodes = set()
    for pid in (*running.services(), running.process.pid):
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    listening = [
        fields[1]
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and fields[9] in inodes
    ]
    assert f"0100007F:{running.port:04X}" in listening
    assert [address for address in listening if not address.startswith("0100007F:")] == []


def test_a_sensor_can_be_stopped(running: Up) -> None:
    """A later test starts the home again, and finds it stopped still."""
    selector = 'repositoryName: "__repository__", repositoryLocationName: "lakehouse", sensorName: "tables_follow"'
    sensor = running.query(f"{{ sensorOrError(sensorSelector: {{{selector}}}) {{ ... on Sensor {{ id }} }} }}")
    stopped = running.query(
        f'mutation {{ stopSensor(id: "{sensor["sensorOrError"]["id"]}") {{ __typename'
        " ... on StopSensorMutationResult { instigationState { status } } ... on PythonError { message } } }"
    )["stopSensor"]
    assert stopped == {"__typename": "StopSensorMutationResult", "instigationState": {"status": "STOPPED"}}


def test_a_second_start_on_the_same_home_is_refused(running: Up, run_process: RunLakehouse) -> None:
    result = run_process("up", "--port", str(free_port()), "--home", str(running.home))
    assert result.stderr == (
        f"Another `lakehouse up` (process {running.process.pid}) uses {running.home}; "
        "stop it, or choose another --home.\n"
    )
    assert result.returncode == 2


def test_a_taken_port_is_refused(running: Up, run_process: RunLakehouse, tmp_path: Path) -> None:
    result = run_process("up", "--port", str(running.port), "--home", str(tmp_path / "another"))
    assert result.stderr == f"Port {running.port} is taken; choose another with --port.\n"
    assert result.returncode == 2
    assert processes_naming(str(tmp_path)) == set()


@pytest.mark.timeout(600)
def test_a_backfill_that_a_power_cut_interrupts_completes_after_the_next_start(running: Up) -> None:
    """Uses the home of the tests above and runs after them. Everything is killed while a run of a backfill copies. The
    next start marks that run as failed, and the backfill continues."""
    partitions = days(*archive_of(running))
    backfill = launch_backfill(running, partitions)
    runs = "{ runsOrError(filter: {statuses: [STARTED]}) { ... on Runs { results { runId } } } }"
    deadline = time.monotonic() + 150
    while not running.query(runs)["runsOrError"]["results"]:
        assert time.monotonic() < deadline, "no run of the backfill was started"
        time.sleep(0.05)
    for pid in {running.process.pid} | running.services():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    running.process.communicate()

    running.process = start_up(running.folder, running.port).process
    status = (
        f'{{ partitionBackfillOrError(backfillId: "{backfill}") {{ ... on PartitionBackfill {{ status '
        "assetBackfillData { assetBackfillStatuses { ... on AssetPartitionsStatusCounts {"
        " numPartitionsTargeted numPartitionsMaterialized } } } } } }"
    )
    deadline = time.monotonic() + 300
    while not (result := running.query(status)["partitionBackfillOrError"])["status"].startswith("COMPLETED"):
        assert time.monotonic() < deadline, result
        time.sleep(0.5)
    assert result["status"] == "COMPLETED_SUCCESS"
    [counts] = result["assetBackfillData"]["assetBackfillStatuses"]
    assert counts == {"numPartitionsTargeted": len(partitions), "numPartitionsMaterialized": len(partitions)}


def test_ctrl_c_stops_every_child(running: Up) -> None:
    assert len(running.services()) >= 5  # store, code server and its own child, webserver, daemon
    running.process.send_signal(signal.SIGINT)
    output, _ = running.process.communicate(timeout=120)
    assert running.process.returncode == 0, output
    assert "Traceback" not in output
    assert running.services() == set()
    assert not (running.home / "code.sock").exists()


def test_a_start_after_a_kill_fails_orphaned_runs_and_an_exited_service_is_named(running: Up) -> None:
    """Uses the home of the tests above, and runs after them."""
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGINT)
        running.process.communicate(timeout=120)
    deadline = time.monotonic() + 60
    while running.services():
        assert time.monotonic() < deadline, running.services()
        time.sleep(0.05)
    run_id = leave_a_started_run(running.home / "dagster")
    third = start_up(running.folder)
    assert any(line.startswith("Swept") and "1 runs" in line for line in third.output)
    assert not any("Publishing" in line for line in third.output)
    [sensors] = [line for line in third.output if line.startswith("Sensors")]
    assert "binance_discovery running" in sensors
    assert "tables_follow stopped" in sensors
    assert third.query(f'{{ runOrError(runId: "{run_id}") {{ ... on Run {{ status }} }} }}')["runOrError"] == {
        "status": "FAILURE"
    }
    [daemon] = [pid for pid in third.services() if b"dagster._daemon" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    os.kill(daemon, signal.SIGKILL)
    output, _ = third.process.communicate(timeout=120)
    assert third.process.returncode == 1
    assert f"The daemon was killed by signal 9. The end of {running.home}/logs/daemon.log:" in output
    assert third.services() == set()


def archive_of(up: Up) -> tuple[str, str]:
    """First and last day of the sample archive."""
    [line] = [line.split() for line in up.output if line.startswith("Sample archive")]
    return line[2], line[4].rstrip(";")


def launch_backfill(up: Up, partitions: list[str]) -> str:
    names = json.dumps(partitions)
    answer = up.query(
        'mutation { launchPartitionBackfill(backfillParams: {assetSelection: [{path: ["binance", "um", "klines",'
        f' "daily"]}}], partitionNames: {names}}}) {{ __typename ... on LaunchBackfillSuccess {{ backfillId }}'
        " ... on PythonError { message } } }"
    )["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return answer["backfillId"]


def leave_a_started_run(dagster_home: Path) -> str:
    """Create a run that looks as if a crash interrupted it."""

    @dg.op
    def nothing() -> None: ...

    @dg.job
    def orphan() -> None:
        nothing()

    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        run = instance.create_run_for_job(orphan, status=dg.DagsterRunStatus.STARTED)
        return run.run_id


def test_the_local_deployment_uses_the_packaged_configuration() -> None:
    written = (REPOSITORY / "deploy" / "local" / "dagster.yaml").read_text()
    assert written == instance_configuration()
    configuration = yaml.safe_load(written)
    assert configuration["telemetry"] == {"enabled": False}
    assert configuration["run_monitoring"]["enabled"] is True
