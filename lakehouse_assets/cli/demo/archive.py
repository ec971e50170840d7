"""The demo's archive: what is published in the embedded source, and what of it is an archive object."""

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
from lakehouse_assets.archive.matrix import ALL, DatasetEntry, SyncMode
from lakehouse_assets.archive.period import Period
from lakehouse_assets.embedded.samples.archive import SampleFile, sample_files, upload, upload_tree
from lakehouse_assets.errors import InputError

FIRST_DAY = date(2024, 3, 1)
"""Of the generated archive; fixed, so that every demo has the same objects."""

EXAMPLE_KEY = "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-03-01.zip"


@dataclass(frozen=True, slots=True)
class Sample:
    """One data set of the generated archive."""

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
    """A dataset that the tree holds: its matrix entry, its periods, and its objects (no sidecars) by period."""

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
    """The whole tree: its exchange, its datasets, its files' sizes, and how many files are something else."""

    exchange: Exchange
    datasets: tuple[DemoDataset, ...]
    sizes: dict[str, int]
    others: int


def fill(bucket: Bucket, samples: Path | None, days: int) -> None:
    """Publish a directory's files, or a generated week, in a source bucket."""
    if samples is not None:
        upload_tree(bucket, samples)
        return
    last = FIRST_DAY + timedelta(days=days - 1)
    upload(bucket, (file for sample in SAMPLES for file in sample.files(FIRST_DAY, last)))


def survey_directory(directory: Path) -> Published:
    """What a directory's files are as an archive. Raises InputError where there is no archive object."""
    if not directory.is_dir():
        raise InputError(f"{directory} is no directory; name one that is laid out as an archive tree.")
    sizes = {
        path.relative_to(directory).as_posix(): path.stat().st_size for path in directory.rglob("*") if path.is_file()
    }
    return survey(sizes, str(directory))


def survey_bucket(bucket: Bucket) -> Published:
    """What a bucket's objects are as an archive."""
    listed = obstore.list(bucket.object_store()).collect()
    return survey({meta["path"]: meta["size"] for meta in listed}, bucket.url)


def survey(sizes: dict[str, int], where: str) -> Published:
    """Datasets and periods of a tree of keys, each with a matrix entry that wants all of it, mode direct.

    Files of periods that are not over, or lie outside what the exchange published, count as others.
    """
    exchange = _exchange_of(sizes)
    found: dict[Dataset, dict[Period, list[tuple[str, str | None]]]] = {}
    others = 0
    for key in sorted(sizes):
        parsed = exchange.parse(key)
        if not isinstance(parsed, ParsedKey):
            others += 1
        elif not parsed.is_sidecar:
            dataset = Dataset(exchange.name, parsed.market, parsed.data_type, parsed.cadence)
            if may_exist(dataset, parsed.period):
                objects = found.setdefault(dataset, {}).setdefault(parsed.period, [])
                objects.append((key, parsed.interval))
            else:
                others += 1
    if not found:
        raise InputError(f"No file in {where} is an archive object; lay it out as, for example, {EXAMPLE_KEY}.")
    order = {market: place for place, market in enumerate(exchange.markets)}
    datasets = sorted(found, key=lambda dataset: (order[dataset.market], dataset.name))
    made = tuple(_demo_dataset(dataset, found[dataset]) for dataset in datasets)
    return Published(exchange, made, sizes, others)


def _exchange_of(keys: Iterable[str]) -> Exchange:
    """The exchange whose grammar reads most of the keys."""
    counts = Counter(
        exchange.name for key in keys for exchange in EXCHANGES.values() if isinstance(exchange.parse(key), ParsedKey)
    )
    return EXCHANGES[counts.most_common(1)[0][0]] if counts else next(iter(EXCHANGES.values()))


def _demo_dataset(dataset: Dataset, objects: dict[Period, list[tuple[str, str | None]]]) -> DemoDataset:
    seen = {interval for each in objects.values() for _, interval in each if interval}
    entry = DatasetEntry.model_validate(
        {
            "dataset": dataset.name,
            "symbols": ALL,
            "mode": SyncMode.DIRECT,
            **({"intervals": sorted(seen)} if seen else {}),
        }
    )
    return DemoDataset(entry, {period: tuple(key for key, _ in each) for period, each in objects.items()})


def may_exist(dataset: Dataset, period: Period) -> bool:
    """Whether a period is over, and within what the exchange published."""
    publication = dataset.publication
    first = Period.containing(dataset.cadence, publication.first)
    if publication.ended is not None and period > Period.containing(dataset.cadence, publication.ended):
        return False
    return first <= period and period.end <= dataset.source.today(datetime.now(UTC))
