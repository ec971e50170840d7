"""The symbols reference and universes, from real keys and from catalogs over time."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from lakehouse_assets.archive.catalog.catalog import Catalog, CatalogDepth
from lakehouse_assets.archive.catalog.spans import merged_spans
from lakehouse_assets.archive.catalog.universe import SYMBOL_SCHEMA, reference, universe
from lakehouse_assets.archive.catalog.walk import spans_of
from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.listing import read_keys
from lakehouse_assets.errors import InputError
from lakehouse_assets_tests.archive.catalog.catalogs import catalog_of, span

UM = "um/klines/monthly"


@pytest.fixture(scope="module")
def real(listed_keys: tuple[str, tuple[str, ...]]) -> pl.DataFrame:
    """The reference derived from all the keys."""
    dataset = Dataset.parse("binance/um/klines/monthly")
    keys = pl.DataFrame({"key": listed_keys[1]}).with_columns(
        pl.lit(1000, pl.Int64).alias("size"), pl.lit(datetime(2026, 6, 28, tzinfo=UTC)).alias("last_modified")
    )
    rows = read_keys(dataset, keys)
    assert rows["fits"].all(), rows.filter(~pl.col("fits"))["key"].to_list()
    spans = merged_spans(spans_of(dataset, rows)).with_columns(
        pl.lit("binance").alias("exchange"), exact=pl.lit(value=True)
    )
    assert spans["objects"].sum() + spans["sidecars"].sum() == len(listed_keys[1])
    return reference(catalog_of("binance", spans, taken_at=datetime(2026, 6, 28, tzinfo=UTC)))


def test_every_real_key_is_in_the_reference(real: pl.DataFrame, listed_keys: tuple[str, tuple[str, ...]]) -> None:
    assert real.schema == SYMBOL_SCHEMA
    assert set(real["symbol"]) == {key.split("/")[5] for key in listed_keys[1]}
    assert "币安人生USDT" in set(real["symbol"])
    assert real["published"].all()


def test_a_ticker_that_passed_to_another_asset_is_two_spans_though_the_archive_has_no_gap(
    real: pl.DataFrame, listed_keys: tuple[str, tuple[str, ...]]
) -> None:
    if listed_keys[0] != "real":
        pytest.skip("the keys beside this checkout are generated")
    rows = real.filter(pl.col("symbol") == "LITUSDT").select("span", "first", "last", "asset", "instrument").rows()
    assert rows == [
        (1, date(2021, 2, 1), date(2025, 1, 31), "LITENTRY", "LITENTRY/USDT:USDT"),
        (2, date(2025, 12, 23), date(2026, 5, 31), "LIGHTER", "LIGHTER/USDT:USDT"),
    ]


def test_the_universe_of_a_day_has_symbols_that_were_delisted_later_but_none_listed_later(
    real: pl.DataFrame, listed_keys: tuple[str, tuple[str, ...]]
) -> None:
    if listed_keys[0] != "real":
        pytest.skip("the keys beside this checkout are generated")
    then = set(universe(real, date(2022, 1, 15), market="um")["symbol"])
    assert {"LUNAUSDT", "BTCUSDT", "SRMUSDT"} <= then
    assert not then & {"PEPEUSDT", "1000PEPEUSDT", "LUNA2USDT", "币安人生USDT"}
    now = set(universe(real, date(2026, 5, 15))["symbol"])
    assert "LUNAUSDT" not in now
    assert "币安人生USDT" in now
    between = universe(real, date(2025, 6, 15))
    assert "LITUSDT" not in set(between["symbol"])


def test_delivery_settlement_and_other_scripts_are_columns() -> None:
    symbols = ["BTCUSDT_210326", "ICPUSDT_SETTLED1", "这是测试币USDT"]
    made = reference(
        catalog_of(
            "binance", pl.DataFrame([span("um/klines/daily", symbol, "2021-01-01", "2021-03-26") for symbol in symbols])
        )
    )
    rows = {row["symbol"]: row for row in made.to_dicts()}
    dated = rows["BTCUSDT_210326"]
    assert (dated["contract"], dated["delivery"]) == ("delivery", date(2021, 3, 26))
    assert [rows[symbol]["settled"] for symbol in symbols] == [False, True, False]
    assert rows["这是测试币USDT"]["base"] == "这是测试币"


def test_intervals_are_merged_and_a_long_gap_makes_two_spans_of_one_instrument() -> None:
    made = reference(
        catalog_of(
            "binance",
            pl.DataFrame(
                [
                    span("um/klines/daily", "AUSDT", "2021-01-01", "2021-06-30", interval="1m"),
                    span("um/klines/daily", "AUSDT", "2021-02-01", "2021-07-31", interval="1h"),
                    span("um/klines/daily", "AUSDT", "2021-10-30", "2021-12-31", interval="1h", number=2),
                    span("um/klines/daily", "BUSDT", "2021-01-01", "2021-06-30"),
                    span("um/klines/daily", "BUSDT", "2021-09-28", "2021-12-31", number=2),
                ]
            ),
        )
    )
    assert made.select("symbol", "span", "first", "last", "instrument").rows() == [
        ("AUSDT", 1, date(2021, 1, 1), date(2021, 7, 31), "A/USDT:USDT"),
        ("AUSDT", 2, date(2021, 10, 30), date(2021, 12, 31), "A/USDT:USDT"),
        ("BUSDT", 1, date(2021, 1, 1), date(2021, 12, 31), "B/USDT:USDT"),
    ]


# Over time


def _catalog(*rows: dict[str, object], **fields: object) -> Catalog:
    return catalog_of("binance", pl.DataFrame(list(rows)), **fields)


def test_a_withdrawn_symbol_stays_in_the_reference_and_in_its_universe() -> None:
    gone = span("um/klines/daily", "AUSDT", "2021-01-01", "2021-06-30")
    stays = span("um/klines/daily", "BUSDT", "2021-01-01", "2022-06-30")
    first = reference(_catalog(gone, stays))
    second = reference(_catalog(stays), first)
    assert second.select("symbol", "published").rows() == [("AUSDT", False), ("BUSDT", True)]
    assert universe(second, date(2021, 3, 1))["symbol"].to_list() == ["AUSDT", "BUSDT"]
    assert reference(_catalog(stays), second).equals(second)


def test_objects_that_are_withdrawn_do_not_shorten_a_span() -> None:
    first = reference(_catalog(span("um/klines/daily", "AUSDT", "2020-01-01", "2021-06-30")))
    second = reference(_catalog(span("um/klines/daily", "AUSDT", "2021-01-01", "2021-12-31")), first)
    assert second.select("first", "last").rows() == [(date(2020, 1, 1), date(2021, 12, 31))]


def test_symbols_that_a_partial_or_shallow_catalog_does_not_cover_stay_published() -> None:
    rows = [
        span("um/klines/daily", "AUSDT", "2021-01-01", "2021-06-30"),
        span("spot/trades/daily", "CUSDT", "2021-01-01", "2021-06-30"),
    ]
    before = reference(_catalog(*rows))
    partial = reference(_catalog(rows[0], markets=("um",)), before)
    assert partial["published"].all()
    shallow = reference(_catalog(span("um/klines/daily", "NEWUSDT", None, None), depth=CatalogDepth.SHALLOW), before)
    assert shallow.select("symbol", "first", "published").rows() == [
        ("CUSDT", date(2021, 1, 1), True),
        ("AUSDT", date(2021, 1, 1), True),
        ("NEWUSDT", None, True),
    ]


def test_a_day_after_the_newest_catalog_is_refused_and_one_before_the_first_symbol_is_empty() -> None:
    made = reference(_catalog(span("um/klines/daily", "AUSDT", "2021-01-01", "2021-06-30")))
    with pytest.raises(InputError, match=r"^The newest catalog ends on 2021-06-30, before 2021-07-01;"):
        universe(made, date(2021, 7, 1))
    with pytest.raises(InputError, match="lakehouse discover"):
        universe(made, date(2021, 1, 1), market="spot")
    assert universe(made, date(2020, 12, 31)).is_empty()


def test_daily_files_decide_on_which_day_of_its_last_month_a_symbol_ended() -> None:
    made = reference(
        _catalog(
            span("um/klines/daily", "AUSDT", "2021-03-10", "2021-05-13"),
            span("um/klines/monthly", "AUSDT", "2021-01-01", "2021-05-31"),
            span("um/klines/daily", "BUSDT", "2021-01-01", "2021-12-31"),
        )
    )
    days = {day: universe(made, date(2021, *day))["symbol"].to_list() for day in ((2, 1), (5, 13), (5, 14))}
    assert days == {(2, 1): ["AUSDT", "BUSDT"], (5, 13): ["AUSDT", "BUSDT"], (5, 14): ["BUSDT"]}


def test_files_with_all_symbols_add_no_symbol() -> None:
    made = reference(
        catalog_of(
            "bitmex",
            pl.DataFrame([span("derivatives/trade/daily", "*", "2014-11-22", "2026-01-01", exchange="bitmex")]),
        )
    )
    assert made.is_empty()
    assert made.schema == SYMBOL_SCHEMA
