"""Table assets: one per exchange, market and data type, downstream of its archive assets."""

import warnings

import dagster as dg
from pydantic import Field

from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.orchestration.archives.expected_check import TABLE_QUANTITIES, build_expected_check
from lakehouse_assets.orchestration.check_names import FILES, QUALITY
from lakehouse_assets.orchestration.dagster_internals import forget_planned_checks
from lakehouse_assets.orchestration.force_config import ForceConfig
from lakehouse_assets.orchestration.partitions import partitions_of
from lakehouse_assets.orchestration.pools import NO_LAKE, Pools
from lakehouse_assets.orchestration.resources import LakeResource, SourceResource
from lakehouse_assets.orchestration.tables.freshness import table_freshness
from lakehouse_assets.orchestration.tables.reporting import column_schema, report_build
from lakehouse_assets.orchestration.telemetry import traced
from lakehouse_assets.settings import TablesSettings, read_group
from lakehouse_assets.tables.lineage import schema_digest
from lakehouse_assets.tables.table import TableEntry

# No `from __future__ import annotations` here: Dagster reads the annotation of `config`.


class TableConfig(ForceConfig):
    """Run configuration of a table asset."""

    force: bool = Field(
        default=False, description="Write the periods even if their archives did not change; retry bad files."
    )


def build_table_asset(
    entry: TableEntry, lake_url: str, pools: Pools = NO_LAKE, *, is_followed: bool = False
) -> dg.AssetsDefinition:
    """Build the asset of one table. ``lake_url`` is for its description only.

    Where it ``is_followed`` without being asked to, it has a freshness policy.

    A run covers one partition or a range, and reports each partition separately.
    """
    table = entry.table
    key = dg.AssetKey(table.asset_key)

    @dg.multi_asset(
        name="__".join(table.asset_key),
        specs=[_spec(entry, key, lake_url, is_followed=is_followed)],
        check_specs=[
            dg.AssetCheckSpec(
                FILES,
                asset=key,
                description="Every archive object that the manifests have for the run's periods is in the table, or a "
                "monthly object replaces it. Names quarantined and missing objects, and the result for their periods.",
            ),
            dg.AssetCheckSpec(
                QUALITY,
                asset=key,
                description="The rows of the run's periods are complete, in order and valid. ERROR: rows are missing, "
                "duplicate or impossible. WARN: unusual rows that the exchange published so. Names the worst periods.",
            ),
            build_expected_check(key, TABLE_QUANTITIES),
        ],
        # Optional outputs: only what the body logs is materialized.
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=partitions_per_run(entry)),
        pool=pools.table(table),
    )
    def table_asset(context: dg.AssetExecutionContext, config: TableConfig, lake: LakeResource, source: SourceResource):
        forget_planned_checks(context)
        with traced(context):
            # Imported where a table run begins its work: definitions and other runs build no table.
            from lakehouse_assets.tables.write.build import TableBuilder  # noqa: PLC0415

            target = lake.lake()
            builder = TableBuilder(
                source.bucket(next(iter(entry.entries.values())).dataset.source),
                target,
                entry,
                retention_days=read_group(TablesSettings).retention_days,
            )
            report = builder.build(list(context.partition_keys), force=config.is_forced, run_id=context.run.run_id)
            yield from report_build(context, entry, target, report)

    return table_asset


def partitions_per_run(entry: TableEntry) -> int:
    """A number that no archive or verification of the same data has. Dagster would put them into one run, and skip the
    table there, since an archive reports its partitions by itself and has no output."""
    return max(archive.partitions_per_run for archive in entry.entries.values()) + 2


def build_table_partitions(entry: TableEntry) -> dg.TimeWindowPartitionsDefinition:
    """From the first period of any of its archives to the last one that is over (or that was ever published).

    In the exchange's time zone, as the archives.
    """
    cadence = entry.table.cadence
    [timezone] = {archive.dataset.source.timezone for archive in entry.entries.values()}
    firsts = [Period.containing(cadence, archive.first_period.start) for archive in entry.entries.values()]
    lasts = [archive.last_period for archive in entry.entries.values()]
    ends = [None if last is None else last.end for last in lasts]
    end = None if None in ends else max(end for end in ends if end is not None)
    return partitions_of(cadence, first=str(min(firsts)), end=end, timezone=timezone)


def _spec(entry: TableEntry, key: dg.AssetKey, lake_url: str, *, is_followed: bool) -> dg.AssetSpec:
    table = entry.table
    uri = f"{lake_url}/{table.place}"
    sources = ", ".join(f"`{archive.dataset}`" for archive in entry.entries.values())
    fills = " Days that the daily archives lack are taken from the monthly ones." if len(entry.entries) > 1 else ""
    return dg.AssetSpec(
        key,
        deps=[_dep(archive.dataset.asset_key) for archive in entry.entries.values()],
        partitions_def=build_table_partitions(entry),
        group_name=f"{table.exchange}/{table.market}",
        kinds={"deltalake", "polars"},
        owners=["team:market-data"],
        code_version=schema_digest(table),
        freshness_policy=table_freshness(entry) if is_followed else None,
        description=(
            f"{table.schema.description} Delta table of {sources}, one row per row of the archives.{fills} "
            f"A {'day' if table.cadence is Cadence.DAILY else 'month'} is replaced completely when its archives "
            f"change.\n\nLake: `{uri}`"
        ),
        metadata={
            "dagster/uri": uri,
            "dagster/table_name": table.name.replace("/", "."),
            "dagster/column_schema": column_schema(table),
            "on_bad_file": entry.on_bad_file.value,
        },
        tags={"exchange": table.exchange, "market": table.market},
    )


def _dep(asset_key: tuple[str, ...]) -> dg.AssetDep:
    """Maps a day of the table to the same day, or to its month; the archives may start later and end earlier."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        mapping = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
    return dg.AssetDep(dg.AssetKey(asset_key), partition_mapping=mapping)
