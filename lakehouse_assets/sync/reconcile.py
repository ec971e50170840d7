"""After a transfer: what the lake's listing shows becomes manifest rows and period reports.

A mover's word alone makes nothing present: the listing must show the object with the right size.
Its word is needed all the same where ETags cannot be compared (multipart, KMS), to tell a fresh
copy from an older one of the same size. Where they can be, the lake's has to be that of what was sent:
another run may have written after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from lakehouse_assets.archive.listing import content_digests
from lakehouse_assets.lake.manifest import MANIFEST_SCHEMA
from lakehouse_assets.lake.report import Failure, PeriodReport, PeriodState
from lakehouse_assets.lake.states import FAILED, ObjectState
from lakehouse_assets.sync.integrity.columns import INTEGRITY_COLUMNS, with_integrity
from lakehouse_assets.sync.integrity.sightings import last_seen, seen_on
from lakehouse_assets.sync.movers.outcomes import classify_files, is_complete

FAILURES_NAMED = 50
"""Failures that a report names; the rest is counted."""

ADOPTED = "adopted"

DOUBTED = "doubted"
"""The state of a failure that is the listing's, not the object's."""

UNLISTED = "the source's listing lacks it, and too much else to be believed"


def classify(rows: pl.DataFrame, *, lake_has_md5: bool, now: datetime, run_id: str | None) -> pl.DataFrame:
    """Judge plan rows :func:`with_outcomes`; ``lake_has_md5`` is about those that are :func:`unexpected`.

    One row per object. Adds ``final`` (the manifest's state of object and sidecar together),
    ``error``, ``copied`` and ``sidecar_copied``, ``overtaken`` and ``sidecar_overtaken`` (another run has
    written something else meanwhile), ``taken_over`` (replaced by a run that was killed before it could
    record it), and the manifest's columns as ``new_*``.
    """
    rows = classify_files(rows, lake_has_md5=lake_has_md5)
    rows = rows.filter(pl.col("state").is_not_null() | pl.col("doubted")).with_columns(error=_error(), final=_final())
    return with_integrity(_with_manifest_columns(rows, now, run_id), now)


def with_places(rows: pl.DataFrame, places: Mapping[str, str]) -> pl.DataFrame:
    """Judged rows that know where in the lake the former bytes of what was taken over are kept."""
    if not places:
        return rows
    found = pl.DataFrame(list(places.items()), schema={"key": pl.String, "place": pl.String}, orient="row")
    return rows.join(found, on="key", how="left", maintain_order="left").with_columns(
        new_superseded_key=pl.coalesce("place", "new_superseded_key")
    )


def _final() -> pl.Expr:
    open_state = pl.when(is_complete("state")).then("sidecar_state").otherwise("state")
    return (
        pl.when("doubted")
        .then(pl.when(pl.col("lake_size").is_null()).then(pl.lit(ObjectState.MISSING.value)).otherwise("known_state"))
        .when(pl.col("state") == ObjectState.WITHDRAWN)
        .then(pl.lit(ObjectState.WITHDRAWN.value))
        .when(is_complete("state") & is_complete("sidecar_state"))
        .then(pl.lit(ObjectState.PRESENT.value))
        .when(pl.coalesce("tried_fault", "sidecar_tried_fault").is_not_null())
        .then(pl.lit(FAILED))
        .otherwise(open_state)
    )


def _error() -> pl.Expr:
    gone = (pl.col("state") == ObjectState.MISSING) & last_seen("known_").is_not_null()
    return (
        pl.when(gone & pl.col("tried_fault").is_null())
        .then(pl.lit("it is no longer in the lake") + seen_on(last_seen("known_")))
        .when(~is_complete("state"))
        .then("tried_fault")
        .when(~is_complete("sidecar_state"))
        .then(pl.lit("sidecar: ") + pl.col("sidecar_tried_fault"))
    )


def _with_manifest_columns(rows: pl.DataFrame, now: datetime, run_id: str | None) -> pl.DataFrame:
    present = pl.col("state") == ObjectState.PRESENT
    sidecar_present = pl.col("sidecar_state") == ObjectState.PRESENT
    taken_over = present & ~pl.col("copied") & (pl.col("known_lake_etag") != pl.col("lake_etag")).fill_null(value=False)
    # Of a source that tells no ETag none will ever be known.
    is_news = pl.col("known_lake_etag").is_null() | pl.col("etag").is_not_null()
    touched_now = pl.col("copied") | (present & pl.col("known_source_etag").is_null() & is_news) | taken_over
    replaced = pl.col("copied") & pl.col("tried_former_etag").is_not_null()
    is_doubted = pl.col("doubted") | pl.col("sidecar_doubted")
    return rows.with_columns(
        taken_over=taken_over,
        new_month=pl.col("period").str.slice(0, 7),
        new_size=pl.coalesce("size", "lake_size", "known_size"),
        new_source_etag=pl.when(present).then("etag").otherwise("known_source_etag"),
        new_source_last_modified=pl.when(present).then("last_modified").otherwise("known_source_last_modified"),
        new_sidecar_size=pl.coalesce("sidecar_size", "lake_sidecar_size", "known_sidecar_size"),
        new_sidecar_source_etag=pl.when(sidecar_present).then("sidecar_etag").otherwise("known_sidecar_source_etag"),
        new_sidecar_last_modified=pl.when(sidecar_present)
        .then("sidecar_last_modified")
        .otherwise("known_sidecar_last_modified"),
        new_lake_etag=pl.when(_vouched("")).then("lake_etag"),
        new_lake_last_modified=pl.when(_vouched("")).then("lake_last_modified"),
        new_lake_sidecar_etag=pl.when(_vouched("sidecar_")).then("lake_sidecar_etag"),
        new_seen_at=pl.when(_vouched("") & pl.col("lake_etag").is_not_null())
        .then(pl.lit(now, MANIFEST_SCHEMA["seen_at"]))
        .otherwise(last_seen("known_")),
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
        # The earlier of the two: a clock that was ahead once would have it doubted until that time.
        new_missed_at=pl.when(is_doubted).then(
            pl.min_horizontal("known_missed_at", pl.lit(now, MANIFEST_SCHEMA["missed_at"]))
        ),
        new_sidecar_withdrawn=pl.when(
            (pl.col("sidecar_state") == ObjectState.WITHDRAWN) & pl.col("size").is_not_null() & ~is_doubted
        ).then(pl.lit(value=True)),
    )


def _vouched(prefix: str) -> pl.Expr:
    """Whether the row may name what the lake has: not where somebody has put it in the place of what was copied.

    The manifest's word would make it a copy otherwise.
    """
    lake_etag = pl.col(f"lake_{prefix}etag")
    is_copy = is_complete(f"{prefix}state") | pl.col(f"known_{prefix}source_etag").is_null()
    return is_copy | lake_etag.eq_missing(pl.col(f"known_{prefix}lake_etag"))


def manifest_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """The judged rows as the manifest keeps them."""
    return (
        rows.select(
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
            pl.col("new_lake_etag").alias("lake_etag"),
            pl.col("new_lake_last_modified").alias("lake_last_modified"),
            pl.col("new_sidecar_size").alias("sidecar_size"),
            pl.col("new_sidecar_source_etag").alias("sidecar_source_etag"),
            pl.col("new_sidecar_last_modified").alias("sidecar_last_modified"),
            pl.col("new_lake_sidecar_etag").alias("sidecar_lake_etag"),
            pl.col("new_mode").alias("mode"),
            pl.col("new_synced_at").alias("synced_at"),
            pl.col("new_run_id").alias("run_id"),
            *(pl.col(f"new_{name}").alias(name) for name in INTEGRITY_COLUMNS),
            pl.col("new_former_etag").alias("former_etag"),
            pl.col("new_former_sha256").alias("former_sha256"),
            pl.col("new_superseded_key").alias("superseded_key"),
            "error",
            pl.col("new_seen_at").alias("seen_at"),
            pl.col("new_missed_at").alias("missed_at"),
            pl.col("new_sidecar_withdrawn").alias("sidecar_withdrawn"),
        )
        .select(MANIFEST_SCHEMA.names())
        .cast(MANIFEST_SCHEMA)
    )


def period_reports(
    rows: pl.DataFrame, periods: Sequence[str], *, seconds: float, narrowed: bool
) -> tuple[PeriodReport, ...]:
    """One report per period, in order, also for periods of which nothing is known.

    ``seconds`` are shared out by files copied, or by objects judged where nothing was.
    """
    expected = pl.col("final") != ObjectState.WITHDRAWN
    present = pl.col("final") == ObjectState.PRESENT
    counts = rows.group_by("period").agg(
        expected=expected.sum(),
        present=present.sum(),
        copied=pl.col("copied").sum(),
        skipped=(present & ~pl.col("copied")).sum(),
        failed=(pl.col("final") == FAILED).sum(),
        vanished=(~expected).sum(),
        sidecars_copied=pl.col("sidecar_copied").sum(),
        retries=pl.col("tried_retries").sum() + pl.col("sidecar_tried_retries").sum(),
        bytes_present=pl.col("lake_size").sum() + pl.col("lake_sidecar_size").sum(),
        missing_total=(expected & ~present).sum(),
        doubted=pl.col("doubted").sum(),
        sidecars_doubted=pl.col("sidecar_doubted").sum(),
    )
    is_doubted = pl.col("doubted") | pl.col("sidecar_doubted")
    known = {counted.pop("period"): counted for counted in counts.to_dicts()}
    nothing = dict.fromkeys((name for name in counts.columns if name != "period"), 0)
    there = rows.filter(present)
    files = pl.concat(
        [
            rows.filter("copied").select("period", "size", mode="tried_mode"),
            rows.filter("sidecar_copied").select("period", size="sidecar_size", mode="sidecar_tried_mode"),
        ]
    )
    objects_by_mode = _broken_down(rows.filter("copied"), "tried_mode", pl.len())
    files_by_mode = _broken_down(files, "mode", pl.len())
    bytes_by_mode = _broken_down(files, "mode", pl.col("size").sum())
    integrity = _broken_down(there, "new_integrity", pl.len())
    failures = _failures(rows.filter((expected & ~present) | is_doubted))
    digests = content_digests(there.filter(~pl.col("doubted")), periods)
    share = _shares(files["period"] if files.height else rows["period"], periods)
    reports = []
    for period in periods:
        counted: dict[str, Any] = known.get(period, nothing)
        if counted["missing_total"] or counted["doubted"] or counted["sidecars_doubted"]:
            state = PeriodState.INCOMPLETE
        else:
            state = PeriodState.COMPLETE if period in known else PeriodState.NOT_PUBLISHED
        reports.append(
            PeriodReport(
                period=period,
                state=state,
                **counted,
                bytes_copied=sum(bytes_by_mode.get(period, {}).values()),
                seconds=seconds * share[period],
                copied_by_mode=objects_by_mode.get(period, {}),
                files_by_mode=files_by_mode.get(period, {}),
                bytes_by_mode=bytes_by_mode.get(period, {}),
                integrity=integrity.get(period, {}),
                failures=tuple(failures.get(period, ())),
                digest=digests[period],
                narrowed=narrowed,
            )
        )
    return tuple(reports)


def _broken_down(rows: pl.DataFrame, by: str, number: pl.Expr) -> dict[str, dict[str, int]]:
    """Of each period a number per value of a column, sorted by the value."""
    found: dict[str, dict[str, int]] = {}
    for period, value, count in rows.group_by("period", by).agg(number.alias("number")).sort("period", by).iter_rows():
        found.setdefault(period, {})[value] = count
    return found


def _shares(of: pl.Series, periods: Sequence[str]) -> dict[str, float]:
    """Of each period its share of the rows; equal shares of none."""
    if of.is_empty():
        return dict.fromkeys(periods, 1 / len(periods))
    counts = dict(of.value_counts().iter_rows())
    return {period: counts.get(period, 0) / len(of) for period in periods}


def _failures(open_rows: pl.DataFrame) -> dict[str, list[Failure]]:
    """Of each period the first failures."""
    named = (
        open_rows.select("period", "key", "final", "error", "sidecar_key", "state", "doubted", "sidecar_doubted")
        .group_by("period", maintain_order=True)
        .head(FAILURES_NAMED)
    )
    found: dict[str, list[Failure]] = {}
    for period, key, final, error, sidecar_key, state, is_doubted, is_sidecar_doubted in named.iter_rows():
        failure = Failure(
            key if state != ObjectState.PRESENT else sidecar_key,
            DOUBTED if is_doubted or is_sidecar_doubted else final,
            error or (UNLISTED if is_doubted or is_sidecar_doubted else "not in the lake with the source's content"),
        )
        found.setdefault(period, []).append(failure)
    return found
