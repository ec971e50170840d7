"""Commands for tables: ``tables``, ``query`` and ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lakehouse_assets.cli.commands.options import AsJson, Symbols

app = typer.Typer()

AsOfText = Annotated[
    str | None,
    typer.Option(
        "--as-of", metavar="WHEN", help="A version, time (UTC) or snapshot id; default: now.", show_default=False
    ),
]


@app.command()
def tables(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE", help="Show the contents of this table, such as binance/um/klines.", show_default=False
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the lake's tables, or show the contents of one table by symbol."""
    from lakehouse_assets.cli.tables import run_tables  # noqa: PLC0415

    raise typer.Exit(run_tables(name, as_json=as_json))


@app.command()
def query(
    sql: Annotated[
        str,
        typer.Argument(
            metavar="SQL",
            help='A query, such as "SELECT symbol, close FROM binance_um_klines WHERE ...".',
            show_default=False,
        ),
    ],
    *,
    as_of: AsOfText = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of rows to print.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Run one SELECT (Polars SQL) over the lake's tables."""
    from lakehouse_assets.cli.tables import run_query  # noqa: PLC0415

    raise typer.Exit(run_query(sql, as_of=as_of, limit=limit, as_json=as_json))


@app.command()
def export(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="A table, such as binance/um/klines.", show_default=False)
    ],
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Parquet file to write.", show_default=False)],
    *,
    symbols: Symbols = None,
    interval: Annotated[str | None, typer.Option(help="Only this interval, such as 1h.", show_default=False)] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="First time (UTC), inclusive.", show_default=False)
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Last time (UTC), exclusive.", show_default=False)
    ] = None,
    columns: Annotated[str | None, typer.Option(metavar="A,B", help="Only these columns.", show_default=False)] = None,
    as_of: AsOfText = None,
) -> None:
    """Write rows of a table to a local Parquet file."""
    from lakehouse_assets.cli.tables import run_export  # noqa: PLC0415

    raise typer.Exit(
        run_export(
            table, target, symbols=symbols, interval=interval, start=start, end=end, columns=columns, as_of=as_of
        )
    )
