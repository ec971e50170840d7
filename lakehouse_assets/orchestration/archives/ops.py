"""Ops that sync and verify any range of any dataset, for a user's own jobs, and a job of each for the launchpad.

    from lakehouse_assets.orchestration.archives.ops import sync_archive

    @dg.job
    def before_the_backtest():
        my_own_op(sync_archive())

The ops report partitions as the assets do, so the result shows in the asset catalog.
"""

import dagster as dg
from pydantic import Field

from lakehouse_assets.archive.matrix import DatasetEntry, SyncMode, load_matrix
from lakehouse_assets.errors import InputError
from lakehouse_assets.orchestration.archives.assets import ModeChoice
from lakehouse_assets.orchestration.archives.cost_guard import approval
from lakehouse_assets.orchestration.archives.reporting import report_sync
from lakehouse_assets.orchestration.force_config import ForceConfig
from lakehouse_assets.orchestration.resources import LakeResource, SourceResource, SyncResource
from lakehouse_assets.orchestration.telemetry import traced
from lakehouse_assets.settings import SpendingSettings, load_settings, read_group
from lakehouse_assets.sync.changes import requested_periods
from lakehouse_assets.sync.integrity.verify import Verifier
from lakehouse_assets.sync.scope import Scope

# No `from __future__ import annotations` here: Dagster reads the annotation of `config`.


class PeriodRange(dg.Config):
    """A range of periods of one dataset of the archive matrix."""

    dataset: str = Field(description="A dataset of the archive matrix, such as binance/um/klines/daily.")
    first: str = Field(description="First period: 2024-01-31, or 2024-01.")
    last: str = Field(description="Last period, included; a month means all of its days.")


class SyncRange(PeriodRange):
    """What to sync: complete partitions by default."""

    symbols: list[str] = Field(
        default=[], description="Sync only these symbols. Empty: all symbols of the matrix entry."
    )
    intervals: list[str] = Field(
        default=[], description="Sync only these intervals. Empty: all intervals of the matrix entry."
    )
    mode: ModeChoice | None = Field(
        default=None, description="How objects are moved. Default: the matrix entry's mode."
    )
    allow_spending: bool = Field(default=False, description="Copy even if the estimate exceeds a cost limit.")


class VerifyRange(ForceConfig, PeriodRange):
    """What to verify."""

    force: bool = Field(default=False, description="Read all objects, also those that are already verified.")


@dg.op(description="Sync periods of one dataset into the lake; returns the totals.")
def sync_archive(
    context: dg.OpExecutionContext,
    config: SyncRange,
    lake: LakeResource,
    source: SourceResource,
    sync: SyncResource,
) -> dict[str, int]:
    """Fails, without retries, when a period that should be complete is not."""
    entry, scope = _scope_of(config, tuple(config.symbols), tuple(config.intervals))
    with traced(context):
        target = lake.lake()
        report = sync.engine(source.bucket(entry.dataset.source), target).sync(
            scope,
            mode=config.mode and SyncMode(config.mode.value),
            run_id=context.run.run_id,
            approve=approval(context, read_group(SpendingSettings), is_allowed=config.allow_spending),
        )
        report_sync(context, entry.dataset, target, report, synced=True, code_version=entry.code_version)
    return {name: report.total(name) for name in ("expected", "present", "copied", "failed", "bytes_copied")}


@dg.op(description="Read one dataset's copies in the lake and compare them with the exchange's checksums.")
def verify_archive(
    context: dg.OpExecutionContext, config: VerifyRange, lake: LakeResource, source: SourceResource
) -> dict[str, int]:
    """Fails, without retries, when a copy differs from its source or could not be read."""
    entry, scope = _scope_of(config)
    with traced(context):
        verification = Verifier(source.bucket(entry.dataset.source), lake.lake()).verify(
            entry.dataset, scope.names, force=config.is_forced, run_id=context.run.run_id
        )
        for complaint in (*verification.complaints, *verification.unread):
            context.log.warning("%s: %s: %s", complaint.state, complaint.key, complaint.note)
        differing = sum(complaint.copy_differs for complaint in verification.complaints)
        if differing or verification.unread:
            raise dg.Failure(
                f"{differing} copies of {entry.dataset} differ from their source (sync them again), "
                f"{len(verification.unread)} objects could not be read.",
                allow_retries=False,
            )
    return {
        "objects_read": verification.objects_read,
        "bytes_read": verification.bytes_read,
        "mismatches": len(verification.complaints),
    }


def build_jobs() -> list[dg.JobDefinition]:
    """One job per op, for the launchpad."""

    @dg.job(
        name="sync",
        description="Sync a range of any dataset, as the assets do. For ranges that are no partitions of one run, such "
        "as a month of some symbols.",
    )
    def sync_job() -> None:
        sync_archive()

    @dg.job(name="verify", description="Verify a range of any dataset: read its copies and compare checksums.")
    def verify_job() -> None:
        verify_archive()

    return [sync_job, verify_job]


def _scope_of(
    config: PeriodRange, symbols: tuple[str, ...] = (), intervals: tuple[str, ...] = ()
) -> tuple[DatasetEntry, Scope]:
    try:
        entry = load_matrix(load_settings().matrix).entry(config.dataset.strip("/"))
        periods = requested_periods(entry, config.first, config.last)
        return entry, Scope(entry=entry, periods=tuple(periods), symbols=symbols, intervals=intervals)
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
