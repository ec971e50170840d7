"""The table of faults: each test tells a line of it.

Fault, how often it was injected, how the first run and the second ended. Lines go to standard
output, and into the file that FAULT_TABLE names.
"""

from __future__ import annotations

import os
from pathlib import Path

from lakehouse_assets.errors import LakehouseError
from lakehouse_assets.lake.report import SyncReport


def tell(fault: str, injected: int, *runs: str) -> None:
    """A line of the table."""
    line = " | ".join([fault, str(injected), *runs])
    print(line)
    if table := os.environ.get("FAULT_TABLE"):
        with Path(table).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def told(result: SyncReport | LakehouseError) -> str:
    """How a run ended."""
    if isinstance(result, LakehouseError):
        text = str(result)
        return f"{type(result).__name__}: {text if len(text) < 90 else text[:87] + '...'}"
    reasons = sorted({failure.reason.split(":")[0] for period in result.periods for failure in period.failures})
    ended = f"{result.total('present')}/{result.total('expected')} present, {result.total('copied')} copied"
    return f"{ended} ({', '.join(reasons)})" if reasons else ended
