"""A lake and a Dagster home that version 0.1 wrote are read as that version read them, and nothing is done again.

``version_0_1.tar.xz`` was written by record.py on the code of 0.1.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.archive.matrix import ArchiveMatrix
from lakehouse_assets.cli.sync import _document, _with_former_names
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.lake.catalog_store import read_catalog, read_symbols
from lakehouse_assets.lake.coverage import coverage
from lakehouse_assets.lake.incident_store import LakeIncidentStore
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest_stats import ManifestStats
from lakehouse_assets.lake.sync_log import SyncTotals
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.archives.verification import build_verification_asset
from lakehouse_assets.orchestration.discovery import sensors
from lakehouse_assets.orchestration.discovery.cursor import DiscoveryCursor
from lakehouse_assets.orchestration.discovery.sensors import build_discovery_sensors
from lakehouse_assets.orchestration.incidents.sensor import build_incident_report, build_incident_sensor
from lakehouse_assets.orchestration.tables.assets import build_table_asset
from lakehouse_assets.settings import DiscoverySettings
from lakehouse_assets_tests.compatibility.record import FIRST, NEXT, SECOND, TAG, THIRD, TICK
from lakehouse_assets_tests.orchestration.watcher import resources_of
from lakehouse_assets_tests.tables.tabled import Tabled
from lakehouse_assets_tests.world import World, scope

RECORDED = Path(__file__).with_name("version_0_1.tar.xz")
FAILED = "2024-03-04"


def _objects(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Keys and bodies of the objects that are files of a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


class Former:
    """The recorded lake in a store of this test, its Dagster home on disk, and what version 0.1 read in both."""

    def __init__(self, store: EmbeddedStore, folder: Path) -> None:
        with tarfile.open(RECORDED) as archive:
            archive.extractall(folder, filter="data")
        self.facts: dict[str, Any] = json.loads((folder / "facts.json").read_text())
        self.world = World(store)
        self.lake = self.world.lake = Lake(store.lake(), self.world.tag.lower())
        self.world.tag = TAG
        for key, body in _objects(folder / "lake"):
            self.world.overwrite_in_lake(key, body)
        for key, body in _objects(folder / "source"):
            self.world.put(key, body, sidecar=False)
        self.tabled = Tabled(self.world, follow_from=FIRST)
        [self.entry] = self.tabled.entries
        self.instance = dg.DagsterInstance.from_config(str(folder / "home"))
        self.assets = [
            build_archive_asset(self.entry, "s3://lake"),
            build_table_asset(self.tabled.entry, "s3://lake"),
            build_verification_asset(self.entry),
        ]

    @property
    def resources(self) -> dict[str, Any]:
        return resources_of(self.world)


def manifest_of(former: Former) -> list[dict[str, Any]]:
    """The manifest's rows by key, with the columns that were recorded."""
    rows = former.world.manifest().read([]).sort("key")
    return rows.select(list(former.facts["manifest"][0])).to_dicts()


@pytest.fixture(scope="module")
def former(store: EmbeddedStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Former]:
    made = Former(store, tmp_path_factory.mktemp("former"))
    yield made
    made.instance.dispose()


def test_the_manifest_is_read_with_every_state_that_was_written(former: Former) -> None:
    rows = manifest_of(former)
    assert rows == former.facts["manifest"]
    assert {row["state"] for row in rows} == {"present", "vanished", "failed"}
    assert {row["integrity"] for row in rows} == {"verified", "mismatch", None}


def test_a_sync_of_what_was_synced_copies_nothing(former: Former) -> None:
    report = former.world.engine().sync(scope(former.entry, FIRST, THIRD))
    assert (report.total("copied"), report.total("present"), report.incomplete) == (0, 5, ())
    assert manifest_of(former) == former.facts["manifest"], "the states are written as they were"


