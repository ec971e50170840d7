"""The schema of a table: its columns, their sources, and the key of its rows.

A schema is data. The code that reads, writes, checks and documents tables follows it, without cases per exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import cached_property

import polars as pl

from lakehouse_assets.tables.schemas.interval import HOUR, duration
from lakehouse_assets.tables.schemas.readers import Reader
from lakehouse_assets.tables.schemas.relations import COMMON, Relation


class SizeClass(StrEnum):
    """How much data a period has: small data is stored in files of a month, large data in files of a day."""

    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    ``source`` is the exchange's column, or several that ``read`` combines; None when the value comes from the archive's
    key. ``unit`` is the unit of the numbers. A ``nullable`` column may have empty fields; in any other column an
    empty field makes the file a bad archive.
    """

    name: str
    dtype: pl.DataType
    description: str
    unit: str | None = None
    source: str | tuple[str, ...] | None = None
    read: Reader | None = None
    nullable: bool = False

    @property
    def meaning(self) -> str:
        """The description with the unit."""
        return f"{self.description} [{self.unit}]" if self.unit else self.description

    @property
    def sources(self) -> tuple[str, ...]:
        """The exchange's columns that it is read from."""
        if self.source is None:
            return ()
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def raw_types(self) -> dict[str, pl.DataType | None]:
        """The type of each of the exchange's columns; None for times."""
        raw = self.dtype if self.read is None else self.read.raw
        types = raw if isinstance(raw, tuple) else (raw,) * len(self.sources)
        return dict(zip(self.sources, types, strict=True))


@dataclass(frozen=True, kw_only=True)
class TableSchema:
    """One table: (exchange, market, data type), its columns in order, and the key of its rows.

    For reading:

    - ``file_columns``: the exchange's columns in the order of files without a header; ``more_columns``: such a file may
      have more columns after them. ``header_names``: alternative names that headers have for them.
    - ``symbol_column``: the file's column that has to name the symbol of the archive's key.
    - ``revision``: increased when the same bytes become other rows, so that older periods are written again.
    - ``key``: two rows with the same key are duplicates; empty when the exchange gives its rows no identity.
    - ``repeats_rows``: the exchange repeats rows within a file; only the first of equal rows is kept.
    - ``transform_file``: applied to all rows of a file together, when a row's meaning depends on the complete file.

    For the checks:

    - ``id_column`` rises with time within a symbol, by one if ``ids_are_consecutive``; ``ids_source`` is the evidence.
    - Rows are due at multiples of ``step`` (``labels_end``: the time of a row is the end of its step), or at least once
      per window of ``at_least_every``. Candles are due every interval, and funding rates after the interval that each
      row states. ``irregular`` says why rows have no due times.
    - ``gaps_are_faults``: a missing row is an error, else a warning.
    - ``own_relations`` are checked in addition to the applicable ones of tables/schemas/relations.py, except those in
      ``unrelated``.
    """

    exchange: str
    market: str
    data_type: str
    description: str
    columns: tuple[Column, ...]
    file_columns: tuple[str, ...]
    more_columns: bool = True
    header_names: Mapping[str, str] = field(default_factory=dict)
    symbol_column: str | None = None
    revision: int = 1
    key: tuple[str, ...]
    size_class: SizeClass
    time_column: str = "time"
    repeats_rows: bool = False
    id_column: str | None = None
    ids_are_consecutive: bool = False
    ids_source: str | None = None
    step: timedelta | None = None
    labels_end: bool = False
    at_least_every: timedelta | None = None
    irregular: str | None = None
    gaps_are_faults: bool = True
    transform_file: Callable[[pl.DataFrame], pl.DataFrame] | None = None
    own_relations: tuple[Relation, ...] = ()
    unrelated: tuple[Relation, ...] = ()

    @property
    def name(self) -> str:
        """``binance/um/klines``."""
        return f"{self.exchange}/{self.market}/{self.data_type}"

    @cached_property
    def polars(self) -> pl.Schema:
        """Names and types of the columns, in the table's order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @cached_property
    def raw_types(self) -> dict[str, pl.DataType | None]:
        """The types of the exchange's columns that are read; None for times."""
        return {name: raw for column in self.columns for name, raw in column.raw_types.items()}

    @property
    def has_interval(self) -> bool:
        return "interval" in self.polars

    @property
    def has_own_step(self) -> bool:
        """Whether each row states how long after the previous one it is due."""
        return "funding_interval_hours" in self.polars

    @property
    def is_regular(self) -> bool:
        """Whether rows have due times."""
        return self.has_interval or self.has_own_step or (self.step or self.at_least_every) is not None

    @cached_property
    def relations(self) -> tuple[Relation, ...]:
        """The relations between columns that every row should satisfy."""
        units = {column.name: column.unit for column in self.columns}
        common = (relation for relation in COMMON if relation.applies(units) and relation not in self.unrelated)
        return (*common, *self.own_relations)

    @property
    def symbol_in_file(self) -> bool:
        """Whether the rows name their symbol (one file has all symbols). Otherwise the archive's key names it."""
        return self.column("symbol").source is not None

    def column(self, name: str) -> Column:
        """The column of that name. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def size_class_of(self, interval: str | None) -> SizeClass:
        """The size class of one interval: candles of an hour and longer are small. Raises InputError."""
        if interval is None or not self.has_interval:
            return self.size_class
        length = duration(interval)
        return SizeClass.LARGE if length is not None and length < HOUR else SizeClass.SMALL
