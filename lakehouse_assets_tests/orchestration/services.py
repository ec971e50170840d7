"""Dagster's services as a deployment runs them (code server, daemon, webserver), driven through GraphQL."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lakehouse_assets.process import spawn_tethered
from lakehouse_assets_tests.world import days

LOCATION = {"repositoryLocationName": "lakehouse", "repositoryName": "__repository__"}

T = TypeVar("T")

START_SECONDS = 150.0
"""A service imports Dagster: two seconds of processor time, and a minute on a busy machine."""

_DAGSTER_YAML = """\
telemetry: {enabled: false}
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1}
concurrency:
  runs: {max_concurrent_runs: 2}
run_monitoring:
  {enabled: true, poll_interval_seconds: 10, start_timeout_seconds: 600, free_slots_after_run_end_seconds: 30}
"""


class Services:
    """A running Dagster deployment of this package. Everything goes through GraphQL, as in the UI.

    ``start`` starts a service by name and returns its process; ``code_port`` is where the code server listens.
    """

    def __init__(self, url: str, start: Callable[[str], subprocess.Popen[bytes]], code_port: int) -> None:
        self._url = url
        self._start = start
        self.code_port = code_port
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    # The services themselves: code, daemon, web

    def start(self, name: str) -> None:
        self._processes[name] = self._start(name)

    def kill(self, name: str) -> None:
        """SIGKILL, as when the machine fails. Runs that a code server started are not killed."""
        self._processes[name].kill()
        self._processes[name].wait()

    def processor_seconds(self, name: str) -> float:
        """Of the service so far, without the runs that a code server started. Linux only."""
        stat = Path(f"/proc/{self._processes[name].pid}/stat").read_text(encoding="utf-8")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end; the process may be killed in between."""
        process = self._processes[name]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": text, "variables": variables}).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error}: {error.read().decode(errors='replace')[:2000]}") from error
        assert "errors" not in document, document["errors"]
        return document["data"]

    # Launching runs

    def launch_backfill(self, asset: str, partitions: list[str]) -> str:
        answer = self.query(
            """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
                 __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
            params={"assetSelection": [_key(asset)], "partitionNames": partitions},
        )["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return answer["backfillId"]

    def launch_report(self, asset: str) -> str:
        """Launch a run of an asset without partitions and checks."""
        return self._launch(asset, [], {}, [])

    def launch_run(self, asset: str, partition: str, config: Mapping[str, Any] | None = None) -> str:
        """Launch a run of one partition, as the Materialize button does."""
        run_config = {"ops": {asset.replace("/", "__"): {"config": config}}} if config else {}
        checks = [{"assetKey": _key(asset), "name": "complete"}]
        return self._launch(asset, checks, run_config, [{"key": "dagster/partition", "value": partition}])

    def _launch(
        self, asset: str, checks: list[dict[str, Any]], run_config: Mapping[str, Any], tags: list[dict[str, str]]
    ) -> str:
        answer = self.query(
            """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
                 __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
                 ... on RunConfigValidationInvalid { errors { message } } } }""",
            params={
                "mode": "default",
                "selector": {
                    **LOCATION,
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": [_key(asset)],
                    "assetCheckSelection": checks,
                },
                "runConfigData": run_config,
                "executionMetadata": {"tags": tags},
            },
        )["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def start_sensor(self, name: str) -> None:
        answer = self.query(
            """mutation ($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
                 __typename ... on PythonError { message } } }""",
            selector={**LOCATION, "sensorName": name},
        )["startSensor"]
        assert answer["__typename"] == "Sensor", answer

    # Reading results

    def finished_backfill(self, backfill_id: str, *, seconds: float = 150) -> dict[str, Any]:
        def poll() -> dict[str, Any] | None:
            answer = self.query(
                """query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
                     status error { message } runs(limit: 50) { runId status tags { key value } }
                     assetBackfillData { assetBackfillStatuses { ... on AssetPartitionsStatusCounts {
                       numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed } } } } } }""",
                id=backfill_id,
            )["partitionBackfillOrError"]
            return answer if answer["status"].startswith(("COMPLETED", "FAILED", "CANCELED")) else None

        return wait_for(poll, f"the end of backfill {backfill_id}", seconds=seconds)

    def finished_run(self, run_id: str) -> dict[str, Any]:
        def poll() -> dict[str, Any] | None:
            answer = self.query(
                """query ($id: ID!) { runOrError(runId: $id) { ... on Run {
                     runId status tags { key value } } } }""",
                id=run_id,
            )["runOrError"]
            return answer if answer["status"] in {"SUCCESS", "FAILURE", "CANCELED"} else None

        return wait_for(poll, f"the end of run {run_id}", seconds=150)

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """Newest first."""
        return self.query(
            """query ($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {
                 sensorState { ticks(limit: 20) { status runIds runKeys skipReason error { message } } } } } }""",
            selector={**LOCATION, "sensorName": sensor},
        )["sensorOrError"]["sensorState"]["ticks"]

    def partitions(self, asset: str) -> dict[str, str]:
        """Every day of the asset that is not missing, with the status that the UI shows."""
        node = self._node(
            asset,
            "assetPartitionStatuses { ... on TimePartitionStatuses { ranges { status startKey endKey } } }",
        )
        return _by_day(node["assetPartitionStatuses"]["ranges"])

    def partition_stats(self, asset: str) -> dict[str, int]:
        return self._node(asset, "partitionStats { numMaterialized numFailed numMaterializing }")["partitionStats"]

    def check(self, asset: str, name: str) -> dict[str, Any]:
        """The execution of a check that the UI shows: its latest one, unless that is outdated."""
        node = self._node(
            asset,
            """assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization {
                 status runId evaluation { severity description } } } } }""",
        )
        [check] = [entry for entry in node["assetChecksOrError"]["checks"] if entry["name"] == name]
        assert check["executionForLatestMaterialization"] is not None, f"{name} is outdated"
        return check["executionForLatestMaterialization"]

    def materializations(self, asset: str, partition: str | None = None) -> list[dict[str, Any]]:
        """Newest first, with ``tags`` and ``metadata`` by name."""
        return self._events(asset, "assetMaterializations", partition)

    def observations(self, asset: str, partition: str) -> list[dict[str, Any]]:
        return self._events(asset, "assetObservations", partition)

    def _events(self, asset: str, field: str, partition: str | None) -> list[dict[str, Any]]:
        partitions_argument = f'partitions: ["{partition}"], ' if partition else ""
        node = self._node(
            asset,
            f"""{field}({partitions_argument}limit: 10) {{ runId partition description tags {{ key value }}
                metadataEntries {{ label ... on IntMetadataEntry {{ intRepr }}
                ... on FloatMetadataEntry {{ floatValue }}
                ... on TextMetadataEntry {{ text }} ... on MarkdownMetadataEntry {{ mdStr }}
                ... on JsonMetadataEntry {{ jsonString }} }} }}""",
        )
        return [
            {
                "run_id": event["runId"],
                "description": event["description"],
                "tags": tags_of(event),
                "metadata": {entry.pop("label"): next(iter(entry.values())) for entry in event["metadataEntries"]},
            }
            for event in node[field]
        ]

    def _node(self, asset: str, fields: str) -> dict[str, Any]:
        return self.query(
            f"""query ($key: AssetKeyInput!) {{ assetNodeOrError(assetKey: $key) {{
                  ... on AssetNode {{ {fields} }} }} }}""",
            key=_key(asset),
        )["assetNodeOrError"]


def tags_of(event: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in event["tags"]}


def wait_for(poll: Callable[[], T | None], what: str, *, seconds: float) -> T:
    deadline = time.monotonic() + seconds
    while (result := poll()) is None:
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:g} s"
        time.sleep(0.25)
    return result


@contextmanager
def running_services(
    home: Path,
    variables: Mapping[str, str],
    *,
    dagster_yaml: str = _DAGSTER_YAML,
    programs: Path = Path(sys.executable).parent,
) -> Iterator[Services]:
    """Start the three services with ``home`` as DAGSTER_HOME; at the end, stop them and their runs.

    ``programs`` is the folder of the environment's executables.
    """
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(dagster_yaml, encoding="utf-8")
    code, web = _free_port(), _free_port()
    workspace = home / "workspace.yaml"
    workspace.write_text(
        f"load_from: [{{grpc_server: {{host: 127.0.0.1, port: {code}, location_name: lakehouse}}}}]\n",
        encoding="utf-8",
    )
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "DAGSTER_HOME": str(home),
        "PYTHONWARNINGS": "ignore",
        "AWS_EC2_METADATA_DISABLED": "true",
        **variables,
    }
    module = ["-m", "lakehouse_assets.definitions"]
    where = ["-w", str(workspace)]
    commands = {
        "code": ["dagster", "api", "grpc", *module, "-h", "127.0.0.1", "-p", str(code)],
        "daemon": ["dagster-daemon", "run", *where],
        "web": ["dagster-webserver", "-h", "127.0.0.1", "-p", str(web), *where],
    }
    with ExitStack() as stack:

        def start(name: str) -> subprocess.Popen[bytes]:
            program, *argv = commands[name]
            log = stack.enter_context((home / f"{name}.log").open("ab"))
            process = spawn_tethered(
                [str(programs / program), *argv],
                env=environment,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stack.callback(_end, process)
            return process

        services = Services(f"http://127.0.0.1:{web}/graphql", start, code)
        services.start("code")
        wait_for(lambda: _listens(code), "the code server", seconds=START_SECONDS)
        services.start("daemon")
        services.start("web")
        wait_for(lambda: _listens(web), "the webserver", seconds=START_SECONDS)
        wait_for(lambda: _loaded(services), "the code location", seconds=START_SECONDS)
        yield services


def _loaded(services: Services) -> bool | None:
    entries = services.query(
        """{ workspaceOrError { ... on Workspace { locationEntries { loadStatus
             locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
    )["workspaceOrError"]["locationEntries"]
    for entry in entries:
        location = entry["locationOrLoadError"]
        if location:
            assert location["__typename"] == "RepositoryLocation", location
            return True
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group: a code server's runs are its children."""
    for sign, seconds in ((signal.SIGTERM, 3), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, sign)
            process.wait(seconds)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _by_day(ranges: list[dict[str, str]]) -> dict[str, str]:
    return {day: span["status"] for span in ranges for day in days(span["startKey"], span["endKey"])}


def _key(asset: str) -> dict[str, list[str]]:
    return {"path": asset.split("/")}


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _listens(port: int) -> bool | None:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return None
    return True
