"""After a transfer: what the lake's listing shows becomes manifest rows and period reports.

A mover's word alone makes nothing present: the listing must show the object with the right size.
Its word is needed all the same where ETags cannot be compared (multipart, KMS), to tell a fresh
copy from an older one of the same size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from lakehouse_assets.archive.listing import content_digest
from lakehouse_assets.sync.integrity_columns import INTEGRITY_COLUMNS, with_integrity
from lakehouse_assets.sync.manifest import FAILED, MANIFEST_SCHEMA
from lakehouse_assets.sync.plan import State
from lakehouse_assets.sync.report import Failure, PeriodReport, PeriodState

OUTCOME_SCHEMA = pl.Schema(
    {
        "key": pl.String,
        "mode": pl.String,
        "fault": pl.String,
        "etag": pl.String,
        "former_etag": pl.String,
        "superseded_key": pl.String,
        "sha256": pl.String,
        "md5": pl.String,
        "body": pl.Binary,
    }
)
"""One row per file (object or sidecar) that was tried; ``etag`` is the source's when planned.

Digests, and of a sidecar its ``body``, are known where the bytes passed through this machine.
"""

FAILURES_NAMED = 50
"""Failures that a report names; the rest is counted."""

ADOPTED = "adopted"


@dataclass(frozen=True, slots=True)
class Judgement:
    """``rows``: one per object, states after the transfer; see :func:`judge`."""

    rows: pl.DataFrame


def judge(rows: pl.DataFrame, outcomes: pl.DataFrame, *, now: datetime, run_id: str | None) -> Judgement:
    """Combine plan rows made of listings *after* the transfer with the movers' outcomes.

    Adds ``final`` (the manifest's state of object and sidecar together), ``error``,
    ``copied`` and ``sidecar_copied``, and the manifest's columns as ``new_*``.
    """
    tried = outcomes.rename(lambda name: name if name == "key" else f"tried_{name}")
    rows = rows.join(tried, on="key", how="left", maintain_order="left")
    rows = rows.with_columns((pl.col("key") + pl.col("sidecar_suffix")).alias("sidecar_key")).join(
        tried.rename(lambda name: f"sidecar_{name}"), on="sidecar_key", how="left", maintain_order="left"
    )
    rows = rows.with_columns(copied=_copied(""), sidecar_copied=_copied("sidecar_")).with_columns(
        state=pl.when("copied").then(pl.lit(State.PRESENT.value)).otherwise("state"),
        sidecar_state=pl.when("sidecar_copied").then(pl.lit(State.PRESENT.value)).otherwise("sidecar_state"),
    )
    rows = rows.filter(pl.col("state").is_not_null()).with_columns(error=_error(), final=_final())
    return Judgement(with_integrity(_with_manifest_columns(rows, now, run_id), now))


def _copied(prefix: str) -> pl.Expr:
    """The mover said so, the lake lists that size, and the source is still what was planned."""
    return (
        pl.col(f"{prefix}tried_mode").is_not_null()
        & pl.col(f"{prefix}tried_fault").is_null()
        & (pl.col(f"lake_{prefix}size") == pl.col(f"{prefix}size"))
        & (pl.col(f"{prefix}tried_etag") == pl.col(f"{prefix}etag"))
    ).fill_null(value=False)


def _is_whole(column: str) -> pl.Expr:
    return pl.col(column).is_null() | pl.col(column).is_in([State.PRESENT.value, State.VANISHED.value])


def _final() -> pl.Expr:
    open_state = pl.when(_is_whole("state")).then("sidecar_state").otherwise("state")
    return (
        pl.when(pl.col("state") == State.VANISHED)
        .then(pl.lit(State.VANISHED.value))
        .when(_is_whole("state") & _is_whole("sidecar_state"))
        .then(pl.lit(State.PRESENT.value))
        .when(pl.coalesce("tried_fault", "sidecar_tried_fault").is_not_null())
        .then(pl.lit(FAILED))
        .otherwise(open_state)
    )


def _error() -> pl.Expr:
    return (
        pl.when(~_is_whole("state"))
        .then("tried_fault")
        .when(~_is_whole("sidecar_state"))
        .then(pl.lit("sidecar: ") + pl.col("sidecar_tried_fault"))
    )


def _with_manifest_columns(rows: pl.DataFrame, now: datetime, run_id: str | None) -> pl.DataFrame:
    present = pl.col("state") == State.PRESENT
    sidecar_present = pl.col("sidecar_state") == State.PRESENT
    # Replaced by a run that was killed before it could record it.
    taken_over = present & ~pl.col("copied") & (pl.col("known_lake_etag") != pl.col("lake_etag")).fill_null(value=False)
    touched_now = pl.col("copied") | (present & pl.col("known_source_etag").is_null()) | taken_over
    replaced = pl.col("copied") & pl.col("tried_former_etag").is_not_null()
    return rows.with_columns(
        new_month=pl.col("period").str.slice(0, 7),
        new_size=pl.coalesce("size", "lake_size", "known_size"),
        new_source_etag=pl.when(present).then("etag").otherwise("known_source_etag"),
        new_source_last_modified=pl.when(present).then("last_modified").otherwise("known_source_last_modified"),
        new_sidecar_size=pl.coalesce("sidecar_size", "lake_sidecar_size", "known_sidecar_size"),
        new_sidecar_source_etag=pl.when(sidecar_present).then("sidecar_etag").otherwise("known_sidecar_source_etag"),
        new_sidecar_last_modified=pl.when(sidecar_present)
        .then("sidecar_last_modified")
        .otherwise("known_sidecar_last_modified"),
        new_mode=pl.when("copied")
        .then("tried_mode")
        .otherwise(pl.when(touched_now).then(pl.coalesce("known_mode", pl.lit(ADOPTED))).otherwise("known_mode")),
        new_synced_at=pl.when(touched_now).then(pl.lit(now, MANIFEST_SCHEMA["synced_at"])).otherwise("known_synced_at"),
        new_run_id=pl.when(touched_now).then(pl.lit(run_id, pl.String)).otherwise("known_run_id"),
        new_former_sha256=pl.when(replaced | taken_over).then("known_sha256").otherwise("known_former_sha256"),
        new_former_etag=pl.when(replaced)
        .then("tried_former_etag")
        .when(taken_over)
        .then("known_lake_etag")
        .otherwise("known_former_etag"),
        new_superseded_key=pl.when(replaced)
        .then("tried_superseded_key")
        .when(~taken_over)
        .then("known_superseded_key"),
    )


def manifest_rows(judgement: Judgement) -> pl.DataFrame:
    """The judged rows as the manifest keeps them."""
    return (
        judgement.rows.select(
            pl.col("new_month").alias("month"),
            "period",
            "symbol",
            "interval",
            "part",
            "key",
            pl.col("final").alias("state"),
            pl.col("new_size").alias("size"),
            pl.col("new_source_etag").alias("source_etag"),
            pl.col("new_source_last_modified").alias("source_last_modified"),
            "lake_etag",
            "lake_last_modified",
            pl.col("new_sidecar_size").alias("sidecar_size"),
            pl.col("new_sidecar_source_etag").alias("sidecar_source_etag"),
            pl.col("new_sidecar_last_modified").alias("sidecar_last_modified"),
            pl.col("lake_sidecar_etag").alias("sidecar_lake_etag"),
            pl.col("new_mode").alias("mode"),
            pl.col("new_synced_at").alias("synced_at"),
            pl.col("new_run_id").alias("run_id"),
            *(pl.col(f"new_{name}").alias(name) for name in INTEGRITY_COLUMNS),
            pl.col("new_former_etag").alias("former_etag"),
            pl.col("new_former_sha256").alias("former_sha256"),
            pl.col("new_superseded_key").alias("superseded_key"),
            "error",
        )
        .select(MANIFEST_SCHEMA.names())
        .cast(MANIFEST_SCHEMA)
    )


def period_reports(
    judgement: Judgement, periods: Sequence[str], *, seconds: float, narrowed: bool
) -> tuple[PeriodReport, ...]:
    """One report per period, in order, also for periods of which nothing is known."""
    groups = {str(key[0]): group for key, group in judgement.rows.group_by("period")}
    empty = judgement.rows.clear()
    files = {period: _files_copied(groups.get(period, empty)) for period in periods}
    total_files = sum(files.values())
    total_rows = judgement.rows.height
    reports = []
    for period in periods:
        rows = groups.get(period, empty)
        if total_files:
            share = files[period] / total_files
        else:
            share = rows.height / total_rows if total_rows else 1 / len(periods)
        reports.append(_period_report(period, rows, seconds * share, narrowed=narrowed))
    return tuple(reports)


def _files_copied(rows: pl.DataFrame) -> int:
    return rows.filter("copied").height + rows.filter("sidecar_copied").height


def _period_report(period: str, rows: pl.DataFrame, seconds: float, *, narrowed: bool) -> PeriodReport:
    expected = rows.filter(pl.col("final") != State.VANISHED)
    present = expected.filter(pl.col("final") == State.PRESENT)
    vanished = rows.height - expected.height
    copied = rows.filter("copied")
    sidecars = rows.filter("sidecar_copied")
    modes = dict(copied.group_by("tried_mode").len().sort("tried_mode").iter_rows())
    files = pl.concat(
        [
            copied.select(pl.col("tried_mode").alias("mode"), "size"),
            sidecars.select(pl.col("sidecar_tried_mode").alias("mode"), pl.col("sidecar_size").alias("size")),
        ]
    )
    by_mode = files.group_by("mode").agg(pl.len().alias("files"), pl.col("size").sum()).sort("mode")
    open_rows = expected.filter(pl.col("final") != State.PRESENT)
    if open_rows.height:
        state = PeriodState.INCOMPLETE
    elif rows.height:
        state = PeriodState.COMPLETE
    else:
        state = PeriodState.NOT_PUBLISHED
    return PeriodReport(
        period=period,
        state=state,
        expected=expected.height,
        present=present.height,
        copied=copied.height,
        skipped=present.filter(~pl.col("copied")).height,
        failed=open_rows.filter(pl.col("final") == FAILED).height,
        vanished=vanished,
        sidecars_copied=sidecars.height,
        bytes_copied=int(files["size"].sum()),
        bytes_present=int(
            rows.select(pl.sum_horizontal(pl.col("lake_size").sum(), pl.col("lake_sidecar_size").sum())).item()
        ),
        seconds=seconds,
        copied_by_mode=modes,
        files_by_mode=dict(by_mode.select("mode", "files").iter_rows()),
        bytes_by_mode=dict(by_mode.select("mode", "size").iter_rows()),
        integrity=dict(present.group_by("new_integrity").len().sort("new_integrity").iter_rows()),
        failures=tuple(_failures(open_rows)),
        missing_total=open_rows.height,
        digest=content_digest(present),
        narrowed=narrowed,
    )


def _failures(open_rows: pl.DataFrame) -> list[Failure]:
    named = open_rows.head(FAILURES_NAMED).select("key", "final", "error", "sidecar_key", "state")
    return [
        Failure(
            key if state != State.PRESENT else sidecar_key,
            final,
            error or "not in the lake with the source's content",
        )
        for key, final, error, sidecar_key, state in named.iter_rows()
    ]
