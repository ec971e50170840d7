"""Run the benchmarks and print one table.

python -m lakehouse_assets_tests.benchmarks [--only NAME]... [--repeat N] [--quick | --full] [--workers N]
"""

from __future__ import annotations

import argparse
import math
import os
import platform
from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.table import Table

from lakehouse_assets.sync.movers.s5cmd import version
from lakehouse_assets_tests.benchmarks import (
    backfill_year,
    beside_peers,
    catalog_scale,
    dagster_cost,
    engine,
    imports,
    memory,
    modes,
    reading,
    retention,
    tables,
    telemetry_cost,
    thresholds,
    tick,
    ui_live_query,
)
from lakehouse_assets_tests.benchmarks.support.measure import Row


def _beside_peers(size: str, asked: argparse.Namespace, *, across: bool) -> list[Row]:
    return beside_peers.run(size, asked.repeat, across=across, quick=asked.quick, workers=asked.workers)


BENCHMARKS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "modes": lambda asked: modes.run(asked.repeat),
    "engine": lambda asked: engine.run(asked.repeat, quick=asked.quick, workers=asked.workers),
    **{
        f"{where}-{size}": partial(_beside_peers, size, across=where == "across")
        for where in ("same", "across")
        for size in beside_peers.SHAPES
    },
    "idle": lambda asked: beside_peers.idle(asked.repeat, quick=asked.quick, workers=asked.workers),
    "memory": lambda asked: memory.run((1_000, 2_000) if asked.quick else (1_000, 10_000, 100_000)),
    "tick": lambda asked: tick.run(quick=asked.quick),
    "dagster": lambda asked: dagster_cost.run(asked.repeat),
    "imports": lambda asked: imports.run(asked.repeat),
    "catalog": lambda asked: catalog_scale.run(quick=asked.quick, full=asked.full),
    "reading": lambda asked: reading.run(asked.repeat, quick=asked.quick),
    "tables": lambda asked: tables.run(asked.repeat, quick=asked.quick),
    "ui": lambda asked: ui_live_query.run(asked.repeat),
    "backfill": lambda asked: backfill_year.run(asked.repeat, quick=asked.quick),
    "retention": lambda _asked: retention.run(),
    "telemetry": lambda _asked: telemetry_cost.run(),
    "thresholds": lambda asked: thresholds.run(quick=asked.quick),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lakehouse_assets_tests.benchmarks")
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="one benchmark; may be repeated")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions; the median is shown")
    parser.add_argument("--quick", action="store_true", help="smaller shapes, for a first impression")
    parser.add_argument("--full", action="store_true", help="full size where the default extrapolates")
    parser.add_argument(
        "--workers", type=int, default=engine.WORKERS, help="parallel copies, for both engine and s5cmd"
    )
    asked = parser.parse_args()
    console = Console(width=None if os.isatty(1) else 180, highlight=False)
    table = Table(
        title=f"Medians of {asked.repeat} interleaved repetitions, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.machine()}, s5cmd {version()}; store and engine share the machine",
        title_justify="left",
    )
    for name in ("benchmark", "case", "way"):
        table.add_column(name, overflow="fold")
    for name in ("median", "ratio", "budget"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note", overflow="fold")
    for name in asked.only or BENCHMARKS:
        console.print(f"measuring {name} ...")
        for row in BENCHMARKS[name](asked):
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
            value = "missing" if math.isnan(row.value) else f"{row.value:.2f} {row.unit}"
            table.add_row(name, row.case, row.way, value, ratio, row.budget, row.note)
        table.add_section()
    console.print(table)


if __name__ == "__main__":
    main()
