"""Text of an exchange's CSV to rows of our table: header or none, columns by name, strict values.

Nothing is taken for granted per market: whether a file has a header, and in what unit its times
are, has changed over the years, so each file is asked: its first byte, its first time.
"""

from __future__ import annotations

import math
import re

import polars as pl

from lakehouse_assets.tables.schemas.model import Column, TableSchema
from lakehouse_assets.tables.schemas.readers import raw_time_type
from lakehouse_assets.tables.unpack import BadArchiveError

_BOM = b"\xef\xbb\xbf"
_SHOWN = 60
_UNPARSED = re.compile(r"could not parse `(.*?)` as dtype `(\w+)` at column '([0-9]+)'", re.DOTALL)


class CsvRows:
    """Reads one file, block after block of whole lines; the first block tells what the file is like.

    ``rows`` counts what was read so far; ``has_header`` is None before the first block.
    """

    def __init__(self, schema: TableSchema, symbol: str | None, interval: str | None) -> None:
        self._schema = schema
        known = {"exchange": schema.exchange, "market": schema.market, "symbol": symbol, "interval": interval}
        self._of_key = {
            column.name: pl.Series(column.name, [known[column.name]], column.dtype)
            for column in schema.columns
            if column.source is None
        }
        # Polars takes fields that a row lacks for empty ones, which some columns may have.
        self._may_lack_fields = any(column.nullable for column in schema.columns)
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
            self._raw = self._raw_types(_fields(block))
        return block

    @property
    def layout(self) -> tuple[tuple[str, ...], tuple[pl.DataType, ...]]:
        """Files of the same layout can be read as one."""
        return tuple(self._names), tuple(self._raw.values())

    def columns(self, block: bytes) -> list[pl.Series]:
        """The table's columns that come from the file, of lines without a header. Raises BadArchiveError."""
        raw = self._parse(block)
        read = [self._column(column, raw) for column in self._schema.columns if column.source is not None]
        self.rows += len(read[0])
        return read

    def complete(self, columns: list[pl.Series]) -> pl.DataFrame:
        """Columns of the file with those that the archive's key tells."""
        read = iter(columns)
        rows = len(columns[0])
        return pl.DataFrame(
            [
                next(read) if column.source is not None else self._of_key[column.name].new_from_index(0, rows)
                for column in self._schema.columns
            ]
        )

    def _without_header(self, block: bytes) -> bytes:
        block = block.removeprefix(_BOM)
        first = _fields(block)
        self.has_header = first[0][:1].isalpha()
        wanted = {source for column in self._schema.columns for source in column.sources}
        if self.has_header:
            self._names = first
            missing = [name for name in self._schema.file_columns if name in wanted and name not in self._names]
            if missing:
                raise BadArchiveError(f"its header has no column {missing[0]!r}, but {_shown(', '.join(self._names))}")
            twice = [name for name in wanted if self._names.count(name) > 1]
            if twice:
                raise BadArchiveError(f"its header has the column {twice[0]!r} twice")
            return block.partition(b"\n")[2]
        expected = len(self._schema.file_columns)
        if len(first) < expected or (len(first) > expected and not self._schema.more_columns):
            raise BadArchiveError(f"its rows have {len(first)} columns; {expected} are expected")
        self._names = [*self._schema.file_columns, *(f"column {number + 1}" for number in range(expected, len(first)))]
        return block

    def _raw_types(self, first: list[str]) -> dict[str, pl.DataType]:
        """How Polars is to parse each column of the file; the first row tells how times are written."""
        if len(first) != len(self._names):
            raise BadArchiveError(f"its first row has {len(first)} columns, and its header {len(self._names)}")
        types: dict[str, pl.DataType] = {}
        for column in self._schema.columns:
            raw = column.dtype if column.read is None else column.read.raw
            types |= {name: raw or raw_time_type(first[self._names.index(name)]) for name in column.sources}
        return types

    def _parse(self, block: bytes) -> dict[str, pl.Series]:
        """The file's columns by their names."""
        # Parsed by number, since names that are not wanted may be repeated.
        schema = {str(number): self._raw.get(name, pl.String()) for number, name in enumerate(self._names)}
        try:
            parsed = pl.read_csv(block, has_header=False, schema=schema)
        except pl.exceptions.PolarsError as error:
            raise BadArchiveError(f"behind row {self.rows:,}: {self._fault(str(error))}") from error
        if self._may_lack_fields and block.count(b",") != len(parsed) * (len(self._names) - 1):
            raise BadArchiveError(f"a row behind row {self.rows:,} has not the {len(self._names)} columns of the first")
        return dict(zip(self._names, parsed.get_columns(), strict=True))

    def _fault(self, message: str) -> str:
        """What Polars says, with the column's name."""
        match = _UNPARSED.search(message)
        if match is None:
            return _shown(message.splitlines()[0])
        field, dtype, number = match.groups()
        return f"column {self._names[int(number)]}: {_shown(field)!r} is no {dtype}"

    def _column(self, column: Column, raw: dict[str, pl.Series]) -> pl.Series:
        """One column of the table. Raises BadArchiveError for a field that it cannot hold."""
        fields = [raw[name] for name in column.sources]
        values = fields[0] if column.read is None else column.read.convert(*fields)
        if values.null_count():
            faulty = values.is_null()
            if column.nullable:
                faulty &= fields[0].is_not_null() & (fields[0].cast(pl.String) != "")
            self._refuse(column, fields, faulty)
        if values.dtype == pl.Float64 and not math.isfinite(values.sum()):
            self._refuse(column, fields, ~values.is_finite())
        return values.alias(column.name)

    def _refuse(self, column: Column, fields: list[pl.Series], faulty: pl.Series) -> None:
        """Raise BadArchiveError for the first faulty row, if there is one."""
        row = faulty.fill_null(value=False).arg_max() if faulty.any() else None
        if row is None:
            return
        said = ", ".join(_shown(str(field[row])) if field[row] is not None else "nothing" for field in fields)
        raise BadArchiveError(
            f"row {self.rows + row + 1:,}, column {'+'.join(column.sources)}: {said} is no {column.name}"
        )


def _fields(block: bytes) -> list[str]:
    """The fields of a block's first line."""
    end = block.find(b"\n")
    line = block if end < 0 else block[:end]
    return [field.strip().strip('"') for field in line.decode(errors="replace").split(",")]


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
