"""Commands for this machine: ``demo``, ``up``, ``doctor`` and ``exporter``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lakehouse_assets.cli.commands.options import AsJson

app = typer.Typer()


@app.command()
def demo(
    *,
    samples: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Archive to use instead of a generated one; a file's path below DIR is its key.",
            show_default=False,
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=92, help="Days in the generated archive.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Run an end-to-end demo on this machine, without network or credentials. Nothing is kept.

    Publishes a sample archive in an embedded object store, backfills it with Dagster, changes the archive, and runs
    a second backfill that copies only the changes. Checks every claim against the store.
    """
    from lakehouse_assets.cli.demo.run import run_demo  # noqa: PLC0415 - imports Dagster

    raise typer.Exit(run_demo(samples=samples, days=days, as_json=as_json))


@app.command()
def up(
    *,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Dagster UI, on loopback.")] = 3000,
    home: Annotated[Path, typer.Option(metavar="DIR", help="Folder for all state that is kept between starts.")] = Path(
        ".lakehouse"
    ),
) -> None:
    """Start the Dagster UI and daemon, with an embedded lake if none is configured. Ctrl-C stops everything."""
    from lakehouse_assets.cli.up.run import run_up  # noqa: PLC0415

    raise typer.Exit(run_up(port=port, home=home))


@app.command()
def doctor(
    *,
    exchanges: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Only these exchanges; default: all exchanges of the matrix.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check settings, lake, sources, copy modes and Dagster. Reports problems and how to fix them.

    Writes only a few small objects, below _doctor/ in the lake.
    """
    from lakehouse_assets.cli.doctor import run_doctor  # noqa: PLC0415

    raise typer.Exit(run_doctor(exchanges, as_json=as_json))


@app.command()
def exporter(
    *,
    interval: Annotated[float, typer.Option(metavar="SECONDS", min=1.0, help="Pause between two exports.")] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="Export once, then exit.")] = False,
) -> None:
    """Export metrics of the lake over OTLP until stopped. OTEL_EXPORTER_OTLP_ENDPOINT sets the receiver."""
    from lakehouse_assets.cli.exporter import run_exporter  # noqa: PLC0415

    raise typer.Exit(run_exporter(interval, once=once))
