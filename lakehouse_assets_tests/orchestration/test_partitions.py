"""Partitions of all assets: the periods that are over, in a definition that no other asset shares."""

from __future__ import annotations

from datetime import UTC, date, datetime

import dagster as dg
import pytest

from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.archives.verification import build_verification_asset
from lakehouse_assets.orchestration.partitions import CRON, partitions_of
from lakehouse_assets.orchestration.resources import build_resources
from lakehouse_assets.orchestration.tables.agreement import build_agreement_assets
from lakehouse_assets.orchestration.tables.assets import build_table_asset
from lakehouse_assets.settings import load_settings
from lakehouse_assets.tables.table import tables_of
from lakehouse_assets_tests.dagster_internals import AssetKeyPartitionKey, build_run_requests_with_backfill_policies

KEY = dg.AssetKey(["binance", "um", "klines", "daily"])


def every_entry() -> list[DatasetEntry]:
    """One per publication of all exchanges."""
    return [
        DatasetEntry.model_validate(
            {"dataset": f"{exchange.name}/{publication.market}/{publication.data_type}/{publication.cadence}"}
            | ({"intervals": "all"} if publication.intervals else {})
        )
        for exchange in EXCHANGES.values()
        for publication in exchange.publications
    ]


@pytest.mark.parametrize("cadence", list(Cadence))
@pytest.mark.parametrize("end", [None, date(2024, 3, 1)])
@pytest.mark.parametrize("timezone", ["UTC", "Asia/Shanghai"])
def test_the_moment_of_the_end_does_not_change_which_partitions_there_are(
    cadence: Cadence, end: date | None, timezone: str
) -> None:
    plain = dg.TimeWindowPartitionsDefinition(
        start="2024-01-01" if cadence is Cadence.DAILY else "2024-01",
        end=None if end is None else (str(end) if cadence is Cadence.DAILY else str(end)[:7]),
        cron_schedule=CRON[cadence],
        fmt=cadence.key_format,
        timezone=timezone,
    )
    ours = partitions_of(KEY, cadence, first=plain.get_first_partition_key() or "", end=end, timezone=timezone)
    assert ours != plain
    for now in (datetime(2024, 2, 29, 15, 59, tzinfo=UTC), datetime(2024, 3, 31, 16, tzinfo=UTC)):
        assert ours.get_partition_keys(current_time=now) == plain.get_partition_keys(current_time=now)


def test_a_backfill_over_all_assets_of_all_exchanges_has_a_run_per_asset() -> None:
    entries = every_entry()
    tables = tables_of(entries)
    assets = [build(entry) for entry in entries for build in (_archive, build_verification_asset)]
    assets += [build_table_asset(table, "s3://lake") for table in tables] + build_agreement_assets(tables)
    graph = dg.Definitions(assets, resources=build_resources(load_settings())).resolve_asset_graph()
    days = ["2023-05-01", "2023-05-02"]
    wanted = [
        AssetKeyPartitionKey(key, text)
        for key in graph.get_all_asset_keys()
        if (partitions := graph.get(key).partitions_def) is not None
        for text in (*days, "2023-05")
        if partitions.has_partition_key(text)
    ]
    with dg.DagsterInstance.ephemeral() as instance:
        requests = build_run_requests_with_backfill_policies(wanted, graph, instance)
    assert len({key for key, _ in wanted}) > 200
    assert {len(request.asset_selection or ()) for request in requests} == {1}


def _archive(entry: DatasetEntry) -> dg.AssetsDefinition:
    return build_archive_asset(entry, "s3://lake")
