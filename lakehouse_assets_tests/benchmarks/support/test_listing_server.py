"""The benchmarks' listing server lists like an object store."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import obstore
import pytest

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets_tests.benchmarks.support.listing_server import Rule, Server, listing_server

SYMBOLS = [f"S{number}USDT" for number in range(7)]
DAYS = [f"2024-{month:02}-{day:02}" for month in range(1, 6) for day in range(1, 29)]
RULES = [
    Rule(
        "data/klines/{symbol}/{interval}/{symbol}-{interval}-{day}.zip",
        {"symbol": SYMBOLS, "interval": ["1h", "1m"], "day": DAYS},
    ),
    Rule("data/klines/{symbol}/{symbol}-part.csv", {"symbol": SYMBOLS[:2]}, suffixes=("",)),
    Rule("trades/{day}.csv.gz", {"day": DAYS}, suffixes=("",)),
    Rule(
        "deals/{month}/{symbol}-{month}{hour}.gz",
        {"month": ["202401", "202402"], "symbol": SYMBOLS, "hour": ["00", "01"]},
        suffixes=("",),
    ),
]
KEYS = sorted(
    [
        f"data/klines/{symbol}/{interval}/{symbol}-{interval}-{day}.zip{suffix}"
        for symbol, interval, day, suffix in product(SYMBOLS, ["1h", "1m"], DAYS, ["", ".CHECKSUM"])
    ]
    + [f"data/klines/{symbol}/{symbol}-part.csv" for symbol in SYMBOLS[:2]]
    + [f"trades/{day}.csv.gz" for day in DAYS]
    + [
        f"deals/{month}/{symbol}-{month}{hour}.gz"
        for month, symbol, hour in product(["202401", "202402"], SYMBOLS, ["00", "01"])
    ]
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with listing_server(RULES) as running:
        yield running


@pytest.fixture(scope="module")
def bucket(server: Server) -> Bucket:
    return Bucket(name="any", endpoint_url=server.endpoint_url, anonymous=True)


@pytest.fixture(scope="module")
def client(bucket: Bucket) -> Any:
    return bucket.boto3_client()


@pytest.mark.parametrize(
    "prefix", ["", "data/", "data/klines/S1", "data/klines/S1USDT/1h/", "trades/2024-03", "nothing/"]
)
@pytest.mark.parametrize(
    "after", ["", "data/klines/S1USDT/1h/S1USDT-1h-2024-05", "data/klines/S3USDT/", "trades/", "zzz"]
)
def test_listings_are_complete_and_ordered(client: Any, prefix: str, after: str) -> None:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="any", Prefix=prefix, StartAfter=after)
    listed = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    assert listed == [key for key in KEYS if key.startswith(prefix) and key > after]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("prefix", ["", "data/klines/", "data/klines/S1USDT/", "data/klines/S1USDT", "deals/202401/"])
def test_a_delimiter_lists_folders(client: Any, prefix: str, size: int) -> None:
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket="any", Prefix=prefix, Delimiter="/", PaginationConfig={"PageSize": size}
    )
    listed = [
        name
        for page in pages
        for name in (
            *(entry["Key"] for entry in page.get("Contents", ())),
            *(folder["Prefix"] for folder in page.get("CommonPrefixes", ())),
        )
    ]
    heads = {key[: key.find("/", len(prefix)) + 1] or key for key in KEYS if key.startswith(prefix)}
    assert sorted(listed) == sorted(heads)
    assert len(listed) == len(heads)


def test_obstore_and_the_first_list_api_return_the_same_keys(bucket: Bucket, client: Any, server: Server) -> None:
    before = server.pages
    listed = [
        entry["path"]
        for batch in obstore.list(bucket.object_store(), prefix="data/klines/S1USDT/1m/")
        for entry in batch
    ]
    assert listed == [key for key in KEYS if key.startswith("data/klines/S1USDT/1m/")]
    assert server.pages == before + 1
    first = client.list_objects(Bucket="any", Prefix="trades/", MaxKeys=100)
    second = client.list_objects(Bucket="any", Prefix="trades/", Marker=first["Contents"][-1]["Key"])
    assert [entry["Key"] for entry in (*first["Contents"], *second["Contents"])] == [
        key for key in KEYS if key.startswith("trades/")
    ]
