"""Text of an exchange's CSV to rows of our table: header or none, columns by name, strict values.

Nothing is taken for granted per market: whether a file has a header, and in what unit its times
are, has changed over the years, so each file is asked. What a column holds is declared; no row
decides it for another one, since exchanges print 1668728606 and then 1668728606.25.
"""

from __future__ import annotations

import math

import polars as pl

from lakehouse_assets.archive.catalog.symbols import same_symbol
from lakehouse_assets.archive.exchanges.grammar import ALL_SYMBOLS
from lakehouse_assets.tables.read.unpack import BadArchiveError, Limits
from lakehouse_assets.tables.schemas.model import Column, TableSchema
from lakehouse_assets.tables.schemas.readers import raw_time_type, values_of

_BOM = b"\xef\xbb\xbf"
_SHOWN = 60
_SYMBOLS_SHOWN = 3

_Raw = dict[str, pl.Series]
"""Columns of the file by their names."""


class CsvRows:
    """Reads one file, block after block of whole lines; the first block tells what the file is like.

    ``rows`` counts what was read so far; ``has_header`` is None before the first block.
    """

    def __init__(self, schema: TableSchema, symbol: str | None, interval: str | None, limits: Limits) -> None:
        self._schema = schema
        self._symbol = None if symbol == ALL_SYMBOLS else symbol
        self._limits = limits
        known = {"exchange": schema.exchange, "market": schema.market, "symbol": symbol, "interval": interval}
        self._of_key = {
            column.name: pl.Series(column.name, [known[column.name]], column.dtype)
            for column in schema.columns
            if column.source is None
        }
        self._times = [name for column in schema.columns for name, raw in column.raw_types.items() if raw is None]
        self._names: list[str] = []
        self._raw: dict[str, pl.DataType] = {}
        self.has_header: bool | None = None
        self.rows = 0

    def read(self, block: bytes) -> pl.DataFrame:
        """The rows of a block, as the schema has them. Raises BadArchiveError naming column, row and field."""
        block = self.open(block)
        if not block:
            return self._schema.polars.to_frame()
        return self.complete(self.columns(block))

    def open(self, block: bytes) -> bytes:
        """Look at the first block, if this is it; the block without a header. Raises BadArchiveError."""
        if self.has_header is None:
            block = self._without_header(block)
        if block and not self._raw:
            self._raw = self._raw_types(_fields(block, self._limits))
        return block

    @property
    def layout(self) -> tuple[tuple[str, ...], tuple[pl.DataType, ...]]:
        """Files of the same layout can be read as one."""
        return tuple(self._names), tuple(self._raw.values())

    def columns(self, block: bytes) -> list[pl.Series]:
        """The table's columns that come from the file, of lines without a header, and last the symbols that the
        rows name, where they do. Raises BadArchiveError."""
        values, written = self._parse(block)
        said = written[self._symbols_in] if self._symbols_in else None
        try:
            read = [
                self._column(column, values, written) for column in self._schema.columns if column.source is not None
            ]
        except BadArchiveError:
            # What a wrong file says of its fields is beside the point.
            if said is not None:
                self._require_symbol(said)
            raise
        self.rows += len(read[0])
        return read if said is None else [*read, said]

    def complete(self, columns: list[pl.Series]) -> pl.DataFrame:
        """Columns of the file with those that the archive's key tells. Raises BadArchiveError where they differ."""
        read = iter(columns)
        rows = len(columns[0])
        frame = pl.DataFrame(
            [
                next(read) if column.source is not None else self._of_key[column.name].new_from_index(0, rows)
                for column in self._schema.columns
            ]
        )
        if self._symbols_in:
            self._require_symbol(next(read))
        return frame

    # The file's own names

    def _without_header(self, block: bytes) -> bytes:
        block = block.removeprefix(_BOM)
        first = _fields(block, self._limits)
        names = [self._schema.header_names.get(name, name) for name in first]
        self.has_header = not set(self._schema.file_columns).isdisjoint(names)
        if self.has_header:
            self._names = names
            self._require_names()
            return block.partition(b"\n")[2]
        if not any(field[:1].isdecimal() or field[:1] in {"+", "-", "."} for field in first if field):
            raise BadArchiveError(f"its first row names columns that nobody knows: {_shown(', '.join(first))}")
        expected = len(self._schema.file_columns)
        if len(first) < expected or (len(first) > expected and not self._schema.more_columns):
            raise BadArchiveError(f"its rows have {len(first)} columns; {expected} are expected")
        self._names = [*self._schema.file_columns, *(f"column {number + 1}" for number in range(expected, len(first)))]
        return block

    def _require_names(self) -> None:
        """Raise BadArchiveError for a header that lacks a column, or has one twice."""
        wanted = {source for column in self._schema.columns for source in column.sources}
        missing = [name for name in self._schema.file_columns if name in wanted and name not in self._names]
        if missing:
            raise BadArchiveError(f"its header has no column {missing[0]!r}, but {_shown(', '.join(self._names))}")
        twice = [name for name in wanted if self._names.count(name) > 1]
        if twice:
            raise BadArchiveError(f"its header has the column {twice[0]!r} twice")

    @property
    def _symbols_in(self) -> str | None:
        """The file's column of the symbol that the key names, too."""
        named = self._schema.symbol_column
        return named if self._symbol is not None and named in self._names else None

    def _require_symbol(self, said: pl.Series) -> None:
        """Raise BadArchiveError for rows of another symbol than the key's; an empty field says nothing."""
        key = self._symbol or ""
        if (said == key).all():
            return
        exchange, market = self._schema.exchange, self._schema.market
        found = [each for each in said.drop_nulls().str.strip_chars().unique(maintain_order=True) if each]
        others = [each for each in found if not same_symbol(exchange, market, each, key)]
        if others:
            more = f" and {len(others) - _SYMBOLS_SHOWN:,} more" if len(others) > _SYMBOLS_SHOWN else ""
            names = ", ".join(_shown(each) for each in others[:_SYMBOLS_SHOWN])
            raise BadArchiveError(f"it has rows of {names}{more}, and its key says {key}")

    # Fields

    def _raw_types(self, first: list[str]) -> dict[str, pl.DataType]:
        """As what Polars tries to parse each column of the file; the first row tells what is likely, no more."""
        if len(first) != len(self._names):
            raise BadArchiveError(f"its first row has {len(first)} columns, and its header {len(self._names)}")
        return {
            name: raw or raw_time_type(first[self._names.index(name)])
            for column in self._schema.columns
            for name, raw in column.raw_types.items()
        }

    def _parse(self, block: bytes) -> tuple[_Raw, _Raw]:
        """The file's columns as what they hold, and as they are written (or the same again, where all is well)."""
        try:
            values = self._parsed(block, self._raw)
        except pl.exceptions.PolarsError:
            # A field is written otherwise than most are, or wrong: each is read for itself.
            try:
                written = self._parsed(block, {})
            except pl.exceptions.PolarsError as error:
                said = _shown(str(error).splitlines()[0])
                raise BadArchiveError(f"behind row {self.rows:,}: {said}") from error
            self._raw |= dict.fromkeys(self._times, pl.String())
            values = written | {name: values_of(written[name], raw) for name, raw in self._raw.items()}
        else:
            written = values
        rows = len(written[self._names[0]])
        # Polars takes fields that a row lacks for empty ones, which some columns may have, and some nobody reads.
        if values[self._names[-1]].null_count() and block.count(b",") != rows * (len(self._names) - 1):
            raise BadArchiveError(f"a row behind row {self.rows:,} has not the {len(self._names)} columns of the first")
        if b'"' in block and rows != block.count(b"\n") + (not block.endswith(b"\n")):
            raise BadArchiveError(f"a field behind row {self.rows:,} goes over several lines")
        return values, written

    def _parsed(self, block: bytes, types: dict[str, pl.DataType]) -> _Raw:
        # Parsed by number, since names that are not wanted may be repeated.
        schema = {str(number): types.get(name, pl.String()) for number, name in enumerate(self._names)}
        parsed = pl.read_csv(block, has_header=False, schema=schema)
        return dict(zip(self._names, parsed.get_columns(), strict=True))

    def _column(self, column: Column, values: _Raw, written: _Raw) -> pl.Series:
        """One column of the table. Raises BadArchiveError for a field that it cannot hold."""
        fields = [values[name] for name in column.sources]
        result = fields[0] if column.read is None else column.read.convert(*fields)
        if result.dtype == pl.String and (result == "").any():
            result = result.replace("", None)
        if result.null_count():
            faulty = result.is_null()
            said = [written[name] for name in column.sources]
            if column.nullable:
                faulty &= said[0].is_not_null() & (said[0].cast(pl.String) != "")
            self._refuse(column, said, faulty)
        if result.dtype == pl.Float64 and not math.isfinite(result.sum()):
            self._refuse(column, [written[name] for name in column.sources], ~result.is_finite())
        return result.alias(column.name)

    def _refuse(self, column: Column, fields: list[pl.Series], faulty: pl.Series) -> None:
        """Raise BadArchiveError for the first faulty row, if there is one."""
        row = faulty.fill_null(value=False).arg_max() if faulty.any() else None
        if row is None:
            return
        said = ", ".join(_shown(str(field[row])) if field[row] is not None else "nothing" for field in fields)
        raise BadArchiveError(
            f"row {self.rows + row + 1:,}, column {'+'.join(column.sources)}: {said} is no {column.name}"
        )


def _fields(block: bytes, limits: Limits) -> list[str]:
    """The fields of a block's first line. Raises BadArchiveError for more than a parser is to be given."""
    end = block.find(b"\n")
    line = block if end < 0 else block[:end]
    if line.count(b",") >= limits.columns:
        raise BadArchiveError(f"its first row has {line.count(b',') + 1:,} columns; {limits.columns:,} are the limit")
    return [field.strip().strip('"') for field in line.decode(errors="replace").split(",")]


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
