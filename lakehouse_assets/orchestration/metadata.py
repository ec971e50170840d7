"""Metadata of archive partitions: stable snake_case names, since Dagster plots numbers over partitions."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.errors import ErrorKind, Side, StoreError, printable
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.report import IMPLAUSIBLE, LEFT_OUT_NAMED, NOT_COPIED, Failure, PeriodReport, SyncReport
from lakehouse_assets.observability.telemetry.tracing import trace_id
from lakehouse_assets.orchestration.error_metadata import error_metadata
from lakehouse_assets.orchestration.markdown import code, table

TABLE_ROWS = 20


def period_metadata(report: PeriodReport, dataset: Dataset, lake: Lake) -> dict[str, dg.MetadataValue]:
    """Metadata of one partition. Numbers of objects exclude sidecars."""
    metadata: dict[str, dg.MetadataValue] = {
        "objects_expected": dg.MetadataValue.int(report.expected),
        "objects_present": dg.MetadataValue.int(report.present),
        "completeness": dg.MetadataValue.float(report.present / report.expected if report.expected else 1.0),
        "objects_copied": dg.MetadataValue.int(report.copied),
        "objects_skipped": dg.MetadataValue.int(report.skipped),
        "objects_failed": dg.MetadataValue.int(report.failed),
        "objects_vanished": dg.MetadataValue.int(report.withdrawn),
        "sidecars_copied": dg.MetadataValue.int(report.sidecars_copied),
        "retries": dg.MetadataValue.int(report.retries),
        "bytes": dg.MetadataValue.int(report.bytes_present),
        "bytes_copied": dg.MetadataValue.int(report.bytes_copied),
        "seconds": dg.MetadataValue.float(round(report.seconds, 3)),
        "bytes_per_second": dg.MetadataValue.float(round(report.bytes_per_second, 1)),
        "copies_by_mode": dg.MetadataValue.json(report.copied_by_mode),
        "operations": dg.MetadataValue.int(report.operations),
        "operations_saved": dg.MetadataValue.int(report.operations_saved),
        "network_bytes": dg.MetadataValue.int(report.network_bytes),
        "network_bytes_saved": dg.MetadataValue.int(report.network_bytes_saved),
        "local_bytes_written": dg.MetadataValue.int(report.local_bytes_written),
        "objects_by_integrity": dg.MetadataValue.json(report.integrity),
        "source_uri": dg.MetadataValue.text(dataset.source_url),
        "lake_uri": dg.MetadataValue.text(lake.url(dataset.lake_prefix)),
    }
    metadata |= trace_metadata()
    if report.doubted or report.sidecars_doubted:
        metadata["objects_doubted"] = dg.MetadataValue.int(report.doubted)
        metadata["sidecars_doubted"] = dg.MetadataValue.int(report.sidecars_doubted)
        metadata |= error_metadata(_implausible_listing(dataset))
    if report.failures:
        metadata["failures"] = dg.MetadataValue.md(failure_table(report))
    return metadata


def _implausible_listing(dataset: Dataset) -> StoreError:
    """The error of a listing that lacks too much to be a withdrawal; the sync reports it and raises nothing."""
    return StoreError(
        "Listing",
        "it lacks too many objects",
        side=Side.SOURCE,
        bucket=dataset.source.bucket,
        key=dataset.source_prefix,
        kind=ErrorKind.IMPLAUSIBLE,
    )


def left_out_metadata(report: SyncReport) -> dict[str, dg.MetadataValue]:
    """Unrecognized keys and symbols that a sync did not copy; empty without any."""
    metadata: dict[str, dg.MetadataValue] = {}
    if report.unrecognized_total:
        metadata["strays"] = dg.MetadataValue.int(report.unrecognized_total)
    if report.left_out_total:
        metadata["symbols_left_out"] = dg.MetadataValue.int(report.left_out_total)
        named = [printable(name) for name in report.left_out[:LEFT_OUT_NAMED]]
        metadata["symbols_left_out_named"] = dg.MetadataValue.json(named)
    return metadata


def trace_metadata() -> dict[str, dg.MetadataValue]:
    """The id of the run's trace; empty where none is recorded."""
    trace = trace_id()
    return {} if trace is None else {"trace_id": dg.MetadataValue.text(trace)}


def failure_table(report: PeriodReport) -> str:
    """A Markdown table of the objects that are not in the lake, each with advice."""
    rows = [
        (code(failure.key), failure.state, failure.reason, _advice(failure)) for failure in report.failures[:TABLE_ROWS]
    ]
    return table(
        ("object", "state", "reason", "what to do"),
        rows,
        total=report.missing_total,
        rest=": `lakehouse plan` lists them.",
    )


def _advice(failure: Failure) -> str:
    return _ADVICE.get(failure.code, "Materialize the partition again.")


_ADVICE: Mapping[str, str] = {
    "AccessDenied": "Check the sync identity's rights on source and lake.",
    "NoSuchKey": "The exchange withdrew it, or its server rejects the name; materialize again after the next listing.",
    "NoSuchBucket": "Check LAKEHOUSE_LAKE_BUCKET and its region.",
    NOT_COPIED: "Materialize the complete partition, without `symbols` and `intervals`.",
    "SlowDown": "The store is throttling; lower LAKEHOUSE_SYNC_WORKERS and materialize again.",
    IMPLAUSIBLE: "Wait: the next run lists it again. If the exchange did withdraw it, materialize "
    "with accept_withdrawals.",
    "UnsayableKey": "Report the key to the exchange; it cannot be mirrored.",
}
