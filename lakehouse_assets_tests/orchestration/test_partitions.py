"""Backfills over several assets: which can be launched together, and which of them share a run."""

from __future__ import annotations

import dagster as dg
import pytest

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.archives.verification import build_verification_asset
from lakehouse_assets.orchestration.dagster_internals import AssetGraph
from lakehouse_assets.orchestration.resources import build_resources
from lakehouse_assets.orchestration.tables.agreement import build_agreement_assets
from lakehouse_assets.orchestration.tables.assets import build_table_asset
from lakehouse_assets.settings import load_settings
from lakehouse_assets.tables.table import tables_of
from lakehouse_assets_tests.dagster_internals import (
    AssetBackfillData,
    AssetKeyPartitionKey,
    build_run_requests_with_backfill_policies,
)
from lakehouse_assets_tests.matrices import every_dataset

DAYS = ["2024-01-01", "2024-01-02"]
START = Period.parse("2024-01", Cadence.MONTHLY)


@pytest.fixture(scope="module")
def graph() -> AssetGraph:
    """The assets of every publication of all exchanges; the archives begin in the same month where they can."""
    entries = [_beginning_at_start(described) for described in every_dataset()["datasets"]]
    tables = tables_of(entries)
    assets = [
        asset
        for entry in entries
        for asset in (build_archive_asset(entry, "s3://lake"), build_verification_asset(entry))
    ]
    assets += [build_table_asset(table, "s3://lake") for table in tables] + build_agreement_assets(tables)
    return dg.Definitions(assets, resources=build_resources(load_settings())).resolve_asset_graph()


@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources` is deprecated")  # Dagster's own code calls it
def test_archives_that_begin_on_the_same_day_can_be_backfilled_together(graph: AssetGraph) -> None:
    keys = [
        key
        for key in graph.get_all_asset_keys()
        if (key.path[0], key.path[-1]) == ("binance", "daily") and _starts_on(graph, key, DAYS[0])
    ]
    assert len(keys) >= 20
    with dg.DagsterInstance.ephemeral() as instance:
        backfill = AssetBackfillData.from_asset_partitions(graph, DAYS, keys, instance, 1_780_000_000.0, False)
    assert {key for key in keys if backfill.target_subset.get_partitions_subset(key).get_partition_keys()} == set(keys)


def test_no_asset_shares_a_backfill_s_run_with_one_that_it_is_made_from(graph: AssetGraph) -> None:
    """It would be skipped there: an archive logs its materializations by itself, so its step has no output."""
    wanted = [
        AssetKeyPartitionKey(key, text)
        for key in graph.get_all_asset_keys()
        if (partitions := graph.get(key).partitions_def) is not None
        for text in (*DAYS, str(START))
        if partitions.has_partition_key(text)
    ]
    with dg.DagsterInstance.ephemeral() as instance:
        requests = build_run_requests_with_backfill_policies(wanted, graph, instance)
    runs = [set(request.asset_selection or ()) for request in requests]
    assert max(len(keys) for keys in runs) > 20
    assert len(set().union(*runs)) > 200
    for keys in runs:
        for key in keys:
            assert not graph.get(key).parent_keys & keys


def _beginning_at_start(described: dict[str, object]) -> DatasetEntry:
    entry = DatasetEntry.model_validate(described)
    is_published_then = entry.first_period.start <= START.start and entry.last_period is None
    return DatasetEntry.model_validate(described | {"first_period": str(START)}) if is_published_then else entry


def _starts_on(graph: AssetGraph, key: dg.AssetKey, day: str) -> bool:
    partitions = graph.get(key).partitions_def
    return partitions is not None and partitions.get_first_partition_key() == day
