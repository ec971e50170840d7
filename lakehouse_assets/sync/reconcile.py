"""After a transfer: classify every object by the lake's listing, and make manifest rows and period reports of that.

An object counts as present only when a listing shows it with the expected size. Where ETags cannot be compared
(multipart, KMS), the mover's report is needed as well, to distinguish a fresh copy from an older one of the same size.
Where they can be compared, the lake's ETag must be that of the content that was sent: another run may have written
after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from lakehouse_assets.archive.errors import code_of
from lakehouse_assets.archive.listing import IDENTITY, content_digests
from lakehouse_assets.archive.period import month_expr
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA
from lakehouse_assets.lake.report import IMPLAUSIBLE, NOT_COPIED, Failure, PeriodReport, PeriodState
from lakehouse_assets.lake.states import FAILED, ObjectState
from lakehouse_assets.sync.integrity.columns import INTEGRITY_SCHEMA, with_integrity
from lakehouse_assets.sync.integrity.sightings import last_seen, seen_on
from lakehouse_assets.sync.movers.outcomes import (
    COPIED_SCHEMA,
    FAULT_SCHEMA,
    OVERTAKEN_SCHEMA,
    TRIED_SCHEMA,
    is_settled,
    with_copied,
    with_copied_as_present,
    with_faults,
    with_overtaken,
)
from lakehouse_assets.sync.plan import PLAN_SCHEMA

FAILURES_NAMED = 50
"""Failures that a report names; the rest is counted."""

ADOPTED = "adopted"
"""The mode of an object that was in the lake already."""

DOUBTED = "doubted"
"""The state of a failure that is the listing's, not the object's: the listing is implausible."""

UNLISTED = "the source's listing lacks it, and lacks too many others to be plausible"


def _new(*names: str) -> pl.Schema:
    """Columns of the manifest, as ``new_*``."""
    return pl.Schema({f"new_{name}": MANIFEST_SCHEMA[name] for name in names})


RESULT_SCHEMA = _new("error", "state")
"""What :func:`with_result` adds: the manifest's state of object and sidecar together, and why it is not complete."""

TAKEN_OVER_SCHEMA = pl.Schema({"taken_over": pl.Boolean})
"""What :func:`with_taken_over` adds: a run that was killed before it could record it has replaced the object."""

CONTENT_SCHEMA = _new(
    "month",
    "size",
    "source_etag",
    "source_last_modified",
    "lake_etag",
    "lake_last_modified",
    "sidecar_size",
    "sidecar_source_etag",
    "sidecar_last_modified",
    "sidecar_lake_etag",
    "seen_at",
)
"""What :func:`with_content` adds: the content that source and lake have."""

COPY_RECORD_SCHEMA = _new("mode", "synced_at", "run_id", "former_etag", "former_sha256", "superseded_key")
"""What :func:`with_copy_record` adds: how the copy was made, and the content that it replaced."""

WITHDRAWAL_SCHEMA = _new("missed_at", "sidecar_withdrawn")
"""What :func:`with_withdrawal` adds: what the source's listing lacks."""

CLASSIFIED_SCHEMA = pl.Schema(
    {
        **PLAN_SCHEMA,
        **TRIED_SCHEMA,
        **COPIED_SCHEMA,
        **OVERTAKEN_SCHEMA,
        **FAULT_SCHEMA,
        **RESULT_SCHEMA,
        **TAKEN_OVER_SCHEMA,
        **CONTENT_SCHEMA,
        **COPY_RECORD_SCHEMA,
        **WITHDRAWAL_SCHEMA,
        **INTEGRITY_SCHEMA,
    }
)
"""Classified rows: a plan's, the movers' outcomes as ``tried_*``, and what each stage of :func:`classify` adds. The
manifest's next row is in ``new_*``."""


def classify(rows: pl.DataFrame, *, lake_has_md5: bool, now: datetime, run_id: str | None) -> pl.DataFrame:
    """Classify plan rows with outcomes (PLAN_SCHEMA and TRIED_SCHEMA); returns CLASSIFIED_SCHEMA, one row per object.

    ``lake_has_md5`` is about the files that are unexpected (sync/movers/outcomes.py).
    """
    rows = with_copied(rows, lake_has_md5=lake_has_md5)
    rows = with_overtaken(rows, lake_has_md5=lake_has_md5)
    rows = with_faults(rows, lake_has_md5=lake_has_md5)
    rows = with_copied_as_present(rows)
    rows = existing(rows)
    rows = with_result(rows)
    rows = with_taken_over(rows)
    rows = with_content(rows, now)
    rows = with_copy_record(rows, now, run_id)
    rows = with_withdrawal(rows, now)
    rows = with_integrity(rows, now)
    return rows.match_to_schema(CLASSIFIED_SCHEMA)


