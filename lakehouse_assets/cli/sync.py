"""``lakehouse plan`` and ``lakehouse sync``: run the engine without Dagster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.markup import escape

from lakehouse_assets.archive.matrix import DatasetEntry, SyncMode, load_matrix
from lakehouse_assets.cli import output
from lakehouse_assets.cli.progress import progress_bar
from lakehouse_assets.errors import InputError, printable
from lakehouse_assets.lake.report import PeriodReport, PeriodState, SyncReport, implausible_text
from lakehouse_assets.lake.states import ObjectState
from lakehouse_assets.settings import Settings, load_settings
from lakehouse_assets.sync.changes import requested_periods
from lakehouse_assets.sync.cost import Estimate
from lakehouse_assets.sync.engine import Engine
from lakehouse_assets.sync.plan import Plan
from lakehouse_assets.sync.progress import Stage
from lakehouse_assets.sync.scope import Scope

if TYPE_CHECKING:
    from lakehouse_assets.sync.progress import Progress as EngineProgress

FAILURES_SHOWN = 20

HEADINGS = {"vanished": "withdrawn"}
"""Headings of columns whose JSON key is not the usual word."""


def prepare_sync(
    dataset: str, first: str, last: str, symbols: str | None, intervals: str | None
) -> tuple[Scope, Engine]:
    """The scope that the arguments describe, and an engine for it. Raises InputError. Makes no request."""
    settings = load_settings()
    entry = load_matrix(settings.matrix).entry(dataset.strip("/"))
    scope = Scope(
        entry=entry,
        periods=tuple(requested_periods(entry, first, last)),
        symbols=parse_names("--symbols", symbols),
        intervals=parse_names("--intervals", intervals),
    )
    return scope, _engine(entry, settings)


def _engine(entry: DatasetEntry, settings: Settings) -> Engine:
    lake = settings.lake.lake()
    options = settings.sync.options(settings.lake.headers, settings.spending.prices)
    return Engine(settings.source.bucket(entry.dataset.source), lake, options)


def parse_names(option: str, text: str | None) -> tuple[str, ...]:
    """Parse ``A,B``; an empty tuple for None. Raises InputError."""
    if text is None:
        return ()
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InputError(f"{option} {text!r} has an empty name; write it as A,B.")
    return tuple(dict.fromkeys(names))


# plan


def run_plan(prepared: tuple[Scope, Engine], *, as_json: bool) -> int:
    """Print what a sync would copy. Returns 0."""
    scope, engine = prepared
    with progress_bar(Stage.LISTING.value):
        plan = engine.plan(scope)
    rows = _plan_rows(plan, scope)
    estimate = engine.estimate(plan)
    summary = asdict(plan.summary(), dict_factory=_with_former_names) | asdict(estimate)
    if as_json:
        output.print_json({"dataset": scope.entry.dataset.name, "periods": rows, "total": summary})
        return 0
    numbers = ("objects", "sidecars", "bytes", "missing", "changed", "present", "vanished")
    shown = output.table(f"To copy: {scope.entry.dataset}", ["period"], [HEADINGS.get(name, name) for name in numbers])
    for row in rows:
        shown.add_row(row["period"], *_counts(row, numbers))
    shown.add_section()
    shown.add_row("total", *_counts(summary, numbers))
    console = output.stdout()
    console.print(shown)
    console.print(f"{estimate}.", soft_wrap=True)
    if plan.is_implausible:
        console.print(
            f"The exchange no longer lists {summary['doubted']} objects or their sidecars: so many that it may be an "
            "outage. They count as withdrawn once this has lasted for some hours, or with sync --accept-withdrawals.",
            soft_wrap=True,
        )
    console.print(
        f"{plan.listing_requests} of these requests were listings, and were made for this plan. Nothing was written."
    )
    return 0


def _counts(row: dict[str, Any], numbers: tuple[str, ...]) -> list[str]:
    return [output.size(row[name]) if name.startswith("bytes") else str(row[name]) for name in numbers]


def _plan_rows(plan: Plan, scope: Scope) -> list[dict[str, Any]]:
    """One row per period, including periods without any object."""
    copies = (
        plan.copies()
        .group_by("period")
        .agg(
            objects=(~pl.col("is_sidecar")).sum(),
            sidecars=pl.col("is_sidecar").sum(),
            bytes=pl.col("size").sum(),
            missing=(~pl.col("is_sidecar") & (pl.col("reason") == ObjectState.MISSING)).sum(),
            changed=(~pl.col("is_sidecar") & (pl.col("reason") == ObjectState.CHANGED)).sum(),
        )
    )
    states = plan.rows.group_by("period").agg(
        present=(pl.col("state") == ObjectState.PRESENT).sum(),
        vanished=(pl.col("state") == ObjectState.WITHDRAWN).sum(),
    )
    periods = pl.DataFrame({"period": scope.names}, schema={"period": pl.String})
    return (
        periods.join(copies, on="period", how="left")
        .join(states, on="period", how="left")
        .with_columns(pl.exclude("period").fill_null(0))
        .sort("period")
        .to_dicts()
    )


# sync


def run_sync(
    prepared: tuple[Scope, Engine], *, mode: str | None, allow_spending: bool, accept_withdrawals: bool, as_json: bool
) -> int:
    """Sync and print the report. Returns 1 if any requested object is not in the lake."""
    scope, engine = prepared
    chosen = None if mode is None else _mode(mode)
    with progress_bar(Stage.LISTING.value) as bar:

        def on_progress(progress: EngineProgress) -> None:
            stage = progress.stage.value
            bar.show(
                stage if progress.mode is None else f"{stage} ({progress.mode.value})",
                progress.files_done,
                progress.files_total,
                unit="files",
                size=progress.bytes_done,
                size_total=progress.bytes_total,
            )

        report = engine.sync(
            scope,
            mode=chosen,
            on_progress=on_progress,
            approve=_approval(allow_spending),
            accept_withdrawals=accept_withdrawals,
        )
    failed = [period for period in report.incomplete if not period.partial or period.failed]
    if as_json:
        output.print_json(_document(report, ok=not failed))
    else:
        _print_report(report, failed, scope.entry.dataset.source_url)
    return 1 if failed else 0


def _approval(allow_spending: bool) -> Callable[[Estimate], None]:
    limit = load_settings().spending.per_run

    def approve(estimate: Estimate) -> None:
        if not allow_spending:
            limit.check(estimate.dollars, estimate.bytes, what="This sync is estimated at", override="--allow-spending")

    return approve


def _mode(text: str) -> SyncMode:
    try:
        return SyncMode(text)
    except ValueError:
        raise InputError(f"{text!r} is not a mode; use one of {', '.join(SyncMode)}.") from None


_FORMER_NAMES = {
    "partial": "narrowed",
    "unrecognized": "strays",
    "unrecognized_total": "strays_total",
    "withdrawn": "vanished",
}
"""Keys of the JSON document that keep the name of version 0.1, since programs read them."""


def _with_former_names(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {_FORMER_NAMES.get(name, name): value for name, value in items}


def _document(report: SyncReport, *, ok: bool) -> dict[str, Any]:
    document = asdict(report, dict_factory=_with_former_names)
    totals = _with_former_names([(name, report.total(name)) for name in _SUMMED])
    return {"ok": ok, **document, "total": totals | {"copied_by_mode": report.copied_by_mode}}


_SUMMED = (
    "expected", "present", "copied", "skipped", "failed", "withdrawn", "sidecars_copied", "bytes_copied",
    "bytes_present", "operations_saved", "doubted", "sidecars_doubted",
)  # fmt: skip


def _print_report(report: SyncReport, failed: list[PeriodReport], source_url: str) -> None:
    console = output.stdout()
    numbers = ("objects", "copied", "sidecars", "bytes copied", "mode", "seconds")
    shown = output.table(f"Synced: {report.dataset}", ["period", "state"], numbers)
    for period in report.periods:
        shown.add_row(
            period.period,
            _state(period),
            f"{period.present}/{period.expected}",
            str(period.copied),
            str(period.sidecars_copied),
            output.size(period.bytes_copied),
            ", ".join(period.copied_by_mode) or "-",
            f"{period.seconds:.2f}",
        )
    shown.add_section()
    shown.add_row(
        "total",
        "",
        f"{report.total('present')}/{report.total('expected')}",
        str(report.total("copied")),
        str(report.total("sidecars_copied")),
        output.size(report.total("bytes_copied")),
        ", ".join(report.copied_by_mode) or "-",
        f"{report.seconds:.2f}",
    )
    console.print(shown)
    for line in _notes(report, failed, source_url):
        console.print(escape(line), soft_wrap=True)


def _state(period: PeriodReport) -> str:
    if period.state is PeriodState.INCOMPLETE and period.partial and not period.failed:
        return "partial"
    return period.state.value.replace("_", " ")


def _notes(report: SyncReport, failed: list[PeriodReport], source_url: str) -> list[str]:
    notes = []
    unpublished = [period.period for period in report.periods if period.state is PeriodState.NOT_PUBLISHED]
    if unpublished:
        window = unpublished[0] if len(unpublished) == 1 else f"{unpublished[0]} to {unpublished[-1]}"
        notes.append(f"Not published yet: {len(unpublished)} of {len(report.periods)} periods ({window}).")
    if any(period.partial and not period.is_complete and period.expected for period in report.periods):
        notes.append("Partial, because of --symbols or --intervals: the rest of these periods is not in the lake.")
    notes += report.notes
    if implausible := implausible_text(report, source_url):
        notes.append(f"{implausible} Use --accept-withdrawals to record them as withdrawn now.")
    failures = [failure for period in failed for failure in period.failures]
    notes += [f"failed: {printable(failure.key)}: {failure.reason}" for failure in failures[:FAILURES_SHOWN]]
    rest = sum(period.missing_total for period in failed) - min(len(failures), FAILURES_SHOWN)
    if rest > 0:
        notes.append(f"and {rest} more; --json lists more of them. Run the sync again to copy the rest.")
    return notes
