"""Unrecognized keys and invalid symbol names: all are counted and some are named, whatever characters they have."""

from __future__ import annotations

import tracemalloc

import pytest

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges.grammar import UnrecognizedKey
from lakehouse_assets.archive.listing import KEYS_PARSED, Lister, folders_of
from lakehouse_assets.archive.unrecognized import NAMED, NAMED_PER_REASON, UnrecognizedKeys
from lakehouse_assets.errors import printable
from lakehouse_assets_tests.benchmarks.support.listing_server import Rule, listing_server
from lakehouse_assets_tests.world import KLINES

DATASET = Dataset.parse(KLINES)
FOLDER = "data/futures/um/daily/klines/AUSDT/1m/AUSDT-1m-2024-03-0"
DAYS = [str(day) for day in range(1, 8)]


def counts_of(number: int) -> tuple[int, int, tuple[UnrecognizedKey, ...], int]:
    """Number of objects, unrecognized keys (counted and named), and the peak memory of the listing in bytes."""
    rules = [
        Rule(FOLDER + "{day}.zip", {"day": DAYS}),
        Rule(FOLDER + "2{junk}.zip", {"junk": [f"-{index:07}" for index in range(number)]}, suffixes=("",)),
        Rule(FOLDER + "7.zip.tmp", suffixes=("",)),
    ]
    folders = folders_of(
        DATASET,
        symbols=["AUSDT"],
        intervals=["1m"],
        first=DATASET.period("2024-03-01"),
        last=DATASET.period("2024-03-07"),
    )
    with listing_server(rules) as server:
        lister = Lister(Bucket(name="any", endpoint_url=server.endpoint_url, anonymous=True))
        tracemalloc.start()
        listing = lister.objects(DATASET, folders)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert listing.objects["sidecar_size"].null_count() == 0
    return listing.objects.height, listing.unrecognized_total, listing.unrecognized, most


def test_unrecognized_keys_are_all_counted_and_the_first_are_named_in_bounded_memory() -> None:
    few, many = counts_of(KEYS_PARSED), counts_of(4 * KEYS_PARSED)
    assert (few[0], many[0]) == (7, 7)
    assert (few[1], many[1]) == (KEYS_PARSED + 1, 4 * KEYS_PARSED + 1)
    assert len(many[2]) <= NAMED
    assert many[2][0].key == FOLDER + "2-0000000.zip"
    assert many[3] < 1.5 * few[3]


def test_a_frequent_reason_does_not_hide_another_reason() -> None:
    tally = UnrecognizedKeys()
    for number in range(1_000):
        tally.add([UnrecognizedKey(f"a{number}", "one reason")])
    tally.add([UnrecognizedKey("b", "another")], total=5)
    assert tally.total == 1_005
    assert [unrecognized.reason for unrecognized in tally.named] == ["one reason"] * NAMED_PER_REASON + ["another"]


ODD = ["a b", "$(x)", "a'b", 'a"b', "*", "%41", "a\\b", "\u202eTDSU", "A\u200bB", "A\tB", "A\nB", "..", "🚀USDT", "A.B"]


def test_invalid_symbol_names_are_reported() -> None:
    rules = [Rule("data/futures/um/daily/klines/{symbol}/1m/x.zip", {"symbol": ["AUSDT", "币安人生USDT", *ODD]})]
    with listing_server(rules) as server:
        names = Lister(Bucket(name="any", endpoint_url=server.endpoint_url, anonymous=True)).names(DATASET)
    assert names.symbols == ("AUSDT", "币安人生USDT")
    assert names.odd == tuple(sorted(ODD))


@pytest.mark.parametrize("name", ["\u202eTDSU", "A\u200bB", "A\tB", "A\nB", "\x1b[31m", "\ud800"])
def test_misleading_characters_are_escaped(name: str) -> None:
    assert printable(name).isprintable()
    assert printable(name).isascii()
    assert printable("币安🚀 é") == "币安🚀 é"
