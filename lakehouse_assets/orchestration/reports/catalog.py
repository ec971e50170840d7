"""Catalog assets: what each exchange publishes, listed on a schedule, and what changed since the last catalog."""

from datetime import UTC, datetime, timedelta
from enum import Enum

import dagster as dg
import polars as pl
from pydantic import Field

from lakehouse_assets.archive.catalog.catalog import Catalog, CatalogDepth, against_matrix, changes_between
from lakehouse_assets.archive.catalog.changes import alarming, summary_of
from lakehouse_assets.archive.catalog.walk import CONCURRENCY, Progress, discover
from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.exchanges.grammar import Exchange
from lakehouse_assets.archive.matrix import ArchiveMatrix
from lakehouse_assets.lake.catalog_store import read_catalog, write_catalog
from lakehouse_assets.orchestration.archives.source import source_key
from lakehouse_assets.orchestration.error_metadata import store_errors_as_failures
from lakehouse_assets.orchestration.markdown import code, table
from lakehouse_assets.orchestration.pools import NO_LAKE, Pools
from lakehouse_assets.orchestration.reports.timetable import Timetable
from lakehouse_assets.orchestration.resources import LakeResource, SourceResource

# No `from __future__ import annotations` here: Dagster reads the annotation of `config`. An asset with a check has no
# return annotation, since Dagster would expect a tuple.

CATALOG = "catalog"
DIFFERENCE = "difference"
ROWS = 100
LOG_SECONDS = 60.0
EXACT_WEEKDAY = 6
"""Sunday: on this day of the week the scheduled catalog is exact."""

_TIMETABLE = Timetable("30 12 * * *", every=timedelta(days=1))

DepthChoice = Enum("DepthChoice", {depth.value: depth.value for depth in CatalogDepth})


class CatalogConfig(dg.Config):
    """Run configuration of a catalog asset."""

    depth: DepthChoice = Field(
        default=DepthChoice[CatalogDepth.EXACT.value],
        description="exact: list every key. shallow: list folder names, and a sample of each dataset.",
    )
    accept_withdrawals: bool = Field(
        default=False,
        description="Accept a catalog that lacks many known symbols: the exchange withdrew them. By default such a "
        "catalog counts as an outage.",
    )
    concurrency: int = Field(default=CONCURRENCY, ge=1, le=1024, description="Listing requests at a time.")


def build_catalog_assets(matrix: ArchiveMatrix, pools: Pools = NO_LAKE) -> list[dg.AssetsDefinition]:
    """One catalog per supported exchange, whether or not the matrix selects it."""
    return [_build_catalog(exchange, matrix, pools) for exchange in EXCHANGES.values()]


def build_catalog_schedules() -> list[dg.ScheduleDefinition]:
    """One per exchange, after the usual time of publication: shallow, and exact once a week."""
    return [_build_schedule(name) for name in EXCHANGES]


def _key(exchange: str) -> dg.AssetKey:
    return dg.AssetKey([CATALOG, exchange])


def _op(exchange: str) -> str:
    return f"{CATALOG}__{exchange}"


def _build_catalog(exchange: Exchange, matrix: ArchiveMatrix, pools: Pools) -> dg.AssetsDefinition:
    key = _key(exchange.name)

    @dg.asset(
        key=key,
        deps=[source_key(exchange.name)],
        group_name=CATALOG,
        kinds={"s3"},
        owners=["team:market-data"],
        pool=pools.catalog(exchange.name),
        freshness_policy=_TIMETABLE.freshness,
        check_specs=[
            dg.AssetCheckSpec(
                DIFFERENCE,
                asset=key,
                description="No dataset, folder or matrix entry appeared or disappeared since the last catalog: each "
                "needs a decision. New and withdrawn symbols are in the metadata.",
            )
        ],
        description=f"Every market, data type, cadence, interval and symbol that {exchange.bucket} holds, with first "
        "and last period, objects and bytes. All catalogs are kept.",
        tags={"exchange": exchange.name},
    )
    @store_errors_as_failures()
    def catalog(context: dg.AssetExecutionContext, config: CatalogConfig, lake: LakeResource, source: SourceResource):
        into = lake.lake()
        before = read_catalog(into, exchange.name)
        now = discover(
            exchange.name,
            source.bucket(exchange),
            depth=CatalogDepth(config.depth.value),
            concurrency=config.concurrency,
            on_progress=_ProgressLog(context).show,
        )
        write_catalog(into, now, accept_withdrawals=config.accept_withdrawals)
        changes = changes_between(before, now) if before else None
        wanted = against_matrix(now, matrix)
        context.log_event(dg.AssetObservation(source_key(exchange.name), metadata=_totals(now)))
        return dg.MaterializeResult(
            metadata=_metadata(now, changes, wanted), check_results=[_check(key, before, changes, wanted)]
        )

    return catalog


