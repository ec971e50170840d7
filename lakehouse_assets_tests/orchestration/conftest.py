"""A Dagster instance and a way to run an archive asset of a test's world on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets.orchestration.discovery import sensors
from lakehouse_assets_tests.observability.sinks import Webhook
from lakehouse_assets_tests.orchestration.gateway import Gateway
from lakehouse_assets_tests.orchestration.watcher import Watcher, resources_of
from lakehouse_assets_tests.world import World

__all__ = ["resources_of"]


class Runner:
    """Materializes one asset on one instance, as a key run or as a range run."""

    def __init__(self, world: World, instance: dg.DagsterInstance) -> None:
        self.world = world
        self.instance = instance

    def run(self, entry: DatasetEntry, first: str, last: str | None = None, **config: Any) -> dg.ExecuteInProcessResult:
        asset = build_archive_asset(entry, "s3://lake")
        where: dict[str, Any] = {"partition_key": first}
        if last is not None:
            where = {"tags": range_tags(first, last)}
        return dg.materialize(
            [asset],
            instance=self.instance,
            resources=resources_of(self.world),
            raise_on_error=False,
            run_config={"ops": {asset.op.name: {"config": config}}} if config else None,
            **where,
        )

    def materialized(self, entry: DatasetEntry) -> list[str]:
        return sorted(self.instance.get_materialized_partitions(dg.AssetKey(entry.dataset.asset_key)))

    def metadata(self, entry: DatasetEntry, period: str) -> dict[str, Any]:
        [record] = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(entry.dataset.asset_key), asset_partitions=[period]), limit=1
        ).records
        materialization = record.asset_materialization
        return {name: value.value for name, value in materialization.metadata.items()}


@pytest.fixture
def instance(request: pytest.FixtureRequest) -> Iterator[dg.DagsterInstance]:
    """Dagster's storage in memory, unless the test uses ``stored_instance``: on disk, each event costs several
    connections and commits of SQLite."""
    if "stored_instance" in request.fixturenames:
        yield request.getfixturevalue("stored_instance")
        return
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DAGSTER_HOME of a new installation. Tests copy it, since its databases take 0.4 s to be made."""
    home = tmp_path_factory.mktemp("dagster_home")
    with dg.instance_for_test(temp_dir=str(home), set_dagster_home=False):
        return home


@pytest.fixture
def stored_instance(new_home: Path, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster's storage on disk, in DAGSTER_HOME, as a new installation has it."""
    home = shutil.copytree(new_home, tmp_path / "dagster_home")
    with dg.instance_for_test(temp_dir=str(home)) as made:
        yield made


@pytest.fixture
def runner(world: World, instance: dg.DagsterInstance) -> Runner:
    return Runner(world, instance)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook().running() as running:
        yield running


@pytest.fixture
def gateway(world: World) -> Iterator[Gateway]:
    with Gateway(world.source.endpoint_url).running() as running:
        yield running


@pytest.fixture
def watcher(world: World, gateway: Gateway, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Watcher:
    made = Watcher(world, gateway, instance)
    monkeypatch.setattr(sensors, "now", lambda: made.now.timestamp())  # noqa: PLW0108 - the clock moves on
    return made
