"""The page that says which column of an exchange's file becomes which of ours (deploy/docs/tables.md).

It is written from the schemas: python -m lakehouse_assets.tables.documentation > deploy/docs/tables.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import polars as pl

from lakehouse_assets.tables.schema import TABLES, Column, TableSchema
from lakehouse_assets.tables.schemas.columns import BY_INTERVAL

_INTRODUCTION = """\
# Tables: what the columns are

Written from the schemas by `python -m lakehouse_assets.tables.documentation > deploy/docs/tables.md`.

Every table begins with the same columns:

| column | type | meaning |
|---|---|---|
{common}

- `time` follows: what `start` and `end` of a query are compared with. All times are UTC, with microseconds;
  `ts_ns` (Int64, nanoseconds since 1970) stands beside it where the exchange gives nanoseconds.
- Prices and sizes are Float64. `side` is the taker's: `buy` or `sell`.
- Candles have the time at which they open. Volumes are in the base asset unless a column says otherwise:
  in Binance's `cm` market `volume` counts contracts and `base_volume` is the volume in the base asset.
- Whether a file has a header is asked of each file. With one, columns are found by name; columns that are not
  listed here are left out. A file that lacks one of them, or whose header nobody knows, is a bad archive.
- What a column holds is declared, and each field read by its own form: a time as seconds to nanoseconds since 1970,
  with or without a fraction, or as a date; a truth value as a word or a digit; a number with an exponent or without.
- Where rows name the symbol that the archive's key names, too, and another instrument, the file is a bad archive.
- "empty" marks columns that may be null.
- A large table has files of a day each, a small one files of a month. Candles of less than an hour are large.
"""


def page() -> str:
    """The whole page, in Markdown."""
    common = "\n".join(f"| `{column.name}` | {_type(column)} | {column.description} |" for column in BY_INTERVAL)
    return "\n".join([_INTRODUCTION.format(common=common), *_sections()])


def _sections() -> Iterator[str]:
    for exchange, tables in groupby(TABLES, lambda schema: schema.exchange):
        yield f"## {exchange}\n"
        alike: dict[object, list[TableSchema]] = {}
        for schema in tables:
            alike.setdefault((schema.description, schema.columns, schema.key, schema.size_class), []).append(schema)
        for schemas in alike.values():
            yield from _section(schemas)


def _section(schemas: Sequence[TableSchema]) -> Iterator[str]:
    schema = schemas[0]
    yield f"### {', '.join(f'{schema.market}/{schema.data_type}' for schema in schemas)}\n"
    size = "" if schema.has_interval else f" {schema.size_class.capitalize()}."
    key = f" A row is identified by {', '.join(f'`{name}`' for name in schema.key)}." if schema.key else ""
    yield f"{schema.description}{size}{'' if schema.repeats_rows else key}\n"
    yield "| exchange's column | column | type | unit | meaning |\n|---|---|---|---|---|"
    for column in schema.columns:
        if column.source is not None or column not in BY_INTERVAL:
            source = " + ".join(f"`{name}`" for name in column.sources) or "key"
            empty = ", empty" if column.nullable else ""
            unit = column.unit or ""
            yield f"| {source} | `{column.name}` | {_type(column)}{empty} | {unit} | {column.description} |"
    yield ""


def _type(column: Column) -> str:
    return "UTC time" if isinstance(column.dtype, pl.Datetime) else str(column.dtype)


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - it is what the command is for
