"""Tables: the names of everything, derived in one place.

A table is (exchange, market, data type): all cadences of it together. Its asset key, pool and places
in the lake follow from those three words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.matrix import DatasetEntry, OnBadFile
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.errors import InputError
from lakehouse_assets.tables.schema import TableSchema, schema_of

TABLES_FOLDER = "tables"
LINEAGE_FOLDER = f"{TABLES_FOLDER}/_lineage"
QUALITY_FOLDER = f"{TABLES_FOLDER}/_quality"
AGREEMENT_FOLDER = f"{TABLES_FOLDER}/_agreement"

MONTH, PERIOD = "month", "period"
"""Columns that every table has beside its schema's: the archive period of a row, and that period's month."""


@dataclass(frozen=True, order=True)
class Table:
    """One Delta table. Making one that has no schema raises InputError."""

    exchange: str
    market: str
    data_type: str

    def __post_init__(self) -> None:
        schema_of(self.exchange, self.market, self.data_type)

    @classmethod
    def parse(cls, name: str) -> Table:
        """Read ``binance/um/klines``. Raises InputError naming what exists."""
        parts = name.strip("/").split("/")
        if len(parts) != len(cls.__dataclass_fields__):
            raise InputError(f"{name!r} is not a table; write exchange/market/data type, such as binance/um/klines.")
        return cls(*parts)

    @classmethod
    def of(cls, dataset: Dataset) -> Table:
        """The table that a dataset's archives become."""
        return cls(dataset.exchange, dataset.market, dataset.data_type)

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """``binance/um/klines``."""
        return f"{self.exchange}/{self.market}/{self.data_type}"

    @property
    def attributes(self) -> dict[str, str]:
        """The three words, as attributes of metrics."""
        return {"exchange": self.exchange, "market": self.market, "data_type": self.data_type}

    @property
    def sql_name(self) -> str:
        """``binance_um_klines``."""
        return self.name.replace("/", "_")

    @property
    def asset_key(self) -> tuple[str, str, str, str]:
        return (self.exchange, self.market, self.data_type, "table")

    @property
    def pool(self) -> str:
        """One pool per table: a second writer would only lose the race to commit, and write again."""
        return f"table_{self.sql_name}"

    @property
    def place(self) -> str:
        """The Delta table, relative to the lake's prefix."""
        return f"{TABLES_FOLDER}/{self.name}"

    @property
    def lineage_place(self) -> str:
        """Which archive object each part of the table is made of."""
        return f"{LINEAGE_FOLDER}/{self.name}"

    @property
    def quality_place(self) -> str:
        """What the quality checks found, per period, symbol and interval."""
        return f"{QUALITY_FOLDER}/{self.name}"

    @property
    def agreement_place(self) -> str:
        """How intervals and cadences agree, per month."""
        return f"{AGREEMENT_FOLDER}/{self.name}"

    @cached_property
    def schema(self) -> TableSchema:
        return schema_of(self.exchange, self.market, self.data_type)

    @property
    def partition_by(self) -> list[str]:
        """Columns that folders are named by; they are not in the files."""
        return ["interval", MONTH] if self.schema.has_interval else [MONTH]

    @cached_property
    def cadence(self) -> Cadence:
        """What a period of the table is: a day, or a month where the exchange publishes months only."""
        try:
            Dataset(self.exchange, self.market, self.data_type, Cadence.DAILY)
        except InputError:
            return Cadence.MONTHLY
        return Cadence.DAILY

    @property
    def period_length(self) -> int:
        """Characters of a period's text."""
        return len("2024-01-31") if self.cadence is Cadence.DAILY else len("2024-01")


@dataclass(frozen=True)
class TableEntry:
    """A table and the entries of the archive matrix that it is made of, by cadence."""

    table: Table
    entries: Mapping[Cadence, DatasetEntry]

    @property
    def on_bad_file(self) -> OnBadFile:
        """The daily entry's option; the monthly one's where there is no daily entry."""
        return (self.entries.get(Cadence.DAILY) or self.entries[Cadence.MONTHLY]).on_bad_file


def tables_of(entries: Iterable[DatasetEntry]) -> list[TableEntry]:
    """The tables of a matrix, in its order. Datasets whose archives have no schema make none."""
    found: dict[Table, dict[Cadence, DatasetEntry]] = {}
    for entry in entries:
        try:
            table = Table.of(entry.dataset)
        except InputError:
            continue
        found.setdefault(table, {})[entry.dataset.cadence] = entry
    return [TableEntry(table, of_table) for table, of_table in found.items()]