def _build_schedule(exchange: str) -> dg.ScheduleDefinition:
    def depth_of_the_day(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        is_exact = context.scheduled_execution_time.weekday() == EXACT_WEEKDAY
        depth = CatalogDepth.EXACT if is_exact else CatalogDepth.SHALLOW
        return dg.RunRequest(run_config={"ops": {_op(exchange): {"config": {"depth": depth.value}}}})

    job = f"{CATALOG}_{exchange}"
    return _TIMETABLE.schedule(f"{job}_daily", job=job, asset=_key(exchange), execution_fn=depth_of_the_day)


class _ProgressLog:
    """Logs the walk's progress every LOG_SECONDS."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._log = context.log
        self._last = datetime.now(UTC)

    def show(self, progress: Progress) -> None:
        now = datetime.now(UTC)
        if (now - self._last).total_seconds() >= LOG_SECONDS:
            self._last = now
            self._log.info(f"{progress.requests} requests, {progress.keys} keys so far.")


def _totals(now: Catalog) -> dict[str, dg.MetadataValue]:
    """What the bucket holds, in numbers; the source is observed with them, too."""
    datasets = now.datasets()
    return {
        "depth": dg.MetadataValue.text(now.depth.value),
        "datasets": dg.MetadataValue.int(datasets.height),
        "symbols": dg.MetadataValue.int(now.spans.select("market", "symbol").n_unique()),
        "objects": dg.MetadataValue.int(int(datasets["objects"].sum())),
        "bytes": dg.MetadataValue.int(int(datasets["bytes"].sum())),
    }


def _metadata(now: Catalog, changes: pl.DataFrame | None, wanted: pl.DataFrame) -> dict[str, dg.MetadataValue]:
    unknown = now.unrecognized.filter(~pl.col("known"))
    return {
        **_totals(now),
        "requests": dg.MetadataValue.int(now.requests),
        "seconds": dg.MetadataValue.float(round(now.seconds, 3)),
        "published": dg.MetadataValue.md(_datasets_table(now.datasets())),
        "strays": dg.MetadataValue.md(_unrecognized_table(unknown)),
        "changes": dg.MetadataValue.md("The first catalog." if changes is None else _changes_table(changes)),
        "against_matrix": dg.MetadataValue.md(_changes_table(wanted)),
    }


def _check(
    key: dg.AssetKey, before: Catalog | None, changes: pl.DataFrame | None, wanted: pl.DataFrame
) -> dg.AssetCheckResult:
    differences = alarming(wanted if changes is None else pl.concat([changes, wanted]))
    since = f"since {before.taken_at:%Y-%m-%d %H:%M} UTC" if before else "in the first catalog"
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=DIFFERENCE,
        passed=differences.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{summary_of(differences)} {since}",
        metadata={"differences": dg.MetadataValue.md(_changes_table(differences))},
    )


# Markdown

_DATASET_COLUMNS = ("dataset", "state", "symbols (live)", "intervals", "first", "newest", "objects", "bytes")


def _datasets_table(datasets: pl.DataFrame) -> str:
    rows = [
        (
            row["dataset"],
            row["state"] or "unknown",
            f"{row['symbols']:,} ({row['live']:,})" if row["exact"] else f"{row['symbols']:,}",
            ", ".join(row["intervals"]),
            row["first"],
            row["newest"],
            *(_estimated(row[name], exact=row["exact"]) for name in ("objects", "bytes")),
        )
        for row in datasets.to_dicts()
    ]
    return table(_DATASET_COLUMNS, rows, limit=ROWS, empty="None.")


def _unrecognized_table(unrecognized: pl.DataFrame) -> str:
    rows = [
        (
            code(row["prefix"]),
            row["reason"],
            f"{row['objects']:,}" if row["exact"] else f"at least {row['objects']:,}",
            code(row["example"]),
        )
        for row in unrecognized.to_dicts()
    ]
    return table(("below", "why", "objects", "such as"), rows, limit=ROWS, empty="None.")


def _changes_table(changes: pl.DataFrame) -> str:
    rows = [(row["kind"], row["name"], ", ".join(row["datasets"]), row["since"]) for row in changes.to_dicts()]
    return table(("what", "name", "datasets", "last seen"), rows, limit=ROWS)


def _estimated(count: int | None, *, exact: bool) -> str:
    if count is None:
        return "unknown"
    return f"{count:,}" if exact else f"about {count:,}"
