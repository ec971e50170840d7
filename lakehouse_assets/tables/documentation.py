"""Generates the documentation of all tables and columns (deploy/docs/tables.md) from the schemas:

python -m lakehouse_assets.tables.documentation > deploy/docs/tables.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby

import polars as pl

from lakehouse_assets.tables.schema import TABLES
from lakehouse_assets.tables.schemas.columns import BY_INTERVAL
from lakehouse_assets.tables.schemas.model import Column, TableSchema
from lakehouse_assets.tables.schemas.relations import Relation

_UNITS = {"hour": timedelta(hours=1), "minute": timedelta(minutes=1), "second": timedelta(seconds=1)}
_INTRODUCTION = """\
# Tables and their columns

Generated from the schemas by `python -m lakehouse_assets.tables.documentation > deploy/docs/tables.md`.

Every table begins with the same columns; only tables of candles have `interval`:

| column | type | meaning |
|---|---|---|
{common}

- Every table also has `time`, which `start` and `end` of a query refer to. All times are UTC with microseconds;
  tables of exchanges that publish nanoseconds also have `ts_ns` (Int64, nanoseconds since 1970).
- Prices and sizes are Float64. `side` is the taker's side: `buy` or `sell`.
- The `time` of a candle is its opening time. Volumes are in the base asset unless the column's unit is another one:
  in Binance's `cm` market `volume` counts contracts, and `base_volume` is the volume in the base asset.
- Each file is checked for a header. With a header, columns are matched by name, and columns that are not listed here
  are ignored. A file whose header lacks a required column, or has no known column, is a bad archive.
- The type of each column is declared, and each field is parsed by its own format: a time as seconds to nanoseconds
  since 1970, with or without a fraction, or as a date; a boolean as a word or a digit; a number with or without an
  exponent.
- When the rows name a symbol that is not the one in the archive's key, the file is a bad archive.
- "empty" marks columns that may be null.
- In Binance's `metrics`, `time` is always the end of the five minutes, which is when the row became known. The
  exchange's own label is `create_time`: for `um` the end until 2026-06-24 and the beginning from 2026-06-25 on, for
  `cm` always the beginning. The first and last time of a file show which of the two it has.
- Large tables are stored in one file per day, small ones in one file per month. Candles shorter than an hour are large.
"""


def page() -> str:
    """The page, in Markdown."""
    common = "\n".join(f"| `{column.name}` | {_type(column)} | {column.description} |" for column in BY_INTERVAL)
    return "\n".join([_INTRODUCTION.format(common=common), *_sections(), *_quality()])


def _sections() -> Iterator[str]:
    for exchange, tables in groupby(TABLES, lambda schema: schema.exchange):
        yield f"## {exchange}\n"
        same_columns: dict[object, list[TableSchema]] = {}
        for schema in tables:
            group = (schema.description, schema.columns, schema.key, schema.size_class)
            same_columns.setdefault(group, []).append(schema)
        for schemas in same_columns.values():
            yield from _section(schemas)


def _section(schemas: Sequence[TableSchema]) -> Iterator[str]:
    schema = schemas[0]
    yield f"### {', '.join(f'{schema.market}/{schema.data_type}' for schema in schemas)}\n"
    size = "" if schema.has_interval else f" {schema.size_class.capitalize()}."
    key = f"The key of a row is {', '.join(f'`{name}`' for name in schema.key)}." if schema.key else ""
    facts = (schema.description + size, "" if schema.repeats_rows else key, _due(schema), _ids(schema))
    yield " ".join(filter(None, facts)) + "\n"
    yield "| exchange's column | column | type | unit | meaning |\n|---|---|---|---|---|"
    for column in schema.columns:
        if column.source is not None or column not in BY_INTERVAL:
            source = " + ".join(f"`{name}`" for name in column.sources) or "key"
            empty = ", empty" if column.nullable else ""
            unit = column.unit or ""
            yield f"| {source} | `{column.name}` | {_type(column)}{empty} | {unit} | {column.description} |"
    yield ""


def _due(schema: TableSchema) -> str:
    if schema.has_interval:
        return "" if schema.gaps_are_faults else "A missing candle is a warning."
    if schema.irregular is not None:
        return f"Rows come at irregular times ({schema.irregular})."
    frequency = "after the interval that each row states"
    if schema.step is not None:
        frequency = f"every {_length(schema.step)}"
    elif schema.at_least_every is not None:
        frequency = f"at least once per {_length(schema.at_least_every)}"
    level = "an error" if schema.gaps_are_faults else "a warning"
    return f"A row is due {frequency}; a missing row is {level}."


def _length(step: timedelta) -> str:
    """``second``, ``5 minutes``."""
    unit, length = next((unit, length) for unit, length in _UNITS.items() if not step % length)
    return unit if step == length else f"{step // length} {unit}s"


def _ids(schema: TableSchema) -> str:
    if schema.ids_source is None:
        return ""
    consecutive = "are consecutive" if schema.ids_are_consecutive else "need not be consecutive"
    return f"Ids {consecutive}: {schema.ids_source}."


_QUALITY = """\
## Quality checks

When a period is written, its rows are checked per symbol and interval (check `quality`, table `tables/_quality/...`):
missing rows, duplicates, rows of another period, rows off their due time, skipped ids, impossible prices and negative
sizes. An error is impossible data, a warning is unusual data.

- A period is a day of the exchange's own calendar (HTX: UTC+8). No row is due before a symbol's first or after its last
  row. A symbol existed before a period if one of the seven previous periods has an archive of it, and continues if
  one of the seven next periods has. While no later period is known, an early end is `undecided`, a warning; a contract
  ends on its day of delivery. When a period is written, the results of the periods around it are updated, too.
- `shared_keys`: rows whose key also occurs in the previous or next period, across months too; an error.
- `broken`: relations between columns that more rows violate than allowed, with the number of rows and the time and
  values of the first one; a warning. Tolerances cover rounding: a thousandth, and 1e-6 of the unit.

| relation | allowed violations | reason | tables |
|---|---|---|---|"""


def _quality() -> Iterator[str]:
    """All relations, with the tables that they are checked on."""
    yield _QUALITY
    tables: dict[str, tuple[Relation, list[str]]] = {}
    for schema in TABLES:
        for relation in schema.relations:
            tables.setdefault(relation.name, (relation, []))[1].append(schema.name)
    for name, (relation, names) in tables.items():
        allowed = f"{relation.allowed:.1%} of rows" if relation.allowed else "none"
        yield f"| {name} | {allowed} | {relation.reason} | {_shortened(names)} |"
    yield ""


def _shortened(names: Sequence[str]) -> str:
    """Tables by exchange: ``binance: um/trades, spot/trades; htx: ...``."""
    grouped = groupby(names, key=lambda name: name.partition("/")[0])
    return "; ".join(
        f"{exchange}: {', '.join(name.partition('/')[2] for name in tables)}" for exchange, tables in grouped
    )


def _type(column: Column) -> str:
    return "UTC time" if isinstance(column.dtype, pl.Datetime) else str(column.dtype)


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - the output of the command
