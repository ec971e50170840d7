"""Reports each partition of a table's run separately, as archives/reporting.py does for archives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl

from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.orchestration.archives.complete_check import NAMED
from lakehouse_assets.orchestration.archives.expected_check import evaluate_rows, expected_result
from lakehouse_assets.orchestration.check_names import FILES, QUALITY
from lakehouse_assets.orchestration.dagster_internals import forget_partition_status, input_versions
from lakehouse_assets.orchestration.markdown import code, table
from lakehouse_assets.orchestration.metadata import trace_metadata
from lakehouse_assets.orchestration.provenance import materialization_tags
from lakehouse_assets.tables.lineage import ObjectUsage, schema_digest
from lakehouse_assets.tables.quality.rows import Level, summarize
from lakehouse_assets.tables.report import BuildReport, BuildState, PeriodBuild, Problem
from lakehouse_assets.tables.table import Table, TableEntry

TABLE_ROWS = 20


def report_build(
    context: dg.AssetExecutionContext, entry: TableEntry, lake: Lake, report: BuildReport
) -> Iterator[dg.AssetCheckResult]:
    """Log a materialization per complete period, and yield the check results.

    Raises dg.Failure at the end, without retries, when periods were blocked or could not be read.
    """
    key = dg.AssetKey(entry.table.asset_key)
    inputs, code_version = input_versions(context, key), schema_digest(entry.table)
    for period in report.periods:
        context.log.info(_line(entry.table, period))
        if period.is_complete:
            context.log_event(
                dg.AssetMaterialization(
                    asset_key=key,
                    partition=period.period,
                    metadata=_metadata(entry, lake, report, period),
                    tags=materialization_tags(
                        context,
                        inputs=inputs,
                        code_version=code_version,
                        data_version=period.content or "",
                    ),
                )
            )
    if report.total(BuildState.EMPTY):
        forget_partition_status(context.instance, key)
    yield _files_check(key, entry, report)
    yield _quality_check(key, report)
    complete = [period.period for period in report.periods if period.is_complete]
    if complete:
        result = expected_result(context, key, lambda: evaluate_rows(lake, entry.table, complete))
        if result is not None:
            yield result
    failed = [period for period in report.periods if period.state in {BuildState.BLOCKED, BuildState.FAILED}]
    if failed:
        named = "; ".join(f"{period.period}: {period.reason}" for period in failed[:NAMED])
        raise dg.Failure(
            f"{len(failed)} of {len(report.periods)} periods of the table {entry.table} were not written: {named}"
            + ("; ..." if len(failed) > NAMED else ""),
            metadata={"periods_not_written": dg.MetadataValue.json([period.period for period in failed])},
            allow_retries=False,
        )


def column_schema(described: Table) -> dg.TableSchema:
    """Columns with type, unit and meaning."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(column.name, type=str(column.dtype), description=column.meaning)
            for column in described.schema.columns
        ]
    )


def column_lineage(entry: TableEntry) -> dg.TableColumnLineage:
    """The columns of the archive's files that each column is made of."""
    keys = [dg.AssetKey(archive.dataset.asset_key) for archive in entry.entries.values()]
    return dg.TableColumnLineage(
        {
            column.name: [dg.TableColumnDep(key, source) for key in keys for source in column.sources]
            for column in entry.table.schema.columns
            if column.sources
        }
    )


def _metadata(
    entry: TableEntry, lake: Lake, report: BuildReport, period: PeriodBuild
) -> dict[str, dg.MetadataValue | dg.TableColumnLineage]:
    metadata: dict[str, dg.MetadataValue | dg.TableColumnLineage] = {
        "dagster/partition_row_count": dg.MetadataValue.int(period.rows),
        "dagster/row_count": dg.MetadataValue.int(report.table_rows),
        "dagster/column_lineage": column_lineage(entry),
        "state": dg.MetadataValue.text(period.state.value),
        "objects_daily": dg.MetadataValue.int(period.daily),
        "objects_monthly": dg.MetadataValue.int(period.monthly),
        "objects_quarantined": dg.MetadataValue.int(_count(period.problems, ObjectUsage.QUARANTINED)),
        "objects_missing": dg.MetadataValue.int(_count(period.problems, ObjectUsage.MISSING)),
        "run_seconds": dg.MetadataValue.float(round(report.seconds, 3)),
        "run_bytes_read": dg.MetadataValue.int(report.bytes_read),
        "run_bytes_written": dg.MetadataValue.int(report.bytes_written),
        "lake_uri": dg.MetadataValue.text(lake.url(entry.table.place)),
    }
    metadata |= trace_metadata()
    if report.snapshot is not None:
        metadata["snapshot"] = dg.MetadataValue.text(report.snapshot)
    return metadata


