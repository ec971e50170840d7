"""Reports each partition of a run separately: materialized, observed, checked, or failed.

Dagster materializes every partition of a range run that succeeds. Here a partition is materialized only when it is
complete, so the run logs all events itself, and the step's outputs are optional.
"""

from __future__ import annotations

import dagster as dg

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.errors import printable
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.report import PeriodReport, PeriodState, SyncReport, implausible_text
from lakehouse_assets.orchestration.archives.complete_check import NAMED, log_complete_check, verdict
from lakehouse_assets.orchestration.archives.source import source_key
from lakehouse_assets.orchestration.dagster_internals import InputVersion, forget_partition_status
from lakehouse_assets.orchestration.metadata import left_out_metadata, period_metadata
from lakehouse_assets.orchestration.provenance import materialization_tags
from lakehouse_assets.orchestration.telemetry import Context

STATE = "state"
"""Metadata of an observation: the PeriodState of a period that is not complete."""


def report_sync(
    context: Context,
    dataset: Dataset,
    lake: Lake,
    report: SyncReport,
    *,
    synced: bool,
    code_version: str,
) -> None:
    """Log the events of every period; ``synced`` is False where the run selects only the check.

    Raises dg.Failure, without retries, when a period that should be complete is not.
    """
    key = dg.AssetKey(dataset.asset_key)
    for note in ([f"Objects are not copied directly: {report.mode_note}"] if report.mode_note else []) + report.notes:
        context.log.warning(note)
    for period in report.periods:
        context.log.info(_line(dataset, period))
        if synced:
            context.log_event(_event(context, dataset, lake, (report, period), code_version=code_version))
    log_complete_check(context, dataset, lake, report)
    if any(period.state is PeriodState.NOT_PUBLISHED for period in report.periods):
        # A partition that failed before and is not published now is missing, not failed.
        forget_partition_status(context.instance, key)
    failed = [period for period in report.incomplete if not period.partial or period.failed]
    if synced and failed:
        raise dg.Failure(
            description=f"{len(failed)} of {len(report.periods)} periods of {dataset} are incomplete: "
            + "; ".join(_complaint(dataset, period) for period in failed[:NAMED])
            + ("; ..." if len(failed) > NAMED else ""),
            metadata={"incomplete_periods": dg.MetadataValue.json([period.period for period in failed])},
            allow_retries=False,
        )


def _event(
    context: Context,
    dataset: Dataset,
    lake: Lake,
    reported: tuple[SyncReport, PeriodReport],
    *,
    code_version: str,
) -> dg.AssetMaterialization | dg.AssetObservation:
    key = dg.AssetKey(dataset.asset_key)
    report, period = reported
    metadata = period_metadata(period, dataset, lake) | left_out_metadata(report)
    if not period.is_complete:
        # Incidents read state and error from here; see incidents/signals.py.
        return dg.AssetObservation(
            asset_key=key,
            partition=period.period,
            description=verdict(dataset, period),
            metadata=metadata | {STATE: dg.MetadataValue.text(period.state.value)},
        )
    # The source has no data version: what it had of this period is the partition's own.
    inputs = {source_key(dataset.exchange): InputVersion()}
    tags = materialization_tags(context, inputs=inputs, code_version=code_version, data_version=period.digest)
    return dg.AssetMaterialization(asset_key=key, partition=period.period, metadata=metadata, tags=tags)


def _complaint(dataset: Dataset, period: PeriodReport) -> str:
    if implausible := implausible_text(period, dataset.source_url):
        return f"{period.period}: {implausible}"
    first = period.failures[0]
    return (
        f"{period.period}: {period.missing_total} of {period.expected} objects, such as {printable(first.key)} "
        f"({first.reason})"
    )


def _line(dataset: Dataset, period: PeriodReport) -> str:
    return (
        f"{dataset} {period.period}: {period.state}, {period.present} of {period.expected} objects present, "
        f"{period.copied} copied, {period.failed} failed, {period.bytes_copied} bytes in {period.seconds:.1f} s"
    )
