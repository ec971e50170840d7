"""Commands for archives: ``plan``, ``sync``, ``verify``, ``adopt``, ``rebuild-manifests``, ``coverage`` and
``discover``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lakehouse_assets.cli.commands.options import AsJson, DatasetName, First, Intervals, Last, Symbols

app = typer.Typer()


@app.command()
def plan(
    dataset: DatasetName,
    *,
    first: First,
    last: Last,
    symbols: Symbols = None,
    intervals: Intervals = None,
    as_json: AsJson = False,
) -> None:
    """Show what a sync would copy and what it would cost. Writes nothing."""
    from lakehouse_assets.cli.sync import prepare_sync, run_plan  # noqa: PLC0415

    raise typer.Exit(run_plan(prepare_sync(dataset, first, last, symbols, intervals), as_json=as_json))


@app.command()
def sync(
    dataset: DatasetName,
    *,
    first: First,
    last: Last,
    symbols: Symbols = None,
    intervals: Intervals = None,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="How to copy objects: auto, direct, relay or staged; default: as the matrix says.",
            show_default=False,
        ),
    ] = None,
    allow_spending: Annotated[
        bool, typer.Option("--allow-spending", help="Sync even if the estimate is above a cost limit.")
    ] = False,
    accept_withdrawals: Annotated[
        bool,
        typer.Option(
            "--accept-withdrawals",
            help="Record all objects that the exchange no longer lists as withdrawn, however many there are.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy periods of a dataset into the lake, without Dagster."""
    from lakehouse_assets.cli.sync import prepare_sync, run_sync  # noqa: PLC0415

    prepared = prepare_sync(dataset, first, last, symbols, intervals)
    raise typer.Exit(
        run_sync(
            prepared,
            mode=mode,
            allow_spending=allow_spending,
            accept_withdrawals=accept_withdrawals,
            as_json=as_json,
        )
    )


@app.command()
def verify(
    dataset: DatasetName,
    *,
    first: First,
    last: Last,
    force: Annotated[bool, typer.Option("--force", help="Read all objects, including verified ones.")] = False,
    again: Annotated[bool, typer.Option("--again", hidden=True, help="The former name of --force.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read the lake's copies and compare them with the exchange's checksums. Skips contents already verified."""
    from lakehouse_assets.cli.verify import run_verify  # noqa: PLC0415

    raise typer.Exit(run_verify(dataset, first, last, force=force or again, as_json=as_json))


@app.command()
def adopt(dataset: DatasetName, *, first: First, last: Last, as_json: AsJson = False) -> None:
    """Adopt an existing mirror: record the objects that are in the lake, and verify all of them. Copies nothing."""
    from lakehouse_assets.cli.verify import run_adopt  # noqa: PLC0415

    raise typer.Exit(run_adopt(dataset, first, last, as_json=as_json))


@app.command("rebuild-manifests")
def rebuild_manifests(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="A dataset, such as binance/um/klines/daily; _syncs for the history of syncs.",
            show_default=False,
        ),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Rebuild a lost or damaged manifest from its remaining files and the lake's listing."""
    from lakehouse_assets.cli.verify import run_rebuild  # noqa: PLC0415

    raise typer.Exit(run_rebuild(dataset, as_json=as_json))


@app.command()
def coverage(
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATASET]",
            help="A dataset, such as binance/um/klines/daily; default: all datasets of the matrix.",
            show_default=False,
        ),
    ] = None,
    *,
    symbol: Annotated[str | None, typer.Option(metavar="NAME", help="Only this symbol.", show_default=False)] = None,
    years: Annotated[
        int, typer.Option(min=1, help="Without DATASET: how many of the latest synced years to show.")
    ] = 2,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write an HTML page with a heat map of symbols and periods.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in the lake and what is missing, by month, or by symbol and period. Reads only manifests."""
    from lakehouse_assets.cli.coverage import run_coverage  # noqa: PLC0415

    raise typer.Exit(run_coverage(dataset, symbol=symbol, years=years, html=html, as_json=as_json))


@app.command()
def discover(
    exchange: Annotated[
        str, typer.Argument(metavar="EXCHANGE", help="An exchange, such as binance.", show_default=False)
    ],
    *,
    market: Annotated[str | None, typer.Option(metavar="NAME", help="Only this market.", show_default=False)] = None,
    data_type: Annotated[
        str | None, typer.Option("--data-type", metavar="NAME", help="Only this data type.", show_default=False)
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="List every key; default: folder names and a sample of each dataset.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=1024, help="Parallel listing requests.")] = 32,
    write_matrix: Annotated[
        Path | None,
        typer.Option(
            "--write-matrix", metavar="FILE", help="Write an archive matrix of these datasets.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing FILE.")] = False,
    as_json: AsJson = False,
) -> None:
    """Walk an exchange's archive. Shows what it publishes, what changed, and how it differs from the matrix."""
    from lakehouse_assets.cli.discover import DiscoverOptions, run_discover  # noqa: PLC0415

    options = DiscoverOptions(exchange, market, data_type, exact, concurrency, write_matrix, force)
    raise typer.Exit(run_discover(options, as_json=as_json))
