"""Records a small lake and a Dagster home as this version writes them, for the tests of later versions.

    python -m lakehouse_assets_tests.compatibility.record FILE.tar.xz

The file holds ``source/`` and ``lake/`` (objects by key), ``home/`` (DAGSTER_HOME with its SQLite databases) and
``facts.json``: what this version reads in them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.matrix import ArchiveMatrix
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.lake.catalog_store import write_catalog
from lakehouse_assets.lake.incident_store import LakeIncidentStore
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.observability.incidents.causes import Cause
from lakehouse_assets.observability.incidents.lifecycle import acknowledge
from lakehouse_assets.observability.incidents.model import Note
from lakehouse_assets.observability.incidents.notification import Notifier
from lakehouse_assets.observability.incidents.service import IncidentService
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.archives.verification import build_verification_asset
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets.orchestration.discovery import sensors
from lakehouse_assets.orchestration.discovery.sensors import build_discovery_sensors
from lakehouse_assets.orchestration.incidents import sensor as incident_sensor
from lakehouse_assets.orchestration.incidents.sensor import build_incident_report, build_incident_sensor
from lakehouse_assets.orchestration.tables.assets import build_table_asset
from lakehouse_assets.settings import DiscoverySettings
from lakehouse_assets_tests.archive.catalog.catalogs import catalog_of, span
from lakehouse_assets_tests.orchestration.watcher import resources_of
from lakehouse_assets_tests.paths import ROOT
from lakehouse_assets_tests.tables.tabled import Tabled
from lakehouse_assets_tests.world import KLINES, World

TAG = "FORMER"
FIRST, SECOND, THIRD, FAILED, NEXT = (f"2024-03-0{day}" for day in range(1, 6))
TICK = datetime(2024, 3, 6, 8, tzinfo=UTC)


class Recording:
    """The world that is recorded, on an instance of its own."""

    def __init__(self, store: EmbeddedStore, home: Path) -> None:
        self.world = World(store)
        self.world.tag, self.world.lake = TAG, Lake(store.lake(), TAG.lower())
        self.tabled = Tabled(self.world, follow_from=FIRST)
        [self.entry] = self.tabled.entries
        self.archive = build_archive_asset(self.entry, "s3://lake")
        self.table = build_table_asset(self.tabled.entry, "s3://lake")
        self.verification = build_verification_asset(self.entry)
        os.environ["DAGSTER_HOME"] = str(home)
        self.instance = dg.DagsterInstance.from_config(str(home))
        self.cursors: dict[str, str | None] = {}

    def run(self, asset: dg.AssetsDefinition, first: str, last: str) -> bool:
        """Whether the range run succeeded."""
        selected = [self.archive, self.table, self.verification]
        return dg.materialize(
            selected,
            selection=[asset.key],
            instance=self.instance,
            resources=resources_of(self.world),
            raise_on_error=False,
            tags=range_tags(first, last),
        ).success

    def record(self) -> None:
        world, tabled = self.world, self.tabled
        keys = tabled.publish(["A", "B"], [FIRST, SECOND, THIRD])
        sidecar = world.exchange.sidecar_of(keys[-1])
        world._upstream.put_object(
            Bucket=world.source.name, Key=sidecar, Body=b"0" * 64 + f"  {keys[-1].rsplit('/', 1)[1]}\n".encode()
        )
        assert self.run(self.archive, FIRST, THIRD)
        world.withdraw(keys[1])
        tabled.publish(["B"], [SECOND], price=200.0)
        assert self.run(self.archive, SECOND, SECOND)
        assert self.run(self.verification, FIRST, THIRD)
        self.run(self.table, FIRST, THIRD)
        [refused] = tabled.publish(["A"], [FAILED])
        with world.refused_writes(refused):
            assert not self.run(self.archive, FAILED, FAILED)
        self._discover()
        self._note_incidents()
        spans = pl.DataFrame([span("um/klines/daily", f"{TAG}A", FIRST, FAILED, interval="1h")])
        write_catalog(world.lake, catalog_of("binance", spans))

    def _discover(self) -> None:
        """One tick, which finds a published period that has not settled yet."""
        self.tabled.publish(["A"], [NEXT])
        [sensor] = build_discovery_sensors(ArchiveMatrix(entries=(self.entry,)), DiscoverySettings())
        sensors.now = TICK.timestamp
        resources = {name: resources_of(self.world)[name] for name in ("lake", "source")}
        with dg.build_sensor_context(instance=self.instance, resources=resources) as context:
            self.cursors["binance_discovery"] = sensor(context).cursor

    def _note_incidents(self) -> None:
        """The failed run as an incident that was notified and acknowledged."""
        sensor, assets = build_incident_sensor(), [self.archive, self.table, self.verification, build_incident_report()]
        for later in (timedelta(), timedelta(seconds=61)):
            incident_sensor.now = lambda later=later: datetime.now(UTC) + later
            with dg.build_sensor_context(
                instance=self.instance,
                cursor='{"failure":0,"success":0,"observation":0}',
                definitions=dg.Definitions(assets, resources=resources_of(self.world)),
                resources={"lake": resources_of(self.world)["lake"]},
            ) as context:
                self.cursors["incidents"] = sensor(context).cursor
        service = IncidentService(self.incidents, Notifier())
        [incident] = [
            incident for incident in service.read(datetime.now(UTC)).live() if incident.cause is Cause.TRANSFER_FAILS
        ]
        note = Note(who="ada", at=datetime.now(UTC), text="The bucket policy is being fixed.")
        service.change(lambda state: acknowledge(state, incident.id, note), datetime.now(UTC))

    @property
    def incidents(self) -> LakeIncidentStore:
        return LakeIncidentStore(self.world.lake, fallback=None)

    def facts(self) -> dict[str, Any]:
        """What this version reads."""
        rows = self.world.manifest().read([]).sort("key")
        return {
            "manifest": rows.select("key", "period", "state", "integrity", "lake_etag", "superseded_key").to_dicts(),
            "rows": sorted([*row] for row in self.tabled.rows().group_by("symbol").len().iter_rows()),
            "materialized": {
                "/".join(asset.key.path): sorted(self.instance.get_materialized_partitions(asset.key))
                for asset in (self.archive, self.table, self.verification)
            },
            "incidents": [
                [incident.id, incident.cause.value, incident.state]
                for incident in self.incidents.read(datetime.now(UTC)).state.live()
            ],
            "cursors": self.cursors,
            "dataset": KLINES,
        }


def without_paths(database: Path, home: Path) -> None:
    """Replaces this machine's paths in every text of a database, such as those in stack traces."""
    names = {str(ROOT): "/project", sys.prefix: "/venv", sys.base_prefix: "/python"}
    names[str(home)] = "/home"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            described = connection.execute(f'PRAGMA table_info("{table}")')
            columns = [name for _, name, kind, *_ in described if "CHAR" in kind or kind == "TEXT"]
            for column in columns:
                for path, name in names.items():
                    connection.execute(
                        f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE "{column}" LIKE ?',
                        (path, name, f"%{path}%"),
                    )
        connection.commit()
        connection.execute("VACUUM")


def objects(folder: Path, client: Any, bucket: str, prefix: str) -> None:
    """Writes the objects below a prefix as files; a key's slashes become folders."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for entry in page.get("Contents", ()):
            path = folder / entry["Key"].removeprefix(f"{TAG.lower()}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())


def main(target: Path) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedStore(source_buckets=[exchange.bucket for exchange in EXCHANGES.values()]) as store,
    ):
        root = Path(folder)
        home = root / "home"
        home.mkdir()
        (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
        recording = Recording(store, home)
        recording.record()
        (root / "facts.json").write_text(json.dumps(recording.facts(), indent=1, default=str))
        world = recording.world
        objects(root / "source", world._upstream, world.source.name, "data/")
        objects(root / "lake", world._lake_client, world.lake.bucket.name, world.lake.prefix)
        recording.instance.dispose()
        shutil.rmtree(home / "storage")  # what runs printed
        for database in home.rglob("*.db"):
            without_paths(database, home)
        with tarfile.open(target, "w:xz") as archive:
            for path in sorted(root.rglob("*")):
                if path.is_file():
                    archive.add(path, path.relative_to(root).as_posix())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
