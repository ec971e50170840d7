"""The ``lakehouse`` command: options and help; the work is in the modules beside this one.

Each command imports what it needs when it runs, so that help and usage errors come at once.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from lakehouse_assets.errors import InputError, LakehouseError

OK, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


class _Commands(TyperGroup):
    """All commands; every error becomes one line on stderr and an exit status.

    2: the input cannot be used. 1: it could, and something failed. A traceback only with ``debug``.
    """

    debug = False

    def main(self, *args: Any, **options: Any) -> NoReturn:
        if threading.current_thread() is threading.main_thread():
            # As an exception, so that stores and temporary folders are cleaned up.
            signal.signal(signal.SIGTERM, _terminate)
        try:
            status = super().main(*args, **{**options, "standalone_mode": False})
        except Exception as error:  # noqa: BLE001 - the last resort of a command line
            status = self._tell(error)
        if status == INTERRUPTED:
            _complain("Interrupted.")
        sys.exit(status if isinstance(status, int) else OK)

    def _tell(self, error: Exception) -> int:
        if self.debug:
            traceback.print_exception(error)
        if isinstance(error, LakehouseError):
            _complain(str(error))
            return WRONG_INPUT if isinstance(error, InputError) else FAILED
        usage = getattr(error, "format_message", None)
        if usage is not None:
            # Without any argument the help was the answer, and there is no message.
            if message := usage().strip():
                command = getattr(getattr(error, "ctx", None), "command_path", "lakehouse")
                _complain(f"{message.rstrip('.')}. See: {command} --help")
            return WRONG_INPUT
        first_line = (str(error).splitlines() or [""])[0]
        _complain(f"Unexpected {type(error).__name__}: {first_line} (LAKEHOUSE_DEBUG=1 shows where; please report it)")
        return FAILED


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def _complain(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - the command line's own voice


app = typer.Typer(
    cls=_Commands,
    help="Mirror crypto exchanges' public archives into your own S3 lake.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DatasetName = Annotated[
    str, typer.Argument(metavar="DATASET", help="Such as binance/um/klines/daily.", show_default=False)
]
First = Annotated[
    str, typer.Option("--from", metavar="PERIOD", help="First period: 2024-01-31, or 2024-01.", show_default=False)
]
Last = Annotated[str, typer.Option("--to", metavar="PERIOD", help="Last period, included.", show_default=False)]
Symbols = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Only these symbols, such as BTCUSDT,ETHUSDT.", show_default=False),
]
Intervals = Annotated[
    str | None, typer.Option(metavar="A,B", help="Only these intervals, such as 1m,1h.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lakehouse {version('lakehouse-assets')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    *,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="LAKEHOUSE_DEBUG", help="Show tracebacks of errors.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say on stderr what is done: listings, batches, commits.")
    ] = False,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of every command."""
    command = context.command
    if isinstance(command, _Commands):
        command.debug = debug
    if verbose:
        from lakehouse_assets.observability.telemetry.logs import configure_logs  # noqa: PLC0415

        configure_logs()


