"""Datasets: the names derived from exchange, market, data type and cadence."""

from __future__ import annotations

import pytest

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.errors import InputError

KLINES = Dataset("binance", "um", "klines", Cadence.DAILY)
ALL_DATASETS = [
    Dataset(exchange.name, *publication.id) for exchange in EXCHANGES.values() for publication in exchange.publications
]


@pytest.mark.parametrize("dataset", ALL_DATASETS, ids=str)
def test_every_published_dataset_is_parsed_back_from_its_name(dataset: Dataset) -> None:
    assert Dataset.parse(dataset.name) == dataset
    assert dataset.name == "/".join(dataset.asset_key)


def test_slashes_around_a_name_do_not_matter() -> None:
    assert Dataset.parse("/binance/um/klines/daily/") == KLINES


def test_a_cadence_may_be_given_as_text() -> None:
    assert Dataset("binance", "um", "klines", "daily") == KLINES  # ty: ignore[invalid-argument-type]


def test_names_in_dagster_derive_from_the_four_parts_of_the_name() -> None:
    assert KLINES.asset_key == ("binance", "um", "klines", "daily")
    assert KLINES.group == "binance/um"


def test_the_source_is_the_folder_in_the_exchange_s_bucket() -> None:
    assert KLINES.source_prefix == "data/futures/um/daily/klines/"
    assert KLINES.source_url == "s3://data.binance.vision/data/futures/um/daily/klines/"


def test_the_lake_mirrors_source_keys_verbatim() -> None:
    key = "data/futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-01.zip"
    assert KLINES.lake_key(key) == f"archive/binance/{key}"
    assert KLINES.lake_key(key).startswith(KLINES.lake_prefix)
    assert KLINES.lake_prefix == "archive/binance/data/futures/um/daily/klines/"
    assert KLINES.manifest_prefix == "_manifest/binance/um/klines/daily"


def test_superseded_versions_of_one_key_have_a_key_per_content() -> None:
    kept = {KLINES.superseded_key("data/a.zip", etag) for etag in ("e1", "e2")}
    assert kept == {"_superseded/binance/data/a.zip/e1", "_superseded/binance/data/a.zip/e2"}


@pytest.mark.parametrize("place", ["manifest_prefix", "name"])
def test_no_two_datasets_share_or_nest_their_folders(place: str) -> None:
    places = [getattr(dataset, place).rstrip("/") + "/" for dataset in ALL_DATASETS]
    inside = [(a, b) for i, a in enumerate(places) for b in places[i + 1 :] if a.startswith(b) or b.startswith(a)]
    assert inside == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "binance/um/klines",
            "'binance/um/klines' is not a dataset; write exchange/market/data type/cadence",
        ),
        ("", "'' is not a dataset"),
        ("binanse/um/klines/daily", "Unknown exchange 'binanse'; choose from binance"),
        ("binance/swap/klines/daily", "binance has no market 'swap'; it has spot, um, cm, option"),
        (
            "binance/spot/metrics/daily",
            "binance/spot has no data type 'metrics'; it has klines, aggTrades, trades",
        ),
        ("binance/um/fundingRate/daily", "binance/um/fundingRate is not published daily, but monthly"),
        ("binance/um/klines/weekly", "'weekly' is not a cadence; use daily or monthly"),
    ],
)
def test_an_unknown_dataset_is_refused_with_the_valid_choices(name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Dataset.parse(name)
    assert message in str(caught.value)


def test_a_dataset_parses_its_partition_keys_in_its_own_cadence() -> None:
    assert str(KLINES.period("2024-01-31")) == "2024-01-31"
    assert str(Dataset.parse("binance/um/klines/monthly").period("2024-01-31")) == "2024-01"
