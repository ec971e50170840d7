"""Listing against a real store: ranges, odd keys, both listers, errors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges.layout import Folder
from lakehouse_assets.archive.listing import Lister, folders_of
from lakehouse_assets.errors import StoreError
from lakehouse_assets_tests.world import KLINES, World, days

DATASET = Dataset.parse(KLINES)


def listed(world: World, symbol: str, first: str, last: str, interval: str = "1m") -> list[str]:
    folders = folders_of(
        DATASET,
        symbols=[world.symbol(symbol)],
        intervals=[interval],
        first=DATASET.period(first),
        last=DATASET.period(last),
    )
    return Lister(world.source).objects(DATASET, folders).objects["key"].to_list()


def test_a_range_lists_its_periods_and_no_others(world: World) -> None:
    keys = world.publish(["BTCUSDT"], days("2024-01-25", "2024-02-10"))
    assert listed(world, "BTCUSDT", "2024-01-30", "2024-02-02") == keys[5:9]


def test_a_range_of_several_pages_is_listed_completely(world: World) -> None:
    keys = world.publish(["BTCUSDT"], days("2021-01-01", "2022-12-31"), size=8)
    assert len(keys) * 2 > 1000
    assert listed(world, "BTCUSDT", "2021-01-01", "2022-12-31") == keys


def test_siblings_of_a_symbol_and_of_an_interval_are_not_listed(world: World) -> None:
    world.publish(["BTCUSDT", "BTCUSDT_240329"], ["2024-01-01"], intervals=["1m", "15m"])
    assert listed(world, "BTCUSDT", "2024-01-01", "2024-01-01") == [world.key("BTCUSDT", "2024-01-01")]


def test_symbols_of_any_script_are_listed(world: World) -> None:
    world.publish(["币安人生USDT", "0GUSDT"], ["2024-01-01"])
    symbols = Lister(world.source).symbols(DATASET)
    assert {world.symbol("币安人生USDT"), world.symbol("0GUSDT")} <= set(symbols)
    assert listed(world, "币安人生USDT", "2024-01-01", "2024-01-01")


@pytest.mark.parametrize(
    "name", ["odd\nname.zip", "double//slash.zip", "sp ace %41 &x.zip", "tab\t.zip", "back\\slash"]
)
def test_one_odd_key_does_not_hide_the_others(world: World, name: str) -> None:
    keys = world.publish(["BTCUSDT"], days("2024-01-01", "2024-01-03"))
    folder = keys[0].rsplit("/", 1)[0]
    world.put(f"{folder}/{world.symbol('BTCUSDT')}-1m-2024-01-02.{name}", b"odd", sidecar=False)
    assert listed(world, "BTCUSDT", "2024-01-01", "2024-01-03") == keys


def test_sidecars_are_columns_of_their_objects_and_orphans_are_unrecognized(world: World) -> None:
    [key] = world.publish(["BTCUSDT"], ["2024-01-01"])
    orphan = world.key("BTCUSDT", "2024-01-02") + ".CHECKSUM"
    world.put(orphan, b"abc", sidecar=False)
    folders = folders_of(
        DATASET,
        symbols=[world.symbol("BTCUSDT")],
        intervals=["1m"],
        first=DATASET.period("2024-01-01"),
        last=DATASET.period("2024-01-03"),
    )
    listing = Lister(world.source).objects(DATASET, folders)
    [row] = listing.objects.to_dicts()
    assert row["key"] == key
    assert row["sidecar_size"] > 64
    assert [(unrecognized.key, unrecognized.reason) for unrecognized in listing.unrecognized] == [
        (orphan, "it is a sidecar without its object")
    ]


def test_a_folder_that_does_not_exist_is_empty(world: World) -> None:
    assert listed(world, "NOTHING", "2024-01-01", "2024-12-31") == []


def test_the_error_of_a_refused_listing_is_one_line_with_the_bucket_and_the_cause(world: World) -> None:
    lister = Lister(replace(world.source, name="no-such-bucket"))
    with pytest.raises(StoreError, match=r"^Listing s3://no-such-bucket/data/.*failed: AccessDenied: .*\.$") as caught:
        lister.symbols(DATASET)
    assert "\n" not in str(caught.value)
    folder = Folder("data/x/", "data/x/a", "data/x/b")
    with pytest.raises(StoreError, match="AccessDenied"):
        lister.objects(DATASET, [folder])


def test_the_error_names_an_unreachable_source(world: World) -> None:
    nowhere = replace(world.source, endpoint_url="http://127.0.0.1:9", max_attempts=1)
    with pytest.raises(StoreError, match=r"Unreachable: .*check the endpoint and the network"):
        Lister(nowhere).symbols(DATASET)
