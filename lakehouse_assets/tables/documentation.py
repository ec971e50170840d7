"""The page that says which column of an exchange's file becomes which of ours (deploy/docs/tables.md).

It is written from the schemas: python -m lakehouse_assets.tables.documentation > deploy/docs/tables.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby

import polars as pl

from lakehouse_assets.tables.schema import TABLES, Column, TableSchema
from lakehouse_assets.tables.schemas.columns import BY_INTERVAL
from lakehouse_assets.tables.schemas.relations import Relation

_UNITS = {"hour": timedelta(hours=1), "minute": timedelta(minutes=1), "second": timedelta(seconds=1)}
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
- In Binance's `metrics`, `time` is always the end of the five minutes, when a row was known. The exchange's own label
  is `create_time`: for `um` the end until 2026-06-24 and the beginning from 2026-06-25 on, for `cm` always the
  beginning. A file's first and last time tell which it has.
- A large table has files of a day each, a small one files of a month. Candles of less than an hour are large.
"""


def page() -> str:
    """The whole page, in Markdown."""
    common = "\n".join(f"| `{column.name}` | {_type(column)} | {column.description} |" for column in BY_INTERVAL)
    return "\n".join([_INTRODUCTION.format(common=common), *_sections(), *_quality()])


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
    facts = (schema.description + size, "" if schema.repeats_rows else key.strip(), _due(schema), _ids(schema))
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
        return "" if schema.gaps_are_faults else "A candle that is missing is a warning."
    if schema.irregular is not None:
        return f"Rows are due at no fixed time ({schema.irregular})."
    often = "as often as the rows say themselves"
    if schema.step is not None:
        often = f"every {_length(schema.step)}"
    elif schema.at_least_every is not None:
        often = f"at least once in every {_length(schema.at_least_every)}"
    fault = "an error" if schema.gaps_are_faults else "a warning"
    return f"A row is due {often}; a missing one is {fault}."


def _length(step: timedelta) -> str:
    """``second``, ``5 minutes``."""
    unit, one = next((unit, one) for unit, one in _UNITS.items() if not step % one)
    return unit if step == one else f"{step // one} {unit}s"


def _ids(schema: TableSchema) -> str:
    if schema.ids_source is None:
        return ""
    consecutive = "are consecutive" if schema.ids_are_consecutive else "need not be consecutive"
    return f"Ids {consecutive}: {schema.ids_source}."


_QUALITY = """\
## What is measured

When a period is written, its rows are measured per symbol and interval (check `quality`, table `tables/_quality/...`):
rows that are missing, doubled, of another period, off their time; ids left out; impossible prices; negative sizes. An
error is what cannot be, a warning what is odd.

- A period is a day of the exchange's own calendar (HTX: UTC+8). Nothing is missing before a symbol's first row and
  after its last one. A symbol was there before if one of the seven periods before has an archive of it, and goes on if
  one of the seven after has. While no later period is known, an early end is `undecided`, a warning; a contract ends on
  its day of delivery. When a period is written, those around it are judged again: the verdict follows what is known.
- `shared_keys`: rows whose key a row of the period before or after has as well, across months too; an error.
- `broken`: relations between columns that more rows break than are allowed, each with the number of rows and the
  first one's time and values; a warning. Tolerances are for rounding: a thousandth, and 1e-6 of the unit.

| relation | may be broken by | why | tables |
|---|---|---|---|"""


def _quality() -> Iterator[str]:
    """What relations there are, and of which tables."""
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
    return "; ".join(f"{exchange}: {', '.join(name.partition('/')[2] for name in of)}" for exchange, of in grouped)


def _type(column: Column) -> str:
    return "UTC time" if isinstance(column.dtype, pl.Datetime) else str(column.dtype)


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - it is what the command is for
