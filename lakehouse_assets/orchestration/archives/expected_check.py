"""The check ``expected``: are the newest periods of a run as large, as fast and as prompt as their past says?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dagster as dg
import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.period_metrics import volumes
from lakehouse_assets.observability.expectations.quantities import QUANTITIES
from lakehouse_assets.observability.expectations.thresholds import (
    MONTHLY,
    AdaptiveThresholdDetector,
    Parameters,
    Verdict,
)
from lakehouse_assets.orchestration.check_names import EXPECTED
from lakehouse_assets.tables.held import held_lineage
from lakehouse_assets.tables.table import PERIOD, Table

JUDGED_OF_ARCHIVES = "Objects, symbols, bytes, seconds, throughput, retries, failures and discovery lag"
JUDGED_OF_TABLES = "Rows"
JUDGED = 7
"""Newest periods of a run that are judged."""


def build_expected_check(key: dg.AssetKey, numbers: str) -> dg.AssetCheckSpec:
    """Unpartitioned, since a second partitioned check would make the UI crawl; it never blocks. ``numbers``
    names what is judged."""
    return dg.AssetCheckSpec(
        EXPECTED,
        asset=key,
        description=f"{numbers} of the newest periods lie where their own history says (medians of the same weekday, "
        "with the trend). Says what was expected, and from how much history.",
    )


def judge(lake: Lake, dataset: Dataset, periods: Sequence[str]) -> list[Verdict]:
    """Verdicts on what the newest JUDGED of ``periods`` amount to, oldest first. Raises StoreError."""
    if not periods:
        return []
    since = _first_of_history(dataset.cadence, periods)
    return _verdicts(volumes(lake, dataset, since=since), dataset.cadence, periods)


def judge_rows(lake: Lake, table: Table, periods: Sequence[str]) -> list[Verdict]:
    """Verdicts on the rows that a table has of the newest JUDGED of ``periods``. Raises StoreError."""
    if not periods:
        return []
    parts = held_lineage(lake, table, since=_first_of_history(table.cadence, periods), columns=[PERIOD, "rows"])
    return _verdicts(parts.group_by(PERIOD).agg(pl.col("rows").sum()), table.cadence, periods)


def expected_result(
    context: dg.AssetExecutionContext, key: dg.AssetKey, read: Callable[[], list[Verdict]]
) -> dg.AssetCheckResult | None:
    """The check's result for a run's periods, of which ``read`` makes the verdicts. None, with a warning in the
    log, where history cannot be read: that is no fault of what was copied."""
    try:
        verdicts = read()
    except LakehouseError as error:
        context.log.warning("What was to be expected of %s is not known: %s", key.to_user_string(), error)
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
            "verdicts": dg.MetadataValue.md(_table(verdicts)),
        },
    )


def _first_of_history(cadence: Cadence, periods: Sequence[str]) -> str:
    window = MONTHLY.window if cadence is Cadence.MONTHLY else Parameters().window
    return str(Period.parse(_newest(periods)[0], cadence).shifted(-window))


def _newest(periods: Sequence[str]) -> list[str]:
    return sorted(periods)[-JUDGED:]


def _verdicts(known: pl.DataFrame, cadence: Cadence, periods: Sequence[str]) -> list[Verdict]:
    """``known`` has a row per period and a column per quantity, null where it is not known."""
    newest = [Period.parse(text, cadence) for text in _newest(periods)]
    detector = AdaptiveThresholdDetector()
    verdicts = []
    for name, quantity in QUANTITIES.items():
        if name not in known.columns:
            continue
        series = {
            Period.parse(period, cadence): value
            for period, value in known.filter(pl.col(name).is_not_null()).select(PERIOD, name).iter_rows()
        }
        history = [(period.start, value) for period, value in series.items()]
        verdicts += [
            detector.judge(quantity, history, period.start, series[period], cadence=cadence.value)
            for period in newest
            if period in series
        ]
    return sorted(verdicts, key=lambda verdict: verdict.period)


def _usual(verdicts: Sequence[Verdict]) -> str:
    periods = len({verdict.period for verdict in verdicts})
    learned = sum(verdict.expected is not None for verdict in verdicts)
    return f"{len(verdicts)} numbers of {periods} periods are as usual; {learned} of them could be judged by history."


def _table(verdicts: Sequence[Verdict]) -> str:
    lines = ["| period | state | verdict |", "|---|---|---|"]
    lines += [f"| {verdict.period} | {verdict.state} | {verdict} |" for verdict in verdicts]
    return "\n".join(lines)
