"""Archive assets: one per dataset of the matrix, partitioned by period."""

from enum import Enum

import dagster as dg
from pydantic import Field

from lakehouse_assets.archive.matrix import DatasetEntry, SyncMode
from lakehouse_assets.orchestration.archives.complete_check import build_complete_check, log_complete_check
from lakehouse_assets.orchestration.archives.cost_guard import approval
from lakehouse_assets.orchestration.archives.expected_check import (
    ARCHIVE_QUANTITIES,
    build_expected_check,
    evaluate,
    expected_result,
)
from lakehouse_assets.orchestration.archives.file_columns import file_columns
from lakehouse_assets.orchestration.archives.published_check import build_published_check, repeated_evaluation
from lakehouse_assets.orchestration.archives.reporting import report_sync
from lakehouse_assets.orchestration.archives.source import source_key
from lakehouse_assets.orchestration.check_names import EXPECTED
from lakehouse_assets.orchestration.dagster_internals import forget_planned_checks
from lakehouse_assets.orchestration.partitions import build_partitions
from lakehouse_assets.orchestration.pools import NO_LAKE, Pools
from lakehouse_assets.orchestration.resources import LakeResource, SourceResource, SyncResource
from lakehouse_assets.orchestration.run_requests import periods_of
from lakehouse_assets.orchestration.telemetry import traced
from lakehouse_assets.settings import SpendingSettings, read_group
from lakehouse_assets.sync.scope import Scope

# No `from __future__ import annotations` here: Dagster reads the annotation of `config`.


# The launchpad offers an enum's member names, so these are the modes' values.
ModeChoice = Enum("ModeChoice", {mode.value: mode.value for mode in SyncMode})


class SyncConfig(dg.Config):
    """Run configuration of an archive asset. By default a run syncs complete partitions."""

    symbols: list[str] = Field(
        default=[],
        description="Sync only these symbols. The partition is materialized only if it is complete afterwards; "
        "otherwise the run records an observation. Empty: all symbols of the matrix entry.",
    )
    intervals: list[str] = Field(
        default=[],
        description="Sync only these intervals, such as 1m; otherwise as symbols. Empty: all intervals.",
    )
    mode: ModeChoice | None = Field(
        default=None,
        description="How objects are moved: auto, direct (server-side copy), relay (through memory), "
        "staged (through scratch disk). Default: the matrix entry's mode.",
    )
    allow_spending: bool = Field(
        default=False,
        description="Copy even if the estimate exceeds a cost limit (LAKEHOUSE_SPENDING_*). For a backfill, "
        "set the tag lakehouse/allow_spending=true instead.",
    )
    accept_withdrawals: bool = Field(
        default=False,
        description="Accept a listing that lacks many known objects: the exchange withdrew them. By default such a "
        "listing counts as an outage until it has lasted for LAKEHOUSE_SYNC_DOUBT_HOURS.",
    )


def build_archive_asset(entry: DatasetEntry, lake_url: str, pools: Pools = NO_LAKE) -> dg.AssetsDefinition:
    """Build the asset of one matrix entry. ``lake_url`` is for its description only.

    A run covers one partition or a range, and reports each partition separately.
    """
    dataset = entry.dataset
    key = dg.AssetKey(dataset.asset_key)
    partitions = build_partitions(entry)
    check = build_complete_check(key)
    published = build_published_check(key)

    @dg.multi_asset(
        name="__".join(dataset.asset_key),
        specs=[_spec(entry, partitions, lake_url)],
        check_specs=[check, published, build_expected_check(key, ARCHIVE_QUANTITIES)],
        # Optional outputs: only what the body logs is materialized.
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=entry.partitions_per_run),
        pool=pools.archive(dataset.exchange),
    )
    def archive_asset(
        context: dg.AssetExecutionContext,
        config: SyncConfig,
        lake: LakeResource,
        source: SourceResource,
        sync: SyncResource,
    ):
        forget_planned_checks(context)
        with traced(context):
            if published.key in context.selected_asset_check_keys:
                context.log_event(repeated_evaluation(context.instance, key))
            if key not in context.selected_asset_keys and check.key not in context.selected_asset_check_keys:
                return
            target = lake.lake()
            is_sync = key in context.selected_asset_keys
            # A run of the check alone is no run over partitions; its tags may have some nevertheless.
            periods = [dataset.period(text) for text in context.partition_keys] if is_sync else periods_of(context.run)
            if not periods:
                log_complete_check(context, dataset, target, None)
                return
            engine = sync.engine(source.bucket(dataset.source), target)
            scope = Scope(
                entry=entry,
                periods=tuple(periods),
                symbols=tuple(config.symbols),
                intervals=tuple(config.intervals),
            )
            if is_sync:
                report = engine.sync(
                    scope,
                    mode=config.mode and SyncMode(config.mode.value),
                    run_id=context.run.run_id,
                    approve=approval(context, read_group(SpendingSettings), is_allowed=config.allow_spending),
                    accept_withdrawals=config.accept_withdrawals,
                )
            else:
                report = engine.check(scope)
            report_sync(context, dataset, target, report, synced=is_sync, code_version=entry.code_version)
            complete = [period.period for period in report.periods if period.is_complete]
            if complete and dg.AssetCheckKey(key, EXPECTED) in context.selected_asset_check_keys:
                result = expected_result(context, key, lambda: evaluate(target, dataset, complete))
                if result is not None:
                    yield result

    return archive_asset


def _spec(entry: DatasetEntry, partitions: dg.PartitionsDefinition, lake_url: str) -> dg.AssetSpec:
    dataset = entry.dataset
    lake_uri = f"{lake_url}/{dataset.lake_prefix}"
    columns = file_columns(dataset)
    return dg.AssetSpec(
        dg.AssetKey(dataset.asset_key),
        deps=[source_key(dataset.exchange)],
        partitions_def=partitions,
        group_name=dataset.group,
        kinds={"s3", "s5cmd"},
        owners=["team:market-data"],
        code_version=entry.code_version,
        description=_description(entry, lake_uri),
        metadata={
            "dagster/uri": lake_uri,
            "source_uri": dataset.source_url,
            "first_period": str(entry.first_period),
            "intervals": list(entry.intervals),
            "mode": entry.mode.value,
            **({} if columns is None else {"dagster/column_schema": columns}),
        },
        tags={"exchange": dataset.exchange, "market": dataset.market, "cadence": dataset.cadence.value},
    )


def _description(entry: DatasetEntry, lake_uri: str) -> str:
    dataset, exchange = entry.dataset, entry.dataset.source
    intervals = f"Intervals: {', '.join(entry.intervals)}. " if entry.intervals else ""
    content = (
        f"{dataset.exchange} {dataset.market} {dataset.data_type}, {dataset.cadence} archive files, "
        f"mirrored verbatim. {intervals}Symbols: {entry.symbols}. Days are those of {exchange.timezone}."
    )
    source = (
        f"Source: `{dataset.source_url}` ([{exchange.homepage}]({exchange.homepage}), "
        f"[documentation]({exchange.documentation})). {exchange.terms.summary} ([Terms]({exchange.terms.url}))"
    )
    return "\n\n".join(filter(None, (content, dataset.caveat, source, f"Lake: `{lake_uri}`")))
