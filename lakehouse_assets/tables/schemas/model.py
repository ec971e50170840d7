"""What a table is made of: its columns, where each comes from, and how its rows are kept apart.

A schema is data: reading, writing, checks and the documentation follow it and know no exchange.
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
    """How much a period holds: small data lives in month partitions, large data in day partitions."""

    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    ``source`` is the exchange's own column (several, where ``read`` makes one of them); None: the
    value is known from the archive's key. ``unit`` says what the numbers count. A ``nullable`` column
    may have empty fields; in any other one they make the file a bad archive.
    """

    name: str
    dtype: pl.DataType
    description: str
    unit: str | None = None
    source: str | tuple[str, ...] | None = None
    read: Reader | None = None
    nullable: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """The exchange's columns that it is made of."""
        if self.source is None:
            return ()
        return (self.source,) if isinstance(self.source, str) else self.source

    @property
    def raw_types(self) -> dict[str, pl.DataType | None]:
        """What each of the exchange's columns holds; None: a time."""
        raw = self.dtype if self.read is None else self.read.raw
        types = raw if isinstance(raw, tuple) else (raw,) * len(self.sources)
        return dict(zip(self.sources, types, strict=True))


@dataclass(frozen=True, kw_only=True)
class TableSchema:
    """One table: (exchange, market, data type), its columns in order, and what identifies a row.

    ``file_columns`` are the exchange's columns in the order of the file, for files without a header, which
    may have more behind them if ``more_columns``; ``header_names`` are other names of them that headers have.
    ``symbol_column``: the file's column that has to name the symbol of the archive's key. ``revision`` counts up
    when the same bytes become other rows: periods that were made before are made again. Two rows with the same
    ``key`` are duplicates of each other; an empty one: the exchange gives rows no identity. ``repeats_rows``: the
    exchange publishes rows several times over; reading keeps the first of equal ones. ``of_file`` is applied to
    all rows of a file together, where it takes the whole file to say what a row is.

    What the checks go by: ``id_column`` rises with time within a symbol, by one where ``ids_are_consecutive``;
    ``ids_source`` says how that is known. When rows are due: at multiples of ``step`` (``labels_end``: a row has
    the time at which its step ends), or at no fixed time but in each window of ``at_least_every``; candles are due
    every interval, and funding rates as often as they say themselves. ``irregular`` says why rows are due at no time.
    ``gaps_are_faults``: a missing row is an error, else a warning. ``own_relations`` hold beside those
    of tables/schemas/relations.py that apply, but for the ones in ``unrelated``.
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
    of_file: Callable[[pl.DataFrame], pl.DataFrame] | None = None
    own_relations: tuple[Relation, ...] = ()
    unrelated: tuple[Relation, ...] = ()

    @property
    def name(self) -> str:
        """``binance/um/klines``."""
        return f"{self.exchange}/{self.market}/{self.data_type}"

    @cached_property
    def polars(self) -> pl.Schema:
        """Names and types, in the table's order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @property
    def has_interval(self) -> bool:
        return "interval" in self.polars

    @property
    def has_own_step(self) -> bool:
        """Whether each row says how long after the one before it is due."""
        return "funding_interval_hours" in self.polars

    @property
    def is_regular(self) -> bool:
        """Whether it is known when rows are due."""
        return self.has_interval or self.has_own_step or (self.step or self.at_least_every) is not None

    @cached_property
    def relations(self) -> tuple[Relation, ...]:
        """What its columns' definitions imply of its rows."""
        units = {column.name: column.unit for column in self.columns}
        common = (each for each in COMMON if each.applies(units) and each not in self.unrelated)
        return (*common, *self.own_relations)

    @property
    def symbol_in_file(self) -> bool:
        """Whether the rows name their symbol (one file holds all of them), or the archive's key does."""
        return self.column("symbol").source is not None

    def column(self, name: str) -> Column:
        """The column of that name. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def size_class_of(self, interval: str | None) -> SizeClass:
        """That of one interval's rows: candles of an hour and longer are small. Raises InputError."""
        if interval is None or not self.has_interval:
            return self.size_class
        length = duration(interval)
        return SizeClass.LARGE if length is not None and length < HOUR else SizeClass.SMALL
