"""Archives of every format become typed rows."""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, date, datetime

import polars as pl
import pytest

from lakehouse_assets.tables.read.archives import read_archive_batches
from lakehouse_assets.tables.read.unpack import BadArchiveError
from lakehouse_assets.tables.schema import schema_of
from lakehouse_assets_tests.tables.archives import KLINES, gzipped, kline, read, zipped

BYBIT = "bybit/derivatives/trades"
BYBIT_HEADER = "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional"
BITMEX_HEADER = BYBIT_HEADER
METRICS_HEADER = (
    "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
    "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio"
)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def test_a_kline_file_becomes_typed_rows():
    data = zipped(kline())
    rows = read(KLINES, data)
    assert rows.frame.row(0, named=True) == {
        "exchange": "binance",
        "market": "spot",
        "symbol": "BTCUSDT",
        "interval": "1m",
        "time": at(2020, 1, 1),
        "open": 7195.24,
        "high": 7196.25,
        "low": 7183.14,
        "close": 7186.68,
        "volume": 51.642812,
        "close_time": at(2020, 1, 1, 0, 0, 59, 999000),
        "quote_volume": 371233.51,
        "trade_count": 493,
        "taker_buy_volume": 19.598,
        "taker_buy_quote_volume": 140888.4,
    }
    assert (rows.rows, rows.note) == (1, None)


def test_digests_are_those_of_the_archive():
    data = zipped(kline())
    rows = read(KLINES, data)
    assert rows.sha256 == hashlib.sha256(data).hexdigest()
    assert rows.md5 == hashlib.md5(data).hexdigest()


def test_first_and_last_time_do_not_depend_on_the_order_of_rows():
    rows = read(KLINES, zipped(kline(1577836860000) + kline(1577836980000) + kline(1577836800000)))
    assert (rows.first_time, rows.last_time) == (at(2020, 1, 1), at(2020, 1, 1, 0, 3))
    assert rows.frame["time"].to_list()[0] == at(2020, 1, 1, 0, 1)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1704067200", at(2024, 1, 1)),
        ("1704067200.5", at(2024, 1, 1, 0, 0, 0, 500000)),
        ("1704067200.771538", at(2024, 1, 1, 0, 0, 0, 771538)),
        ("1704067200123", at(2024, 1, 1, 0, 0, 0, 123000)),
        ("1704067200123456", at(2024, 1, 1, 0, 0, 0, 123456)),
        ("1704067200123456789", at(2024, 1, 1, 0, 0, 0, 123456)),
        ("2024-01-01 00:00:07", at(2024, 1, 1, 0, 0, 7)),
        ("2024-01-01D00:00:00.451986388", at(2024, 1, 1, 0, 0, 0, 451986)),
        ("2024-01-01T00:00:00.451Z", at(2024, 1, 1, 0, 0, 0, 451000)),
    ],
)
def test_a_time_is_read_by_its_magnitude_or_as_a_date_string(written: str, expected: datetime):
    text = f"trade_id,trade_time,price,size,side\n1,{written},1.5,2,buy\n"
    assert read("kucoin/spot/trades", zipped(text)).frame["time"].to_list() == [expected]


def test_a_file_may_have_times_in_two_units():
    both = kline(1735603200000) + kline(1735689600000, unit=1000)
    assert read(KLINES, zipped(both)).frame["time"].to_list() == [at(2024, 12, 31), at(2025, 1, 1)]


@pytest.mark.parametrize("written", ["0", "-1", "12", "99999999999999999", "1.5", "x", "2024-13-01 00:00:00", ""])
def test_an_invalid_time_is_refused_and_the_error_names_its_row(written: str):
    text = f"trade_id,trade_time,price,size,side\n1,{written},1.5,2,buy\n"
    with pytest.raises(BadArchiveError, match=r"^the\.zip: row 1, column trade_time: .* is not a valid time$"):
        read("kucoin/spot/trades", zipped(text))


def test_nanoseconds_have_a_column_of_their_own():
    text = (
        f"{BITMEX_HEADER},trdType\n2024-01-15D00:00:00.451986388,XBTUSD,Buy,100,42000.5,PlusTick,a-b,1,0.1,2,Regular\n"
    )
    row = read("bitmex/derivatives/trade", gzipped(text), symbol=None).frame.row(0, named=True)
    assert row["ts_ns"] == 1705276800451986388
    assert row["time"] == at(2024, 1, 15, 0, 0, 0, 451986)
    assert (row["symbol"], row["side"], row["trade_id"]) == ("XBTUSD", "buy", "a-b")


@pytest.mark.parametrize("capital", [True, False])
def test_the_taker_sells_when_the_buyer_is_the_maker(capital: bool):
    true, false = ("True", "False") if capital else ("true", "false")
    text = f"1,10.5,2,21,1577836800000,{true},{true}\n2,10.5,2,21,1577836800000,{false},{false}\n"
    frame = read("binance/spot/trades", zipped(text)).frame
    assert frame["side"].to_list() == ["sell", "buy"]
    assert frame["best_match"].to_list() == [True, False]


