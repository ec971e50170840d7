"""The check `complete`: whether every period of an archive that should be complete is.

Judged are all periods that the manifest has, and the run's own periods, by the run's report. A tracked period that was
never synced does not count: before it is published, `published` judges it, and afterwards discovery requests it until
it is synced, or gives it up with an incident.

The check is unpartitioned. With one partitioned check per asset, the UI's live query takes seconds per asset with ten
years of partitions. The verdict on a single period is in the metadata of its materialization or observation, and in the
manifest. The incident sensor reads those, so a failed evaluation of this check is no incident of its own.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import dagster as dg
import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.errors import LakehouseError, printable
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest import Manifest
from lakehouse_assets.lake.manifest_stats import INCOMPLETE_SCHEMA, incomplete_periods
from lakehouse_assets.lake.report import PeriodReport, PeriodState, SyncReport, implausible_text
from lakehouse_assets.orchestration.check_names import COMPLETE
from lakehouse_assets.orchestration.markdown import Cell, table
from lakehouse_assets.orchestration.metadata import left_out_metadata
from lakehouse_assets.orchestration.reports.coverage import address_of, page_key
from lakehouse_assets.orchestration.telemetry import Context

NAMED = 5
"""Number of objects or periods that a one-line text names."""
TABLE_ROWS = 20


def build_complete_check(key: dg.AssetKey) -> dg.AssetCheckSpec:
    """Unpartitioned; does not block."""
    return dg.AssetCheckSpec(
        COMPLETE,
        asset=key,
        description="In every period that was ever synced, each object that the exchange lists for the matrix entry, "
        "and its sidecar, is in the lake with the listed content. Names the worst periods.",
    )


def log_complete_check(context: Context, dataset: Dataset, lake: Lake, report: SyncReport | None) -> None:
    """Log the evaluation; ``report`` is of the run's periods, None for a run of the check alone without partitions."""
    periods, notes, left_out = (), [], {}
    if report is not None:
        periods, notes, left_out = report.periods, report.left_out_notes, left_out_metadata(report)
    incomplete = pl.concat([_incomplete_of(periods), _others(context, dataset, lake, periods)])
    newest = max(periods, key=lambda period: period.period, default=None)
    unpublished = any(period.state is PeriodState.NOT_PUBLISHED for period in periods)
    texts = [] if newest is None else [f"{newest.period}: {verdict(dataset, newest)}"]
    evaluation: Any = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(dataset.asset_key),
        check_name=COMPLETE,
        # Symbols that cannot be mirrored warn until the matrix excludes them; periods are complete without them.
        passed=incomplete.is_empty() and not notes and not unpublished,
        # The UI's icon is red unless the latest severity is WARN, even if the check passed.
        severity=dg.AssetCheckSeverity.WARN if incomplete.is_empty() else dg.AssetCheckSeverity.ERROR,
        description=" ".join([*texts, _summary(incomplete), *notes]),
        metadata=_metadata(dataset, lake, incomplete) | left_out,
    )
    # Both contexts accept it; an op context's types do not say so.
    context.log_event(evaluation)


def verdict(dataset: Dataset, period: PeriodReport) -> str:
    """Whether one period is complete, as a sentence."""
    if implausible := implausible_text(period, dataset.source_url):
        return implausible
    if period.state is PeriodState.NOT_PUBLISHED:
        return "The exchange has published nothing for this period yet."
    if period.is_complete:
        if not period.expected:
            return f"The exchange withdrew all objects of this period; the lake keeps all {period.withdrawn}."
        kept = f"; the lake keeps {period.withdrawn} more that the exchange withdrew" if period.withdrawn else ""
        return f"All {period.expected} objects are in the lake{kept}."
    named = ", ".join(printable(failure.key) for failure in period.failures[:NAMED])
    more = f" and {period.missing_total - NAMED} more" if period.missing_total > NAMED else ""
    return f"{period.missing_total} of {period.expected} objects are missing or outdated: {named}{more}."


def _incomplete_of(periods: tuple[PeriodReport, ...]) -> pl.DataFrame:
    """The incomplete periods of a run, INCOMPLETE_SCHEMA."""
    rows = [
        (period.period, period.expected, period.present, period.doubted)
        for period in periods
        if period.state is PeriodState.INCOMPLETE
    ]
    return pl.DataFrame(rows, schema=INCOMPLETE_SCHEMA, orient="row")


def _others(context: Context, dataset: Dataset, lake: Lake, periods: tuple[PeriodReport, ...]) -> pl.DataFrame:
    """The manifest's incomplete periods but those of the run; none, with a warning, if it cannot be read."""
    try:
        incomplete = incomplete_periods(Manifest(lake, dataset))
    except LakehouseError as error:
        context.log.warning("Other periods of %s are not judged: %s", dataset, error)
        return INCOMPLETE_SCHEMA.to_frame()
    return incomplete.filter(~pl.col("period").is_in([period.period for period in periods]))


def _summary(incomplete: pl.DataFrame) -> str:
    if incomplete.is_empty():
        return "No period is incomplete."
    named = ", ".join(incomplete["period"].head(NAMED))
    are = "1 period is" if incomplete.height == 1 else f"{incomplete.height} periods are"
    return f"{are} incomplete: {named}{', ...' if incomplete.height > NAMED else ''}."


def _metadata(dataset: Dataset, lake: Lake, incomplete: pl.DataFrame) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {
        "periods_incomplete": dg.MetadataValue.int(incomplete.height),
        "coverage_page": dg.MetadataValue.url(address_of(lake.bucket, lake.key(page_key(dataset)))),
    }
    if not incomplete.is_empty():
        rows = [(_link(dataset, period), *counts) for period, *counts in incomplete.rows()]
        columns = ("period", "expected", "present", "lacking in an implausible listing")
        metadata["worst"] = dg.MetadataValue.md(table(columns, rows, limit=TABLE_ROWS))
    return metadata


def _link(dataset: Dataset, period: str) -> Cell:
    """The partition's page in Dagster's UI, relative to its host."""
    path = "/".join(quote(part, safe="") for part in dataset.asset_key)
    return Cell(f"[{period}](/assets/{path}?view=partitions&partition={quote(period, safe='')})")
