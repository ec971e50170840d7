"""A follow sensor on a real instance and a real store, with real runs; only the clock is set by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.orchestration.archives.verification import build_verification_asset
from lakehouse_assets.orchestration.dagster_tags import RUN_KEY_TAG
from lakehouse_assets.orchestration.following import sensors
from lakehouse_assets.orchestration.resources import LakeResource
from lakehouse_assets.orchestration.tables.assets import build_table_asset
from lakehouse_assets.settings import DiscoverySettings
from lakehouse_assets.tables.table import tables_of
from lakehouse_assets_tests.orchestration.watcher import periods, resources_of
from lakehouse_assets_tests.world import World

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


class Following:
    """The sensor of a world's tables or verifications, ticked as the daemon does. Requests are run when told so."""

    def __init__(self, world: World, instance: dg.DagsterInstance, name: str, entries: list[DatasetEntry]) -> None:
        self.world = world
        self.instance = instance
        self.now = NOON
        self.cursor: str | None = None
        self.reason: str | None = None
        self.events: list[Any] = []
        self.lake: LakeResource = resources_of(world)["lake"]
        self._name = name
        self._entries = entries
        tables = [build_table_asset(table, "s3://lake") for table in tables_of(entries)]
        self._assets = {asset.key: asset for asset in (*tables, *map(build_verification_asset, entries))}
        self.restart()

    def restart(self) -> None:
        """Start the code server anew: the sensor loses what it has in memory."""
        found = {
            sensor.name: sensor
            for sensor in sensors.build_follow_sensors(
                tables_of(self._entries), self._entries, DiscoverySettings(budget_seconds=40)
            )
        }
        self._sensor = found[self._name]

    def tick(self, later: float = 60) -> list[dg.RunRequest]:
        self.now += timedelta(seconds=later)
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"lake": self.lake}
        ) as context:
            result = self._sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        self.events += result.asset_events
        self.reason = result.skip_reason.skip_message if result.skip_reason else None
        return list(result.run_requests)

    def asked_for(self, later: float = 60) -> list[str]:
        """The periods that one tick requests, without running them."""
        return periods(self.tick(later))

    def run(self, request: dg.RunRequest, **resources: Any) -> dg.ExecuteInProcessResult:
        """A run of the request as the daemon launches it."""
        asset = self._assets[request.asset_selection[0]]
        return dg.materialize(
            [asset],
            instance=self.instance,
            resources={**resources_of(self.world), **resources},
            partition_key=request.partition_key,
            tags={**request.tags, RUN_KEY_TAG: request.run_key},
            raise_on_error=False,
        )

    def settle(self, ticks: int = 10) -> list[str]:
        """Tick and run until nothing is requested; returns the requested periods."""
        asked: list[str] = []
        for _ in range(ticks):
            requests = self.tick()
            if not requests:
                return asked
            asked += periods(requests)
            for request in requests:
                assert self.run(request).success
        raise AssertionError(f"still asking after {ticks} ticks: {asked}")


@pytest.fixture
def following(world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Following]:
    def make(*entries: DatasetEntry, name: str = sensors.TABLES_FOLLOW) -> Following:
        made = Following(world, instance, name, list(entries))
        monkeypatch.setattr(sensors, "now", lambda: made.now.timestamp())  # noqa: PLW0108 - the clock moves on
        return made

    return make
