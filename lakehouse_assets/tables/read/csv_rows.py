"""Parses an exchange's CSV text to rows of a table: with or without header, columns by name, strict values.

Headers and units of times have changed over the years in every market, so both are detected per file. The type of
a column is declared and never inferred from rows, since exchanges print 1668728606 and then 1668728606.25.
"""

from __future__ import annotations

import math

import polars as pl

from lakehouse_assets.archive.catalog.symbols import same_symbol
from lakehouse_assets.archive.exchanges.layout import ALL_SYMBOLS
from lakehouse_assets.tables.read.unpack import BadArchiveError, Limits
from lakehouse_assets.tables.schemas.model import Column, TableSchema
from lakehouse_assets.tables.schemas.readers import raw_time_type, values_of

_BOM = b"\xef\xbb\xbf"
_MAX_CHARACTERS = 60
"""Of a file's text in a message."""
_MAX_SYMBOLS = 3
"""In a message."""

_FileColumns = dict[str, pl.Series]
"""Columns of the file by name."""


class CsvRows:
    """Parses one file in blocks of complete lines. The first block decides about the header and the layout.

    ``rows`` counts the rows parsed so far; ``has_header`` is None before the first block.
    """

    def __init__(self, schema: TableSchema, symbol: str | None, interval: str | None, limits: Limits) -> None:
        self._schema = schema
        self._symbol = None if symbol == ALL_SYMBOLS else symbol
        self._limits = limits
        from_key = {"exchange": schema.exchange, "market": schema.market, "symbol": symbol, "interval": interval}
        self._key_columns = {
            column.name: pl.Series(column.name, [from_key[column.name]], column.dtype)
            for column in schema.columns
            if column.source is None
        }
        self._time_names = [name for name, raw in schema.raw_types.items() if raw is None]
        self._names: list[str] = []
        self._types: dict[str, pl.DataType] = {}
        self.has_header: bool | None = None
        self.rows = 0

    def read(self, block: bytes) -> pl.DataFrame:
        """The rows of a block in the schema's columns. Raises BadArchiveError that names row, column and field."""
        block = self.without_header(block)
        if not block:
            return self._schema.polars.to_frame()
        return self.to_frame(self.columns(block))

    def without_header(self, block: bytes) -> bytes:
        """The block without the header. Detects names and types in the first block. Raises BadArchiveError."""
        if self.has_header is None:
            block = self._detect_header(block)
        if block and not self._types:
            self._types = self._column_types(_fields(block, self._limits))
        return block

    @property
    def layout(self) -> tuple[tuple[str, ...], tuple[pl.DataType, ...]]:
        """Names and types of the file's columns. Files of the same layout can be parsed together."""
        return tuple(self._names), tuple(self._types.values())

    def columns(self, block: bytes) -> list[pl.Series]:
        """The table's columns from lines without a header; if the rows name their symbol, the last one has these.

        Raises BadArchiveError.
        """
        values, written = self._parse(block)
        row_symbols = written[self._row_symbol_name] if self._row_symbol_name else None
        try:
            columns = [
                self._column(column, values, written) for column in self._schema.columns if column.source is not None
            ]
        except BadArchiveError:
            # A wrong symbol is the cause, an invalid field then only a consequence.
            if row_symbols is not None:
                self._require_symbol(row_symbols)
            raise
        self.rows += len(columns[0])
        return columns if row_symbols is None else [*columns, row_symbols]

    def to_frame(self, columns: list[pl.Series]) -> pl.DataFrame:
        """A frame of `columns` and the values of the archive's key. Raises BadArchiveError if the symbols differ."""
        from_file = iter(columns)
        rows = len(columns[0])
        frame = pl.DataFrame(
            [
                next(from_file) if column.source is not None else self._key_columns[column.name].new_from_index(0, rows)
                for column in self._schema.columns
            ]
        )
        if self._row_symbol_name:
            self._require_symbol(next(from_file))
        return frame

    # Names

    def _detect_header(self, block: bytes) -> bytes:
        block = block.removeprefix(_BOM)
        first = _fields(block, self._limits)
        names = [self._schema.header_names.get(name, name) for name in first]
        self.has_header = not set(self._schema.file_columns).isdisjoint(names)
        if self.has_header:
            self._names = names
            self._require_names()
            return block.partition(b"\n")[2]
        if not any(field[:1].isdecimal() or field[:1] in {"+", "-", "."} for field in first if field):
            raise BadArchiveError(f"its header has no known column: {_shortened(', '.join(first))}")
        expected = len(self._schema.file_columns)
        if len(first) < expected or (len(first) > expected and not self._schema.more_columns):
            raise BadArchiveError(f"its rows have {len(first)} columns; {expected} are expected")
        self._names = [*self._schema.file_columns, *(f"column {number + 1}" for number in range(expected, len(first)))]
        return block

    def _require_names(self) -> None:
        """Raise BadArchiveError for a header that lacks a required column, or has it twice."""
        wanted = {source for column in self._schema.columns for source in column.sources}
        missing = [name for name in self._schema.file_columns if name in wanted and name not in self._names]
        if missing:
            raise BadArchiveError(
                f"its header has no column {missing[0]!r}; its columns are {_shortened(', '.join(self._names))}"
            )
        repeated = [name for name in wanted if self._names.count(name) > 1]
        if repeated:
            raise BadArchiveError(f"its header has the column {repeated[0]!r} twice")

    @property
    def _row_symbol_name(self) -> str | None:
        """The name of the file's column that has to match the symbol of the key; None without such a column."""
        name = self._schema.symbol_column
        return name if self._symbol is not None and name in self._names else None

    def _require_symbol(self, row_symbols: pl.Series) -> None:
        """Raise BadArchiveError for rows of another symbol than the key's. Empty fields are ignored."""
        expected = self._symbol or ""
        if (row_symbols == expected).all():
            return
        exchange, market = self._schema.exchange, self._schema.market
        names = [name for name in row_symbols.drop_nulls().str.strip_chars().unique(maintain_order=True) if name]
        others = [name for name in names if not same_symbol(exchange, market, name, expected)]
        if others:
            more = f" and {len(others) - _MAX_SYMBOLS:,} more" if len(others) > _MAX_SYMBOLS else ""
            examples = ", ".join(_shortened(name) for name in others[:_MAX_SYMBOLS])
            raise BadArchiveError(f"it has rows of {examples}{more}, but its key names {expected}")

    # Fields

    def _column_types(self, first: list[str]) -> dict[str, pl.DataType]:
        """The types that Polars tries first. For times, the first row decides; later rows may differ."""
        if len(first) != len(self._names):
            raise BadArchiveError(f"its first row has {len(first)} columns, but its header {len(self._names)}")
        return {
            name: raw or raw_time_type(first[self._names.index(name)]) for name, raw in self._schema.raw_types.items()
        }

    def _parse(self, block: bytes) -> tuple[_FileColumns, _FileColumns]:
        """The file's columns as values and as text. Both are the values if all fields have the expected format."""
        try:
            values = self._parse_as(block, self._types)
        except pl.exceptions.PolarsError:
            # A field has an unusual format or is invalid: parse field by field.
            try:
                written = self._parse_as(block, {})
            except pl.exceptions.PolarsError as error:
                reason = _shortened(str(error).splitlines()[0])
                raise BadArchiveError(f"after row {self.rows:,}: {reason}") from error
            self._types |= dict.fromkeys(self._time_names, pl.String())
            values = written | {name: values_of(written[name], dtype) for name, dtype in self._types.items()}
        else:
            written = values
        rows = len(written[self._names[0]])
        # Polars fills the missing fields of a short row with null, which some columns allow.
        if values[self._names[-1]].null_count() and block.count(b",") != rows * (len(self._names) - 1):
            raise BadArchiveError(
                f"a row after row {self.rows:,} does not have the expected {len(self._names)} columns"
            )
        if b'"' in block and rows != block.count(b"\n") + (not block.endswith(b"\n")):
            raise BadArchiveError(f"a field after row {self.rows:,} spans several lines")
        return values, written

    def _parse_as(self, block: bytes, types: dict[str, pl.DataType]) -> _FileColumns:
        # Columns are parsed by number, since the names of ignored columns may be repeated.
        schema = {str(number): types.get(name, pl.String()) for number, name in enumerate(self._names)}
        parsed = pl.read_csv(block, has_header=False, schema=schema)
        return dict(zip(self._names, parsed.get_columns(), strict=True))

    def _column(self, column: Column, values: _FileColumns, written: _FileColumns) -> pl.Series:
        """One column of the table. Raises BadArchiveError for an invalid field."""
        fields = [values[name] for name in column.sources]
        result = fields[0] if column.read is None else column.read.convert(*fields)
        if result.dtype == pl.String and (result == "").any():
            result = result.replace("", None)
        if result.null_count():
            invalid = result.is_null()
            texts = [written[name] for name in column.sources]
            if column.nullable:
                invalid &= texts[0].is_not_null() & (texts[0].cast(pl.String) != "")
            self._require_valid(column, texts, invalid)
        if result.dtype == pl.Float64 and not math.isfinite(result.sum()):
            self._require_valid(column, [written[name] for name in column.sources], ~result.is_finite())
        return result.alias(column.name)

    def _require_valid(self, column: Column, texts: list[pl.Series], invalid: pl.Series) -> None:
        """Raise BadArchiveError for the first invalid row, if there is one."""
        row = invalid.fill_null(value=False).arg_max() if invalid.any() else None
        if row is None:
            return
        fields = ", ".join("an empty field" if text[row] is None else _shortened(str(text[row])) for text in texts)
        raise BadArchiveError(
            f"row {self.rows + row + 1:,}, column {'+'.join(column.sources)}: {fields} is not a valid {column.name}"
        )


def _fields(block: bytes, limits: Limits) -> list[str]:
    """The fields of a block's first line. Raises BadArchiveError for too many columns."""
    end = block.find(b"\n")
    line = block if end < 0 else block[:end]
    if line.count(b",") >= limits.columns:
        raise BadArchiveError(f"its first row has {line.count(b',') + 1:,} columns; the limit is {limits.columns:,}")
    return [field.strip().strip('"') for field in line.decode(errors="replace").split(",")]


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}..."
