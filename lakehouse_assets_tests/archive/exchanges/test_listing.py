"""Listings of every exchange's layout on a real store, with the peculiarities of each."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from lakehouse_assets.archive import list_requests
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import EXCHANGES, layout
from lakehouse_assets.archive.exchanges.grammar import Exchange
from lakehouse_assets.archive.exchanges.layout import ALL_SYMBOLS, Folder, SymbolLocation
from lakehouse_assets.archive.listing import Lister, Listing, folders_of
from lakehouse_assets.embedded.samples.objects import sample_objects
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets_tests.world import World, client_of

DEALS = Dataset.parse("gate/spot/deals/monthly")
CANDLES = Dataset.parse("gate/spot/candlesticks/daily")
BOOKS = Dataset.parse("gate/spot/orderbooks/daily")


def put_all(world: World, keys: Iterable[str], body: bytes = b"x") -> list[str]:
    keys = list(keys)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: world.put(key, body), keys))
    return keys


def published(world: World, dataset: Dataset, symbols: list[str], first: str, last: str, *intervals: str) -> list[str]:
    """Sample objects of a dataset in the store; returns the objects' keys."""
    files = list(
        sample_objects(
            dataset, symbols=symbols, intervals=intervals, first=dataset.period(first), last=dataset.period(last)
        )
    )
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda file: world.put(file.key, file.body, sidecar=False), files))
    suffix = dataset.source.sidecar_suffix
    return [file.key for file in files if not (suffix and file.key.endswith(suffix))]


def listed(world: World, dataset: Dataset, symbols: list[str], first: str, last: str, *intervals: str) -> Listing:
    folders = folders_of(
        dataset, symbols=symbols, intervals=intervals, first=dataset.period(first), last=dataset.period(last)
    )
    return Lister(world.source).objects(dataset, folders)


def symbols_of(world: World, dataset: Dataset, first: str, last: str, *intervals: str) -> tuple[str, ...]:
    return Lister(world.source).symbols(
        dataset, intervals=intervals, first=dataset.period(first), last=dataset.period(last)
    )


def by_boto3(world: World, folder: Folder) -> list[tuple[object, ...]]:
    answer = client_of(world._admin).list_objects_v2(
        Bucket=world.source.name, Prefix=folder.prefix, StartAfter=folder.first
    )
    return [
        (entry["Key"], entry["Size"], entry["ETag"].strip('"'), entry["LastModified"]) for entry in answer["Contents"]
    ]


@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=lambda exchange: exchange.name)
def test_boto3_lists_the_same_keys_for_every_publication(store: EmbeddedStore, exchange: Exchange) -> None:
    world = World(store, exchange.name)
    lister = Lister(world.source)
    for publication in exchange.publications:
        dataset = Dataset(exchange.name, *publication.id)
        nowhere = dataset.layout.symbol_location is SymbolLocation.NOWHERE
        symbols = [ALL_SYMBOLS if nowhere else world.symbol("BTC币")]
        intervals = publication.intervals[:1]
        periods = ["2023-07-01", "2023-07-02"] if publication.cadence == "daily" else ["2023-07", "2023-08"]
        keys = published(world, dataset, symbols, periods[0], periods[1], *intervals)
        folders = folders_of(
            dataset,
            symbols=symbols,
            intervals=intervals,
            first=dataset.period(periods[0]),
            last=dataset.period(periods[1]),
        )
        for folder in folders:
            by_us = pl.concat(lister._keys(dataset, folder).keys).rows()
            assert by_us == by_boto3(world, folder), dataset
        listing = lister.objects(dataset, folders)
        assert (listing.objects["key"].to_list(), listing.unrecognized) == (keys, ())
        assert listing.objects["sidecar_etag"].null_count() == (0 if exchange.checksum else len(keys))
        assert symbols[0] in lister.symbols(
            dataset, intervals=intervals, first=dataset.period(periods[0]), last=dataset.period(periods[1])
        )


# Bybit


