"""``lakehouse coverage``: what is in the lake, read from manifests only."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
from rich.markup import escape

from lakehouse_assets.archive.matrix import ArchiveMatrix, DatasetEntry, load_matrix
from lakehouse_assets.archive.period import Cadence, Period, month_expr
from lakehouse_assets.cli import output
from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.coverage import CoverageStatus, coverage
from lakehouse_assets.lake.coverage_page import coverage_page
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.manifest_stats import ManifestStats, is_complete
from lakehouse_assets.settings import load_settings

SYMBOLS_SHOWN = 40
_MARKS = {
    CoverageStatus.COMPLETE: "[green]█[/green]",
    CoverageStatus.PARTIAL: "[yellow]▒[/yellow]",
    CoverageStatus.MISSING: "[red]x[/red]",
    CoverageStatus.QUARANTINED: "[magenta]![/magenta]",
    CoverageStatus.NOT_PUBLISHED: "[dim]·[/dim]",
}


def run_coverage(dataset: str | None, *, symbol: str | None, years: int, html: Path | None, as_json: bool) -> int:
    """Show every dataset by month, or one dataset by symbol and period. Returns 0."""
    settings = load_settings()
    matrix, lake = load_matrix(settings.matrix), settings.lake.lake()
    if dataset is not None:
        return _one(lake, matrix.entry(dataset.strip("/")), symbol, html, as_json=as_json)
    if symbol is not None or html is not None:
        raise InputError("--symbol and --html need a dataset: lakehouse coverage binance/um/klines/daily --html FILE.")
    return _all(lake, matrix, years, as_json=as_json)


def _all(lake: Lake, matrix: ArchiveMatrix, years: int, *, as_json: bool) -> int:
    stats, today = ManifestStats(lake), datetime.now(UTC).date()
    counted = {entry.dataset.name: _by_month(stats.of(entry.dataset)) for entry in matrix.entries}
    if as_json:
        output.print_json({name: frame.to_dicts() for name, frame in counted.items()})
        return 0
    table = output.table("Complete periods by month", ["dataset", "year"], [f"{month:02}" for month in range(1, 13)])
    for entry in matrix.entries:
        by_month = {row["month"]: row for row in counted[entry.dataset.name].iter_rows(named=True)}
        synced = sorted({int(month[:4]) for month in by_month})[-years:]
        for year in synced or [today.year]:
            months = [f"{year}-{month:02}" for month in range(1, 13)]
            cells = (_cell(entry, month, by_month.get(month), today) for month in months)
            table.add_row(entry.dataset.name if year == (synced or [year])[0] else "", str(year), *cells)
    output.stdout().print(table)
    output.stdout().print(
        "3/31: 3 of the month's 31 periods are complete. Empty: never synced. !: has quarantined objects."
    )
    return 0


def _by_month(stats: pl.DataFrame) -> pl.DataFrame:
    return (
        stats.group_by(month_expr(pl.col("period")).alias("month"))
        .agg(
            pl.len().alias("periods_synced"),
            is_complete().sum().alias("periods_complete"),
            pl.col("expected", "present", "bytes", "mismatch").sum(),
        )
        .sort("month")
    )


def _cell(entry: DatasetEntry, month: str, row: dict[str, int] | None, today: date) -> str:
    if row is None:
        return ""
    due = _periods_due(entry, month, today)
    complete = row["periods_complete"]
    colour = "green" if complete >= due else "yellow" if complete else "red"
    text = f"{complete}" if complete >= due else f"{complete}/{due}"
    return f"[{colour}]{text}[/{colour}]" + ("[magenta]![/magenta]" if row["mismatch"] else "")


def _periods_due(entry: DatasetEntry, month: str, today: date) -> int:
    """Number of periods of a month that the matrix wants and that have ended."""
    if entry.dataset.cadence is Cadence.MONTHLY:
        return 1
    period = Period.parse(month, Cadence.MONTHLY)
    first, end = max(period.start, entry.first_period.start), min(period.end, today)
    if entry.last_period is not None:
        end = min(end, entry.last_period.end)
    return max(0, (end - first).days)


def _one(lake: Lake, entry: DatasetEntry, symbol: str | None, html: Path | None, *, as_json: bool) -> int:
    covered = coverage(lake, entry.dataset, symbol=symbol)
    if html is not None:
        try:
            html.write_text(coverage_page(entry.dataset, covered), encoding="utf-8")
        except OSError as error:
            raise InputError(f"The page cannot be written to {html}: {error.strerror or error}.") from error
        output.stdout().print(f"Written: {html} ({output.size(html.stat().st_size)})", soft_wrap=True)
        return 0
    if as_json:
        output.print_json(covered.to_dicts())
        return 0
    console = output.stdout()
    if covered.is_empty():
        console.print(f"{entry.dataset} was never synced.")
        return 0
    periods = covered["period"].unique().sort().to_list()
    width = max(10, console.width - 30)
    shown = periods[-width:]
    console.print(f"{entry.dataset}, {shown[0]} to {shown[-1]}, one mark per period:")
    for name, rows in list(covered.group_by("symbol", maintain_order=True))[:SYMBOLS_SHOWN]:
        marks = dict(rows.select("period", "cover").iter_rows())
        line = "".join(_MARKS[CoverageStatus(marks[period])] if period in marks else " " for period in shown)
        console.print(f"{escape(str(name[0])[:24]):24} {line}", no_wrap=True, highlight=False)
    symbols = covered["symbol"].n_unique()
    if symbols > SYMBOLS_SHOWN:
        console.print(
            f"... and {symbols - SYMBOLS_SHOWN} more symbols. Use --symbol NAME for one, or --html FILE for all."
        )
    counts = Counter(dict(covered.group_by("cover").len().iter_rows()))
    console.print(
        "  ".join(f"{_MARKS[cover]} {cover.value.replace('_', ' ')} {counts[cover.value]}" for cover in CoverageStatus)
    )
    return 0