def _files_check(key: dg.AssetKey, entry: TableEntry, report: BuildReport) -> dg.AssetCheckResult:
    problems = [(period, problem) for period in report.periods for problem in period.problems]
    lacking = [(period, problem) for period, problem in problems if not problem.filled]
    quarantined = _count([problem for _, problem in problems], ObjectUsage.QUARANTINED)
    missing = _count([problem for _, problem in problems], ObjectUsage.MISSING)
    replaced = len(problems) - len(lacking)
    description = "All archive objects of these periods are in the table."
    if problems:
        outcomes = {
            BuildState.BLOCKED: "their periods were not written (on_bad_file: block)",
            BuildState.FAILED: "their periods were not written",
        }
        states = {period.state for period, _ in lacking}
        outcome = ", and ".join(outcomes[state] for state in outcomes if state in states)
        if states - outcomes.keys():
            outcome = ", and ".join(filter(None, ("the other objects of their periods were written", outcome)))
        description = (
            f"{quarantined} objects are quarantined, {missing} missing; monthly objects replace {replaced} of them"
            + (f"; {len(lacking)} are lacking: {outcome}." if lacking else ".")
        )
    if report.outdated:
        first, last = report.outdated[0], report.outdated[-1]
        description += (
            f" {len(report.outdated)} periods ({first} to {last}) were written by a version that read these "
            "files differently, so their rows have another meaning: materialize them again."
        )
    metadata: dict[str, dg.MetadataValue] = {
        "periods_outdated": dg.MetadataValue.int(len(report.outdated)),
        "objects_used": dg.MetadataValue.int(sum(period.daily + period.monthly for period in report.periods)),
        "objects_quarantined": dg.MetadataValue.int(quarantined),
        "objects_missing": dg.MetadataValue.int(missing),
        "objects_filled": dg.MetadataValue.int(replaced),
        **{f"periods_{state.value}": dg.MetadataValue.int(report.total(state)) for state in BuildState},
        "on_bad_file": dg.MetadataValue.text(entry.on_bad_file.value),
    }
    if problems:
        lacking_first = lacking + [problem for problem in problems if problem not in lacking]
        metadata["objects"] = dg.MetadataValue.md(_problem_table(lacking_first))
    blocked = report.total(BuildState.BLOCKED) + report.total(BuildState.FAILED)
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=FILES,
        passed=not lacking and not blocked and not report.outdated,
        severity=dg.AssetCheckSeverity.ERROR if blocked else dg.AssetCheckSeverity.WARN,
        description=description,
        metadata=metadata,
    )


def _quality_check(key: dg.AssetKey, report: BuildReport) -> dg.AssetCheckResult:
    summary = summarize(report.quality)
    metadata: dict[str, dg.MetadataValue] = {
        "rows": dg.MetadataValue.int(summary.rows),
        "rows_missing": dg.MetadataValue.int(summary.missing),
        "rows_missing_explained": dg.MetadataValue.int(summary.explained),
        "rows_undecided": dg.MetadataValue.int(summary.undecided),
        "rows_breaking_relations": dg.MetadataValue.int(summary.broken),
        "rows_sharing_keys": dg.MetadataValue.int(summary.shared_keys),
        **{f"parts_{level}": dg.MetadataValue.int(count) for level, count in summary.levels.items()},
    }
    if summary.worst.height:
        metadata["worst"] = dg.MetadataValue.md(_quality_table(summary.worst))
    bad = summary.level in {Level.WARNING, Level.ERROR}
    measured = sum(summary.levels.values())
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=QUALITY,
        passed=not bad,
        severity=dg.AssetCheckSeverity.ERROR if summary.level is Level.ERROR else dg.AssetCheckSeverity.WARN,
        description=(
            f"Of {measured} parts (period, symbol, interval) that this run wrote or measured again, "
            f"{summary.levels[Level.ERROR]} have errors and {summary.levels[Level.WARNING]} have warnings; "
            f"{summary.missing} rows are missing, {summary.explained} more in known outages, "
            f"and {summary.undecided} that the next period decides; "
            f"{summary.shared_keys} share a key with another period; {summary.broken} break relations between columns."
        ),
        metadata=metadata,
    )


_MEASURES = (
    "rows",
    "missing",
    "undecided",
    "outside",
    "duplicates",
    "shared_keys",
    "impossible_prices",
    "negative_sizes",
    "off_grid",
    "id_gaps",
)


def _quality_table(worst: pl.DataFrame) -> str:
    names = ("period", "symbol", "interval", "level", *_MEASURES)
    rows = [(*(row[name] for name in names), _broken(row["broken"])) for row in worst.iter_rows(named=True)]
    return table((*names, "broken relations"), rows)


def _broken(relations: list[dict[str, Any]] | None) -> str:
    """Relations with the number of rows that break them, and the time and values of the first such row."""
    return "; ".join(
        f"{broken['relation']}: {broken['rows']:,} rows, first at {broken['time']:%Y-%m-%d %H:%M:%S} "
        f"({broken['example']})"
        for broken in relations or ()
    )


def _problem_table(problems: Sequence[tuple[PeriodBuild, Problem]]) -> str:
    rows = [
        (period.period, code(problem.key), problem.usage, problem.reason, "yes" if problem.filled else "no")
        for period, problem in problems
    ]
    columns = ("period", "object", "state", "reason", "replaced by a monthly object")
    return table(columns, rows, limit=TABLE_ROWS, rest="; the lineage table has all.")


def _count(problems: Sequence[Problem], use: ObjectUsage) -> int:
    return sum(problem.usage == use.value for problem in problems)


def _line(built: Table, period: PeriodBuild) -> str:
    text = (
        f"{built} {period.period}: {period.state}, {period.rows} rows, {period.daily} daily and "
        f"{period.monthly} monthly objects"
    )
    if period.problems:
        text += f", {len(period.problems)} objects quarantined or missing"
    return f"{text}: {period.reason}" if period.reason else text
