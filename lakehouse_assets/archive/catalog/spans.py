"""Spans: uninterrupted windows of publication of one symbol (and interval) in one dataset.

A gap of more than GAP_DAYS starts a new span, since a symbol that comes back may be another asset.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

GAP_DAYS = 90
"""A longer time without an object ends a span. Monthly datasets have had gaps of two months."""

_UTC = pl.Datetime("us", "UTC")

DATASET = ("market", "data_type", "cadence")
FOLDER = (*DATASET, "symbol", "interval")
"""The columns that identify what a span belongs to."""

SPAN_SCHEMA = pl.Schema(
    {
        "exchange": pl.String,
        "market": pl.String,
        "data_type": pl.String,
        "cadence": pl.String,
        "symbol": pl.String,
        "interval": pl.String,
        "span": pl.Int32,
        "first": pl.Date,
        "last": pl.Date,
        "objects": pl.Int64,
        "bytes": pl.Int64,
        "sidecars": pl.Int64,
        "sidecar_bytes": pl.Int64,
        "last_modified": _UTC,
        "exact": pl.Boolean,
    }
)
"""One row per dataset, symbol, interval and span (1, 2, ...), in this order.

``first`` and ``last`` are the first and the last day that the objects cover (a monthly object covers its month).
``objects``, ``bytes`` (without sidecars), ``sidecars`` and ``sidecar_bytes`` are counted if ``exact``, else estimated.
In a shallow catalog, most rows have only the symbol's name: ``interval``, ``first``, ``last`` and the counts are null.
"""

COUNTS = ("objects", "bytes", "sidecars", "sidecar_bytes")


def merged_spans(spans: pl.DataFrame, keys: Sequence[str] = FOLDER, *, gap_days: int = GAP_DAYS) -> pl.DataFrame:
    """Merge spans of the same ``keys`` that touch, overlap, or are at most ``gap_days`` apart.

    ``spans`` has ``first``, ``last`` and any of the counts, in any order of rows. Rows without ``first`` are merged
    with each other. The result is sorted by ``keys`` and ``first``, and numbered in ``span``.
    """
    counts = [name for name in COUNTS if name in spans.columns]
    last_before = pl.col("last").cum_max().shift(1).over(keys)
    is_new = (pl.col("first") - last_before > timedelta(days=gap_days)).fill_null(value=False)
    # Sidecars bridge gaps, but only objects define where a span begins and ends.
    has_objects = (pl.col("objects") > 0).fill_null(value=True) if "objects" in spans.columns else pl.lit(value=True)
    return (
        spans.sort(*keys, "first", nulls_last=False)
        .with_columns(is_new.cast(pl.Int32).cum_sum().over(keys).alias("span"))
        .group_by(*keys, "span")
        .agg(
            pl.coalesce(pl.col("first").filter(has_objects).min(), pl.col("first").min()),
            pl.coalesce(pl.col("last").filter(has_objects).max(), pl.col("last").max()),
            *(pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(name) for name in counts),
            *(pl.col(name).max() for name in ("last_modified",) if name in spans.columns),
            *(pl.col(name).all() for name in ("exact",) if name in spans.columns),
        )
        .with_columns((pl.col("span") + 1).cast(pl.Int32))
        .sort(*keys, "span")
    )
