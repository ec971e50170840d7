"""The catalog asset on a real instance: what it records, and what its check reports about changes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.matrix import ArchiveMatrix, DatasetEntry
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.lake.catalog_store import read_catalog, universe
from lakehouse_assets.orchestration.archives.source import source_key
from lakehouse_assets.orchestration.reports.catalog import build_catalog_assets, build_catalog_schedules
from lakehouse_assets_tests.orchestration.conftest import Runner, resources_of
from lakehouse_assets_tests.world import World, days


@pytest.fixture(scope="session")
def store() -> Iterator[EmbeddedStore]:
    """A separate store: a catalog lists all objects of a source, and other tests publish into the shared one."""
    with EmbeddedStore(source_buckets=[exchange.bucket for exchange in EXCHANGES.values()]) as running:
        yield running


YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)


def matrix(*names: str) -> ArchiveMatrix:
    return ArchiveMatrix(entries=tuple(DatasetEntry.model_validate({"dataset": name}) for name in names))


def take(runner: Runner, wanted: ArchiveMatrix, *, depth: str = "exact", exchange: str = "binance") -> Any:
    """Materialize the catalog of an exchange; returns its metadata by name, and its check."""
    [asset] = [built for built in build_catalog_assets(wanted) if built.key == dg.AssetKey(["catalog", exchange])]
    assert asset.asset_deps[asset.key] == {source_key(exchange)}
    result = dg.materialize(
        [asset],
        instance=runner.instance,
        resources=resources_of(runner.world),
        run_config={"ops": {f"catalog__{exchange}": {"config": {"depth": depth}}}},
        raise_on_error=False,
    )
    if not result.success:
        return None
    [made] = result.asset_materializations_for_node(f"catalog__{exchange}")
    [check] = result.get_asset_check_evaluations()
    return {name: value.value for name, value in made.metadata.items()}, check


def test_a_catalog_is_stored_and_shown_with_the_changes_since_the_last_one(runner: Runner, world: World) -> None:
    wanted = matrix("binance/um/metrics/daily")
    last = YESTERDAY.isoformat()
    world.publish(["AUSDT", "BUSDT"], days((YESTERDAY - timedelta(days=2)).isoformat(), last))
    world.publish(["AUSDT"], [last], dataset="binance/um/metrics/daily")
    metadata, check = take(runner, wanted)
    assert "| um/klines/daily | live | " in metadata["published"]
    assert metadata["changes"] == "The first catalog."
    assert "| available, not collected |  | um/klines/daily |" in metadata["against_matrix"]
    assert (metadata["depth"], metadata["symbols"] >= 2, metadata["objects"] >= 7) == ("exact", True, True)
    assert {name for name in metadata if isinstance(metadata[name], int | float)} >= {
        "datasets", "symbols", "objects", "bytes", "requests", "seconds"
    }  # fmt: skip
    assert check.passed
    [observed] = runner.instance.fetch_observations(source_key("binance"), limit=1).records
    facts = {name: value.value for name, value in observed.asset_observation.metadata.items()}
    assert facts == {name: metadata[name] for name in ("depth", "datasets", "symbols", "objects", "bytes")}
    kept = read_catalog(world.lake, "binance")
    assert kept is not None
    assert {world.symbol("AUSDT"), world.symbol("BUSDT")} <= set(kept.spans["symbol"])
    assert world.symbol("BUSDT") in set(universe(world.lake, "binance", YESTERDAY, data_type="klines")["symbol"])

    world.publish(["NEWUSDT"], [last])
    world.put(f"data/{world.tag}/x.zip", b"x", sidecar=False)
    metadata, check = take(runner, wanted)
    assert f"| new symbol | {world.symbol('NEWUSDT')} | um/klines/daily |" in metadata["changes"]
    assert f"data/{world.tag}/" in metadata["strays"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description.startswith(f"1 new prefix: data/{world.tag}/ since ")

    metadata, check = take(runner, wanted, depth="shallow")
    assert (metadata["depth"], check.passed) == ("shallow", True)
    assert metadata["changes"] == "None."


def test_an_unpublished_dataset_of_the_matrix_fails_the_check(runner: Runner, world: World) -> None:
    world.publish(["AUSDT"], [YESTERDAY.isoformat()])
    _, check = take(runner, matrix("binance/option/EOHSummary/daily"))
    assert not check.passed
    assert "wanted, not published: option/EOHSummary/daily" in check.description


def test_an_exchange_with_an_empty_listing_fails_its_run_and_no_catalog_is_stored(runner: Runner, world: World) -> None:
    assert take(runner, matrix("binance/um/metrics/daily"), exchange="kucoin") is None
    assert read_catalog(world.lake, "kucoin") is None


def test_there_is_a_catalog_and_a_schedule_for_every_exchange_and_sunday_s_is_exact() -> None:
    assert {asset.key.to_user_string() for asset in build_catalog_assets(matrix("binance/um/metrics/daily"))} == {
        f"catalog/{name}" for name in EXCHANGES
    }
    schedules = {schedule.name: schedule for schedule in build_catalog_schedules()}
    assert set(schedules) == {f"catalog_{name}_daily" for name in EXCHANGES}
    depths = {}
    for day in (date(2026, 10, 3), date(2026, 10, 4), date(2026, 10, 5)):
        at = datetime(day.year, day.month, day.day, 12, 30, tzinfo=UTC)
        context = dg.build_schedule_context(scheduled_execution_time=at)
        [request] = schedules["catalog_gate_daily"].evaluate_tick(context).run_requests
        depths[day.isoformat()] = request.run_config["ops"]["catalog__gate"]["config"]["depth"]
    assert depths == {"2026-10-03": "shallow", "2026-10-04": "exact", "2026-10-05": "shallow"}
