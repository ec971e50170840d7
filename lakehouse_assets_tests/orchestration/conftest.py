"""A Dagster instance and a way to run an archive asset of a test's world on it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
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


class Follower:
    """An asset's automation condition, evaluated tick by tick as the daemon does."""

    def __init__(self, defs: dg.Definitions, key: dg.AssetKey, instance: dg.DagsterInstance) -> None:
        self._defs = defs
        self._key = key
        self._instance = instance
        self._cursor: Any = None

    def asked_for(self) -> set[str]:
        """Partitions of the asset that this tick requests."""
        result = dg.evaluate_automation_conditions(
            self._defs,
            instance=self._instance,
            cursor=self._cursor,
            evaluation_time=datetime.now(UTC),
            asset_selection=dg.AssetSelection.assets(self._key),
        )
        self._cursor = result.cursor
        return result.get_requested_partitions(self._key)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
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