def test_columns_of_a_file_with_a_header_are_matched_by_name():
    header = "id,qty,price,quote_qty,is_buyer_maker,time"
    frame = read("binance/um/trades", zipped(f"{header}\n7,2,10.5,21,true,1577836800000\n")).frame
    assert frame.select("trade_id", "price", "size", "quote_size").row(0) == (7, 10.5, 2.0, 21.0)


def test_unknown_columns_are_ignored():
    with_rpi = (
        f"{BYBIT_HEADER},RPI\n1696982287.4922,FXSUSDT,Sell,0.86,5.239,ZeroMinusTick,f7,4.50554e+08,0.86,4.50554,1\n"
    )
    row = read(BYBIT, gzipped(with_rpi), symbol="FXSUSDT").frame.row(0, named=True)
    assert (row["gross_value"], row["time"]) == (450554000.0, at(2023, 10, 10, 23, 58, 7, 492200))
    extra = kline().replace(",0\n", ",0,new\n")
    assert read(KLINES, zipped(extra)).frame["close"].to_list() == [7186.68]


def test_the_error_names_a_missing_column():
    renamed = "id,price,quantity,quote_qty,time,is_buyer_maker\n7,10.5,2,21,1577836800000,true\n"
    with pytest.raises(BadArchiveError, match="has no column 'qty'; its columns are id, price, quantity"):
        read("binance/um/trades", zipped(renamed))


def test_the_error_names_a_repeated_column():
    with pytest.raises(BadArchiveError, match="has the column 'price' twice"):
        read("binance/um/trades", zipped("id,price,qty,price,quote_qty,time,is_buyer_maker\n"))


def test_a_file_without_a_header_and_with_too_few_columns_is_refused():
    with pytest.raises(BadArchiveError, match="have 7 columns; 12 are expected"):
        read(KLINES, zipped("1,10.5,2,21,1577836800000,true,true\n"))


def test_lines_may_end_with_cr_lf_and_the_last_line_without_a_line_end():
    unix, windows = kline() + kline(1577836860000), (kline() + kline(1577836860000)).replace("\n", "\r\n")
    expected = read(KLINES, zipped(unix)).frame
    assert read(KLINES, zipped(windows)).frame.equals(expected)
    assert read(KLINES, zipped(unix.rstrip("\n"))).frame.equals(expected)
    assert read(KLINES, zipped(windows + "\r\n\r\n")).frame.equals(expected)


def test_a_byte_order_mark_is_not_part_of_the_header():
    text = "\ufeffid,price,qty,quote_qty,time,is_buyer_maker\r\n7,10.5,2,21,1577836800000,true\r\n"
    assert read("binance/um/trades", zipped(text)).rows == 1


def test_empty_fields_and_numbers_as_java_writes_them_are_read_in_nullable_columns():
    names = "binance/option/EOHSummary"
    header = ",".join(schema_of(*names.split("/")).file_columns)
    text = (
        f"{header}\n2023-09-19,09,BTC-230929-65000-P,BTCUSDT,P,230929-65000,38300.0,38300.0,38300.0,38300.0,0E-8,0E-8,"
        '36120,40040,3.17,2.82,"",4.9,37712,0.775,-1.0,0E-8,0E-8,-1E-8,0.16,4366.01\n'
    )
    row = read(names, zipped(text)).frame.row(0, named=True)
    assert (row["volume"], row["theta"], row["bid_iv"], row["ask_iv"]) == (0.0, -1e-8, None, 4.9)
    assert row["time"] == at(2023, 9, 19, 9)
    assert (row["contract"], row["symbol"]) == ("BTC-230929-65000-P", "BTCUSDT")
    assert (row["option_type"], row["strike_price"], row["expiration"]) == ("put", 65000.0, date(2023, 9, 29))


def test_an_empty_field_is_refused_in_a_column_that_is_not_nullable():
    with pytest.raises(BadArchiveError, match="row 2, column close: an empty field is not a valid close"):
        read(KLINES, zipped(kline() + kline(close="")))


def test_metrics_of_cm_have_no_ratios():
    text = f'{METRICS_HEADER}\n2024-01-01 00:05:00,BTCUSD_PERP,1.5,2.5,"","","",""\n'
    row = read("binance/cm/metrics", zipped(text), symbol="BTCUSD_PERP").frame.row(0, named=True)
    assert (row["open_interest"], row["taker_long_short_volume_ratio"]) == (1.5, None)


def test_a_short_row_is_refused_even_if_the_missing_fields_may_be_empty():
    text = f"{METRICS_HEADER}\n2024-01-01 00:05:00,BTCUSD_PERP,1.5,2.5,,,,\n2024-01-01 00:10:00,BTCUSD_PERP,1.5\n"
    with pytest.raises(BadArchiveError, match="does not have the expected 8 columns"):
        read("binance/cm/metrics", zipped(text))


