"""The deployed dagster.yaml on a real Postgres: webserver, daemon, code server, and a daemon that is killed.

Only the launcher is another one than in the cluster: Dagster's default, which starts processes in place of pods.
One deployment serves the whole file.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.orchestration.dagster_tags import RANGE_TAGS
from lakehouse_assets_tests.dagster_internals import ExecuteRunArgs, InstanceRef, make_new_run_id
from lakehouse_assets_tests.deploy.rendered import rendered
from lakehouse_assets_tests.orchestration.services import Services, running_services, tags_of, wait_for
from lakehouse_assets_tests.postgres import Postgres, running_postgres
from lakehouse_assets_tests.world import KLINES, World, days

# It takes a minute on an idle machine; the backfill daemon alone wakes up every 30 s.
pytestmark = pytest.mark.timeout(900)

BACKFILLED = days("2024-01-01", "2024-07-18")
BESIDE = "2023-12-31"
PARTITIONS_PER_RUN = 40


@dataclass(frozen=True)
class Deployment:
    services: Services
    world: World
    postgres: Postgres
    database: str
    variables: dict[str, str]

    def runs(self) -> list[dict[str, Any]]:
        return self.services.query(
            "{ runsOrError(limit: 100) { ... on Runs { results { runId status tags { key value } } } } }"
        )["runsOrError"]["results"]

    def counted(self, event: str) -> dict[str, int]:
        """Number of events of a kind per partition, read from Postgres."""
        rows = self.postgres.execute(
            self.database,
            f"select partition, count(*) from event_logs where dagster_event_type = '{event}' group by partition",
        )
        return dict(rows)


@pytest.fixture(scope="module")
def deployment(store: EmbeddedStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    world = World(store)
    world.publish(["BTCUSDT"], [BESIDE, *BACKFILLED], sidecars=False)
    home = tmp_path_factory.mktemp("deployment")
    matrix = {
        "datasets": [
            {
                "dataset": KLINES,
                "intervals": ["1m"],
                "symbols": {"include": [f"{world.tag}*"]},
                "partitions_per_run": PARTITIONS_PER_RUN,
            }
        ]
    }
    (home / "matrix.yaml").write_text(yaml.safe_dump(matrix), encoding="utf-8")
    with running_postgres() as postgres:
        database = postgres.new_database()
        variables = {
            **postgres.variables(database),
            "DAGSTER_COMPUTE_LOGS_BUCKET": world.lake.bucket.name,
            "DAGSTER_COMPUTE_LOGS_ENDPOINT_URL": store.endpoint_url,
            "DAGSTER_SETTINGS_CONFIG_MAP": "lakehouse-dagster",
            "LAKEHOUSE_SETTINGS_CONFIG_MAP": "lakehouse-settings",
            "DAGSTER_RUN_NAMESPACE": "lakehouse",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": store.sync.access_key_id,
            "AWS_SECRET_ACCESS_KEY": store.sync.secret_access_key,
            "LAKEHOUSE_MATRIX": str(home / "matrix.yaml"),
            "LAKEHOUSE_LAKE_BUCKET": world.lake.bucket.name,
            "LAKEHOUSE_LAKE_PREFIX": world.lake.prefix,
            "LAKEHOUSE_LAKE_ENDPOINT_URL": store.endpoint_url,
            "LAKEHOUSE_SOURCE_ENDPOINT_URL": store.endpoint_url,
            "LAKEHOUSE_SYNC_WORKERS": "16",
        }
        config = rendered("prod").dagster_yaml
        del config["run_launcher"]
        with running_services(home / "dagster", variables, dagster_yaml=yaml.safe_dump(config)) as services:
            yield Deployment(services, world, postgres, database, variables)


@pytest.fixture(scope="module")
def backfill(deployment: Deployment) -> dict[str, Any]:
    """A finished backfill during which the daemon was killed."""
    services = deployment.services
    backfill_id = services.launch_backfill(KLINES, BACKFILLED)

    wait_for(lambda: _killed_in_the_middle(deployment), "runs that wait beside runs that began", seconds=300)
    left = [run for run in deployment.runs() if run["status"] == "QUEUED"]
    assert left, "nothing was left for the daemon to do"
    # Runs in progress do not need the daemon; queued ones keep waiting.
    wait_for(lambda: _none_in_progress(deployment), "the end of the runs in progress", seconds=300)
    assert {run["runId"] for run in deployment.runs() if run["status"] == "QUEUED"} == {run["runId"] for run in left}
    services.start("daemon")
    return services.finished_backfill(backfill_id, seconds=400)


def test_a_backfill_of_200_partitions_completes_although_the_daemon_was_killed(backfill: dict[str, Any]) -> None:
    assert backfill["status"] == "COMPLETED_SUCCESS"
    [counts] = backfill["assetBackfillData"]["assetBackfillStatuses"]
    assert len(BACKFILLED) == 200
    assert (counts["numPartitionsTargeted"], counts["numPartitionsMaterialized"]) == (200, 200)


def test_no_partition_is_lost(deployment: Deployment, backfill: dict[str, Any]) -> None:
    assert deployment.services.partitions(KLINES) == dict.fromkeys(BACKFILLED, "MATERIALIZED")
    assert deployment.services.check(KLINES, "complete")["status"] == "SUCCEEDED"
    keys = {deployment.world.key("BTCUSDT", day) for day in BACKFILLED}
    there = deployment.world.lake_files("archive/")
    assert {name.removeprefix("archive/binance/") for name in there} == keys


def test_no_partition_is_materialized_twice(deployment: Deployment, backfill: dict[str, Any]) -> None:
    assert deployment.counted("ASSET_MATERIALIZATION") == dict.fromkeys(BACKFILLED, 1)
    assert deployment.counted("ASSET_MATERIALIZATION_PLANNED") == dict.fromkeys(BACKFILLED, 1)
    ranges = sorted(tuple(tags_of(run)[name] for name in RANGE_TAGS) for run in backfill["runs"])
    chunks = [BACKFILLED[at : at + PARTITIONS_PER_RUN] for at in range(0, len(BACKFILLED), PARTITIONS_PER_RUN)]
    assert ranges == [(chunk[0], chunk[-1]) for chunk in chunks]
    assert {run["status"] for run in backfill["runs"]} == {"SUCCESS"}


def test_the_deployed_run_coordinator_sized_every_run_of_the_backfill(backfill: dict[str, Any]) -> None:
    assert {tags_of(run)["lakehouse/size"] for run in backfill["runs"]} == {"medium"}
    assert all("2Gi" in tags_of(run)["dagster-k8s/config"] for run in backfill["runs"])


def test_the_logs_of_runs_are_in_the_object_store(deployment: Deployment, backfill: dict[str, Any]) -> None:
    run_id = backfill["runs"][0]["runId"]
    client = deployment.world.lake.bucket.boto3_client()
    prefix = f"compute-logs/storage/{run_id}/"
    found = client.list_objects_v2(Bucket=deployment.world.lake.bucket.name, Prefix=prefix)
    assert any(each["Key"].endswith(".err") for each in found["Contents"])


def test_the_code_server_answers_the_probes_of_its_deployment(deployment: Deployment) -> None:
    code = next(pod for pod in rendered("prod").services if pod.part == "code")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        service = code.container[probe]["grpc"]["service"]
        with grpc.insecure_channel(f"127.0.0.1:{deployment.services.code_port}") as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=20
            )
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_command_of_a_run_pod_runs_with_the_deployed_launcher_and_no_kubernetes(
    deployment: Deployment, backfill: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pod's command, executed here. The launcher in its configuration is never loaded."""
    for name, value in deployment.variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(rendered("prod").dagster_yaml), encoding="utf-8")
    ref = InstanceRef.from_dir(str(tmp_path))
    with dg.DagsterInstance.from_ref(ref) as instance:
        done = instance.get_run_by_id(backfill["runs"][0]["runId"])
        assert done is not None
        assert done.job_code_origin is not None
        run = done._replace(
            run_id=make_new_run_id(),
            status=dg.DagsterRunStatus.STARTING,
            tags=dict.fromkeys(RANGE_TAGS, BESIDE),
            run_op_concurrency=None,
        )
        instance.add_run(run)
        arguments = ExecuteRunArgs(done.job_code_origin, run.run_id, ref, set_exit_code_on_failure=True)
        program, *rest = arguments.get_command_args()
        ended = subprocess.run(
            [str(Path(sys.executable).parent / program), *rest],
            env={"PATH": str(Path(sys.executable).parent), "HOME": str(tmp_path), **deployment.variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr[-4000:]
        ran = instance.get_run_by_id(run.run_id)
        assert ran is not None
        assert ran.status is dg.DagsterRunStatus.SUCCESS
    assert deployment.counted("ASSET_MATERIALIZATION")[BESIDE] == 1
    assert "trusted" not in " ".join(rest), "the password is not on the command line"


def _killed_in_the_middle(deployment: Deployment) -> bool | None:
    """Kill the daemon while some runs are queued and others have started.

    It stands still while one looks. One that was about to queue a run would queue it only when it is back; and a run
    that it was about to launch would be found by run monitoring after 15 minutes: then it goes on.
    """
    with deployment.services.paused("daemon"):
        for _ in range(20):
            statuses = [run["status"] for run in deployment.runs()]
            if "NOT_STARTED" in statuses or "QUEUED" not in statuses or not {"STARTED", "SUCCESS"} & {*statuses}:
                return None
            if "STARTING" not in statuses:
                deployment.services.kill("daemon")
                return True
            time.sleep(1)
    return None


def _none_in_progress(deployment: Deployment) -> bool | None:
    statuses = {run["status"] for run in deployment.runs()}
    return True if statuses <= {"NOT_STARTED", "QUEUED", "SUCCESS", "FAILURE"} else None