@app.command()
def demo(
    *,
    samples: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Archive tree to use: a file's path below DIR is its key.", show_default=False
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=92, help="Days of the generated archive.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Show the whole way on this machine: no network, no credentials, nothing kept.

    An embedded object store gets a sample archive; Dagster backfills it; the archive changes;
    a second backfill copies what changed. Every claim is checked against the store.
    """
    from lakehouse_assets.cli.demo.run import run_demo  # noqa: PLC0415 - imports Dagster

    raise typer.Exit(run_demo(samples=samples, days=days, as_json=as_json))


@app.command()
def up(
    *,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Dagster UI, on loopback.")] = 3000,
    home: Annotated[Path, typer.Option(metavar="DIR", help="Folder that keeps everything between starts.")] = Path(
        ".lakehouse"
    ),
) -> None:
    """Start the Dagster UI and daemon, with an embedded lake where none is configured. Ctrl-C ends all."""
    from lakehouse_assets.cli.up.run import run_up  # noqa: PLC0415

    raise typer.Exit(run_up(port=port, home=home))


@app.command()
def doctor(
    *,
    exchanges: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Only these exchanges; default: all of the matrix.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at settings, lake, sources, ways to copy and Dagster; say what is wrong and what to do.

    Writes small objects below _doctor/ in the lake, and nothing else.
    """
    from lakehouse_assets.cli.doctor import run_doctor  # noqa: PLC0415

    raise typer.Exit(run_doctor(exchanges, as_json=as_json))


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
    """Say what a sync would copy, and what it costs. Writes nothing."""
    from lakehouse_assets.cli.sync import ask, run_plan  # noqa: PLC0415

    raise typer.Exit(run_plan(ask(dataset, first, last, symbols, intervals), as_json=as_json))


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
        typer.Option(metavar="MODE", help="How objects are moved; default: the matrix entry's.", show_default=False),
    ] = None,
    allow_spending: Annotated[
        bool, typer.Option("--allow-spending", help="Copy although the estimate is above a spending ceiling.")
    ] = False,
    accept_withdrawals: Annotated[
        bool,
        typer.Option(
            "--accept-withdrawals", help="Believe a listing that lacks much of what was there: it was withdrawn."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring periods of a dataset into the lake, without Dagster."""
    from lakehouse_assets.cli.sync import ask, run_sync  # noqa: PLC0415

    asked = ask(dataset, first, last, symbols, intervals)
    raise typer.Exit(
        run_sync(
            asked,
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
    again: Annotated[bool, typer.Option("--again", help="Read everything, also what is verified already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read the lake's copies and compare them with the exchange's checksums. Each content is read once."""
    from lakehouse_assets.cli.verify import run_verify  # noqa: PLC0415

    raise typer.Exit(run_verify(dataset, first, last, again=again, as_json=as_json))


@app.command()
def adopt(dataset: DatasetName, *, first: First, last: Last, as_json: AsJson = False) -> None:
    """Take over an existing mirror in the lake: record what is there and read all of it. Copies nothing."""
    from lakehouse_assets.cli.verify import run_adopt  # noqa: PLC0415

    raise typer.Exit(run_adopt(dataset, first, last, as_json=as_json))


@app.command("rebuild-manifests")
def rebuild_manifests(dataset: DatasetName, *, as_json: AsJson = False) -> None:
    """Rebuild a lost or damaged manifest from its files and the lake's listing. _syncs: the history of syncs."""
    from lakehouse_assets.cli.verify import run_rebuild  # noqa: PLC0415

    raise typer.Exit(run_rebuild(dataset, as_json=as_json))


@app.command()
def exporter(
    *,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=1.0, help="Pause between two looks at the records.")
    ] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="Send a single time, and end.")] = False,
) -> None:
    """Send metrics of the lake's records by OTLP, until ended. Where to: OTEL_EXPORTER_OTLP_ENDPOINT."""
    from lakehouse_assets.cli.exporter import run_exporter  # noqa: PLC0415

    raise typer.Exit(run_exporter(interval, once=once))


@app.command()
def coverage(
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATASET]", help="Such as binance/um/klines/daily; all of the matrix without.", show_default=False
        ),
    ] = None,
    *,
    symbol: Annotated[str | None, typer.Option(metavar="NAME", help="Only this symbol.", show_default=False)] = None,
    years: Annotated[int, typer.Option(min=1, help="Of all datasets: the last so many years that were synced.")] = 2,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page: symbols and periods as a heat map.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in the lake and what is missing, from manifests: by month, or by symbol and period."""
    from lakehouse_assets.cli.coverage import run_coverage  # noqa: PLC0415

    raise typer.Exit(run_coverage(dataset, symbol=symbol, years=years, html=html, as_json=as_json))


@app.command()
def discover(
    exchange: Annotated[str, typer.Argument(metavar="EXCHANGE", help="Such as binance.", show_default=False)],
    *,
    market: Annotated[str | None, typer.Option(metavar="NAME", help="Only this market.", show_default=False)] = None,
    data_type: Annotated[
        str | None, typer.Option("--data-type", metavar="NAME", help="Only this data type.", show_default=False)
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="List every key; else folders' names and a sample of each dataset.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=1024, help="Listing requests at a time.")] = 32,
    write_matrix: Annotated[
        Path | None,
        typer.Option("--write-matrix", metavar="FILE", help="Write what was found as a matrix.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over an existing FILE.")] = False,
    as_json: AsJson = False,
) -> None:
    """Walk an exchange's archive: what it publishes, what changed, how it differs from the matrix."""
    from lakehouse_assets.cli.discover import Asked, run_discover  # noqa: PLC0415

    asked = Asked(exchange, market, data_type, exact, concurrency, write_matrix, force)
    raise typer.Exit(run_discover(asked, as_json=as_json))