@pytest.mark.parametrize("cut", [",0", ".4,0"])
def test_a_row_that_ends_after_the_last_used_column_is_refused(cut: str):
    # Its last value may be truncated, too.
    with pytest.raises(BadArchiveError, match="does not have the expected 12 columns"):
        read(KLINES, zipped(kline() + kline().strip().removesuffix(cut) + "\n"))


def test_the_sign_of_a_size_gives_the_side():
    frame = read(
        "gate/futures_usdt/trades", gzipped("1577836738.742477, 5427, 41.31, 2\n1577836472.507152,5424,41.22,-1\n")
    ).frame
    assert frame["side"].to_list() == ["buy", "sell"]
    assert frame["size"].to_list() == [2.0, 1.0]


def test_spot_deals_that_are_published_as_futures_trades_are_refused():
    # As the exchange did in 2021-07 for 85 symbols. An unsigned size would be read as a buy.
    deals = "1627775982.133299,5427,41.31,2.5,1\n1627775981.507152,5424,41.22,3.5,2\n"
    with pytest.raises(BadArchiveError, match="its rows have 5 columns; 4 are expected"):
        read("gate/futures_usdt/trades", gzipped(deals), symbol="FIDA_USDT")


def test_a_numbered_side_is_read_as_the_exchange_documents_it():
    text = "1577830575.771538, 215782675, 0.0329, 500.0, 1\n1577824851.057307, 215777760, 0.0329, 439.0, 2\n"
    assert read("gate/spot/deals", gzipped(text)).frame["side"].to_list() == ["sell", "buy"]
    with pytest.raises(BadArchiveError, match="column side: 3 is not a valid side"):
        read("gate/spot/deals", gzipped(text.replace(", 2\n", ", 3\n")))


def test_spot_candles_of_kucoin_have_close_before_high():
    text = "time,open,close,high,low,volume,turnover\n1704067200,1,2,3,0.5,10,20\n"
    row = read("kucoin/spot/klines", zipped(text)).frame.row(0, named=True)
    assert [row[name] for name in ("open", "high", "low", "close")] == [1.0, 3.0, 0.5, 2.0]


def test_an_empty_file_and_one_with_only_a_header_have_no_rows_and_a_note():
    header = "id,price,qty,quote_qty,time,is_buyer_maker\r\n"
    for data in (b"", gzipped(""), zipped(""), zipped("\n"), zipped("", method=0)):
        rows = read("binance/um/trades", data)
        assert (rows.rows, rows.note, rows.first_time) == (0, "the file is empty", None)
        assert rows.sha256 == hashlib.sha256(data).hexdigest()
    for text in (header, header.strip()):
        rows = read("binance/um/trades", zipped(text))
        assert (rows.rows, rows.note) == (0, "the file has a header and no rows")


def test_gzip_may_have_several_members_and_end_with_zeros():
    data = gzipped(kline()[:20], kline()[20:] + kline(1577836860000), "")
    assert read(KLINES, data).rows == 2
    assert read(KLINES, data + bytes(700)).rows == 2


def test_repeated_rows_are_kept_once_if_the_exchange_repeats_rows():
    header = ",".join(schema_of("binance", "cm", "liquidationSnapshot").file_columns)
    row = "1687651200000,SELL,LIMIT,IOC,10,30000.5,30001,FILLED,10,10\n"
    other = row.replace("SELL", "BUY")
    rows = read("binance/cm/liquidationSnapshot", zipped(f"{header}\n{row}{row}{other}{other}"))
    assert rows.frame["side"].to_list() == ["sell", "buy"]
    assert rows.note == "2 repeated rows were dropped"


def test_batches_are_small_and_make_up_the_complete_file():
    text = "".join(kline(1577836800000 + 60_000 * number) for number in range(5000))
    schema = schema_of("binance", "spot", "klines")
    data = gzipped(text)
    complete = read(KLINES, data)
    chunks = [data[start : start + 500] for start in range(0, len(data), 500)]
    batches = read_archive_batches(chunks, schema=schema, name="k", symbol="BTCUSDT", interval="1m", batch_bytes=10_000)
    frames = list(batches)
    assert pl.concat(frames).equals(complete.frame)
    assert max(len(frame) for frame in frames) < 500
    assert (batches.rows, batches.sha256, batches.md5) == (5000, complete.sha256, complete.md5)
    assert (batches.first_time, batches.last_time) == (complete.first_time, complete.last_time)


def test_the_size_of_chunks_does_not_matter():
    text = "".join(kline(1577836800000 + 60_000 * number) for number in range(300))
    schema = schema_of("binance", "spot", "klines")
    for data in (zipped(text), gzipped(text[:999], text[999:])):
        expected = read(KLINES, data).frame
        for size in (1, 7, 100):
            chunks = [data[start : start + size] for start in range(0, len(data), size)]
            frames = list(read_archive_batches(chunks, schema=schema, name="k", symbol="BTCUSDT", interval="1m"))
            assert pl.concat(frames).equals(expected)
        file = read_archive_batches(io.BytesIO(data), schema=schema, name="k", symbol="BTCUSDT", interval="1m")
        assert pl.concat(list(file)).equals(expected)
