"""Rows that break a relation between columns (tables/schemas/relations.py): how many, and an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from lakehouse_assets.tables.quality.grid import GROUP
from lakehouse_assets.tables.schema import TableSchema
from lakehouse_assets.tables.schemas.interval import Length
from lakehouse_assets.tables.schemas.readers import UTC_MICROSECONDS
from lakehouse_assets.tables.schemas.relations import Relation

BROKEN = pl.Struct({"relation": pl.String(), "rows": pl.Int64(), "time": UTC_MICROSECONDS, "example": pl.String()})
"""A relation, how many rows break it, and the first of them: its time, and its values of the relation's columns."""

_FOUND = pl.Schema({"symbol": pl.String(), "interval": pl.String(), "broken": pl.List(BROKEN)})


def broken_relations(frame: pl.DataFrame, schema: TableSchema) -> pl.DataFrame:
    """``symbol interval broken``: the groups of which more rows break a relation than it allows.

    One pass tells which relations are broken at all; only these are looked at by group.
    """
    relations = [relation for relation in schema.relations if set(relation.columns) <= set(frame.columns)]
    if frame.is_empty() or not relations:
        return _FOUND.to_frame()
    if any(Length.COLUMN in relation.holds.meta.root_names() for relation in relations):
        frame = frame.with_columns(Length.of(frame["interval"]))
    if any(relation.ordered for relation in relations):
        frame = frame.sort("symbol", "time", maintain_order=True)
    by_row = {relation: ~relation.holds.fill_null(value=True) for relation in relations if not relation.of_part}
    counts = frame.select(flag.sum().alias(relation.name) for relation, flag in by_row.items()).row(0, named=True)
    found = [_by_group(frame, relation, flag) for relation, flag in by_row.items() if counts[relation.name]]
    parts = [relation for relation in relations if relation.of_part]
    if parts:
        found += _by_part(frame, parts)
    rows = pl.concat([BROKEN_ROWS.to_frame(), *found])
    return rows.group_by(GROUP, maintain_order=True).agg(broken=pl.struct(*BROKEN.to_schema())).match_to_schema(_FOUND)


BROKEN_ROWS = pl.Schema({"symbol": pl.String(), "interval": pl.String(), **BROKEN.to_schema()})


def _by_group(frame: pl.DataFrame, relation: Relation, flag: pl.Expr) -> pl.DataFrame:
    columns = relation.columns
    counted = frame.select(*GROUP, "time", flag.alias(":broken"), pl.struct(columns).alias(":values"))
    groups = (
        counted.group_by(GROUP, maintain_order=True)
        .agg(
            pl.len().alias("of"),
            pl.col(":broken").sum().cast(pl.Int64).alias("rows"),
            pl.col("time", ":values").filter(pl.col(":broken")).first(),
        )
        .filter(pl.col("rows") > pl.col("of") * relation.allowed)
    )
    return _as_found(groups, relation, [_shown(values) for values in groups[":values"]])


def _by_part(frame: pl.DataFrame, relations: Sequence[Relation]) -> list[pl.DataFrame]:
    groups = frame.group_by(GROUP, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("rows"),
        pl.col("time").min(),
        *(relation.holds.alias(relation.name) for relation in relations),
    )
    found = []
    for relation in relations:
        wrong = groups.filter(~pl.col(relation.name).fill_null(value=True))
        found.append(_as_found(wrong, relation, [f"of all {rows:,} rows" for rows in wrong["rows"]]))
    return found


def _as_found(groups: pl.DataFrame, relation: Relation, examples: list[str]) -> pl.DataFrame:
    return groups.with_columns(relation=pl.lit(relation.name), example=pl.Series(examples, dtype=pl.String)).select(
        BROKEN_ROWS.names()
    )


def _shown(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
