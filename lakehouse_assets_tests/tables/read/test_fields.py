"""Types of columns are declared, each field is parsed by its own format, and invalid fields are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

import polars as pl
import pytest

from lakehouse_assets.tables.read.archives import ArchiveRows, read_archive_batches
from lakehouse_assets.tables.read.bulk import ArchiveFile, read_archives
from lakehouse_assets.tables.read.unpack import BadArchiveError
from lakehouse_assets.tables.schema import schema_of
from lakehouse_assets_tests.tables.archives import KLINES, gzipped, kline, read, zipped

CONTRACTS = "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional"
MOMENT = datetime(2022, 11, 17, 23, 43, 26, tzinfo=UTC)
FORMATS = {
    "1668728606": MOMENT,
    "1668728606.25": MOMENT + timedelta(milliseconds=250),
    "1668728606250": MOMENT + timedelta(milliseconds=250),
    "1668728606250000001": MOMENT + timedelta(milliseconds=250),
    "1.668728606E9": MOMENT,
    "2022-11-17 23:43:26": MOMENT,
    "2022-11-17D23:43:26.250000001": MOMENT + timedelta(milliseconds=250),
    "2022-11-17T23:43:26.250Z": MOMENT + timedelta(milliseconds=250),
    '"1668728606"': MOMENT,
    " 1668728606 ": MOMENT,
}

# Header (empty if the files have none) and row of each table, with a placeholder for the time.
ROWS = {
    "bybit/derivatives/trades": (CONTRACTS, "{},BTCUSDT,Buy,1,2.0,PlusTick,t,2e8,1,2"),
    "bitmex/derivatives/trade": (CONTRACTS, "{},BTCUSDT,Buy,1,2.0,PlusTick,t,2e8,1,2"),
    "gate/spot/deals": ("", "{},1,2.0,1,1"),
    "gate/futures_usdt/candlesticks": ("", "{},1,2.0,2.0,2.0,2.0"),
    "kucoin/spot/trades": ("trade_id,trade_time,price,size,side", "1,{},2.0,1,buy"),
    "htx/old_spot/klines": ("", "{},2.0,2.0,2.0,2.0,1,1"),
}


def text_of(table: str, *fields: str) -> str:
    header, row = ROWS[table]
    return "".join(f"{line}\n" for line in (*([header] if header else []), *(row.format(field) for field in fields)))


@pytest.mark.parametrize("table", ROWS)
def test_each_time_is_parsed_by_its_own_format_whatever_the_first_row_has(table: str) -> None:
    for first, second in permutations(FORMATS, 2):
        frame = read(table, zipped(text_of(table, first, second))).frame
        assert frame["time"].to_list() == [FORMATS[first], FORMATS[second]], (first, second)


def test_nanoseconds_and_fractions_of_a_second_in_one_file_are_exact() -> None:
    table = "bitmex/derivatives/trade"
    frame = read(table, zipped(text_of(table, "1668728606.25", "1668728606250000001"))).frame
    assert frame["ts_ns"].to_list() == [1668728606250000000, 1668728606250000001]


def test_the_first_fraction_may_come_long_after_the_first_block() -> None:
    table = "bybit/derivatives/trades"
    fields = [str(1668728606 + number) for number in range(400)] + ["1668729006.25"]
    lines = text_of(table, *fields).splitlines(keepends=True)
    chunks = [gzipped("".join(lines[start : start + 50])) for start in range(0, len(lines), 50)]
    schema = schema_of(*table.split("/"))
    batches = list(read_archive_batches(chunks, schema=schema, name="k", symbol="BTCUSDT", batch_bytes=2_000))
    assert len(batches) > 5
    assert pl.concat(batches)["time"].dt.epoch("ms").to_list() == [int(float(field) * 1000) for field in fields]


def test_files_that_are_parsed_together_do_not_affect_each_other() -> None:
    table = "bybit/derivatives/trades"
    texts = [text_of(table, "1668728606", "1668728606.25"), text_of(table, "1668728606", "1668728607")]
    texts += [text_of(table, "1668728606.25", "1668728606"), text_of(table, "1668728606", "soon")]
    files = [ArchiveFile(f"{number}.zip", zipped(text), "BTCUSDT") for number, text in enumerate(texts)]
    *good, bad = [rows for _, rows in read_archives(files, schema=schema_of(*table.split("/")))]
    for text, rows in zip(texts, good, strict=False):
        assert isinstance(rows, ArchiveRows)
        assert rows.frame.equals(read(table, zipped(text)).frame)
    assert str(bad) == "3.zip: row 2, column timestamp: soon is not a valid time"


@pytest.mark.parametrize("first", ["true", "True", "TRUE", "1", " true", '"true"'])
@pytest.mark.parametrize("second", ["false", "False", "0", " 0 "])
def test_a_boolean_is_a_word_or_a_digit(first: str, second: str) -> None:
    text = f"1,10.5,2,21,1577836800000,{first},{second}\n2,10.5,2,21,1577836800000,{second},{first}\n"
    frame = read("binance/spot/trades", zipped(text)).frame
    assert frame["side"].to_list() == ["sell", "buy"]
    assert frame["best_match"].to_list() == [False, True]


@pytest.mark.parametrize("word", ["2", "yes", "", "-1", "1.0", "truefalse"])
def test_an_invalid_boolean_is_refused(word: str) -> None:
    text = f"1,10.5,2,21,1577836800000,true,true\n2,10.5,2,21,1577836800000,{word},true\n"
    with pytest.raises(BadArchiveError, match=r"row 2, column is_buyer_maker: .* is not a valid side"):
        read("binance/spot/trades", zipped(text))


@pytest.mark.parametrize(
    ("written", "value"), [("493", 493), ("493.0", 493), ("4.93E2", 493), (" 493 ", 493), ('"493"', 493)]
)
def test_an_integer_may_have_a_fraction_of_zero_or_an_exponent(written: str, value: int) -> None:
    text = kline() + kline(1577836860000).replace(",493,", f",{written},")
    assert read(KLINES, zipped(text)).frame["trade_count"].to_list() == [493, value]


@pytest.mark.parametrize("close", ["7.18668E3", "7186.68e0", " 7186.68 ", '"7186.68"', "+7186.68"])
def test_a_number_may_have_any_notation(close: str) -> None:
    text = kline(close="7186") + kline(1577836860000, close=close)
    assert read(KLINES, zipped(text)).frame["close"].to_list() == [7186.0, 7186.68]


def test_an_empty_text_is_refused() -> None:
    text = 'trade_id,trade_time,price,size,side\n"",1577836800000,1.5,2,buy\n'
    with pytest.raises(BadArchiveError, match="row 1, column trade_id:  is not a valid trade_id"):
        read("kucoin/spot/trades", zipped(text))


# Headers


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("htx/old_spot/klines", "time,first,last,most,least,turnover,volume\n1602774000,1,2,3,0.5,10,20\n"),
        ("htx/old_spot/trades", "Trade No,When,At,How much,Way\n1,1621331937334,3471.95,0.0653,buy\n"),
        ("gate/spot/deals", "ts,id,px,qty,way\n1767225600,1,2.0,1,1\n"),
        (KLINES, "Open Time,Open,High,Low,Close,Volume,Close Time,Quote,N,Buy,Buy Quote,Ignore\n" + kline()),
    ],
)
def test_a_header_without_known_columns_is_refused_and_not_read_by_position(table: str, text: str) -> None:
    with pytest.raises(BadArchiveError, match="its header has no known column: "):
        read(table, zipped(text))


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("htx/old_spot/klines", "timestamp,open,high,low,close\n1602774000,1,2,3,0.5\n"),
        ("htx/old_spot/klines", "timestamp,id,open,close,high,low,vol,amount\n"),
        ("htx/old_linear_swap/trades", "Trade ID,Trade Time,Trade Price,Volume (Base Currency),Side (buy/sell)\n"),
    ],
)
def test_a_header_of_another_dataset_is_refused(table: str, text: str) -> None:
    with pytest.raises(BadArchiveError, match="its header has"):
        read(table, zipped(text))


def test_columns_of_a_header_may_have_any_order() -> None:
    text = "low,close,timestamp,amount,vol,open,high\n0.5,2,1602774000,20,10,1,3\n"
    row = read("htx/old_spot/klines", zipped(text)).frame.row(0, named=True)
    assert [row[name] for name in ("open", "high", "low", "close", "volume")] == [1.0, 3.0, 0.5, 2.0, 20.0]


def test_a_row_that_begins_with_a_word_is_not_a_header() -> None:
    frame = read("htx/spot/trades", zipped("BTC-USDT,9,78000.5,sell,12,1769904000123\n"), symbol="BTC-USDT").frame
    assert frame["price"].to_list() == [78000.5]


@pytest.mark.parametrize("text", ["1,1621331937334,3471.95,0.0653,0.1,buy\n", "1602774000,1,2,3,0.5,10,20,7\n"])
def test_rows_of_the_old_tree_with_additional_columns_are_refused(text: str) -> None:
    table = "htx/old_spot/trades" if "buy" in text else "htx/old_spot/klines"
    with pytest.raises(BadArchiveError, match="are expected"):
        read(table, zipped(text))


# Contracts whose two sizes may be swapped


def sizes(symbol: str, size: str, price: str, home: str, foreign: str) -> tuple[float, float]:
    row = f"1668728606,{symbol},Buy,{size},{price},PlusTick,t,1,{home},{foreign}"
    frame = read("bybit/derivatives/trades", gzipped(f"{CONTRACTS}\n{row}\n"), symbol=symbol).frame
    return frame.select("base_size", "quote_size").row(0)


@pytest.mark.parametrize("symbol", ["BTCUSD", "BTCUSDZ22", "BTCUSDH23", "ETHUSD-27DEC24", "BITUSD", "XRPUSD"])
def test_the_size_of_an_inverse_contract_is_in_the_quote_asset(symbol: str) -> None:
    assert sizes(symbol, "611", "16661.00", "611", "0.036672468639337374") == (0.036672468639337374, 611.0)
    assert sizes(symbol, "611", "16661.00", "0.036672468639337374", "611") == (0.036672468639337374, 611.0)
    assert sizes(symbol, "611", "1", "611", "611") == (611.0, 611.0)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTCPERP", "BTC-14MAR25", "BTCUSDT-29DEC23", "1000PEPEUSDT", "USDCUSDT"])
def test_the_size_of_a_linear_contract_is_in_the_base_asset(symbol: str) -> None:
    assert sizes(symbol, "0.857", "6733.5", "0.857", "5770.6095") == (0.857, 5770.6095)
    assert sizes(symbol, "5", "1", "5", "5") == (5.0, 5.0)


@pytest.mark.parametrize(
    ("symbol", "home", "foreign"),
    [("BTCUSD", "611", "10179871"), ("BTCUSD", "7", "8"), ("BTCUSDT", "611", "0.036672468639337374")],
)
def test_sizes_that_contradict_the_kind_of_contract_are_refused(symbol: str, home: str, foreign: str) -> None:
    with pytest.raises(BadArchiveError, match="is not a valid base_size"):
        sizes(symbol, "611", "16661.00", home, foreign)


# Symbols

SUMMARY = ",".join(schema_of("binance", "option", "EOHSummary").file_columns)
METRICS = ",".join(schema_of("binance", "um", "metrics").file_columns)
NAMED = {
    "bybit/derivatives/trades": (CONTRACTS, "1668728606,{},Buy,1,2.0,PlusTick,t,2e8,1,2"),
    "binance/um/metrics": (METRICS, "2026-08-08 00:00:00,{},1,1,1,1,1,1"),
    "binance/cm/metrics": (METRICS, '2026-08-08 00:00:00,{},1,1,"","","",""'),
    "binance/option/BVOLIndex": ("calc_time,symbol,base_asset,quote_asset,index_value", "1745971200000,{},B,USDT,50"),
    "binance/option/EOHSummary": (SUMMARY, "2023-09-19,09,BTC-230929-65000-P,{},P,230929-65000" + ",1" * 20),
    "htx/spot/trades": ("instId,tradeId,px,side,size,ts", "{},9,78000.5,sell,12,1769904000123"),
    "htx/futures/klines": ("instId,open,high,low,close,vol,volCcy,volCcyQuote,ts", "{},1,1,1,1,1,1,1,1769904000"),
    "kucoin/futures/fundingRates": ("symbol,time,fundingRate", "{},1715558400000,0.0001"),
}


def with_symbols(table: str, key: str, *symbols: str) -> ArchiveRows:
    header, row = NAMED[table]
    text = "".join(f"{line}\n" for line in (header, *(row.format(symbol) for symbol in symbols)))
    return read(table, zipped(text), symbol=key, interval="1h" if "klines" in table else None)


@pytest.mark.parametrize(
    ("table", "key", "symbol"),
    [
        ("bybit/derivatives/trades", "BTCUSDT", "BTCUSDT"),
        ("bybit/derivatives/trades", "BTC-14MAR25", "BTC-14MAR25"),
        ("binance/um/metrics", "BTCUSDT", "BTCUSDT"),
        ("binance/um/metrics", "BTCUSDT", ""),
        ("binance/um/metrics", "ICPUSDT_SETTLED", "ICPUSDT"),
        ("binance/um/metrics", "币安人生USDT", "币安人生USDT"),
        ("binance/cm/metrics", "BTCUSD_PERP", "BTCUSD_PERP"),
        ("binance/option/BVOLIndex", "BTCBVOLUSDT", "BTCBVOLUSDT"),
        ("binance/option/EOHSummary", "BTCUSDT", "BTCUSDT"),
        ("htx/spot/trades", "BTC-USDT", "BTC-USDT"),
        ("htx/spot/trades", "BTC-USDT", "btcusdt"),
        ("htx/futures/klines", "BTC-USDT-PERP", "BTC-USDT-PERP"),
        ("htx/futures/klines", "BTC-USDT-PERP", "BTC-USDT"),
        ("htx/futures/klines", "BTC-USD-260206", "BTC-USD-260206"),
        ("kucoin/futures/fundingRates", "BTCUSDTM", "XBTUSDTM"),
        ("kucoin/futures/fundingRates", "XBTUSDTM", "XBTUSDTM"),
    ],
)
def test_a_row_may_spell_the_symbol_differently(table: str, key: str, symbol: str) -> None:
    assert with_symbols(table, key, symbol, symbol).rows == 2


@pytest.mark.parametrize(
    ("table", "key", "symbol"),
    [
        ("bybit/derivatives/trades", "BTCUSDT", "ETHUSDT"),
        ("bybit/derivatives/trades", "BTCUSDT", "BTCUSD"),
        ("bybit/derivatives/trades", "BTCUSDH23", "BTCUSDM23"),
        ("binance/um/metrics", "BTCUSDT", "BTCUSDC"),
        ("binance/um/metrics", "BTCUSDT", "BTCUSDT_210326"),
        ("binance/cm/metrics", "BTCUSD_PERP", "BTCUSD_210326"),
        ("binance/option/BVOLIndex", "BTCBVOLUSDT", "ETHBVOLUSDT"),
        ("binance/option/EOHSummary", "BTCUSDT", "ETHUSDT"),
        ("htx/spot/trades", "BTC-USDT", "BTC-USDC"),
        ("htx/futures/klines", "BTC-USDT-PERP", "BTC-USDT-260206"),
        ("kucoin/futures/fundingRates", "XBTUSDTM", "ETHUSDTM"),
    ],
)
def test_rows_of_another_symbol_than_the_keys_are_refused(table: str, key: str, symbol: str) -> None:
    with pytest.raises(BadArchiveError, match=rf"^the\.zip: it has rows of {symbol}, but its key names {key}$"):
        with_symbols(table, key, key, symbol)


def test_the_error_names_some_of_many_wrong_symbols() -> None:
    others = [f"A{number}USDT" for number in range(12)]
    with pytest.raises(BadArchiveError, match="rows of A0USDT, A1USDT, A2USDT and 9 more, but its key names BTCUSDT"):
        with_symbols("bybit/derivatives/trades", "BTCUSDT", "BTCUSDT", *others)


def test_a_file_of_all_symbols_may_have_any_symbol() -> None:
    text = text_of("bitmex/derivatives/trade", "1668728606").replace("BTCUSDT", "XBTUSD")
    assert read("bitmex/derivatives/trade", gzipped(text), symbol="*").frame["symbol"].to_list() == ["XBTUSD"]


def test_only_the_file_with_another_symbol_is_bad_if_files_are_parsed_together() -> None:
    table = "binance/um/metrics"
    header, row = NAMED[table]
    files = [
        ArchiveFile(f"{key}.zip", zipped(f"{header}\n{row.format(symbol)}\n"), key)
        for key, symbol in (("AUSDT", "AUSDT"), ("BUSDT", "CUSDT"), ("DUSDT", "DUSDT"))
    ]
    first, second, third = (rows for _, rows in read_archives(files, schema=schema_of(*table.split("/"))))
    assert str(second) == "BUSDT.zip: it has rows of CUSDT, but its key names BUSDT"
    assert [rows.frame["symbol"].to_list() for rows in (first, third) if isinstance(rows, ArchiveRows)] == [
        ["AUSDT"],
        ["DUSDT"],
    ]
