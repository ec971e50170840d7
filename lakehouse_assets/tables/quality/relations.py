"""Counts rows that violate a relation between columns (tables/schemas/relations.py), with an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from lakehouse_assets.tables.quality.grid import GROUP
from lakehouse_assets.tables.schemas.interval import INTERVAL_LENGTH, interval_lengths
from lakehouse_assets.tables.schemas.model import TableSchema
from lakehouse_assets.tables.schemas.readers import UTC_MICROSECONDS
from lakehouse_assets.tables.schemas.relations import Relation

BROKEN = pl.Struct({"relation": pl.String(), "rows": pl.Int64(), "time": UTC_MICROSECONDS, "example": pl.String()})
"""A relation, the number of rows that violate it, and the first of them: its time and its values."""

_BROKEN_ROWS = pl.Schema({"symbol": pl.String(), "interval": pl.String(), **BROKEN.to_schema()})
_RESULT = pl.Schema({"symbol": pl.String(), "interval": pl.String(), "broken": pl.List(BROKEN)})


def broken_relations(frame: pl.DataFrame, schema: TableSchema) -> pl.DataFrame:
    """``symbol interval broken``: the groups in which more rows violate a relation than it allows.

    One pass over all rows finds the violated relations; only these are counted by group.
    """
    relations = [relation for relation in schema.relations if set(relation.columns) <= set(frame.columns)]
    if frame.is_empty() or not relations:
        return _RESULT.to_frame()
    if any(INTERVAL_LENGTH in relation.holds.meta.root_names() for relation in relations):
        frame = frame.with_columns(interval_lengths(frame["interval"]))
    if any(relation.ordered for relation in relations):
        frame = frame.sort("symbol", "time", maintain_order=True)
    by_row = {relation: ~relation.holds.fill_null(value=True) for relation in relations if not relation.per_group}
    counts = frame.select(flag.sum().alias(relation.name) for relation, flag in by_row.items()).row(0, named=True)
    violations = [_row_violations(frame, relation, flag) for relation, flag in by_row.items() if counts[relation.name]]
    violations += _group_violations(frame, [relation for relation in relations if relation.per_group])
    rows = pl.concat([_BROKEN_ROWS.to_frame(), *violations])
    return rows.group_by(GROUP, maintain_order=True).agg(broken=pl.struct(*BROKEN.to_schema())).match_to_schema(_RESULT)


def _row_violations(frame: pl.DataFrame, relation: Relation, flag: pl.Expr) -> pl.DataFrame:
    columns = relation.columns
    counted = frame.select(*GROUP, "time", flag.alias(":broken"), pl.struct(columns).alias(":values"))
    groups = (
        counted.group_by(GROUP, maintain_order=True)
        .agg(
            pl.len().alias("total"),
            pl.col(":broken").sum().cast(pl.Int64).alias("rows"),
            pl.col("time", ":values").filter(pl.col(":broken")).first(),
        )
        .filter(pl.col("rows") > pl.col("total") * relation.allowed)
    )
    return _as_broken_rows(groups, relation, [_example(values) for values in groups[":values"]])


def _group_violations(frame: pl.DataFrame, relations: Sequence[Relation]) -> list[pl.DataFrame]:
    if not relations:
        return []
    groups = frame.group_by(GROUP, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("rows"),
        pl.col("time").min(),
        *(relation.holds.alias(relation.name) for relation in relations),
    )
    violations = []
    for relation in relations:
        violating = groups.filter(~pl.col(relation.name).fill_null(value=True))
        violations.append(_as_broken_rows(violating, relation, [f"all {rows:,} rows" for rows in violating["rows"]]))
    return violations


def _as_broken_rows(groups: pl.DataFrame, relation: Relation, examples: list[str]) -> pl.DataFrame:
    return groups.with_columns(relation=pl.lit(relation.name), example=pl.Series(examples, dtype=pl.String)).select(
        _BROKEN_ROWS.names()
    )


def _example(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
