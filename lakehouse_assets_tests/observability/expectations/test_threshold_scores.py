"""The detector on the development seeds; the benchmark `thresholds` uses other seeds."""

from __future__ import annotations

import pytest

from lakehouse_assets_tests.benchmarks.support.series import DEVELOPMENT, KINDS
from lakehouse_assets_tests.benchmarks.thresholds import adaptive, score_of


@pytest.mark.parametrize("kind", KINDS)
def test_most_events_and_few_other_days_are_found(kind: str) -> None:
    score = score_of(adaptive, kind, DEVELOPMENT[:1])
    assert score.recall >= 0.8
    assert score.wrong <= 0.03 * score.judged
