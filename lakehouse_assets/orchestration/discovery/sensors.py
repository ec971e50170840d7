"""Discovery sensors: one per exchange, requesting runs for periods that its archive has and the lake lacks."""

import time
from collections.abc import Sequence

import dagster as dg

from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.matrix import ArchiveMatrix, DatasetEntry
from lakehouse_assets.lake.manifest_cache import ManifestCache
from lakehouse_assets.observability.telemetry.metrics import TICK_SECONDS, timed
from lakehouse_assets.observability.telemetry.setup import start_telemetry
from lakehouse_assets.orchestration.discovery.cursor import DiscoveryCursor
from lakehouse_assets.orchestration.discovery.source_observation import source_observations
from lakehouse_assets.orchestration.discovery.tick import DiscoveryTick
from lakehouse_assets.orchestration.resources import LakeResource, SourceResource
from lakehouse_assets.settings import DiscoverySettings, SpendingSettings, read_group


def build_discovery_sensors(
    matrix: ArchiveMatrix,
    settings: DiscoverySettings | None = None,
    *,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
) -> list[dg.SensorDefinition]:
    """One sensor per exchange of the matrix, so that one exchange's outage does not stop the others."""
    settings = settings or DiscoverySettings()
    exchanges = dict.fromkeys(entry.dataset.exchange for entry in matrix.entries)
    return [
        _build_sensor(
            name, [entry for entry in matrix.entries if entry.dataset.exchange == name], settings, default_status
        )
        for name in exchanges
    ]


def now() -> float:
    """Epoch seconds."""
    return time.time()


def _build_sensor(
    exchange_name: str,
    entries: Sequence[DatasetEntry],
    settings: DiscoverySettings,
    default_status: dg.DefaultSensorStatus,
) -> dg.SensorDefinition:
    exchange = exchange_named(exchange_name)
    manifests = ManifestCache()

    @dg.sensor(
        name=f"{exchange_name}_discovery",
        asset_selection=dg.AssetSelection.assets(*(entry.dataset.asset_key for entry in entries)),
        minimum_interval_seconds=settings.tick_seconds,
        default_status=default_status,
        description=f"Compares {exchange.bucket} with the manifests. Requests runs for newly published periods of the "
        "tracked datasets once their listing has settled, and for materialized periods that changed. History before "
        "`follow_from` is a backfill that a person starts.",
    )
    def discovery_sensor(
        context: dg.SensorEvaluationContext, lake: LakeResource, source: SourceResource
    ) -> dg.SensorResult:
        at = now()
        tick = DiscoveryTick(
            context.instance,
            read_cursor(context, at),
            entries,
            source=source.bucket(exchange),
            lake=lake.lake(),
            manifests=manifests,
            settings=settings,
            cost_limit=read_group(SpendingSettings).per_day,
            now=at,
            log=context.log,
        )
        start_telemetry()
        with timed(TICK_SECONDS, exchange=exchange_name):
            outcome = tick.run()
        events = [*outcome.events, *source_observations(entries, tick.cursor, at)]
        return dg.SensorResult(
            run_requests=outcome.requests,
            skip_reason=None if outcome.requests else outcome.reason,
            cursor=tick.cursor.write(),
            asset_events=events,
        )

    return discovery_sensor


def read_cursor(context: dg.SensorEvaluationContext, at: float) -> DiscoveryCursor:
    """The sensor's cursor; an empty one, with a warning, if it cannot be read. ``at``: epoch seconds."""
    try:
        return DiscoveryCursor.read(context.cursor, at)
    except ValueError as error:
        # Nothing is requested twice: manifests record what was copied, and run tags what was requested.
        context.log.warning(
            "The cursor cannot be read (%s); an empty one replaces it. Datasets without `follow_from` are "
            "tracked from today; backfill the days since the last run.",
            error,
        )
        return DiscoveryCursor()
