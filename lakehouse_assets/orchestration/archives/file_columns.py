"""The columns of an archive's files, to which the column lineage of its table points.

What is known of them is what the table reads, so an archive without a table has none.
"""

from __future__ import annotations

from functools import cache

import dagster as dg

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.errors import InputError
from lakehouse_assets.tables.schema import schema_of
from lakehouse_assets.tables.schemas.model import TableSchema

TIME, UNKNOWN = "time", "text"
"""Types where the schema declares none: a number or text by the file's own format, and what no table reads."""


def file_columns(dataset: Dataset) -> dg.TableSchema | None:
    """The columns in the order of the files, each with the columns of the table that it becomes."""
    return _file_columns(dataset.exchange, dataset.market, dataset.data_type)


@cache
def _file_columns(exchange: str, market: str, data_type: str) -> dg.TableSchema | None:
    """The same for every cadence."""
    try:
        schema = schema_of(exchange, market, data_type)
    except InputError:
        return None
    becomes: dict[str, list[str]] = {name: [] for name in schema.file_columns}
    for column in schema.columns:
        for name in column.sources:
            becomes.setdefault(name, []).append(f"Becomes `{column.name}`: {column.meaning}")
    return dg.TableSchema(
        [
            dg.TableColumn(name, type=_type(schema, name), description=" ".join(texts) or _unread(schema, name))
            for name, texts in becomes.items()
        ]
    )


def _type(schema: TableSchema, name: str) -> str:
    raw = schema.raw_types.get(name)
    if raw is not None:
        return str(raw)
    return TIME if name in schema.raw_types else UNKNOWN


def _unread(schema: TableSchema, name: str) -> str:
    if name == schema.symbol_column:
        return "Names the symbol, which has to be that of the file's key. In no column of the table."
    return "In no column of the table."
