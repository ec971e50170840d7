"""The incident sensor on a real instance and a real store; only the clock is set by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.lake.incident_store import LakeIncidentStore, fallback_file
from lakehouse_assets.observability.incidents.causes import Cause
from lakehouse_assets.observability.incidents.model import IncidentState
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.archives.verification import build_verification_asset
from lakehouse_assets.orchestration.incidents import sensor
from lakehouse_assets.orchestration.incidents.sensor import build_incident_report, build_incident_sensor
from lakehouse_assets_tests.orchestration.conftest import Runner, resources_of
from lakehouse_assets_tests.world import World


class Watch:
    """The sensor, evaluated tick by tick, with a clock that the test sets forward."""

    def __init__(self, runner: Runner, entry: DatasetEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runner, self.entry, self.world = runner, entry, runner.world
        self.ahead = timedelta()
        self.cursor: str | None = None
        self.events: list[Any] = []
        self.fallback = tmp_path / "fallback"
        self.resources = resources_of(self.world)
        self.extra: list[Any] = []
        self.sensor = build_incident_sensor(jobs=["my_job"])
        monkeypatch.setattr(sensor, "now", lambda: datetime.now(UTC) + self.ahead)
        monkeypatch.setenv("LAKEHOUSE_INCIDENTS_FALLBACK_DIR", str(self.fallback))
        self.tick()

    def tick(self, *, later: timedelta = timedelta()) -> IncidentState:
        self.ahead += later
        assets = [build_archive_asset(self.entry, "s3://lake"), build_verification_asset(self.entry), *self.extra]
        with dg.build_sensor_context(
            instance=self.runner.instance,
            cursor=self.cursor,
            definitions=dg.Definitions([*assets, build_incident_report()], resources=self.resources),
            resources={"lake": self.resources["lake"]},
        ) as context:
            result = self.sensor(context)
        self.cursor, self.events = result.cursor, result.asset_events
        return self.state

    @property
    def state(self) -> IncidentState:
        lake = self.world.lake
        return LakeIncidentStore(lake, fallback_file(self.fallback, lake)).read(datetime.now(UTC)).state

    def live(self) -> dict[Cause, set[tuple[str, str | None]]]:
        return {
            incident.cause: {(member.signal.subject, member.signal.period) for member in incident.firing}
            for incident in self.state.live()
        }


@pytest.fixture
def watch(
    stored_instance: dg.DagsterInstance, runner: Runner, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Watch]:
    """On disk: the sensor reads ticks of sensors, which are not stored in memory, and events of several runs."""
    return lambda **fields: Watch(runner, world.entry(**fields), tmp_path, monkeypatch)
