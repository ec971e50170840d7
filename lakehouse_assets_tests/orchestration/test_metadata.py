"""Metadata of archive partitions: the advice of a failure follows from its code."""

from __future__ import annotations

import pytest

from lakehouse_assets.archive.errors import StoreFault, code_of
from lakehouse_assets.lake.report import IMPLAUSIBLE, NOT_COPIED, Failure, PeriodReport, PeriodState
from lakehouse_assets.orchestration.metadata import failure_table


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("SlowDown", "LAKEHOUSE_SYNC_WORKERS"),
        ("AccessDenied", "sync identity"),
        (IMPLAUSIBLE, "accept_withdrawals"),
        (NOT_COPIED, "Materialize the complete partition"),
        ("", "Materialize the partition again."),
        ("SomethingNew", "Materialize the partition again."),
    ],
)
def test_the_advice_depends_on_the_code_and_not_on_the_reason(code: str, advice: str) -> None:
    failure = Failure("a.zip", "failed", "NoSuchBucket and AccessDenied and SlowDown are words here", code)
    counts = dict.fromkeys(("present", "copied", "skipped", "failed", "withdrawn", "sidecars_copied", "retries"), 0)
    report = PeriodReport(
        period="2024-01-01",
        state=PeriodState.INCOMPLETE,
        expected=1,
        bytes_copied=0,
        bytes_present=0,
        seconds=0.0,
        copied_by_mode={},
        files_by_mode={},
        bytes_by_mode={},
        integrity={},
        digest="",
        missing_total=1,
        failures=(failure,),
        **counts,
    )
    assert advice in failure_table(report)


@pytest.mark.parametrize(
    "fault", [StoreFault("SlowDown", "a: b"), StoreFault("AccessDenied", ""), StoreFault("404", "")]
)
def test_a_recorded_fault_keeps_its_code(fault: StoreFault) -> None:
    assert code_of(str(fault)) == fault.code
    assert code_of(str(StoreFault.not_tried(fault))) == fault.code, "a copy that was not tried has its cause's"
