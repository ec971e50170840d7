"""Tables: their names, derived in one place.

A table is (exchange, market, data type), with all cadences together. Its asset key and paths in the lake
follow from these three.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import DatasetEntry, OnBadFile
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.errors import InputError
from lakehouse_assets.tables.schema import schema_of
from lakehouse_assets.tables.schemas.model import TableSchema

TABLES_FOLDER = "tables"
LINEAGE_FOLDER = f"{TABLES_FOLDER}/_lineage"
QUALITY_FOLDER = f"{TABLES_FOLDER}/_quality"
AGREEMENT_FOLDER = f"{TABLES_FOLDER}/_agreement"

MONTH, PERIOD = "month", "period"
"""Columns that every table has in addition to its schema: the archive period of a row, and the month of it."""


@dataclass(frozen=True, order=True)
class Table:
    """One Delta table. Raises InputError when no schema exists for it."""

    exchange: str
    market: str
    data_type: str

    def __post_init__(self) -> None:
        schema_of(self.exchange, self.market, self.data_type)

    @classmethod
    def parse(cls, name: str) -> Table:
        """The table of a name such as ``binance/um/klines``. Raises InputError that names the existing tables."""
        parts = name.strip("/").split("/")
        if len(parts) != len(cls.__dataclass_fields__):
            raise InputError(f"{name!r} is not a table; write exchange/market/data type, such as binance/um/klines.")
        return cls(*parts)

    @classmethod
    def of(cls, dataset: Dataset) -> Table:
        """The table that a dataset's archive objects are loaded into."""
        return cls(dataset.exchange, dataset.market, dataset.data_type)

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """``binance/um/klines``."""
        return f"{self.exchange}/{self.market}/{self.data_type}"

    @property
    def attributes(self) -> dict[str, str]:
        """Exchange, market and data type, as attributes of metrics."""
        return {"exchange": self.exchange, "market": self.market, "data_type": self.data_type}

    @property
    def sql_name(self) -> str:
        """``binance_um_klines``."""
        return self.name.replace("/", "_")

    @property
    def asset_key(self) -> tuple[str, str, str, str]:
        return (self.exchange, self.market, self.data_type, "table")

    @property
    def place(self) -> str:
        """The path of the Delta table, relative to the lake's prefix."""
        return f"{TABLES_FOLDER}/{self.name}"

    @property
    def lineage_place(self) -> str:
        """The path of the lineage."""
        return f"{LINEAGE_FOLDER}/{self.name}"

    @property
    def quality_place(self) -> str:
        """The path of the quality records, per period, symbol and interval."""
        return f"{QUALITY_FOLDER}/{self.name}"

    @property
    def agreement_place(self) -> str:
        """The path of the records that compare intervals and cadences, per month."""
        return f"{AGREEMENT_FOLDER}/{self.name}"

    @cached_property
    def schema(self) -> TableSchema:
        return schema_of(self.exchange, self.market, self.data_type)

    @property
    def partition_by(self) -> list[str]:
        """The partition columns. They are in the folders' names, not in the files."""
        return ["interval", MONTH] if self.schema.has_interval else [MONTH]

    @cached_property
    def cadence(self) -> Cadence:
        """Whether the table's periods are days, or months because the exchange publishes monthly files only."""
        try:
            Dataset(self.exchange, self.market, self.data_type, Cadence.DAILY)
        except InputError:
            return Cadence.MONTHLY
        return Cadence.DAILY

    @property
    def period_length(self) -> int:
        """The number of characters in a period's text."""
        return len("2024-01-31") if self.cadence is Cadence.DAILY else len("2024-01")


@dataclass(frozen=True)
class TableEntry:
    """A table and the entries of the archive matrix that feed it, by cadence."""

    table: Table
    entries: Mapping[Cadence, DatasetEntry]

    @property
    def on_bad_file(self) -> OnBadFile:
        """The daily entry's option, or the monthly entry's when there is no daily one."""
        return (self.entries.get(Cadence.DAILY) or self.entries[Cadence.MONTHLY]).on_bad_file


def tables_of(entries: Iterable[DatasetEntry]) -> list[TableEntry]:
    """The tables of a matrix, in its order. Datasets without a table schema are skipped."""
    by_table: dict[Table, dict[Cadence, DatasetEntry]] = {}
    for entry in entries:
        try:
            table = Table.of(entry.dataset)
        except InputError:
            continue
        by_table.setdefault(table, {})[entry.dataset.cadence] = entry
    return [TableEntry(table, by_cadence) for table, by_cadence in by_table.items()]
