"""Files that are read together give the same results as files that are read one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.tables.read import bulk
from lakehouse_assets.tables.read.archives import ArchiveRows, read_archive
from lakehouse_assets.tables.read.bulk import ArchiveFile, read_archives
from lakehouse_assets.tables.read.unpack import BadArchiveError
from lakehouse_assets.tables.schema import schema_of
from lakehouse_assets.tables.schemas.model import TableSchema
from lakehouse_assets_tests.tables.archives import gzipped, kline, zipped

KLINES = schema_of("binance", "um", "klines")
HEADER = ",".join(KLINES.file_columns) + "\n"
START = 1704067200000


def texts(rows: int, *, unit: int = 1) -> str:
    return "".join(kline(START + 60_000 * number, unit=unit) for number in range(rows))


FILES = {
    "plain": zipped(texts(3)),
    "longer": zipped(texts(9)),
    "header": zipped(HEADER + texts(4)),
    "header in another order": zipped(
        HEADER.replace("high,low", "low,high") + texts(2).replace("7196.25,7183.14", "7183.14,7196.25")
    ),
    "windows": zipped((HEADER + texts(2)).replace("\n", "\r\n")),
    "no newline": gzipped(texts(5).rstrip("\n")),
    "microseconds": zipped(texts(3, unit=1000)),
    "extra column": zipped(texts(2).replace(",0\n", ",0,1\n")),
    "empty": zipped(""),
    "only a header": zipped(HEADER),
    "blank line": zipped(texts(1) + "\n" + texts(1)),
    "short row": zipped(texts(1) + "1704067260000,1,2\n"),
    "word": zipped(texts(1) + kline(close="high")),
    "not finite": zipped(texts(1) + kline(close="NaN")),
    "truncated": zipped(texts(3))[:-30],
    "no archive": b"<html>",
}


def files(names: Sequence[str]) -> list[ArchiveFile]:
    return [ArchiveFile(name, FILES[name], f"S{number}USDT", "1m") for number, name in enumerate(names)]


def alone(file: ArchiveFile, schema: TableSchema) -> ArchiveRows | str:
    try:
        return read_archive(file.data, schema=schema, name=file.name, symbol=file.symbol, interval=file.interval)
    except BadArchiveError as error:
        return str(error)


def assert_same_results(archive_files: list[ArchiveFile], schema: TableSchema = KLINES) -> None:
    results = list(read_archives(archive_files, schema=schema))
    assert [file for file, _ in results] == archive_files
    for file, result in results:
        expected = alone(file, schema)
        if isinstance(result, BadArchiveError):
            assert str(result) == expected
            continue
        assert isinstance(expected, ArchiveRows)
        assert result.frame.equals(expected.frame)
        assert result.frame.schema == schema.polars
        for field in dataclasses.fields(ArchiveRows):
            if field.name != "frame":
                assert getattr(result, field.name) == getattr(expected, field.name)


@given(st.lists(st.sampled_from(list(FILES)), max_size=8))
def test_any_files_in_any_order_give_the_results_of_reading_them_alone(names: list[str]):
    assert_same_results(files(names))


def test_files_with_columns_in_another_order_are_parsed_separately():
    assert_same_results(files(["header", "header in another order", "header"]))


def test_a_quoted_line_end_does_not_shift_the_rows_of_other_files():
    schema = schema_of("kucoin", "spot", "trades")
    row = "{},1704067200000,1,2,buy\n"
    trades = "trade_id,trade_time,price,size,side\n" + row.format("first") + row
    archive_files = [
        ArchiveFile(identity, zipped(trades.format(identity)), symbol)
        for identity, symbol in (('"a\nb"', "BTCUSDT"), ("c", "ETHUSDT"))
    ]
    assert_same_results(archive_files, schema)


def test_files_of_the_same_layout_are_parsed_together(monkeypatch: pytest.MonkeyPatch):
    parsed = []
    read_csv = pl.read_csv
    monkeypatch.setattr(pl, "read_csv", lambda block, **more: parsed.append(block) or read_csv(block, **more))
    assert len(list(read_archives(files(["plain", "longer", "no newline"] * 20), schema=KLINES))) == 60
    assert len(parsed) == 1


def test_files_are_read_ahead_only_up_to_a_batch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bulk, "BATCH_BYTES", 2 * len(texts(9)))
    requested = []

    def source():
        for file in files(["longer"] * 6):
            requested.append(file)
            yield file

    assert next(read_archives(source(), schema=KLINES))[0].symbol == "S0USDT"
    assert len(requested) == 3
    assert_same_results(files(["longer", "plain"] * 5))


def test_repeated_rows_are_dropped_per_file():
    schema = schema_of("binance", "cm", "liquidationSnapshot")
    row = "1687651200000,SELL,LIMIT,IOC,10,30000.5,30001,FILLED,10,10\n"
    data = zipped(",".join(schema.file_columns) + "\n" + row * 2)
    archive_files = [ArchiveFile("l", data, symbol) for symbol in ("BTCUSD_PERP", "ETHUSD_PERP")]
    assert_same_results(archive_files, schema)
    results = [result for _, result in read_archives(archive_files, schema=schema)]
    assert [result.rows for result in results if isinstance(result, ArchiveRows)] == [1, 1]
