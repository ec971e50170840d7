"""Walks of an archive: every exchange's tree on a real store, unrecognized keys, and many pages."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import obstore
import pytest
from obstore.exceptions import InvalidPathError

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.catalog.catalog import NO_DATASET, Catalog, CatalogDepth
from lakehouse_assets.archive.catalog.walk import discover
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.exchanges.grammar import Exchange
from lakehouse_assets.archive.exchanges.layout import SymbolLocation
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.errors import InputError, StoreError
from lakehouse_assets_tests.benchmarks.support.listing_server import Rule, listing_server

NOW = datetime(2024, 2, 5, 12, tzinfo=UTC)
ROOT = "data/futures/um/daily"


@pytest.fixture
def archive(store: EmbeddedStore) -> Bucket:
    """A bucket of its own."""
    bucket = store.admin_bucket(f"walk-{uuid.uuid4().hex[:12]}")
    bucket.boto3_client().create_bucket(Bucket=bucket.name)
    return bucket


def put(bucket: Bucket, keys: Iterable[str]) -> None:
    client = bucket.boto3_client()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=bucket.name, Key=key, Body=key.encode()), keys))


def kline(symbol: str, day: str, interval: str = "1m") -> list[str]:
    key = f"{ROOT}/klines/{symbol}/{interval}/{symbol}-{interval}-{day}.zip"
    return [key, f"{key}.CHECKSUM"]


def rows_of(catalog: Catalog, *columns: str) -> list[tuple[Any, ...]]:
    return catalog.spans.select(columns).rows()


def reasons_by_prefix(catalog: Catalog) -> dict[str, tuple[str, int, bool]]:
    return {row["prefix"]: (row["reason"], row["objects"], row["known"]) for row in catalog.unrecognized.to_dicts()}


# Every exchange


def published(exchange: Exchange) -> tuple[dict[tuple[Any, ...], tuple[date, date, int]], list[str]]:
    """Two symbols with a few periods in every data set: the expected spans, and the keys."""
    expected: dict[tuple[Any, ...], tuple[date, date, int]] = {}
    keys: list[str] = []
    for publication in exchange.publications:
        dataset = Dataset(exchange.name, publication.market, publication.data_type, publication.cadence)
        layout = dataset.layout
        begin = publication.ended - timedelta(days=70) if publication.ended else date(2026, 3, 3)
        first = Period.containing(dataset.cadence, begin)
        periods = [first, first.next(), first.shifted(2 if dataset.cadence is Cadence.MONTHLY else 33)]
        symbols = ["*"] if layout.symbol_location is SymbolLocation.NOWHERE else ["AUSDT", "BTCUSDT"]
        for symbol in symbols:
            for interval in publication.intervals[:2] or (None,):
                parts = layout.parts[:2] or (None,)
                keys += [
                    layout.key_of(symbol=symbol, interval=interval, period=period, part=part)
                    for period in periods
                    for part in parts
                ]
                row = (*dataset.asset_key[1:], symbol, interval)
                expected[row] = (periods[0].start, periods[-1].end - timedelta(days=1), len(periods) * len(parts))
    return expected, keys


@pytest.mark.parametrize("name", EXCHANGES)
def test_a_walk_lists_every_dataset_of_an_exchange_with_its_first_and_last_period(name: str, archive: Bucket) -> None:
    exchange = EXCHANGES[name]
    expected, keys = published(exchange)
    sidecars = [sidecar for key in keys if (sidecar := exchange.sidecar_of(key))]
    put(archive, [*keys, *sidecars])
    catalog = discover(name, archive, concurrency=8)
    rows = catalog.spans.select(
        "market", "data_type", "cadence", "symbol", "interval", "first", "last", "objects", "sidecars"
    ).rows()
    assert {row[:5]: row[5:8] for row in rows} == expected
    assert catalog.spans["sidecars"].sum() == len(sidecars)
    assert catalog.spans["bytes"].sum() == sum(len(key.encode()) for key in keys)
    assert catalog.unrecognized.is_empty()
    assert catalog.spans["exact"].all()
    assert {entry.dataset.name for entry in catalog.matrix().entries} == {
        "/".join((name, *row[:3])) for row in expected
    }
    shallow = discover(name, archive, depth=CatalogDepth.SHALLOW, concurrency=8)
    assert set(shallow.spans.select("market", "data_type", "cadence", "symbol").rows()) == {row[:4] for row in expected}
    for row in shallow.spans.drop_nulls("first").to_dicts():
        key = (row["market"], row["data_type"], row["cadence"], row["symbol"], row["interval"])
        assert (row["first"], row["last"], row["objects"]) == expected[key]


# Unrecognized keys


def test_unknown_folders_are_named_and_expected_unrecognized_keys_are_marked_as_known(archive: Bucket) -> None:
    put(
        archive,
        [
            *kline("BTCUSDT", "2024-01-01"),
            f"{ROOT}/newThing/BTCUSDT/BTCUSDT-newThing-2024-01-01.zip",
            "data/bonds/daily/x.zip",
            "data9/x.zip",
            "data2/2020/x.csv",
            "data3/liquidationSnapshot/BTCUSDT/x.zip",
            "index.html",
        ],
    )
    catalog = discover("binance", archive)
    assert catalog.datasets()["dataset"].to_list() == ["um/klines/daily"]
    reasons = reasons_by_prefix(catalog)
    assert {prefix for prefix, (reason, _, _) in reasons.items() if reason == NO_DATASET} == {
        f"{ROOT}/newThing/",
        "data/bonds/",
        "data9/",
    }
    assert [reasons[prefix][1:] for prefix in ("data9/", "data2/", "data3/", "")] == [
        (1, False),
        (1, True),
        (1, True),
        (1, True),
    ]


def test_unrecognized_keys_are_counted_by_reason_and_hide_no_object(archive: Bucket) -> None:
    folder = f"{ROOT}/klines/BTCUSDT/1m"
    odd = [
        f"{folder}/BTCUSDT-1m-2024-01-02.odd\nname.zip",
        f"{folder}/sp ace %41 &x.zip",
        f"{folder}/tab\t.zip",
        f"{folder}/ETHUSDT-1m-2024-01-02.zip",
        f"{folder}/BTCUSDT-1m-2024-13-45.zip",
        f"{ROOT}/klines/BTCUSDT/1w/BTCUSDT-1w-2024-01-01.zip",
        f"{ROOT}/klines/O DD/1m/x.zip",
        f"{ROOT}/klines/readme.txt",
    ]
    keys = [*kline("BTCUSDT", "2024-01-01"), *kline("BTCUSDT", "2024-01-03"), *kline("币安人生USDT", "2024-01-01")]
    put(archive, [*keys, *odd])
    catalog = discover("binance", archive)
    assert rows_of(catalog, "symbol", "interval", "first", "last", "objects", "sidecars") == [
        ("BTCUSDT", "1m", date(2024, 1, 1), date(2024, 1, 3), 2, 2),
        ("币安人生USDT", "1m", date(2024, 1, 1), date(2024, 1, 1), 1, 1),
    ]
    assert catalog.unrecognized["objects"].sum() == len(odd)
    reasons = set(catalog.unrecognized["reason"])
    assert {
        "its folder is of another symbol",
        "interval 1w is not published daily",
        "2024-13-45 is not a date",
    } <= reasons
    assert not catalog.unrecognized["known"].any()


def test_a_sidecar_without_its_object_makes_no_symbol(archive: Bucket) -> None:
    put(archive, [kline("AUSDT", "2024-01-01")[1], *kline("BUSDT", "2024-01-01")])
    assert rows_of(discover("binance", archive), "symbol") == [("BUSDT",)]


def test_a_long_gap_makes_two_spans(archive: Bucket) -> None:
    days = ["2021-01-30", "2021-01-31", "2023-12-23", "2023-12-24"]
    put(archive, [key for day in days for key in kline("LITUSDT", day)])
    assert rows_of(discover("binance", archive), "span", "first", "last", "objects") == [
        (1, date(2021, 1, 30), date(2021, 1, 31), 2),
        (2, date(2023, 12, 23), date(2023, 12, 24), 2),
    ]


# Partial walks and failures


def test_a_partial_walk_lists_nothing_else(archive: Bucket) -> None:
    spot = "data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2024-01-01.zip"
    metrics = f"{ROOT}/metrics/BTCUSDT/BTCUSDT-metrics-2024-01-01.zip"
    put(archive, [*kline("BTCUSDT", "2024-01-01"), spot, metrics])
    complete = discover("binance", archive)
    partial = discover("binance", archive, markets=["um"], data_types=["metrics"])
    assert rows_of(partial, "market", "data_type") == [("um", "metrics")]
    assert partial.requests < complete.requests
    assert partial.unrecognized.is_empty()
    assert (partial.covers("um", "metrics"), partial.covers("um", "klines"), partial.covers("spot", "metrics")) == (
        True,
        False,
        False,
    )


def test_datasets_that_share_folders_do_not_report_each_other_as_unrecognized(archive: Bucket) -> None:
    put(archive, ["spot/AUSDT/AUSDT-2024-01.csv.gz", "spot/AUSDT/AUSDT_2024-01-05.csv.gz"])
    complete = discover("bybit", archive)
    assert rows_of(complete, "cadence", "first", "last") == [
        ("daily", date(2024, 1, 5), date(2024, 1, 5)),
        ("monthly", date(2024, 1, 1), date(2024, 1, 31)),
    ]
    assert complete.unrecognized.is_empty()


def test_an_unknown_market_or_data_type_is_refused_with_the_known_ones(archive: Bucket) -> None:
    with pytest.raises(InputError, match=r"binance has no market 'umm'; it has spot, um, cm, option\."):
        discover("binance", archive, markets=["umm"])
    with pytest.raises(InputError, match=r"binance/option has no data type 'klines'; it has BVOLIndex, EOHSummary\."):
        discover("binance", archive, markets=["option"], data_types=["klines"])
    with pytest.raises(InputError, match="Unknown exchange 'binanse'"):
        discover("binanse", archive)


def test_a_walk_fails_if_one_listing_fails(archive: Bucket) -> None:
    with pytest.raises(StoreError, match=r"^Listing s3://no-such-bucket/ failed: "):
        discover("binance", replace(archive, name="no-such-bucket"))
    nowhere = replace(archive, endpoint_url="http://127.0.0.1:9", max_attempts=1)
    with pytest.raises(StoreError, match="Unreachable"):
        discover("binance", nowhere)


def test_an_empty_bucket_is_an_empty_catalog(archive: Bucket) -> None:
    catalog = discover("binance", archive)
    assert (catalog.spans.is_empty(), catalog.unrecognized.is_empty(), catalog.datasets().is_empty()) == (
        True,
        True,
        True,
    )


# Many pages


def days(first: str, count: int) -> list[str]:
    return [str(date.fromisoformat(first) + timedelta(days=number)) for number in range(count)]


def test_folders_and_keys_of_several_pages_are_counted_with_the_fewest_requests() -> None:
    symbols = [f"S{number:04}USDT" for number in range(1_100)]
    template = ROOT + "/metrics/{symbol}/{symbol}-metrics-{day}.zip"
    rules = [
        Rule(template, {"symbol": symbols, "day": days("2024-01-01", 2)}),
        Rule(template, {"symbol": ["LONGUSDT"], "day": days("2014-01-01", 2_600)}),
        Rule("odd{number}/x.zip", {"number": [f"{number:04}" for number in range(1_100)]}, suffixes=("",)),
    ]
    with listing_server(rules) as server:
        bucket = Bucket(name="any", endpoint_url=server.endpoint_url, anonymous=True)
        seen: list[int] = []
        catalog = discover("binance", bucket, now=NOW, on_progress=lambda progress: seen.append(progress.keys))
        assert catalog.requests == server.pages
    assert catalog.spans.height == 1_101
    assert (catalog.spans["objects"].sum(), catalog.spans["sidecars"].sum()) == (4_800, 4_800)
    # root twice (1,101 folders), data, futures, um, daily; metrics twice; symbols, the long one six times; 100 peeks.
    assert catalog.requests == 2 + 4 + 2 + 1_100 + 6 + 100
    assert seen[-1] == 9_600 + 100
    assert catalog.unrecognized["objects"].sum() == 1_100


def test_an_unrecognized_key_beyond_the_first_pages_loses_and_repeats_no_key() -> None:
    folder = ROOT + "/metrics/AUSDT"
    rules = [
        Rule(folder + "/AUSDT-metrics-{day}.zip", {"day": days("2001-01-01", 4_700)}),
        Rule(folder + "/zz//odd.zip", suffixes=("",)),
    ]
    with listing_server(rules) as server:
        bucket = Bucket(name="any", endpoint_url=server.endpoint_url, anonymous=True)
        with pytest.raises(InvalidPathError):
            obstore.list(bucket.object_store(), prefix=folder + "/").collect()
        catalog = discover("binance", bucket, now=NOW)
    assert rows_of(catalog, "symbol", "objects", "sidecars") == [("AUSDT", 4_700, 4_700)]
    assert catalog.unrecognized.select("objects", "example").rows() == [(1, folder + "/zz//odd.zip")]


def test_a_shallow_walk_lists_every_symbol_in_few_pages_and_both_ends_of_a_sample() -> None:
    symbols = [f"S{number:04}USDT" for number in range(400)]
    long = days("2018-01-01", 2_000)
    template = ROOT + "/klines/{symbol}/{interval}/{symbol}-{interval}-{day}.zip"
    rules = [
        Rule(template, {"symbol": symbols, "interval": ["1h", "1m"], "day": long}),
        Rule(template, {"symbol": ["BTCUSDT"], "interval": ["1m"], "day": days("2020-01-01", 1_495)}, size=50),
    ]
    with listing_server(rules) as server:
        bucket = Bucket(name="any", endpoint_url=server.endpoint_url, anonymous=True)
        catalog = discover("binance", bucket, depth=CatalogDepth.SHALLOW, now=NOW)
        assert catalog.requests == server.pages
    assert catalog.spans["symbol"].n_unique() == 401
    sampled = {(row["symbol"], row["interval"]): row for row in catalog.spans.drop_nulls("first").to_dicts()}
    assert len(sampled) == 7 * 2 + 1
    assert catalog.requests < 250
    dead, live = sampled["S0049USDT", "1m"], sampled["BTCUSDT", "1m"]
    assert (dead["first"], dead["last"]) == (date.fromisoformat(long[0]), date.fromisoformat(long[-1]))
    assert (live["first"], live["last"]) == (date(2020, 1, 1), date(2024, 2, 3))
    assert not dead["exact"]
    assert dead["objects"] == pytest.approx(2_000, rel=0.01)
    assert dead["bytes"] == pytest.approx(2_000_000, rel=0.01)
    [row] = catalog.datasets().to_dicts()
    assert (row["state"], row["exact"]) == ("live", False)
    assert row["objects"] == pytest.approx(401 * 2 * 2_000, rel=0.1)
