"""The page on scale has the computed figures, and the benchmark's archive has the stated size."""

from __future__ import annotations

import pytest

from lakehouse_assets_tests.benchmarks.catalog_scale import COSTS, MEASURED, Measured, cost, cost_table, rules_of
from lakehouse_assets_tests.paths import DEPLOY

PAGE = DEPLOY / "docs" / "scale.md"


def test_the_page_has_the_computed_table_and_its_inputs() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert cost_table(COSTS) in text
    assert f"{MEASURED.page_seconds:g} s a page" in text
    assert f"{MEASURED.processor_per_key * 1e6:g} µs of processor time per key" in text
    assert f"{MEASURED.dollars_per_1000_lists:g} dollars per 1,000" in text


def test_a_cost_has_pages_minutes_and_dollars() -> None:
    one = cost(1_000_000, 100, 10, Measured(page_seconds=2.0, processor_per_key=1e-6))
    assert (one.pages, one.dollars) == (1_050, pytest.approx(0.00525))
    assert one.minutes == pytest.approx(1_050 * 2 / 10 / 60)
    slow = cost(1_000_000, 100, 1_000, Measured(page_seconds=2.0, processor_per_key=1e-3))
    assert slow.minutes == slow.processor_minutes == pytest.approx(1_000 / 60)


def test_the_full_benchmark_walks_ten_million_keys() -> None:
    [rule] = rules_of(700)
    assert len(rule.values["symbol"]) * len(rule.values["interval"]) * len(rule.values["day"]) * 2 == 10_012_800