def existing(rows: pl.DataFrame) -> pl.DataFrame:
    """Drop rows without an object: a lone sidecar in the lake, or an object that is listed nowhere and was never
    copied.

    Rows that the source's listing lacks implausibly stay. Takes ``state`` and ``implausible``; adds nothing.
    """
    return rows.filter(pl.col("state").is_not_null() | pl.col("implausible"))


def with_result(rows: pl.DataFrame) -> pl.DataFrame:
    """Summarize object and sidecar in one state and one error.

    Takes ``state``, ``sidecar_state``, ``implausible``, FAULT_SCHEMA, ``lake_size``, ``known_state`` and the times at
    which the copy was last seen; adds RESULT_SCHEMA.
    """
    open_state = pl.when(is_settled("state")).then("sidecar_state").otherwise("state")
    is_gone = (pl.col("state") == ObjectState.MISSING) & last_seen("known_").is_not_null()
    return rows.with_columns(
        new_error=pl.when(is_gone & pl.col("fault").is_null())
        .then(pl.lit("it is no longer in the lake") + seen_on(last_seen("known_")))
        .when(~is_settled("state"))
        .then("fault")
        .when(~is_settled("sidecar_state"))
        .then(pl.lit("sidecar: ") + pl.col("sidecar_fault")),
        new_state=pl.when("implausible")
        .then(pl.when(pl.col("lake_size").is_null()).then(pl.lit(ObjectState.MISSING.value)).otherwise("known_state"))
        .when(pl.col("state") == ObjectState.WITHDRAWN)
        .then(pl.lit(ObjectState.WITHDRAWN.value))
        .when(is_settled("state") & is_settled("sidecar_state"))
        .then(pl.lit(ObjectState.PRESENT.value))
        .when(pl.coalesce("fault", "sidecar_fault").is_not_null())
        .then(pl.lit(FAILED))
        .otherwise(open_state),
    )


def with_taken_over(rows: pl.DataFrame) -> pl.DataFrame:
    """Find objects that a killed run replaced without recording it.

    Takes ``state``, ``copied``, ``lake_etag`` and ``known_lake_etag``; adds TAKEN_OVER_SCHEMA.
    """
    differs = (pl.col("known_lake_etag") != pl.col("lake_etag")).fill_null(value=False)
    return rows.with_columns(taken_over=_is_present() & ~pl.col("copied") & differs)


