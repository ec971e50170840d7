"""Metadata of archive partitions: stable snake_case names, since Dagster plots numbers over partitions."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.errors import printable
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.report import LEFT_OUT_NAMED, Failure, PeriodReport, SyncReport
from lakehouse_assets.observability.telemetry.tracing import trace_id

TABLE_ROWS = 20


def period_metadata(report: PeriodReport, dataset: Dataset, lake: Lake) -> dict[str, dg.MetadataValue]:
    """What a person reads of one partition. Objects do not count their sidecars."""
    metadata: dict[str, dg.MetadataValue] = {
        "objects_expected": dg.MetadataValue.int(report.expected),
        "objects_present": dg.MetadataValue.int(report.present),
        "completeness": dg.MetadataValue.float(report.present / report.expected if report.expected else 1.0),
        "objects_copied": dg.MetadataValue.int(report.copied),
        "objects_skipped": dg.MetadataValue.int(report.skipped),
        "objects_failed": dg.MetadataValue.int(report.failed),
        "objects_vanished": dg.MetadataValue.int(report.vanished),
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
    if report.failures:
        metadata["failures"] = dg.MetadataValue.md(failure_table(report))
    return metadata


def left_out_metadata(report: SyncReport) -> dict[str, dg.MetadataValue]:
    """What a sync left alone in the source; nothing where that is nothing."""
    metadata: dict[str, dg.MetadataValue] = {}
    if report.strays_total:
        metadata["strays"] = dg.MetadataValue.int(report.strays_total)
    if report.left_out_total:
        metadata["symbols_left_out"] = dg.MetadataValue.int(report.left_out_total)
        named = [printable(name) for name in report.left_out[:LEFT_OUT_NAMED]]
        metadata["symbols_left_out_named"] = dg.MetadataValue.json(named)
    return metadata


def trace_metadata() -> dict[str, dg.MetadataValue]:
    """The run's trace, where one is recorded."""
    found = trace_id()
    return {} if found is None else {"trace_id": dg.MetadataValue.text(found)}


def failure_table(report: PeriodReport) -> str:
    """A Markdown table of what is not in the lake, and what to do."""
    lines = ["| object | state | reason | what to do |", "|---|---|---|---|"]
    lines += [
        f"| `{_cell(failure.key)}` | {failure.state} | {_cell(failure.reason)} | {_what_to_do(failure)} |"
        for failure in report.failures[:TABLE_ROWS]
    ]
    rest = report.missing_total - min(len(report.failures), TABLE_ROWS)
    if rest > 0:
        lines += ["", f"and {rest} more: `lakehouse plan` lists them."]
    return "\n".join(lines)


def _what_to_do(failure: Failure) -> str:
    for sign, advice in _ADVICE.items():
        if sign in failure.reason:
            return advice
    return "Materialize the partition again."


_ADVICE: Mapping[str, str] = {
    "AccessDenied": "Check the sync identity's rights on source and lake.",
    "NoSuchKey": "The source withdrew it or refuses its name; materialize again after the next listing.",
    "NoSuchBucket": "Check LAKEHOUSE_LAKE_BUCKET and its region.",
    "not in the lake": "Materialize the whole partition, without `symbols` and `intervals`.",
    "SlowDown": "The store is throttling; lower LAKEHOUSE_SYNC_WORKERS and materialize again.",
    "the source's listing lacks it": "Wait: it is asked again. If the exchange did withdraw them, materialize with "
    "accept_withdrawals.",
    "UnsayableKey": "Report the key to the exchange; it cannot be mirrored.",
}


def _cell(text: str) -> str:
    return printable(text.replace("|", "\\|").replace("\n", " ").replace("`", "'"))
