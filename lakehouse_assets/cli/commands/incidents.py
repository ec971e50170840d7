"""Commands for incidents: ``incidents list``, ``show``, ``ack`` and ``resolve``."""

from __future__ import annotations

from typing import Annotated

import typer

from lakehouse_assets.cli.commands.options import AsJson

app = typer.Typer(
    help="List, acknowledge and resolve incidents: problems with exchanges, the lake and runs.", no_args_is_help=True
)

IncidentId = Annotated[
    str, typer.Argument(metavar="ID", help="As shown by `lakehouse incidents list`.", show_default=False)
]
Who = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Your name; default: your login.", show_default=False)
]
Text = Annotated[str, typer.Option("--note", metavar="TEXT", help="A note for others.", show_default=False)]


@app.command("list")
def list_incidents(
    *,
    every: Annotated[bool, typer.Option("--all", help="Include resolved incidents.")] = False,
    as_json: AsJson = False,
) -> None:
    """List open incidents, highest-ranked cause first, and undelivered notifications."""
    from lakehouse_assets.cli.incidents import run_list  # noqa: PLC0415

    raise typer.Exit(run_list(every=every, as_json=as_json))


@app.command()
def show(incident: IncidentId, *, as_json: AsJson = False) -> None:
    """Show one incident with all its signals."""
    from lakehouse_assets.cli.incidents import run_show  # noqa: PLC0415

    raise typer.Exit(run_show(incident, as_json=as_json))


@app.command()
def ack(incident: IncidentId, *, who: Who = None, text: Text = "", as_json: AsJson = False) -> None:
    """Acknowledge an incident so that it does not escalate."""
    from lakehouse_assets.cli.incidents import run_ack  # noqa: PLC0415

    raise typer.Exit(run_ack(incident, who=who, text=text, as_json=as_json))


@app.command("resolve")
def resolve_incident(incident: IncidentId, *, who: Who = None, text: Text = "", as_json: AsJson = False) -> None:
    """Resolve an incident by hand. A later failure opens it again."""
    from lakehouse_assets.cli.incidents import run_resolve  # noqa: PLC0415

    raise typer.Exit(run_resolve(incident, who=who, text=text, as_json=as_json))
