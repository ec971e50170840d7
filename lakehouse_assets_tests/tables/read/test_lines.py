"""Line ends and limits of lines, in all three ways of reading a file."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable

import polars as pl
import pytest

from lakehouse_assets.tables.read.archives import read_archive_batches
from lakehouse_assets.tables.read.bulk import ArchiveFile, read_archives
from lakehouse_assets.tables.read.unpack import BadArchiveError, Limits
from lakehouse_assets.tables.schema import schema_of
from lakehouse_assets_tests.tables.archives import KLINES, kline, read, zipped

SCHEMA = schema_of(*KLINES.split("/"))
ROWS = "".join(kline(1577836800000 + 60_000 * number) for number in range(50))
EXPECTED = read(KLINES, zipped(ROWS)).frame


def at_once(data: bytes) -> pl.DataFrame:
    return read(KLINES, data).frame


def in_batches(data: bytes) -> pl.DataFrame:
    chunks = [data[start : start + 700] for start in range(0, len(data), 700)]
    frames = list(
        read_archive_batches(chunks, schema=SCHEMA, name="the.zip", symbol="BTCUSDT", interval="1m", batch_bytes=900)
    )
    return pl.concat([SCHEMA.polars.to_frame(), *frames])


def together(data: bytes) -> pl.DataFrame:
    file = ArchiveFile("the.zip", data, "BTCUSDT", "1m")
    good = ArchiveFile("good.zip", zipped(ROWS), "BTCUSDT", "1m")
    (_, before), (_, rows), (_, after) = read_archives([good, file, good], schema=SCHEMA)
    for neighbour in (before, after):
        assert not isinstance(neighbour, BadArchiveError)
        assert neighbour.frame.equals(EXPECTED)
    if isinstance(rows, BadArchiveError):
        raise rows
    return rows.frame


Way = Callable[[bytes], pl.DataFrame]
each_way = pytest.mark.parametrize("way", [at_once, in_batches, together])


@each_way
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "end", "end end end"])
@pytest.mark.parametrize("before", ["", "\ufeff"])
def test_lines_may_have_any_line_end(way: Way, end: str, last: str, before: str) -> None:
    text = before + ROWS.rstrip("\n") + last.replace(" ", "").replace("end", "\n")
    assert way(zipped(text.replace("\n", end))).equals(EXPECTED)


@each_way
def test_a_header_may_end_with_a_carriage_return(way: Way) -> None:
    header = ",".join(SCHEMA.file_columns)
    assert way(zipped(f"{header}\n{ROWS}".replace("\n", "\r"))).equals(EXPECTED)


WIDE = kline().rstrip("\n") + "," * 1_200_000 + "\n"
BAD = [
    (kline().rstrip("\n") + "," * 1200 + "\n", "its first row has 1,212 columns; the limit is 256"),
    (WIDE, "it has a line of more than 65,536 bytes"),
    (WIDE.replace(",,", ",0,"), "it has a line of more than 65,536 bytes"),
    (ROWS + WIDE, "it has a line of more than 65,536 bytes"),
    (ROWS + WIDE + ROWS, "it has a line of more than 65,536 bytes"),
    (f"{ROWS}{'0' * 70_000}\n{ROWS}", "it has a line of more than 65,536 bytes"),
    (f"{ROWS}\0{ROWS}", "it has a NUL byte"),
    (ROWS + "\0" * 100, "it has a NUL byte"),
    (f"{ROWS}\n{ROWS}", "a row after row 0 does not have the expected 12 columns"),
    (f"{ROWS}\n{ROWS}".replace("\n", "\r\n"), "a row after row 0 does not have the expected 12 columns"),
    (f"{ROWS}\n{ROWS}".replace("\n", "\r"), "a row after row 0 does not have the expected 12 columns"),
]


@each_way
@pytest.mark.parametrize(("text", "reason"), BAD, ids=range(len(BAD)))
def test_invalid_lines_are_refused_with_a_reason(way: Way, text: str, reason: str) -> None:
    with pytest.raises(BadArchiveError, match=f"the.zip: .*{reason}"):
        way(zipped(text))


@each_way
@pytest.mark.parametrize("field", ['"71\n86"', '"7186', '"7186\n', '71"86\n"'])
def test_a_quoted_field_over_several_lines_is_refused(way: Way, field: str) -> None:
    with pytest.raises(BadArchiveError):
        way(zipped(ROWS + kline(close=field) + ROWS))


def test_a_text_field_with_a_line_end_is_refused() -> None:
    text = 'trade_id,trade_time,price,size,side\n"a\nb",1577836800000,1.5,2,buy\nc,1577836800000,1.5,2,buy\n'
    with pytest.raises(BadArchiveError):
        read("kucoin/spot/trades", zipped(text))


@each_way
def test_a_small_file_that_unpacks_to_a_wide_line_needs_little_memory(way: Way) -> None:
    data = zipped(WIDE)
    assert len(data) < 3_000
    tracemalloc.start()
    try:
        with pytest.raises(BadArchiveError, match="a line of more than"):
            way(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


@pytest.mark.parametrize("end", ["\n", "\r"])
def test_too_many_blank_lines_are_refused(end: str) -> None:
    with pytest.raises(BadArchiveError, match="more than 65,536 blank lines in a row"):
        read(KLINES, gzip.compress((ROWS + end * 9_000_000).encode()), limits=Limits(ratio=1e9))


@pytest.mark.parametrize("size", [1, 2, 3, 89, 90, 91, 1000])
def test_a_cr_lf_split_between_chunks_is_one_line_end(size: int) -> None:
    data = gzip.compress(ROWS.replace("\n", "\r\n").encode(), 0)
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    batches = read_archive_batches(chunks, schema=SCHEMA, name="k", symbol="BTCUSDT", interval="1m", batch_bytes=500)
    assert pl.concat(list(batches)).equals(EXPECTED)
