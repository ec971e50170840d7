"""Agreement assets: compare a month of a table across intervals and with its monthly archives, on demand."""

import dagster as dg

from lakehouse_assets.archive.period import Cadence, month_of
from lakehouse_assets.orchestration.check_names import AGREES
from lakehouse_assets.orchestration.error_metadata import store_errors_as_failures
from lakehouse_assets.orchestration.markdown import table as markdown_table
from lakehouse_assets.orchestration.partitions import partitions_of
from lakehouse_assets.orchestration.pools import NO_LAKE, Pools
from lakehouse_assets.orchestration.resources import LakeResource, SourceResource
from lakehouse_assets.orchestration.tables.assets import build_table_partitions
from lakehouse_assets.tables.quality.agreement import Agreement, can_be_compared, compare_month
from lakehouse_assets.tables.table import TableEntry

# No `from __future__ import annotations` here: Dagster reads the annotation of `context`.

NAMED = 20


def build_agreement_assets(entries: list[TableEntry], pools: Pools = NO_LAKE) -> list[dg.AssetsDefinition]:
    """One per table that has something to compare."""
    return [_build_agreement_asset(entry, pools) for entry in entries if can_be_compared(entry)]


def _build_agreement_asset(entry: TableEntry, pools: Pools) -> dg.AssetsDefinition:
    table = entry.table
    path = (*table.asset_key[:-1], "agreement")
    partitions = build_table_partitions(entry)
    first = partitions.get_first_partition_key() or ""

    @dg.asset(
        key=dg.AssetKey(path),
        deps=[dg.AssetDep(dg.AssetKey(table.asset_key), partition_mapping=dg.TimeWindowPartitionMapping())],
        partitions_def=partitions_of(Cadence.MONTHLY, first=month_of(first), end=None, timezone=partitions.timezone),
        group_name=f"{table.exchange}/{table.market}",
        kinds={"deltalake", "polars"},
        owners=["team:market-data"],
        pool=pools.verification(table.exchange),
        check_specs=[
            dg.AssetCheckSpec(
                AGREES,
                asset=dg.AssetKey(path),
                description="Short candles sum up to long ones, and monthly archives have the same rows as daily ones.",
            )
        ],
        description=f"Compares a month of {table} across intervals, and its daily with its monthly archives. Reads "
        "the complete month; materialize it on demand.",
        tags={"exchange": table.exchange, "market": table.market},
    )
    @store_errors_as_failures()
    def agreement_asset(context: dg.AssetExecutionContext, lake: LakeResource, source: SourceResource):
        exchange = next(iter(entry.entries.values())).dataset.source
        agreement = compare_month(
            source.bucket(exchange), lake.lake(), entry, context.partition_key, run_id=context.run.run_id
        )
        disagreeing = agreement.wrong
        metadata: dict[str, dg.MetadataValue] = {
            "rows_compared": dg.MetadataValue.int(agreement.compared),
            "parts_wrong": dg.MetadataValue.int(disagreeing.height),
            **{
                f"rows_{name}": dg.MetadataValue.int(int(agreement.rows[name].sum()))
                for name in ("differing", "only_left", "only_right")
            },
            "archives_skipped": dg.MetadataValue.int(len(agreement.skipped)),
            "seconds": dg.MetadataValue.float(round(agreement.seconds, 3)),
        }
        if disagreeing.height:
            metadata["worst"] = dg.MetadataValue.md(_disagreements(agreement))
        check = dg.AssetCheckResult(
            check_name=AGREES,
            passed=not disagreeing.height,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{context.partition_key}: {disagreeing.height} of {agreement.rows.height} symbols and "
            f"intervals disagree; {len(agreement.skipped)} monthly archives could not be compared.",
            metadata=metadata,
        )
        return dg.MaterializeResult(metadata=metadata, check_results=[check])

    return agreement_asset


_COLUMNS = (
    "symbol",
    "interval",
    "comparison",
    "compared",
    "differing",
    "only_left",
    "only_right",
    "first_difference",
)


def _disagreements(agreement: Agreement) -> str:
    rows = agreement.wrong.select(_COLUMNS).head(NAMED).rows()
    return markdown_table(_COLUMNS, rows)
