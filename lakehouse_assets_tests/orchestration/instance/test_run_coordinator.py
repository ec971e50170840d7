"""The run coordinator on a real instance, loaded from dagster.yaml as a deployment loads it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster import SubmitRunContext

from lakehouse_assets.errors import InputError
from lakehouse_assets.orchestration.dagster_internals import ConfigurableClassData
from lakehouse_assets.orchestration.instance.run_coordinator import K8S_TAG, SIZE_TAG, SizedRunCoordinator
from lakehouse_assets_tests.dagster_internals import (
    ModuleCodePointer,
    RepositoryPythonOrigin,
    job_origin,
)

_CODE = RepositoryPythonOrigin(sys.executable, ModuleCodePointer("lakehouse_assets.definitions", "defs"))


def _k8s(memory: str) -> dict[str, Any]:
    return {"container_config": {"resources": {"limits": {"memory": memory}}}}


CONFIG: dict[str, Any] = {
    "dequeue_interval_seconds": 2,
    "sizes": [{"name": name, "k8s": _k8s(memory)} for name, memory in (("s", "1Gi"), ("m", "2Gi"), ("l", "8Gi"))],
    "rules": [
        {"asset": "*rades/table", "size": "l"},
        {"asset": "*/table", "size": "m"},
        {"job": "heavy", "size": "m"},
    ],
    "default_size": "s",
    "service_accounts": [{"asset": "maintenance/*", "name": "maintenance"}, {"job": "vacuum", "name": "maintenance"}],
}


def _home(folder: Path, config: dict[str, Any]) -> str:
    coordinator = {
        "module": "lakehouse_assets.orchestration.instance.run_coordinator",
        "class": "SizedRunCoordinator",
        "config": config,
    }
    (folder / "dagster.yaml").write_text(yaml.safe_dump({"run_coordinator": coordinator}), encoding="utf-8")
    return str(folder)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(_home(tmp_path, CONFIG)) as made:
        yield made


def _submitted(
    instance: dg.DagsterInstance,
    *assets: str,
    job: str = "__ASSET_JOB",
    location: str = "lakehouse",
    **tags: str,
) -> dg.DagsterRun:
    made = instance.create_run_for_job(
        dg.GraphDefinition(job, node_defs=[]).to_job(),
        tags=tags,
        remote_job_origin=job_origin(location, job),
        job_code_origin=_CODE.get_job_origin(job),
    )
    run = made._replace(asset_selection=frozenset(dg.AssetKey(asset.split("/")) for asset in assets) or None)
    coordinator = instance.run_coordinator
    assert isinstance(coordinator, SizedRunCoordinator)
    # The coordinator does not use the workspace.
    return coordinator.submit_run(SubmitRunContext(run, workspace=None))


def _memory(run: dg.DagsterRun) -> str:
    return json.loads(run.tags[K8S_TAG])["container_config"]["resources"]["limits"]["memory"]


@pytest.mark.parametrize(
    ("assets", "size", "memory"),
    [
        (["binance/um/klines/daily"], "s", "1Gi"),
        (["binance/um/klines/table"], "m", "2Gi"),
        (["binance/um/aggTrades/table"], "l", "8Gi"),
        (["binance/um/klines/daily", "binance/um/aggTrades/table"], "l", "8Gi"),
    ],
)
def test_a_run_is_queued_with_the_size_of_its_largest_asset(
    instance: dg.DagsterInstance, assets: list[str], size: str, memory: str
) -> None:
    run = _submitted(instance, *assets)
    assert run.status is dg.DagsterRunStatus.QUEUED
    assert (run.tags[SIZE_TAG], _memory(run)) == (size, memory)


def test_a_job_without_assets_is_sized_by_its_name(instance: dg.DagsterInstance) -> None:
    assert _submitted(instance, job="heavy").tags[SIZE_TAG] == "m"
    assert _submitted(instance, job="light").tags[SIZE_TAG] == "s"


def test_a_retry_gets_the_next_size_up_to_the_largest(instance: dg.DagsterInstance) -> None:
    sizes = [
        _submitted(instance, "binance/um/klines/daily", **{"dagster/retry_number": str(number)}).tags[SIZE_TAG]
        for number in range(4)
    ]
    assert sizes == ["s", "m", "l", "l"]


def test_a_retry_is_sized_anew_although_it_carries_its_parents_tags(instance: dg.DagsterInstance) -> None:
    parent = _submitted(instance, "binance/um/klines/daily")
    retry = _submitted(instance, "binance/um/klines/daily", **{**parent.tags, "dagster/retry_number": "1"})
    assert (retry.tags[SIZE_TAG], _memory(retry)) == ("m", "2Gi")


def test_a_config_tag_given_by_a_person_is_kept(instance: dg.DagsterInstance) -> None:
    given = json.dumps(_k8s("3Gi"))
    run = _submitted(instance, "binance/um/klines/daily", **{K8S_TAG: given})
    assert run.tags[K8S_TAG] == given
    assert SIZE_TAG not in run.tags


def test_only_maintenance_runs_get_the_maintenance_identity(instance: dg.DagsterInstance) -> None:
    def account(*assets: str, **options: str) -> str | None:
        k8s = json.loads(_submitted(instance, *assets, **options).tags[K8S_TAG])
        return k8s.get("pod_spec_config", {}).get("service_account_name")

    assert account("maintenance/vacuum") == "maintenance"
    assert account(job="vacuum") == "maintenance"
    assert account("binance/um/klines/daily") is None
    assert account("maintenance/vacuum", "binance/um/klines/daily") is None, "a mixed run may not delete"


@pytest.mark.parametrize(
    ("locations", "location", "is_tagged"),
    [
        (["lakehouse"], "lakehouse", True),
        (["lakehouse", "research"], "research", True),
        (["lakehouse"], "payroll", False),
        (None, "payroll", True),
    ],
)
def test_a_run_of_another_code_location_is_queued_as_it_is(
    tmp_path: Path, locations: list[str] | None, location: str, is_tagged: bool
) -> None:
    config = CONFIG | ({"locations": locations} if locations else {})
    with dg.DagsterInstance.from_config(_home(tmp_path, config)) as instance:
        for assets, job in ((["maintenance/vacuum"], "__ASSET_JOB"), ([], "vacuum")):
            run = _submitted(instance, *assets, job=job, location=location)
            assert run.status is dg.DagsterRunStatus.QUEUED
            assert (K8S_TAG in run.tags, SIZE_TAG in run.tags) == (is_tagged, is_tagged)
        coordinator = instance.run_coordinator
        assert isinstance(coordinator, SizedRunCoordinator)
        # Dagster queues no run without a location.
        assert coordinator.applies_to(dg.DagsterRun("vacuum", run_id="in process"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"default_size": "xl"}, "there is no size 'xl'; sizes are s, m, l"),
        ({"rules": [{"asset": "*", "size": "xs"}]}, "there is no size 'xs'"),
        ({"sizes": [{"name": "s", "k8s": {}}, {"name": "s", "k8s": {}}]}, "a size is defined twice"),
        ({"sizes": [{"name": "s", "k8s": {"containers": {}}}], "rules": []}, "the k8s config of size 's'"),
    ],
)
def test_an_inconsistent_configuration_is_rejected_when_it_is_loaded(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with (
        dg.DagsterInstance.from_config(_home(tmp_path, CONFIG | change)) as made,
        pytest.raises(InputError, match=message),
    ):
        assert made.run_coordinator


def test_the_former_name_of_the_module_still_loads_the_coordinator() -> None:
    settings = yaml.safe_dump({"sizes": [{"name": "small", "k8s": {}}], "default_size": "small"})
    former = ConfigurableClassData("lakehouse_assets.orchestration.run_sizes", "SizedRunCoordinator", settings)
    assert type(former.rehydrate(as_type=SizedRunCoordinator)) is SizedRunCoordinator
