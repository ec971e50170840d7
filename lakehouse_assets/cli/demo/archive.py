"""The demo's archive: publish files in the embedded source, and read their keys as datasets and periods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import obstore

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.exchanges.grammar import Exchange, ParsedKey
from lakehouse_assets.archive.matrix import DatasetEntry, SyncMode
from lakehouse_assets.archive.period import Period
from lakehouse_assets.archive.symbol_filter import ALL
from lakehouse_assets.embedded.samples.archive import SampleFile, sample_files, upload, upload_tree
from lakehouse_assets.errors import InputError

FIRST_DAY = date(2024, 3, 1)
"""First day of the generated archive; fixed, so that every demo has the same objects."""

EXAMPLE_KEY = "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-03-01.zip"


@dataclass(frozen=True, slots=True)
class Sample:
    """One dataset of the generated archive."""

    market: str
    data_type: str
    symbols: tuple[str, ...]
    intervals: tuple[str, ...] = ()

    def files(self, first: date, last: date) -> Iterator[SampleFile]:
        return sample_files(
            self.market,
            self.data_type,
            "daily",
            symbols=self.symbols,
            intervals=self.intervals,
            first=first,
            last=last,
        )


SAMPLES = (
    Sample("spot", "klines", ("BTCUSDT", "ETHUSDT"), ("1m", "1h")),
    Sample("um", "klines", ("BTCUSDT", "ETHUSDT"), ("1m", "1h")),
    Sample("cm", "aggTrades", ("BTCUSD_PERP", "ETHUSD_PERP")),
)


@dataclass(frozen=True, slots=True)
class DemoDataset:
    """A dataset in the demo's archive: its matrix entry, and its objects (without sidecars) by period."""

    entry: DatasetEntry
    objects: dict[Period, tuple[str, ...]]

    @property
    def dataset(self) -> Dataset:
        return self.entry.dataset

    @property
    def periods(self) -> list[Period]:
        return sorted(self.objects)


@dataclass(frozen=True, slots=True)
class Published:
    """The demo's archive. ``others`` counts the files that are not archive objects."""

    exchange: Exchange
    datasets: tuple[DemoDataset, ...]
    sizes: dict[str, int]
    others: int


def fill(bucket: Bucket, samples: Path | None, days: int) -> None:
    """Publish a folder's files, or generated days, in a source bucket."""
    if samples is not None:
        upload_tree(bucket, samples)
        return
    last = FIRST_DAY + timedelta(days=days - 1)
    upload(bucket, (file for sample in SAMPLES for file in sample.files(FIRST_DAY, last)))


def read_folder(folder: Path) -> Published:
    """Read a folder as an archive. Raises InputError if it contains no archive object."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name one that is laid out like an archive.")
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return read_archive(sizes, str(folder))


def read_bucket(bucket: Bucket) -> Published:
    """Read a bucket as an archive."""
    listed = obstore.list(bucket.object_store()).collect()
    return read_archive({meta["path"]: meta["size"] for meta in listed}, bucket.url)


def read_archive(sizes: dict[str, int], place: str) -> Published:
    """Datasets and periods of a set of keys, each with a matrix entry for all of its objects, in mode direct.

    Files of periods that have not ended, or that the exchange never published, count as others.
    """
    exchange = _exchange_of(sizes)
    objects_of: dict[Dataset, dict[Period, list[tuple[str, str | None]]]] = {}
    others = 0
    for key in sorted(sizes):
        parsed = exchange.parse(key)
        if not isinstance(parsed, ParsedKey):
            others += 1
        elif not parsed.is_sidecar:
            dataset = Dataset(exchange.name, parsed.market, parsed.data_type, parsed.cadence)
            if may_exist(dataset, parsed.period):
                objects = objects_of.setdefault(dataset, {}).setdefault(parsed.period, [])
                objects.append((key, parsed.interval))
            else:
                others += 1
    if not objects_of:
        raise InputError(f"No file in {place} is an archive object; lay them out like {EXAMPLE_KEY}.")
    order = {market: place for place, market in enumerate(exchange.markets)}
    datasets = sorted(objects_of, key=lambda dataset: (order[dataset.market], dataset.name))
    demo_datasets = tuple(_demo_dataset(dataset, objects_of[dataset]) for dataset in datasets)
    return Published(exchange, demo_datasets, sizes, others)


def _exchange_of(keys: Iterable[str]) -> Exchange:
    """The exchange whose grammar parses most of the keys."""
    counts = Counter(
        exchange.name for key in keys for exchange in EXCHANGES.values() if isinstance(exchange.parse(key), ParsedKey)
    )
    return EXCHANGES[counts.most_common(1)[0][0]] if counts else next(iter(EXCHANGES.values()))


def _demo_dataset(dataset: Dataset, objects: dict[Period, list[tuple[str, str | None]]]) -> DemoDataset:
    intervals = {interval for keys in objects.values() for _, interval in keys if interval}
    entry = DatasetEntry.model_validate(
        {
            "dataset": dataset.name,
            "symbols": ALL,
            "mode": SyncMode.DIRECT,
            **({"intervals": sorted(intervals)} if intervals else {}),
        }
    )
    return DemoDataset(entry, {period: tuple(key for key, _ in keys) for period, keys in objects.items()})


def may_exist(dataset: Dataset, period: Period) -> bool:
    """Whether a period has ended and the exchange published the dataset then."""
    publication = dataset.publication
    first = Period.containing(dataset.cadence, publication.first)
    if publication.ended is not None and period > Period.containing(dataset.cadence, publication.ended):
        return False
    return first <= period and period.end <= dataset.source.today(datetime.now(UTC))