def test_bybit_s_days_and_months_of_one_folder_do_not_report_each_other_as_unrecognized(store: EmbeddedStore) -> None:
    world = World(store, "bybit")
    daily, monthly = (Dataset.parse(f"bybit/spot/trades/{cadence}") for cadence in ("daily", "monthly"))
    symbol = world.symbol("BTCUSDT")
    days = published(world, daily, [symbol], "2022-11-29", "2022-12-02")
    months = published(world, monthly, [symbol], "2022-11", "2022-12")
    assert days[0].rsplit("/", 1)[0] == months[0].rsplit("/", 1)[0]
    for dataset, first, last, keys in (
        (daily, "2022-11-01", "2022-12-31", days),
        (monthly, "2022-11", "2022-12", months),
    ):
        listing = listed(world, dataset, [symbol], first, last)
        assert (listing.objects["key"].to_list(), listing.unrecognized) == (keys, ())


def test_a_bybit_contract_is_not_listed_with_one_that_begins_with_its_name(store: EmbeddedStore) -> None:
    world = World(store, "bybit")
    dataset = Dataset.parse("bybit/derivatives/trades/daily")
    plain, dated = world.symbol("BTC"), world.symbol("BTC-29DEC23")
    keys = published(world, dataset, [plain, dated], "2023-12-01", "2023-12-01")
    assert {plain, dated} <= set(symbols_of(world, dataset, "2023-12-01", "2023-12-01"))
    assert listed(world, dataset, [plain], "2023-12-01", "2023-12-01").objects["key"].to_list() == keys[:1]
    assert listed(world, dataset, [dated], "2023-12-01", "2023-12-01").objects["key"].to_list() == keys[1:]


# BitMEX


def test_bitmex_s_folder_marker_is_not_an_object_and_hides_none(store: EmbeddedStore) -> None:
    world = World(store, "bitmex")
    dataset = Dataset.parse("bitmex/derivatives/trade/daily")
    put_all(world, ["data/trade/"], b"")
    keys = published(world, dataset, [ALL_SYMBOLS], "2015-02-27", "2015-03-01")
    assert keys[1] == "data/trade/20150228.csv.gz"
    assert symbols_of(world, dataset, "2015-02-27", "2015-03-01") == (ALL_SYMBOLS,)
    listing = listed(world, dataset, [ALL_SYMBOLS], "2014-11-22", "2015-03-01")
    objects = listing.objects.filter(listing.objects["period"] >= "2015-02-27")
    assert objects["key"].to_list() == keys
    assert objects["period"].to_list() == ["2015-02-27", "2015-02-28", "2015-03-01"]
    assert set(objects["symbol"]) == {ALL_SYMBOLS}
    assert listing.unrecognized == ()


# Gate


def test_gate_s_symbols_are_the_beginnings_of_file_names_in_the_requested_months(store: EmbeddedStore) -> None:
    world = World(store, "gate")
    btc, eth, new = (world.symbol(name) for name in ("BTC_USDT", "ETH_USDT", "NEW_USDT"))
    published(world, CANDLES, [btc, eth], "2019-01-30", "2019-02-02", "1m", "5m")
    published(world, CANDLES, [new], "2019-03-01", "2019-03-01", "5m")
    own = {btc, eth, new}
    assert own & set(symbols_of(world, CANDLES, "2019-01-31", "2019-02-28")) == {btc, eth}
    assert own & set(symbols_of(world, CANDLES, "2019-01-31", "2019-03-01", "5m")) == own
    assert own & set(symbols_of(world, CANDLES, "2019-01-31", "2019-03-01", "1m")) == {btc, eth}
    assert own <= set(Lister(world.source).symbols(CANDLES))


def test_more_symbols_than_fit_on_a_page_are_all_listed(store: EmbeddedStore) -> None:
    world = World(store, "gate")
    symbols = [world.symbol(f"{number:04}_USDT") for number in range(1100)]
    put_all(world, (f"spot/deals/201812/{symbol}-201812.csv.gz" for symbol in symbols))
    assert symbols_of(world, DEALS, "2018-12", "2018-12") == tuple(symbols)


