"""The check ``expected``: whether the newest periods of a run are within the usual range of their history."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dagster as dg
import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.period_metrics import period_metrics
from lakehouse_assets.observability.expectations.quantities import QUANTITIES
from lakehouse_assets.observability.expectations.thresholds import (
    MONTHLY,
    AdaptiveThresholdDetector,
    Parameters,
    Verdict,
)
from lakehouse_assets.orchestration.check_names import EXPECTED
from lakehouse_assets.orchestration.markdown import table
from lakehouse_assets.tables.lineage_check import intact_lineage
from lakehouse_assets.tables.table import PERIOD, Table

ARCHIVE_QUANTITIES = "Objects, symbols, bytes, seconds, throughput, retries, failures and discovery lag"
TABLE_QUANTITIES = "Rows"
EVALUATED_PERIODS = 7
"""Number of a run's newest periods that are evaluated."""


def build_expected_check(key: dg.AssetKey, quantities: str) -> dg.AssetCheckSpec:
    """Unpartitioned, as every check (see complete_check.py); never blocks. ``quantities`` names what is evaluated."""
    return dg.AssetCheckSpec(
        EXPECTED,
        asset=key,
        description=f"{quantities} of the newest periods are within the range that their history predicts (medians of "
        "the same weekday, with the trend). States the expected range, and the length of the history.",
    )


def evaluate(lake: Lake, dataset: Dataset, periods: Sequence[str]) -> list[Verdict]:
    """Verdicts on the figures of the newest EVALUATED_PERIODS of ``periods``, oldest first. Raises StoreError."""
    if not periods:
        return []
    since = _first_of_history(dataset.cadence, periods)
    return _verdicts(period_metrics(lake, dataset, since=since), dataset.cadence, periods)


def evaluate_rows(lake: Lake, rows_table: Table, periods: Sequence[str]) -> list[Verdict]:
    """Verdicts on the number of a table's rows in the newest EVALUATED_PERIODS of ``periods``. Raises StoreError."""
    if not periods:
        return []
    parts = intact_lineage(
        lake, rows_table, since=_first_of_history(rows_table.cadence, periods), columns=[PERIOD, "rows"]
    )
    return _verdicts(parts.group_by(PERIOD).agg(pl.col("rows").sum()), rows_table.cadence, periods)


def expected_result(
    context: dg.AssetExecutionContext, key: dg.AssetKey, read: Callable[[], list[Verdict]]
) -> dg.AssetCheckResult | None:
    """The check's result for a run's periods; ``read`` returns the verdicts.

    None, with a warning in the log, where the history cannot be read: the copied data are not at fault.
    """
    try:
        verdicts = read()
    except LakehouseError as error:
        context.log.warning("The usual range of %s cannot be computed: %s", key.to_user_string(), error)
        return None
    unusual = [verdict for verdict in verdicts if verdict.is_unusual]
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=EXPECTED,
        passed=not unusual,
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join(str(verdict) for verdict in unusual) or _usual(verdicts),
        metadata={
            "unusual": dg.MetadataValue.int(len(unusual)),
            "verdicts": dg.MetadataValue.md(
                table(("period", "state", "verdict"), [(row.period, row.state, row) for row in verdicts], empty="")
            ),
        },
    )


def _first_of_history(cadence: Cadence, periods: Sequence[str]) -> str:
    window = MONTHLY.window if cadence is Cadence.MONTHLY else Parameters().window
    return str(Period.parse(_newest(periods)[0], cadence).shifted(-window))


def _newest(periods: Sequence[str]) -> list[str]:
    return sorted(periods)[-EVALUATED_PERIODS:]


def _verdicts(figures: pl.DataFrame, cadence: Cadence, periods: Sequence[str]) -> list[Verdict]:
    """``figures`` has a row per period and a column per quantity, null where it is unknown."""
    newest = [Period.parse(text, cadence) for text in _newest(periods)]
    detector = AdaptiveThresholdDetector()
    verdicts = []
    for name, quantity in QUANTITIES.items():
        if name not in figures.columns:
            continue
        series = {
            Period.parse(period, cadence): value
            for period, value in figures.filter(pl.col(name).is_not_null()).select(PERIOD, name).iter_rows()
        }
        history = [(period.start, value) for period, value in series.items()]
        verdicts += [
            detector.evaluate(quantity, history, period.start, series[period], cadence=cadence.value)
            for period in newest
            if period in series
        ]
    return sorted(verdicts, key=lambda verdict: verdict.period)


def _usual(verdicts: Sequence[Verdict]) -> str:
    periods = len({verdict.period for verdict in verdicts})
    learned = sum(verdict.expected is not None for verdict in verdicts)
    return f"{len(verdicts)} figures of {periods} periods are as usual; {learned} of them have enough history."
