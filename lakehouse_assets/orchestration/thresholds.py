"""The check ``expected``: are the newest periods of a run as large, as fast and as prompt as their past says?"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.observability.quantities import QUANTITIES
from lakehouse_assets.observability.thresholds import MONTHLY, AdaptiveThresholdDetector, Parameters, Verdict
from lakehouse_assets.sync.lake import Lake
from lakehouse_assets.sync.volumes import volumes

EXPECTED = "expected"
JUDGED = 7
"""Newest periods of a run that are judged."""


def build_expected_check(key: dg.AssetKey) -> dg.AssetCheckSpec:
    """Unpartitioned, since a second partitioned check would make the UI crawl; it never blocks."""
    return dg.AssetCheckSpec(
        EXPECTED,
        asset=key,
        description="Objects, symbols, bytes, seconds, throughput, failures and discovery lag of the newest periods "
        "lie where the dataset's own history says (medians of the same weekday, with the trend). Says what was "
        "expected, and from how much history.",
    )


def judge(lake: Lake, dataset: Dataset, periods: Sequence[str]) -> list[Verdict]:
    """Verdicts on the newest JUDGED of ``periods``, oldest first. Raises StoreError."""
    newest = [dataset.period(text) for text in sorted(periods)[-JUDGED:]]
    if not newest:
        return []
    window = MONTHLY.window if dataset.cadence is Cadence.MONTHLY else Parameters().window
    known = volumes(lake, dataset, since=str(newest[0].shifted(-window)))
    detector = AdaptiveThresholdDetector()
    verdicts = []
    for name, quantity in QUANTITIES.items():
        if name not in known.columns:
            continue
        series = {
            dataset.period(period): value
            for period, value in known.filter(pl.col(name).is_not_null()).select("period", name).iter_rows()
        }
        history = [(period.start, value) for period, value in series.items()]
        verdicts += [
            detector.judge(quantity, history, period.start, series[period], cadence=dataset.cadence.value)
            for period in newest
            if period in series
        ]
    return sorted(verdicts, key=lambda verdict: verdict.period)


def expected_result(
    context: dg.AssetExecutionContext, lake: Lake, dataset: Dataset, periods: Sequence[str]
) -> dg.AssetCheckResult | None:
    """The check's result for a run's whole periods. None, with a warning in the log, where history
    cannot be read: that is no fault of what was copied."""
    try:
        verdicts = judge(lake, dataset, periods)
    except LakehouseError as error:
        context.log.warning("What was to be expected of %s is not known: %s", dataset, error)
        return None
    unusual = [verdict for verdict in verdicts if verdict.is_unusual]
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey(dataset.asset_key),
        check_name=EXPECTED,
        passed=not unusual,
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join(str(verdict) for verdict in unusual) or _usual(verdicts),
        metadata={
            "unusual": dg.MetadataValue.int(len(unusual)),
            "verdicts": dg.MetadataValue.md(_table(verdicts)),
        },
    )


def _usual(verdicts: Sequence[Verdict]) -> str:
    periods = len({verdict.period for verdict in verdicts})
    learned = sum(verdict.expected is not None for verdict in verdicts)
    return f"{len(verdicts)} numbers of {periods} periods are as usual; {learned} of them could be judged by history."


def _table(verdicts: Sequence[Verdict]) -> str:
    lines = ["| period | state | verdict |", "|---|---|---|"]
    lines += [f"| {verdict.period} | {verdict.state} | {verdict} |" for verdict in verdicts]
    return "\n".join(lines)