def with_content(rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Record sizes, ETags and times of the content: the listed ones of what is present, else the known ones.

    Takes ``period``, ``state`` and ``sidecar_state``, sizes, ETags and times of all three sides; adds CONTENT_SCHEMA.
    """
    present, sidecar_present = _is_present(), _is_present("sidecar_")
    return rows.with_columns(
        new_month=month_expr(pl.col("period")),
        new_size=pl.coalesce("size", "lake_size", "known_size"),
        new_source_etag=pl.when(present).then("etag").otherwise("known_source_etag"),
        new_source_last_modified=pl.when(present).then("last_modified").otherwise("known_source_last_modified"),
        new_lake_etag=pl.when(_is_ours("")).then("lake_etag"),
        new_lake_last_modified=pl.when(_is_ours("")).then("lake_last_modified"),
        new_sidecar_size=pl.coalesce("sidecar_size", "lake_sidecar_size", "known_sidecar_size"),
        new_sidecar_source_etag=pl.when(sidecar_present).then("sidecar_etag").otherwise("known_sidecar_source_etag"),
        new_sidecar_last_modified=pl.when(sidecar_present)
        .then("sidecar_last_modified")
        .otherwise("known_sidecar_last_modified"),
        new_sidecar_lake_etag=pl.when(_is_ours("sidecar_")).then("lake_sidecar_etag"),
        new_seen_at=pl.when(_is_ours("") & pl.col("lake_etag").is_not_null())
        .then(pl.lit(now, MANIFEST_SCHEMA["seen_at"]))
        .otherwise(last_seen("known_")),
    )


def with_copy_record(rows: pl.DataFrame, now: datetime, run_id: str | None) -> pl.DataFrame:
    """Record mode, time and run of a copy that is new to the manifest, and the content that it replaced.

    Takes ``state``, ``copied``, ``taken_over``, ``etag``, TRIED_SCHEMA and the ``known_*`` columns of the same names;
    adds COPY_RECORD_SCHEMA.
    """
    # A source that returns no ETags never makes the ETag known: an object in the lake is new only once.
    is_news = pl.col("known_lake_etag").is_null() | pl.col("etag").is_not_null()
    is_adopted = _is_present() & pl.col("known_source_etag").is_null() & is_news
    is_new = pl.col("copied") | is_adopted | pl.col("taken_over")
    replaced = pl.col("copied") & pl.col("tried_former_etag").is_not_null()
    return rows.with_columns(
        new_mode=pl.when("copied")
        .then("tried_mode")
        .otherwise(pl.when(is_new).then(pl.coalesce("known_mode", pl.lit(ADOPTED))).otherwise("known_mode")),
        new_synced_at=pl.when(is_new).then(pl.lit(now, MANIFEST_SCHEMA["synced_at"])).otherwise("known_synced_at"),
        new_run_id=pl.when(is_new).then(pl.lit(run_id, pl.String)).otherwise("known_run_id"),
        new_former_etag=pl.when(replaced)
        .then("tried_former_etag")
        .when("taken_over")
        .then("known_lake_etag")
        .otherwise("known_former_etag"),
        new_former_sha256=pl.when(replaced | pl.col("taken_over"))
        .then("known_sha256")
        .otherwise("known_former_sha256"),
        new_superseded_key=pl.when(replaced)
        .then("tried_superseded_key")
        .when(~pl.col("taken_over"))
        .then("known_superseded_key"),
    )


def with_withdrawal(rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Record since when an implausible listing lacks the object, and whether its sidecar was withdrawn.

    Takes ``size``, ``sidecar_state``, IMPLAUSIBLE_SCHEMA and ``known_missed_at``; adds WITHDRAWAL_SCHEMA.
    """
    is_implausible = pl.col("implausible") | pl.col("sidecar_implausible")
    sidecar_withdrawn = (pl.col("sidecar_state") == ObjectState.WITHDRAWN) & pl.col("size").is_not_null()
    return rows.with_columns(
        # The earlier time: one from a clock that was ahead would keep the listing implausible until then.
        new_missed_at=pl.when(is_implausible).then(
            pl.min_horizontal("known_missed_at", pl.lit(now, MANIFEST_SCHEMA["missed_at"]))
        ),
        new_sidecar_withdrawn=pl.when(sidecar_withdrawn & ~is_implausible).then(pl.lit(value=True)),
    )


def _is_present(prefix: str = "") -> pl.Expr:
    return pl.col(f"{prefix}state") == ObjectState.PRESENT


def _is_ours(prefix: str) -> pl.Expr:
    """Whether the manifest may record the lake's object: not one that somebody stored in place of our copy.

    A recorded ETag would make the next plan take that object for our copy.
    """
    lake_etag = pl.col(f"lake_{prefix}etag")
    is_copy = is_settled(f"{prefix}state") | pl.col(f"known_{prefix}source_etag").is_null()
    return is_copy | lake_etag.eq_missing(pl.col(f"known_{prefix}lake_etag"))


def with_places(rows: pl.DataFrame, places: Mapping[str, str]) -> pl.DataFrame:
    """Set ``new_superseded_key`` of classified rows by ``places``: where the former bytes of a key are preserved."""
    if not places:
        return rows
    frame = pl.DataFrame(list(places.items()), schema={"key": pl.String, "place": pl.String}, orient="row")
    return (
        rows.join(frame, on="key", how="left", maintain_order="left")
        .with_columns(new_superseded_key=pl.coalesce("place", "new_superseded_key"))
        .drop("place")
    )


def manifest_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """The manifest's rows, MANIFEST_SCHEMA, of classified rows."""
    unchanged = (*IDENTITY, "key")
    names = (name if name in unchanged else pl.col(f"new_{name}").alias(name) for name in MANIFEST_SCHEMA)
    return rows.select(names).match_to_schema(MANIFEST_SCHEMA)


def period_reports(
    rows: pl.DataFrame, periods: Sequence[str], *, seconds: float, partial: bool
) -> tuple[PeriodReport, ...]:
    """One report per period of classified rows, in order, also for periods without an object.

    ``seconds`` are shared out by files copied, or by objects if none was copied. ``partial``: the run was limited to
    symbols or intervals.
    """
    expected, present = _is_expected(), pl.col("new_state") == ObjectState.PRESENT
    counts = _counts(rows)
    counts_of = {period_counts.pop("period"): period_counts for period_counts in counts.to_dicts()}
    zeros = dict.fromkeys((name for name in counts.columns if name != "period"), 0)
    present_rows = rows.filter(present)
    files = pl.concat(
        [
            rows.filter("copied").select("period", "size", mode="tried_mode"),
            rows.filter("sidecar_copied").select("period", size="sidecar_size", mode="sidecar_tried_mode"),
        ]
    )
    objects_by_mode = _broken_down(rows.filter("copied"), "tried_mode", pl.len())
    files_by_mode = _broken_down(files, "mode", pl.len())
    bytes_by_mode = _broken_down(files, "mode", pl.col("size").sum())
    integrity = _broken_down(present_rows, "new_integrity", pl.len())
    failures = _failures(rows.filter((expected & ~present) | pl.any_horizontal("implausible", "sidecar_implausible")))
    digests = content_digests(present_rows.filter(~pl.col("implausible")), periods)
    share = _shares(files["period"] if files.height else rows["period"], periods)
    reports = []
    for period in periods:
        period_counts: dict[str, Any] = counts_of.get(period, zeros)
        if period_counts["missing_total"] or period_counts["doubted"] or period_counts["sidecars_doubted"]:
            state = PeriodState.INCOMPLETE
        else:
            state = PeriodState.COMPLETE if period in counts_of else PeriodState.NOT_PUBLISHED
        reports.append(
            PeriodReport(
                period=period,
                state=state,
                **period_counts,
                bytes_copied=sum(bytes_by_mode.get(period, {}).values()),
                seconds=seconds * share[period],
                copied_by_mode=objects_by_mode.get(period, {}),
                files_by_mode=files_by_mode.get(period, {}),
                bytes_by_mode=bytes_by_mode.get(period, {}),
                integrity=integrity.get(period, {}),
                failures=tuple(failures.get(period, ())),
                digest=digests[period],
                partial=partial,
            )
        )
    return tuple(reports)


def _is_expected() -> pl.Expr:
    return pl.col("new_state") != ObjectState.WITHDRAWN


def _counts(rows: pl.DataFrame) -> pl.DataFrame:
    """The counts of PeriodReport, by ``period``."""
    expected, present = _is_expected(), pl.col("new_state") == ObjectState.PRESENT
    return rows.group_by("period").agg(
        expected=expected.sum(),
        present=present.sum(),
        copied=pl.col("copied").sum(),
        skipped=(present & ~pl.col("copied")).sum(),
        failed=(pl.col("new_state") == FAILED).sum(),
        withdrawn=(~expected).sum(),
        sidecars_copied=pl.col("sidecar_copied").sum(),
        retries=pl.col("tried_retries").sum() + pl.col("sidecar_tried_retries").sum(),
        bytes_present=pl.col("lake_size").sum() + pl.col("lake_sidecar_size").sum(),
        missing_total=(expected & ~present).sum(),
        doubted=pl.col("implausible").sum(),
        sidecars_doubted=pl.col("sidecar_implausible").sum(),
    )


def _broken_down(rows: pl.DataFrame, by: str, number: pl.Expr) -> dict[str, dict[str, int]]:
    """For each period, a number per value of a column, sorted by the value."""
    numbers: dict[str, dict[str, int]] = {}
    for period, value, count in rows.group_by("period", by).agg(number.alias("number")).sort("period", by).iter_rows():
        numbers.setdefault(period, {})[value] = count
    return numbers


def _shares(row_periods: pl.Series, periods: Sequence[str]) -> dict[str, float]:
    """The share of the rows that each period has; equal shares if there are no rows."""
    if row_periods.is_empty():
        return dict.fromkeys(periods, 1 / len(periods))
    counts = dict(row_periods.value_counts().iter_rows())
    return {period: counts.get(period, 0) / len(row_periods) for period in periods}


def _failures(open_rows: pl.DataFrame) -> dict[str, list[Failure]]:
    """The first failures of each period."""
    named = (
        open_rows.select(
            "period",
            "key",
            "sidecar_key",
            "state",
            "new_state",
            "new_error",
            pl.when(is_settled("state")).then("sidecar_fault").otherwise("fault").alias("fault"),
            is_implausible=pl.any_horizontal("implausible", "sidecar_implausible"),
        )
        .group_by("period", maintain_order=True)
        .head(FAILURES_NAMED)
    )
    failures: dict[str, list[Failure]] = {}
    for period, key, sidecar_key, state, new_state, error, fault, is_implausible in named.iter_rows():
        without_error = IMPLAUSIBLE if is_implausible else NOT_COPIED
        failure = Failure(
            key if state != ObjectState.PRESENT else sidecar_key,
            DOUBTED if is_implausible else new_state,
            error or (UNLISTED if is_implausible else "not in the lake with the source's content"),
            code_of(fault) if fault else "" if error else without_error,
        )
        failures.setdefault(period, []).append(failure)
    return failures