incidents = typer.Typer(
    help="Incidents: what is wrong with exchanges, lake and runs, and who looks after it.", no_args_is_help=True
)
app.add_typer(incidents, name="incidents")

IncidentId = Annotated[
    str, typer.Argument(metavar="ID", help="As `lakehouse incidents list` shows it.", show_default=False)
]
Who = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who does it; default: your login.", show_default=False)
]
Text = Annotated[str, typer.Option("--note", metavar="TEXT", help="What others should know.", show_default=False)]


@incidents.command("list")
def list_incidents(
    *,
    every: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the open incidents, worst cause first, and messages that nobody took."""
    from lakehouse_assets.cli.incidents import run_list  # noqa: PLC0415

    raise typer.Exit(run_list(every=every, as_json=as_json))


@incidents.command()
def show(incident: IncidentId, *, as_json: AsJson = False) -> None:
    """Show one incident with all its signals."""
    from lakehouse_assets.cli.incidents import run_show  # noqa: PLC0415

    raise typer.Exit(run_show(incident, as_json=as_json))


@incidents.command()
def ack(incident: IncidentId, *, who: Who = None, text: Text = "", as_json: AsJson = False) -> None:
    """Say that you look after an incident: it is no longer raised by time."""
    from lakehouse_assets.cli.incidents import run_ack  # noqa: PLC0415

    raise typer.Exit(run_ack(incident, who=who, text=text, as_json=as_json))


@incidents.command("resolve")
def resolve_incident(incident: IncidentId, *, who: Who = None, text: Text = "", as_json: AsJson = False) -> None:
    """Close an incident by hand. What fails from now on opens it again."""
    from lakehouse_assets.cli.incidents import run_resolve  # noqa: PLC0415

    raise typer.Exit(run_resolve(incident, who=who, text=text, as_json=as_json))


AsOfText = Annotated[
    str | None,
    typer.Option(
        "--as-of", metavar="WHEN", help="Version, time (UTC) or snapshot id; default: now.", show_default=False
    ),
]


@app.command()
def tables(
    name: Annotated[
        str | None,
        typer.Argument(metavar="TABLE", help="Such as binance/um/klines: what it holds.", show_default=False),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the lake's tables, or what one of them holds per symbol."""
    from lakehouse_assets.cli.tables import run_tables  # noqa: PLC0415

    raise typer.Exit(run_tables(name, as_json=as_json))


@app.command()
def query(
    sql: Annotated[
        str,
        typer.Argument(
            metavar="SQL", help='Such as "SELECT symbol, close FROM binance_um_klines WHERE ...".', show_default=False
        ),
    ],
    *,
    as_of: AsOfText = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Run one SELECT (Polars SQL) over the lake's tables."""
    from lakehouse_assets.cli.tables import run_query  # noqa: PLC0415

    raise typer.Exit(run_query(sql, as_of=as_of, limit=limit, as_json=as_json))


@app.command()
def export(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="Such as binance/um/klines.", show_default=False)],
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Parquet file to write.", show_default=False)],
    *,
    symbols: Symbols = None,
    interval: Annotated[str | None, typer.Option(help="Such as 1h.", show_default=False)] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="First time (UTC).", show_default=False)
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Time (UTC) before which rows end.", show_default=False)
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
