"""The embedded source of `lakehouse up` has samples of every exchange in the matrix."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from lakehouse_assets.archive.listing import Lister, folders_of
from lakehouse_assets.archive.matrix import ArchiveMatrix, DatasetEntry
from lakehouse_assets.cli.up.embedded_lake import publish_samples, source_buckets
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore

# Other tests publish other days.
TODAY = date(2028, 7, 9)
WANTED = {
    "bitmex/derivatives/quote/daily": 7,
    "bybit/spot/trades/daily": 14,
    "bybit/derivatives/spot_index/daily": 0,
    "gate/futures_usdt/candlesticks/monthly": 2,
    "htx/futures/funding_rates/daily": 14,
}


def test_every_exchange_of_a_matrix_gets_a_bucket_and_samples_up_to_yesterday(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    entries = [
        DatasetEntry.model_validate({"dataset": name, **({"intervals": ["1m"]} if "cand" in name else {})})
        for name in WANTED
    ]
    matrix = ArchiveMatrix(entries=tuple(entries))
    assert source_buckets(matrix) == (
        "public.bitmex.com",
        "public.bybit.com",
        "gateio-public-data",
        "huobi-service-data",
    )
    published = publish_samples(store, matrix, tmp_path / "record.json", TODAY)
    assert (published.last, published.months) == (date(2028, 7, 8), ("2028-06",))
    for entry in entries:
        dataset = entry.dataset
        lister = Lister(store.source(dataset.source.bucket))
        first, last = dataset.period("2028-06-01"), dataset.period("2028-07-31")
        symbols = lister.symbols(dataset, intervals=entry.intervals, first=first, last=last)
        folders = folders_of(dataset, symbols=symbols, intervals=entry.intervals, first=first, last=last)
        listing = lister.objects(dataset, folders)
        assert (listing.objects.height, listing.unrecognized) == (WANTED[dataset.name], ()), dataset
