"""Each relation between columns is reported if it is violated, and no real row violates one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.exchanges.grammar import ParsedKey
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.tables.quality.rows import check_rows, summarize
from lakehouse_assets.tables.read.archives import read_archive
from lakehouse_assets.tables.schema import TABLES, schema_of
from lakehouse_assets.tables.schemas.model import TableSchema
from lakehouse_assets.tables.schemas.relations import ONE_SIDED
from lakehouse_assets_tests.tables.read.test_real_input import ALL, SAMPLES, Sample

DAY = Period(Cadence.DAILY, date(2024, 1, 10))
NOON = datetime(2024, 1, 10, 12, tzinfo=UTC)
EXCERPTS = SAMPLES / "excerpts"

GOOD: dict[str, Any] = {
    "symbol": "BTCUSDT", "interval": "1h", "time": NOON, "close_time": NOON + timedelta(minutes=59),
    "open": 2.0, "high": 4.0, "low": 1.0, "close": 3.0, "volume": 10.0, "quote_volume": 20.0, "base_volume": 10.0,
    "trade_count": 5, "count": 5, "taker_buy_volume": 4.0, "taker_buy_quote_volume": 8.0, "taker_buy_base_volume": 4.0,
    "price": 2.0, "size": 3.0, "side": "buy", "base_size": 3.0, "quote_size": 6.0, "gross_value": 6e8,
    "trade_id": 7, "agg_trade_id": 7, "first_trade_id": 5, "last_trade_id": 9,
    "ts_ns": int(NOON.timestamp()) * 10**9 + 7,
    "update_id": 1, "bid_price": 1.0, "bid_size": 1.0, "ask_price": 2.0, "ask_size": 1.0,
    "event_time": NOON + timedelta(milliseconds=3),
    "open_interest": 5.0, "open_interest_value": 10.0,
    "top_long_short_account_ratio": 1.0, "top_long_short_position_ratio": 1.0, "global_long_short_account_ratio": 1.0,
    "taker_long_short_volume_ratio": 1.0, "create_time": NOON,
    "funding_rate": 0.0001, "funding_interval_hours": 8, "percentage": 1.0, "depth": 3.0, "notional": 6.0,
    "original_size": 3.0, "average_price": 1.9, "last_fill_size": 1.0, "filled_size": 3.0, "order_status": "FILLED",
    "base_asset": "BTC", "quote_asset": "USDT", "index_value": 50.0,
    "contract": "BTC-240126-30000-C", "option_type": "call", "strike_price": 30000.0, "expiration": date(2024, 1, 26),
    "bid_iv": 0.5, "ask_iv": 0.6, "mark_price": 2.0, "mark_iv": 0.5, "delta": 0.5, "gamma": 0.1, "vega": 1.0,
    "theta": -1.0,
}  # fmt: skip
COIN = {"symbol": "BTCUSD_PERP", "base_volume": 500.0, "taker_buy_base_volume": 200.0, "base_size": 150.0}
"""In the coin-margined market, where a contract of bitcoin is worth 100 USD."""


def rows_of(schema: TableSchema, *rows: dict[str, Any]) -> pl.DataFrame:
    bitmex = {"symbol": "XBTUSD"} if schema.exchange == "bitmex" else {}
    good = GOOD | (COIN if schema.market == "cm" else {}) | bitmex
    return pl.DataFrame(
        [{name: row.get(name, good.get(name)) for name in schema.polars} for row in rows],
        schema=schema.polars,
        orient="row",
    )


def broken(frame: pl.DataFrame, schema: TableSchema) -> dict[str, int]:
    """The number of violating rows by relation."""
    results = check_rows(frame, schema=schema, period=DAY)
    return {relation["relation"]: relation["rows"] for row in results["broken"] for relation in row}


_RATIOS = ", ".join(name for name in GOOD if name.endswith("_ratio"))
ZERO = {"volume": 0.0, "quote_volume": 0.0, "base_volume": 0.0, "trade_count": 0}
LATER = {"time": NOON + timedelta(hours=4)}
BREAKS: list[tuple[str, str, list[dict[str, Any]]]] = [
    ("binance/um/klines", "low above zero", [{"low": 0.0}]),
    ("binance/um/klines", "close_time within the interval", [{"close_time": NOON + timedelta(hours=1)}]),
    ("binance/um/klines", "close_time within the interval", [{"close_time": NOON}]),
    ("binance/um/klines", "taker_buy_volume within volume", [{"taker_buy_volume": 10.1}]),
    ("binance/um/klines", "taker_buy_quote_volume within quote_volume", [{"taker_buy_quote_volume": 20.1}]),
    ("binance/cm/klines", "taker_buy_base_volume within base_volume", [{"taker_buy_base_volume": 501.0}]),
    ("binance/um/klines", "quote_volume between low and high times volume", [{"quote_volume": 9.0}]),
    ("kucoin/spot/klines", "quote_volume between low and high times volume", [{"quote_volume": 41.0}]),
    ("htx/futures/klines", "quote_volume between low and high times base_volume", [{"base_volume": 1.0}]),
    ("binance/um/klines", "quote_volume only with volume", [ZERO | {"quote_volume": 1.0}]),
    ("binance/cm/klines", "base_volume only with volume", [ZERO | {"base_volume": 1.0}]),
    ("binance/um/klines", "volume exactly where trades were counted", [{"trade_count": 0}]),
    ("binance/spot/klines", "volume exactly where trades were counted", [ZERO | {"trade_count": 2}]),
    ("binance/spot/klines", "one price where nothing was traded", [ZERO]),
    ("gate/spot/candlesticks", "one price where nothing was traded", [ZERO]),
    ("binance/cm/klines", "base_volume between volume's worth at high and at low", [{"base_volume": 50.0}]),
    ("binance/spot/trades", "size above zero", [{"size": 0.0}]),
    ("gate/futures_usdt/trades", "size above zero", [{"size": 0.0}]),
    ("binance/spot/trades", "quote_size is price times size", [{"quote_size": 3.0}]),
    ("binance/um/trades", "quote_size is price times size", [{"quote_size": 3.0}]),
    ("binance/cm/trades", "base_size is size's worth at price", [{"base_size": 15.0}]),
    ("bybit/derivatives/trades", "quote_size is price times base_size", [{"quote_size": 3.0, "base_size": 6.0}]),
    ("bybit/derivatives/trades", "size is base_size or quote_size", [{"size": 4.0}]),
    (
        "bybit/derivatives/trades",
        "gross_value is base_size or quote_size in the smallest unit",
        [{"gross_value": 6.0}],
    ),
    ("bitmex/derivatives/trade", "quote_size is price times base_size, of bitcoin", [{"price": 3.0}]),
    ("bitmex/derivatives/trade", "ts_ns is time", [{"ts_ns": 1}]),
    ("binance/um/aggTrades", "first_trade_id not above last_trade_id", [{"first_trade_id": 10}]),
    ("binance/um/bookTicker", "bid_price not above ask_price", [{"bid_price": 2.1}]),
    ("bitmex/derivatives/quote", "bid_price not above ask_price", [{"bid_price": 2.1}]),
    ("binance/um/bookTicker", "a best price has a size", [{"ask_size": 0.0}]),
    ("binance/um/bookTicker", "time not after event_time", [{"event_time": NOON - timedelta(seconds=1)}]),
    ("binance/um/metrics", "open_interest, open_interest_value not negative", [{"open_interest": -1.0}]),
    ("binance/um/metrics", "open_interest exactly where it has a value", [{"open_interest_value": 0.0}]),
    (
        "binance/cm/metrics",
        f"{_RATIOS} not negative",
        [{"global_long_short_account_ratio": -1.0}],
    ),
    ("kucoin/futures/fundingRates", "funding_rate within a tenth", [{"funding_rate": 0.2}]),
    ("binance/um/fundingRate", "funding_interval_hours above zero", [{"funding_interval_hours": 0}]),
    ("binance/um/fundingRate", "funding_interval_hours since the row before", [LATER]),
    ("binance/um/bookDepth", "depth, notional not negative", [{"depth": -1.0}]),
    ("binance/um/bookDepth", "percentage not zero", [{"percentage": 0.0}]),
    ("binance/um/bookDepth", "depth grows with the distance", [{"percentage": 2.0, "depth": 2.99, "notional": 6.0}]),
    ("binance/um/bookDepth", "notional grows with the distance", [{"percentage": 2.0, "depth": 3, "notional": 5.99}]),
    ("binance/um/bookDepth", "notional is depth at prices within the distance", [{"percentage": 2.0, "notional": 7.0}]),
    (
        "binance/cm/liquidationSnapshot",
        "original_size, price, average_price above zero",
        [{"average_price": 0.0}],
    ),
    (
        "binance/cm/liquidationSnapshot",
        "last_fill_size within filled_size within original_size",
        [{"last_fill_size": 4.0}],
    ),
    ("binance/cm/liquidationSnapshot", "all is filled where order_status is FILLED", [{"filled_size": 2.0}]),
    ("binance/cm/liquidationSnapshot", "average_price no worse than price", [{"average_price": 2.1}]),
    ("binance/cm/liquidationSnapshot", "average_price no worse than price", [{"side": "sell"}]),
    ("binance/option/BVOLIndex", "index_value above 0 and below 1,000", [{"index_value": 5000.0}]),
    ("binance/option/BVOLIndex", "symbol is base_asset and quote_asset", [{"base_asset": "ETH"}]),
    ("binance/option/EOHSummary", "strike_price above zero", [{"strike_price": 0.0}]),
    ("binance/option/EOHSummary", "mark_price, gamma, vega not negative", [{"gamma": -0.1}]),
    ("binance/option/EOHSummary", "contract is of symbol", [{"contract": "ETH-240126-30000-C"}]),
    ("binance/option/EOHSummary", "expiration not before time", [{"expiration": date(2024, 1, 9)}]),
    ("binance/option/EOHSummary", "delta of a call 0 to 1, of a put -1 to 0", [{"delta": -0.5}]),
    ("binance/option/EOHSummary", "delta of a call 0 to 1, of a put -1 to 0", [{"option_type": "put"}]),
    ("binance/option/EOHSummary", "quote_volume exactly where volume is", [{"quote_volume": 0.0}]),
    ("binance/option/EOHSummary", "bid_iv not above ask_iv", [{"bid_iv": 0.7}]),
]


@pytest.mark.parametrize(("table", "relation", "rows"), BREAKS, ids=[f"{table}: {name}" for table, name, _ in BREAKS])
def test_only_rows_that_violate_a_relation_are_reported(table: str, relation: str, rows: list[dict[str, Any]]):
    schema = schema_of(*table.split("/"))
    assert not broken(rows_of(schema, {}), schema)
    frame = rows_of(schema, {}, *rows)
    assert broken(frame, schema).get(relation) == 1
    (result,) = check_rows(frame, schema=schema, period=DAY).to_dicts()
    assert result["level"] in {"warning", "error"}
    (example,) = [broken for broken in result["broken"] if broken["relation"] == relation]
    expected = rows[0].get("time", NOON)
    assert example["time"] == expected
    assert all(f"{name}=" in example["example"] for name in schema_relation(schema, relation))


def schema_relation(schema: TableSchema, name: str) -> tuple[str, ...]:
    return next(relation.columns for relation in schema.relations if relation.name == name)


def test_every_relation_of_every_table_is_tested_above():
    names = {relation.name for schema in TABLES for relation in schema.relations}
    assert names - {name for _, name, _ in BREAKS} == {"both sides"}


@pytest.mark.parametrize("schema", TABLES, ids=lambda schema: schema.name)
def test_every_table_has_relations_with_reasons_and_valid_rows_satisfy_them(schema: TableSchema):
    assert len(schema.relations) >= 1
    assert all(relation.reason.endswith(".") for relation in schema.relations)
    assert len({relation.name for relation in schema.relations}) == len(schema.relations)
    assert not broken(rows_of(schema, {}), schema)


SIDED = [schema for schema in TABLES if "both sides" in {relation.name for relation in schema.relations}]


@pytest.mark.parametrize("schema", SIDED, ids=lambda schema: schema.name)
@pytest.mark.parametrize("side", ["buy", "sell"])
def test_a_thousand_trades_of_one_side_are_reported(schema: TableSchema, side: str):
    one = pl.concat([rows_of(schema, {"side": side})] * ONE_SIDED)
    assert broken(one, schema) == {"both sides": ONE_SIDED}
    assert not broken(one[1:], schema)
    assert not broken(pl.concat([one[1:], rows_of(schema, {"side": "sell" if side == "buy" else "buy"})]), schema)


def test_rows_without_a_side_do_not_count_for_both_sides():
    schema = schema_of("bitmex", "derivatives", "trade")
    nothing = pl.concat([rows_of(schema, {"side": None, "symbol": ".BXBT"})] * ONE_SIDED)
    assert not broken(nothing, schema)
    bought = pl.concat([rows_of(schema, {"side": "buy", "symbol": ".BXBT"})] * ONE_SIDED)
    assert broken(pl.concat([nothing, bought]), schema) == {"both sides": 2 * ONE_SIDED}


def test_a_value_that_is_truncated_to_two_decimals_is_valid():
    schema = schema_of("binance", "um", "trades")
    real = {"price": 23175.5, "size": 0.001, "quote_size": 23.17}
    small = {"price": 0.07123, "size": 1.0, "quote_size": 0.07}
    assert not broken(rows_of(schema, real, small), schema)
    assert broken(rows_of(schema, small | {"quote_size": 0.09}), schema)


def test_the_funding_interval_may_change():
    schema = schema_of("binance", "um", "fundingRate")
    hours = {0: 4, 4: 4, 8: 8, 16: 8}
    rows = [
        {"time": NOON + timedelta(hours=hour), "funding_interval_hours": interval} for hour, interval in hours.items()
    ]
    assert not broken(rows_of(schema, *rows), schema)


def test_all_tables_with_a_side_except_liquidations_expect_both_sides():
    with_side = {schema.name for schema in TABLES if "side" in schema.polars}
    assert with_side - {schema.name for schema in SIDED} == {"binance/cm/liquidationSnapshot"}


def test_crossed_quotes_are_a_warning_above_the_allowed_share():
    schema = schema_of("binance", "um", "bookTicker")
    quotes = pl.concat([rows_of(schema, {})] * 1999)
    crossed = rows_of(schema, {"bid_price": 3.0})
    assert not broken(pl.concat([quotes, crossed]), schema)
    assert broken(pl.concat([quotes, crossed, crossed, crossed]), schema) == {"bid_price not above ask_price": 3}


def test_violations_are_counted_per_symbol_and_summed_up():
    schema = schema_of("binance", "um", "klines")
    wrong = {"trade_count": 0}
    frame = rows_of(schema, {}, wrong, {"symbol": "ETHUSDT"} | wrong, {"symbol": "ETHUSDT"} | wrong, {"symbol": "XRP"})
    results = check_rows(frame, schema=schema, period=DAY)
    counted = {row["symbol"]: [broken["rows"] for broken in row["broken"]] for row in results.to_dicts()}
    assert counted == {"BTCUSDT": [1], "ETHUSDT": [2], "XRP": []}
    assert summarize(results).broken == 3
    (example,) = results.filter(pl.col("symbol") == "ETHUSDT")["broken"][0]
    assert example["example"] == "volume=10.0, trade_count=0"


def test_empty_values_satisfy_every_relation():
    for schema in TABLES:
        nothing = dict.fromkeys(schema.polars.names()) | {"symbol": "BTCUSDT", "interval": "1h", "time": NOON}
        assert not broken(rows_of(schema, nothing), schema), schema.name


needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the folder of the exchanges' own files")


def excerpts() -> Iterator[Any]:
    for path in sorted(file for file in EXCERPTS.rglob("*") if file.suffix in {".zip", ".gz"}):
        exchange, _, key = path.relative_to(EXCERPTS).as_posix().partition("/")
        yield pytest.param(exchange, key, path, id=f"{exchange}/{path.name}")


@needs_samples
@pytest.mark.parametrize(("exchange", "key", "path"), list(excerpts()))
def test_real_rows_of_the_excerpts_satisfy_every_relation(exchange: str, key: str, path: Path):
    parsed = EXCHANGES[exchange].parse(key)
    assert isinstance(parsed, ParsedKey)
    schema = schema_of(exchange, parsed.market, parsed.data_type)
    rows = read_archive(
        path.read_bytes(), schema=schema, name=path.name, symbol=parsed.symbol, interval=parsed.interval
    ).frame
    assert rows.height >= 1
    assert not broken(rows, schema)


@needs_samples
@pytest.mark.parametrize("sample", ALL, ids=lambda sample: sample.name.split("/")[-1])
def test_real_rows_of_the_samples_satisfy_every_relation(sample: Sample):
    assert not broken(sample.rows.frame, sample.schema)
