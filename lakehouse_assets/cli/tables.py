"""``lakehouse tables``, ``query`` and ``export``: read the lake's tables without Dagster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError
from rich.markup import escape

from lakehouse_assets.archive.errors import store_error
from lakehouse_assets.archive.matrix import load_matrix
from lakehouse_assets.cli import output
from lakehouse_assets.cli.sync import parse_names
from lakehouse_assets.errors import InputError, Side
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.settings import load_settings
from lakehouse_assets.tables.delta import files_of, open_table
from lakehouse_assets.tables.lineage import ObjectUsage
from lakehouse_assets.tables.lineage_check import intact_lineage
from lakehouse_assets.tables.query import coverage, read_table, scan, snapshot
from lakehouse_assets.tables.schema import TABLES
from lakehouse_assets.tables.snapshot import AsOf, snapshot_id
from lakehouse_assets.tables.table import Table, tables_of

ROWS_SHOWN = 50


def run_tables(name: str | None, *, as_json: bool) -> int:
    """List the matrix's tables, or show the contents of one. Returns 0."""
    settings = load_settings()
    lake = settings.lake.lake()
    if name is not None:
        return _show(Table.parse(name), as_json=as_json)
    rows = [_contents(lake, entry.table) for entry in tables_of(load_matrix(settings.matrix).entries)]
    if as_json:
        output.print_json({"tables": rows})
        return 0
    shown = output.table(
        f"Tables of {lake.url()}", ["table", "periods"], ["symbols", "rows", "files", "size", "version"]
    )
    for row in rows:
        periods = f"{row['periods']}: {row['first']} to {row['last']}" if row["periods"] else "-"
        version = row["snapshot"].rpartition("@")[2] if row["snapshot"] else "-"
        numbers = (f"{row[name]:,}" for name in ("symbols", "rows", "files"))
        shown.add_row(row["table"], periods, *numbers, output.size(row["bytes"]), version)
    output.stdout().print(shown)
    return 0


def _contents(lake: Lake, table: Table) -> dict[str, Any]:
    """Counts of a table's periods, symbols, rows and files; zeros if it does not exist yet."""
    delta_table = open_table(lake, table.place)
    row: dict[str, Any] = {"table": table.name, "periods": 0, "first": None, "last": None, "symbols": 0}
    row |= {"rows": 0, "files": 0, "bytes": 0, "snapshot": None}
    if delta_table is None:
        return row
    written = intact_lineage(lake, table, columns=["period", "symbol", "state"])
    written = written.filter(pl.col("state") == ObjectUsage.WRITTEN)
    files = files_of(delta_table)
    return row | {
        "periods": written["period"].n_unique(),
        "first": written["period"].min(),
        "last": written["period"].max(),
        "symbols": written["symbol"].n_unique(),
        "rows": int(files["num_records"].sum()),
        "files": files.height,
        "bytes": int(files["size_bytes"].sum()),
        "snapshot": snapshot_id(table, delta_table),
    }


def _show(table: Table, *, as_json: bool) -> int:
    """Show one table: its snapshot, and its contents by symbol and interval."""
    current = snapshot(table.name)
    rows = coverage(table.name)
    if as_json:
        output.print_json(
            {
                "table": table.name,
                "snapshot": current.id,
                "version": current.version,
                "committed_at": current.committed_at.isoformat(),
                "retention_days": current.retention_days,
                "coverage": [
                    {name: getattr(value, "isoformat", lambda value=value: value)() for name, value in row.items()}
                    for row in rows.iter_rows(named=True)
                ],
            }
        )
        return 0
    numbers = ("periods", "rows", "from_monthly", "quarantined", "missing")
    shown = output.table(f"{table}, snapshot {current.id}", ["symbol", "interval", "first", "last"], numbers)
    for row in rows.head(ROWS_SHOWN).iter_rows(named=True):
        texts = (row["symbol"], row["interval"] or "", row["first_period"] or "-", row["last_period"] or "-")
        shown.add_row(*map(escape, texts), *(f"{row[name]:,}" for name in numbers))
    output.stdout().print(shown)
    if rows.height > ROWS_SHOWN:
        output.stdout().print(f"and {rows.height - ROWS_SHOWN} more; --json lists all.")
    return 0


def run_query(sql: str, *, as_of: str | None, limit: int, as_json: bool) -> int:
    """Run one SELECT (Polars SQL) over the tables that it names. Returns 0.

    A table is named as ``binance_um_klines``, or quoted as ``"binance/um/klines"``. Raises InputError for SQL that
    fails.
    """
    lake = load_settings().lake.lake()
    tables = [Table(schema.exchange, schema.market, schema.data_type) for schema in TABLES]
    named = {name: table for table in tables for name in (table.sql_name, table.name)}
    frames = {name: scan(table, lake=lake, as_of=_as_of(as_of)) for name, table in named.items() if name in sql}
    try:
        answer = pl.SQLContext(frames).execute(_quoted(sql)).head(limit + 1).collect()
    except (PolarsError, OSError) as error:
        raise InputError(f"The query failed: {_first_line(error)} Tables: {_table_names(frames)}.") from error
    if as_json:
        output.print_json({"rows": [_plain(row) for row in answer.head(limit).iter_rows(named=True)]})
        return 0
    console = output.stdout()
    shown = output.table("", answer.columns)
    for row in answer.head(limit).iter_rows():
        shown.add_row(*("" if value is None else escape(str(value)) for value in row))
    console.print(shown)
    if answer.height > limit:
        console.print(f"The first {limit} rows; use --limit for more.")
    return 0


def run_export(
    dataset: str,
    target: Path,
    *,
    symbols: str | None,
    interval: str | None,
    start: str | None,
    end: str | None,
    columns: str | None,
    as_of: str | None,
) -> int:
    """Stream rows of a table to one local Parquet file. Returns 0. Does not overwrite an existing file."""
    if target.exists():
        raise InputError(f"{target} already exists; choose another name, or remove it.")
    if not target.parent.is_dir():
        raise InputError(f"{target.parent} is not a folder; create it first.")
    cited = snapshot(dataset, _as_of(as_of)).id
    rows = read_table(
        dataset,
        symbols=parse_names("--symbols", symbols) or None,
        interval=interval,
        start=start,
        end=end,
        columns=parse_names("--columns", columns) or None,
        as_of=cited,
    )
    draft = target.with_name(f"{target.name}.part")
    try:
        rows.sink_parquet(draft)
        count = pl.scan_parquet(draft).select(pl.len()).collect().item()
        draft.rename(target)
    except (PolarsError, OSError) as error:
        raise store_error(f"Exporting {dataset} to {target}", error, side=Side.LAKE) from error
    finally:
        draft.unlink(missing_ok=True)
    console = output.stdout()
    console.print(
        escape(f"{count:,} rows, {output.size(target.stat().st_size)}: {target}. Snapshot {cited}."), soft_wrap=True
    )
    return 0


def _as_of(text: str | None) -> AsOf | None:
    return int(text) if text is not None and text.isdecimal() else text


_WORDS = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|\binterval\b(?!\s*')""", re.IGNORECASE)
"""Quoted strings and names, and the word interval where it does not begin a literal such as INTERVAL '1h'."""


def _quoted(sql: str) -> str:
    """Quote the column interval, since the word is also an SQL keyword."""
    return _WORDS.sub(lambda match: '"interval"' if match[0].lower() == "interval" else match[0], sql)


def _table_names(frames: dict[str, pl.LazyFrame]) -> str:
    return ", ".join(frames) or "none is named; a table name looks like binance_um_klines"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "isoformat", lambda value=value: value)() for name, value in row.items()}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".") + "."
