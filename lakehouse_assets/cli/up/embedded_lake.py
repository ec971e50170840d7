"""The lake of ``lakehouse up`` if none is configured: an embedded store with a sample archive."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from lakehouse_assets.archive.matrix import ArchiveMatrix, DatasetEntry
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.embedded.samples import archive
from lakehouse_assets.embedded.samples.archive import SampleFile, sample_files, upload
from lakehouse_assets.embedded.samples.objects import sample_objects
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.errors import InputError

DAYS = 7
LONGEST_CATCH_UP_DAYS = 31
SYMBOLS = {
    "spot": ("BTCUSDT", "ETHUSDT"),
    "um": ("BTCUSDT", "ETHUSDT"),
    "cm": ("BTCUSD_PERP", "ETHUSD_PERP"),
}
_SKIPPED_INTERVALS = {"1s"}  # 86,400 rows a day


@dataclass(frozen=True, slots=True)
class SampleArchive:
    """Periods published in the embedded source: days from ``first`` to ``last``, and months."""

    first: date
    last: date
    months: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.first} to {self.last}; monthly datasets: {', '.join(self.months)}"


def source_buckets(matrix: ArchiveMatrix) -> tuple[str, ...]:
    """Buckets of the exchanges in a matrix."""
    return tuple(dict.fromkeys(entry.dataset.source.bucket for entry in matrix.entries))


def publish_samples(store: EmbeddedStore, matrix: ArchiveMatrix, record: Path, today: date) -> SampleArchive:
    """Publish new days up to yesterday, and the last complete month. ``record`` is the file that remembers them.

    Publishes a week of days the first time, and later the days since the last start, as an exchange would.
    """
    previous = _read(record)
    yesterday = today - timedelta(days=1)
    month = Period.containing(Cadence.MONTHLY, today).shifted(-1)
    oldest = yesterday - timedelta(days=(LONGEST_CATCH_UP_DAYS if previous else DAYS) - 1)
    first = max(oldest, previous.last + timedelta(days=1)) if previous else oldest
    new_month = previous is None or str(month) not in previous.months
    for entry in matrix.entries:
        if entry.dataset.cadence is Cadence.MONTHLY:
            files = _files(entry, month.start, month.start) if new_month else iter(())
        else:
            files = _files(entry, first, yesterday) if first <= yesterday else iter(())
        upload(store.admin_bucket(entry.dataset.source.bucket), files)
    months = (*(previous.months if previous else ()), *([str(month)] if new_month else []))
    published = SampleArchive(
        previous.first if previous else first, max(yesterday, previous.last if previous else first), months
    )
    _write(record, published)
    return published


def _files(entry: DatasetEntry, first: date, last: date) -> Iterator[SampleFile]:
    """Files of a few symbols that the entry selects; no files if the dataset is no longer published."""
    if entry.dataset.exchange == archive.EXCHANGE:
        return _detailed_files(entry, first, last)
    dataset, ended = entry.dataset, entry.last_period
    start, end = (Period.containing(dataset.cadence, day) for day in (first, last))
    if ended is not None and start > ended:
        return iter(())
    canaries = dataset.source.canaries.get(dataset.market, ())
    return sample_objects(
        dataset,
        symbols=[symbol for symbol in canaries if entry.symbols.selects(symbol)],
        intervals=entry.intervals,
        first=start,
        last=end if ended is None else min(end, ended),
    )


def _detailed_files(entry: DatasetEntry, first: date, last: date) -> Iterator[SampleFile]:
    """Files from the detailed generator of one exchange; no files for a dataset that it does not support."""
    dataset = entry.dataset
    symbols = [symbol for symbol in SYMBOLS.get(dataset.market, ()) if entry.symbols.selects(symbol)]
    try:
        return sample_files(
            dataset.market,
            dataset.data_type,
            dataset.cadence,
            symbols=symbols,
            intervals=[interval for interval in entry.intervals if interval not in _SKIPPED_INTERVALS],
            first=first,
            last=last,
        )
    except InputError:
        return iter(())


def _read(record: Path) -> SampleArchive | None:
    """None the first time, and for a record that a crash truncated."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return SampleArchive(
            date.fromisoformat(content["first"]), date.fromisoformat(content["last"]), tuple(content["months"])
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _write(record: Path, published: SampleArchive) -> None:
    content = {"first": str(published.first), "last": str(published.last), "months": published.months}
    record.write_text(json.dumps(content) + "\n", encoding="utf-8")


def embedded_environment(store: EmbeddedStore, environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` with its source, lake and maintenance settings replaced by those of the embedded store."""
    inherited = {
        name: value
        for name, value in environment.items()
        if not name.startswith(("LAKEHOUSE_LAKE_", "LAKEHOUSE_SOURCE_", "LAKEHOUSE_MAINTENANCE_"))
    }
    return inherited | {
        "LAKEHOUSE_LAKE_BUCKET": store.lake_bucket,
        "LAKEHOUSE_LAKE_ENDPOINT_URL": store.endpoint_url,
        "LAKEHOUSE_LAKE_ACCESS_KEY_ID": store.sync.access_key_id,
        "LAKEHOUSE_LAKE_SECRET_ACCESS_KEY": store.sync.secret_access_key,
        "LAKEHOUSE_SOURCE_ENDPOINT_URL": store.endpoint_url,
        "LAKEHOUSE_MAINTENANCE_ACCESS_KEY_ID": store.maintenance.access_key_id,
        "LAKEHOUSE_MAINTENANCE_SECRET_ACCESS_KEY": store.maintenance.secret_access_key,
    }
