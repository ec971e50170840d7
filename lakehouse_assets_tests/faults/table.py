"""The table of faults: each test writes one line.

A line has the fault, how often it was injected, and how the first and the second run ended. Lines go to standard
output, and to the file that FAULT_TABLE names.
"""

from __future__ import annotations

import os
from pathlib import Path

from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lake.report import SyncReport


def write_line(fault: str, injected: int, *runs: str) -> None:
    """Write a line of the table."""
    line = " | ".join([fault, str(injected), *runs])
    print(line)
    if table := os.environ.get("FAULT_TABLE"):
        with Path(table).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def result_text(result: SyncReport | LakehouseError) -> str:
    """How a run ended, in a few words."""
    if isinstance(result, LakehouseError):
        text = str(result)
        return f"{type(result).__name__}: {text if len(text) < 90 else text[:87] + '...'}"
    reasons = sorted({failure.reason.split(":")[0] for period in result.periods for failure in period.failures})
    ended = f"{result.total('present')}/{result.total('expected')} present, {result.total('copied')} copied"
    return f"{ended} ({', '.join(reasons)})" if reasons else ended