def test_symbols_are_the_same_on_a_store_without_such_delimiters(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(store, "gate")
    published(world, BOOKS, [world.symbol("A_USDT"), world.symbol("B_USDT")], "2021-09-01", "2021-09-01")
    lister = Lister(world.source)
    expected = list(lister._beginnings("spot/orderbooks/202109/", "-"))
    pages = lister._pages._requests
    page = pages.page
    monkeypatch.setattr(list_requests, "PAGE", 7)
    monkeypatch.setattr(pages, "page", lambda prefix, *, after, delimiter: page(prefix, after=after))
    assert sorted(set(lister._beginnings("spot/orderbooks/202109/", "-"))) == expected
    assert len(expected) >= 2


def test_a_range_over_months_lists_each_month_s_folder_for_each_symbol(store: EmbeddedStore) -> None:
    world = World(store, "gate")
    btc, eth = world.symbol("BTC_USDT"), world.symbol("ETH_USDT")
    keys = published(world, CANDLES, [btc, eth], "2020-01-30", "2020-03-02", "1m")
    listing = listed(world, CANDLES, [btc], "2020-01-31", "2020-03-01", "1m")
    assert listing.objects["key"].to_list() == keys[1:32]
    assert listing.objects["key"][0].startswith("spot/candlesticks_1m/202001/")
    assert listing.requests == 3


def test_many_symbols_are_listed_together_and_only_the_requested_ones_are_returned(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(store, "gate")
    monkeypatch.setattr(layout, "GROUP_SYMBOLS_ABOVE", 2)
    names = [world.symbol(name) for name in ("A_USDT", "B_USDT", "C_USDT", "D_USDT")]
    published(world, DEALS, names, "2020-05", "2020-06")
    wanted = [names[0], names[1], names[3]]
    listing = listed(world, DEALS, wanted, "2020-05", "2020-06")
    assert listing.requests == 2
    assert sorted(zip(listing.objects["period"], listing.objects["symbol"], strict=True)) == [
        (period, symbol) for period in ("2020-05", "2020-06") for symbol in wanted
    ]


def test_the_hours_of_a_day_are_objects_of_one_period(store: EmbeddedStore) -> None:
    world = World(store, "gate")
    symbol = world.symbol("BTC_USDT")
    published(world, BOOKS, [symbol], "2021-08-30", "2021-09-01")
    objects = listed(world, BOOKS, [symbol], "2021-08-31", "2021-08-31").objects
    assert objects.select("period", "part").rows() == [("2021-08-31", f"{hour:02}") for hour in range(24)]


def test_the_hour_in_gate_s_folder_of_the_next_month_is_reported_as_unrecognized(store: EmbeddedStore) -> None:
    world = World(store, "gate")
    symbol = world.symbol("BTC_USDT")
    misfiled = f"spot/orderbooks/202212/{symbol}-2022113023.csv.gz"
    put_all(world, [misfiled, f"spot/orderbooks/202212/{symbol}-2022120100.csv.gz"])
    listing = listed(world, BOOKS, [symbol], "2022-11-30", "2022-12-01")
    assert listing.objects["part"].to_list() == ["00"]
    # The range of December begins after it: only a listing of the complete folder contains it.
    assert listing.unrecognized == ()
    assert world.exchange.parse(misfiled).reason == "its folder is of another month"


def test_an_empty_file_is_listed(store: EmbeddedStore) -> None:
    world = World(store, "gate")
    [key] = put_all(world, [f"spot/deals/202007/{world.symbol('EMPTY_USDT')}-202007.csv.gz"], b"")
    [row] = listed(world, DEALS, [world.symbol("EMPTY_USDT")], "2020-07", "2020-07").objects.to_dicts()
    assert (row["key"], row["size"]) == (key, 0)


# Requests


@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=lambda exchange: exchange.name)
def test_buckets_are_addressed_by_path_so_that_dotted_names_pass_tls(store: EmbeddedStore, exchange: Exchange) -> None:
    bucket = World(store, exchange.name).source
    assert bucket.at_most(10_000) == exchange.max_requests
    client = bucket.boto3_client()
    url = client.generate_presigned_url("get_object", Params={"Bucket": exchange.bucket, "Key": "a b"})
    assert url == f"{store.endpoint_url}/{exchange.bucket}/a%20b"
