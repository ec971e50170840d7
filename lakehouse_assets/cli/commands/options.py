"""Arguments and options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

DatasetName = Annotated[
    str, typer.Argument(metavar="DATASET", help="A dataset, such as binance/um/klines/daily.", show_default=False)
]
First = Annotated[
    str, typer.Option("--from", metavar="PERIOD", help="First period: 2024-01-31 or 2024-01.", show_default=False)
]
Last = Annotated[str, typer.Option("--to", metavar="PERIOD", help="Last period, inclusive.", show_default=False)]
Symbols = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Only these symbols, such as BTCUSDT,ETHUSDT.", show_default=False),
]
Intervals = Annotated[
    str | None, typer.Option(metavar="A,B", help="Only these intervals, such as 1m,1h.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