def test_json_documents_keep_their_keys(former: Former) -> None:
    engine, asked = former.world.engine(), scope(former.entry, FIRST, THIRD)
    document = _document(engine.sync(asked), ok=True)
    assert document.keys() >= {"dataset", "periods", "strays", "strays_total", "left_out", "mode_note", "total"}
    assert document["periods"][0].keys() >= {"expected", "present", "vanished", "narrowed", "doubted", "failures"}
    assert document["total"]["vanished"] == 1
    assert _with_former_names([*asdict(engine.plan(asked).summary()).items()])["vanished"] == 1


def test_the_records_beside_the_manifest_are_read(former: Former) -> None:
    dataset = former.entry.dataset
    totals = SyncTotals(former.lake).read()
    assert totals["files_direct"].sum() + totals["files_relay"].sum() > 0
    assert ManifestStats(former.lake).of(dataset).height == len({FIRST, SECOND, THIRD, FAILED})
    assert coverage(former.lake, dataset).height
    assert read_symbols(former.lake, "binance")["symbol"].to_list() == [f"{TAG}A"]
    assert read_catalog(former.lake, "binance") is not None


def test_the_table_is_read_and_no_period_of_it_is_outdated(former: Former) -> None:
    rows = former.tabled.rows().group_by("symbol").len().iter_rows()
    assert sorted([*row] for row in rows) == former.facts["rows"]
    report = former.tabled.build(FIRST, SECOND)
    assert {period.state.value for period in report.periods} == {"unchanged"}
    assert list(report.outdated) == []


def test_open_and_acknowledged_incidents_stay_so(former: Former) -> None:
    state = LakeIncidentStore(former.lake, fallback=None).read(datetime.now(UTC)).state
    live = [[incident.id, incident.cause.value, incident.state] for incident in state.live()]
    assert live == former.facts["incidents"]
    [acknowledged] = [incident for incident in state.live() if incident.state == "acknowledged"]
    assert acknowledged.acknowledged.who == "ada"


def test_materialized_partitions_keep_their_assets(former: Former) -> None:
    found = {
        "/".join(asset.key.path): sorted(former.instance.get_materialized_partitions(asset.key))
        for asset in former.assets
    }
    assert found == former.facts["materialized"]


def test_checks_keep_their_history(former: Former) -> None:
    keys = [spec.key for asset in former.assets for spec in asset.check_specs]
    latest = former.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    assert {key.name for key in latest} >= {"files", "quality", "checksums"}


def test_the_discovery_sensor_goes_on_from_the_saved_cursor(former: Former, monkeypatch: pytest.MonkeyPatch) -> None:
    text = former.facts["cursors"]["binance_discovery"]
    [dataset] = DiscoveryCursor.read(text).datasets.values()
    assert set(dataset.pending) == {FAILED, NEXT}
    monkeypatch.setattr(sensors, "now", lambda: TICK.timestamp() + DiscoverySettings().settle_seconds + 1)
    [sensor] = build_discovery_sensors(ArchiveMatrix(entries=(former.entry,)), DiscoverySettings())
    resources = {name: former.resources[name] for name in ("lake", "source")}
    with dg.build_sensor_context(instance=former.instance, cursor=text, resources=resources) as context:
        result = sensor(context)
    asked = {
        (request.partition_key, request.tags.get("dagster/asset_partition_range_end"))
        for request in result.run_requests
    }
    assert asked == {(None, NEXT)}, "both periods have settled, and one run takes them"


def test_the_incident_sensor_goes_on_from_the_saved_cursor(former: Former, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_INCIDENTS_FALLBACK_DIR", str(tmp_path))
        with dg.build_sensor_context(
            instance=former.instance,
            cursor=former.facts["cursors"]["incidents"],
            definitions=dg.Definitions([*former.assets, build_incident_report()], resources=former.resources),
            resources={"lake": former.resources["lake"]},
        ) as context:
            build_incident_sensor()(context)
    state = LakeIncidentStore(former.lake, fallback=None).read(datetime.now(UTC)).state
    assert {incident.id for incident in state.live()} == {incident[0] for incident in former.facts["incidents"]}
