"""The ``lakehouse`` command.

``commands/`` has arguments, options and help; the modules beside this one do the work. A command imports its module
when it runs, so that help and usage errors come at once.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from lakehouse_assets.cli.commands import archives, incidents, local, tables
from lakehouse_assets.cli.commands.errors import ErrorReportingGroup

app = typer.Typer(
    cls=ErrorReportingGroup,
    help="Mirror crypto exchanges' public archives into your own S3 lake.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lakehouse {version('lakehouse-assets')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    *,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="LAKEHOUSE_DEBUG", help="Show the traceback of an error.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log listings, batches and commits to stderr.")
    ] = False,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of every command."""
    command = context.command
    if isinstance(command, ErrorReportingGroup):
        command.debug = debug
    if verbose:
        from lakehouse_assets.observability.telemetry.logs import configure_logs  # noqa: PLC0415

        configure_logs()


for _commands in (local.app, archives.app, tables.app):
    app.add_typer(_commands)
app.add_typer(incidents.app, name="incidents")
