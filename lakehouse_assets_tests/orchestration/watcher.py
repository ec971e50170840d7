"""A discovery sensor on a real instance and a real store; only the clock is set by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
from dagster_aws.s3 import S3Resource

from lakehouse_assets.archive.matrix import ArchiveMatrix, DatasetEntry
from lakehouse_assets.orchestration.archives.source import source_key
from lakehouse_assets.orchestration.dagster_tags import PARTITION_TAG, RANGE_TAGS, RUN_KEY_TAG
from lakehouse_assets.orchestration.discovery.sensors import build_discovery_sensors
from lakehouse_assets.orchestration.resources import LakeResource, SourceResource, SyncResource
from lakehouse_assets.settings import DiscoverySettings
from lakehouse_assets_tests.dagster_internals import create_run_for_test
from lakehouse_assets_tests.orchestration.gateway import Gateway
from lakehouse_assets_tests.world import World, days, scope

MORNING = datetime(2024, 3, 5, 8, tzinfo=UTC)
SETTLE = 300
FIRST_PAUSE = 300


def resources_of(world: World) -> dict[str, Any]:
    bucket = world.lake.bucket
    return {
        "lake": LakeResource(
            s3=S3Resource(
                endpoint_url=bucket.endpoint_url,
                aws_access_key_id=bucket.credentials.access_key_id,
                aws_secret_access_key=bucket.credentials.secret_access_key,
            ),
            bucket=bucket.name,
            prefix=world.lake.prefix,
        ),
        "source": SourceResource(s3=S3Resource(endpoint_url=world.source.endpoint_url, use_unsigned_session=True)),
        "sync": SyncResource(workers=32),
    }


class Watcher:
    """Evaluates one exchange's sensor as the daemon does: each tick gets the cursor of the one before."""

    def __init__(self, world: World, gateway: Gateway, instance: dg.DagsterInstance) -> None:
        self.world = world
        self.gateway = gateway
        self.instance = instance
        self.now = MORNING
        self.cursor: str | None = None
        self.reason: str | None = None
        self.events: list[Any] = []
        self.observed: list[dg.AssetObservation] = []
        """Of the exchange's source."""
        self.lake: LakeResource = resources_of(world)["lake"]
        self.source = SourceResource(s3=S3Resource(endpoint_url=gateway.endpoint_url, use_unsigned_session=True))
        self.settings: dict[str, Any] = {}
        self._sensors: dict[Any, dg.SensorDefinition] = {}

    def tick(self, *entries: DatasetEntry, later: float = 0) -> list[dg.RunRequest]:
        self.now += timedelta(seconds=later)
        sensor = self.sensor(*entries)
        with self.context() as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        assert len(self.cursor) < 100_000
        for event in result.asset_events:
            (self.observed if event.asset_key == source_key(self.world.exchange.name) else self.events).append(event)
        self.reason = result.skip_reason.skip_message if result.skip_reason else None
        return list(result.run_requests)

    def sensor(self, *entries: DatasetEntry) -> dg.SensorDefinition:
        """The same sensor for all ticks, as in a code server that keeps running."""
        key = (entries, tuple(self.settings.items()))
        if key not in self._sensors:
            self._sensors[key] = self._built(*entries)
        return self._sensors[key]

    def restart(self) -> None:
        """Restart the code server: a sensor loses what it has in memory."""
        self._sensors.clear()

    def _built(self, *entries: DatasetEntry) -> dg.SensorDefinition:
        [sensor] = build_discovery_sensors(ArchiveMatrix(entries=entries), DiscoverySettings(**self.settings))
        return sensor

    def context(self, **more: Any) -> dg.SensorEvaluationContext:
        return dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"lake": self.lake, "source": self.source}, **more
        )

    def settle(self, *entries: DatasetEntry) -> list[dg.RunRequest]:
        """The requests once the listing has settled."""
        assert self.tick(*entries) == []
        return self.tick(*entries, later=SETTLE)

    def run(self, request: dg.RunRequest, status: dg.DagsterRunStatus) -> dg.DagsterRun:
        """A run of the request as the daemon would have launched it."""
        partition = {PARTITION_TAG: request.partition_key} if request.partition_key else {}
        return create_run_for_test(
            self.instance, status=status, tags={**request.tags, **partition, RUN_KEY_TAG: request.run_key}
        )

    def obey(self, entry: DatasetEntry, *requests: dg.RunRequest) -> None:
        """Sync the requested periods and add successful runs of the requests."""
        for request in requests:
            [requested] = periods([request])
            first, _, last = requested.partition("..")
            self.world.engine().sync(scope(entry, first, last or None))
            self.run(request, dg.DagsterRunStatus.SUCCESS)

    def copied(self, entry: DatasetEntry, *periods: str) -> None:
        for period in periods:
            self.world.engine().sync(scope(entry, period))


def periods(requests: Sequence[dg.RunRequest]) -> list[str]:
    """The periods of each request: ``2024-03-04``, or ``2024-03-01..2024-03-04``."""
    return [request.partition_key or "..".join(request.tags[tag] for tag in RANGE_TAGS) for request in requests]


def days_of(text: str) -> list[str]:
    """The days of one text of :func:`periods`."""
    first, _, last = text.partition("..")
    return days(first, last or first)


def lake_at(world: World, **changes: Any) -> LakeResource:
    lake = replace(world.lake, bucket=replace(world.lake.bucket, **changes))
    return resources_of(SimpleNamespace(lake=lake, source=world.source))["lake"]
