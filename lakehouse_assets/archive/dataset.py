"""Datasets and the names derived from them.

A dataset is (exchange, market, data type, cadence). Its asset key and group, its folders in the source and its
folders in the lake all follow from these four words, in this module only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from lakehouse_assets.archive.exchanges import Exchange, exchange_named
from lakehouse_assets.archive.exchanges.layout import Layout, Publication
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.errors import InputError

ARCHIVE_FOLDER = "archive"
MANIFEST_FOLDER = "_manifest"
SUPERSEDED_FOLDER = "_superseded"


@dataclass(frozen=True, order=True)
class Dataset:
    """One archive asset. Raises InputError for a dataset that the exchange does not publish."""

    exchange: str
    market: str
    data_type: str
    cadence: Cadence

    def __post_init__(self) -> None:
        object.__setattr__(self, "cadence", _cadence(self.cadence))
        exchange_named(self.exchange).publication(self.market, self.data_type, self.cadence)

    @classmethod
    def parse(cls, name: str) -> Dataset:
        """Read ``binance/um/klines/daily``. Raises an InputError that lists the valid choices."""
        parts = name.strip("/").split("/")
        if len(parts) != len(cls.__dataclass_fields__):
            raise InputError(
                f"{name!r} is not a dataset; write exchange/market/data type/cadence, such as binance/um/klines/daily."
            )
        exchange, market, data_type, cadence = parts
        return cls(exchange, market, data_type, _cadence(cadence))

    def __str__(self) -> str:
        return self.name

    # Names in Dagster

    @property
    def name(self) -> str:
        """``binance/um/klines/daily``."""
        return "/".join(self.asset_key)

    @property
    def asset_key(self) -> tuple[str, str, str, str]:
        return (self.exchange, self.market, self.data_type, self.cadence.value)

    @property
    def group(self) -> str:
        """Exchange and market, a nested group of the asset graph: ``binance/um``."""
        return f"{self.exchange}/{self.market}"

    # The source

    @property
    def source(self) -> Exchange:
        return exchange_named(self.exchange)

    @cached_property
    def publication(self) -> Publication:
        return self.source.publication(self.market, self.data_type, self.cadence)

    @cached_property
    def layout(self) -> Layout:
        return self.source.layout(self.market, self.data_type, self.cadence)

    @property
    def caveat(self) -> str | None:
        """A known peculiarity of the files; None if there is none."""
        return self.source.caveats.get(self.data_type)

    @property
    def source_prefix(self) -> str:
        """The deepest folder in the source bucket that contains the complete dataset; ends with a slash.

        At some exchanges it contains other datasets, too.
        """
        return self.layout.root

    @property
    def source_url(self) -> str:
        return f"s3://{self.source.bucket}/{self.source_prefix}"

    def period(self, text: str) -> Period:
        """A partition key of this dataset. Raises InputError."""
        return Period.parse(text, self.cadence)

    def end_of(self, period: Period) -> datetime:
        """When a period of the exchange's calendar ends, in UTC."""
        return self.source.bounds(period)[1]

    # The lake; keys are relative to the lake's own prefix

    @property
    def lake_root(self) -> str:
        """The folder with the exchange's keys, verbatim: ``archive/binance/``."""
        return f"{ARCHIVE_FOLDER}/{self.exchange}/"

    @property
    def lake_prefix(self) -> str:
        return self.lake_root + self.source_prefix

    def lake_key(self, source_key: str) -> str:
        """The lake key of a source key."""
        return self.lake_root + source_key

    @property
    def superseded_prefix(self) -> str:
        """The folder with superseded versions of the dataset's objects."""
        return f"{SUPERSEDED_FOLDER}/{self.exchange}/{self.source_prefix}"

    def superseded_key(self, source_key: str, etag: str) -> str:
        """The key of a superseded version of an object; one key per content."""
        return f"{SUPERSEDED_FOLDER}/{self.exchange}/{source_key}/{etag}"

    @property
    def manifest_prefix(self) -> str:
        """The dataset's manifest, a Delta table."""
        return f"{MANIFEST_FOLDER}/{self.name}"


def _cadence(text: str) -> Cadence:
    try:
        return Cadence(text)
    except ValueError:
        raise InputError(f"{text!r} is not a cadence; use daily or monthly.") from None
