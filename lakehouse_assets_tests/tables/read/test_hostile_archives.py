"""An invalid file is a bad archive with a reason: it raises no other error and gives no wrong rows."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.tables.read import unpack
from lakehouse_assets.tables.read.unpack import BadArchiveError, Limits
from lakehouse_assets_tests.tables.archives import KLINES, gzipped, kline, read, zipped

TEXT = "".join(kline(1577836800000 + 60_000 * number, close=f"{7000 + number}.5") for number in range(200))
ZIP, GZIP = zipped(TEXT), gzipped(TEXT)


def refused(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(BadArchiveError) as raised:
        read(KLINES, data, limits=limits)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def changed(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


@given(st.integers(0, len(ZIP) - 1))
def test_a_zip_that_is_truncated_anywhere_is_refused(length: int):
    if length:
        refused(ZIP[:length])


@given(st.integers(1, len(GZIP) - 1))
def test_a_gzip_that_is_truncated_anywhere_is_refused(length: int):
    refused(GZIP[:length])


@given(st.sampled_from([ZIP, GZIP]), st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_nothing(data: bytes, at: int, mask: int):
    at %= len(data)
    try:
        rows = read(KLINES, changed(data, at, bytes([data[at] ^ mask])))
    except BadArchiveError:
        return
    # Dates, names, comments and versions are not used.
    assert rows.frame.equals(read(KLINES, data).frame)


@given(st.binary(max_size=400))
def test_random_bytes_are_refused(data: bytes):
    if data:
        refused(data)
        refused(b"PK\x03\x04" + data)
        refused(b"\x1f\x8b" + data)


fields = st.one_of(
    st.text(max_size=8),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["NaN", "nan", "inf", "-inf", "1e999", '""', '"', "", " ", "9" * 40, "0x10", "1577836800000", "\0"]
    ),
)


@given(st.integers(0, 11), fields)
def test_a_random_field_is_refused_or_read_as_python_reads_it(column: int, field: str):
    row = kline().rstrip("\n").split(",")
    row[column] = field
    text = kline() + ",".join(row) + "\n"
    try:
        rows = read(KLINES, zipped(text.encode("utf-8", errors="surrogatepass")))
    except BadArchiveError:
        return
    assert rows.rows == 2
    if 1 <= column <= 4:
        assert rows.frame[("open", "high", "low", "close")[column - 1]][1] == float(field.strip().strip('"'))


@pytest.mark.parametrize("word", ["NaN", "nan", "inf", "-inf", "1e999"])
def test_a_number_that_is_not_finite_is_refused(word: str):
    assert refused(zipped(kline() + kline(close=word))).startswith("the.zip: row 2, column close: ")


def test_the_error_names_row_column_and_field():
    assert refused(zipped(kline() + kline(close="high"))) == "the.zip: row 2, column close: high is not a valid close"


@pytest.mark.parametrize("huge", ["9223372036854775808", "-99999999999999999999999", "1.5", "many"])
def test_an_integer_that_does_not_fit_64_bits_is_refused(huge: str):
    assert huge[:18] in refused(zipped(kline().replace(",493,", f",{huge},")))


def test_a_row_with_more_or_fewer_fields_than_the_first_is_refused():
    refused(zipped(kline() + kline().replace(",0\n", ",0,1\n")))
    refused(zipped(kline() + "1577836860000,1,2\n"))
    refused(zipped(kline() + "\n" + kline()))


def test_text_that_is_not_utf_8_is_refused():
    header = b"trade_id,trade_time,price,size,side\n"
    with pytest.raises(BadArchiveError):
        read("kucoin/spot/trades", zipped(header + b"\xff\xfe,1577836800000,1,2,buy\n"))


def test_a_zip_has_one_member():
    assert "it has 2 members" in refused(zipped(kline(), members=2))
    assert "it has several" in refused(zipped(kline() * 2000, members=2, method=zipfile.ZIP_STORED))
    assert "without members" in refused(zipped("", members=0))


def test_a_wrong_checksum_of_the_text_is_refused():
    central = ZIP.rindex(b"PK\x01\x02")
    assert "CRC" in refused(changed(ZIP, central + 16, b"\0\0\0\0"))
    assert "damaged" in refused(changed(GZIP, len(GZIP) - 8, b"\0\0\0\0"))


def test_a_wrong_size_in_the_directory_is_refused():
    central = ZIP.rindex(b"PK\x01\x02")
    assert "its directory says 7" in refused(changed(ZIP, central + 24, struct.pack("<I", 7)))
    assert "another position" in refused(changed(ZIP, central + 20, struct.pack("<I", 7)))


def test_an_encrypted_or_differently_compressed_member_is_refused():
    assert "encrypted" in refused(changed(ZIP, 6, b"\x01\0"))
    assert "method 9" in refused(changed(ZIP, 8, b"\x09\0"))
    assert "method 14" in refused(zipped(kline(), method=zipfile.ZIP_LZMA))


def test_other_data_after_gzip_data_is_refused():
    assert "follows" in refused(GZIP + b"more")
    assert "follows" in refused(GZIP + bytes(100) + b"more")


def test_the_error_quotes_the_beginning_of_a_file_that_is_neither_zip_nor_gzip():
    assert "begins with b'<htm'" in refused(b"<html>AccessDenied</html>")


def packed_as(kind: str, text: bytes) -> bytes:
    return zipped(text) if kind == "zip" else gzip.compress(text)


each_packing = pytest.mark.parametrize("kind", ["zip", "gzip"])


@each_packing
def test_a_file_of_one_endless_line_is_refused_with_little_memory(kind: str):
    data = packed_as(kind, b"0" * 60_000_000)
    tracemalloc.start()
    try:
        assert "a line of more than" in refused(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


@each_packing
def test_a_bomb_of_short_lines_is_refused_by_ratio_and_by_size(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpack, "FREE_OF_RATIO", 100_000)
    data = packed_as(kind, kline().encode() * 10_000)
    assert "more than 100 times its size" in refused(data, Limits(ratio=100))
    assert "more than 500,000 bytes" in refused(data, Limits(text_bytes=500_000))


def test_a_declared_size_above_the_limit_is_refused_before_unpacking(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(unpack, "_inflate")
    declared = changed(ZIP, 22, struct.pack("<I", 4_000_000_000))
    assert "more than 2,147,483,648 bytes" in refused(declared)


def test_the_file_of_an_idle_market_is_not_refused_as_a_bomb():
    still = [
        f"{1577836800000 + 1000 * number},1,1,1,1,0,{1577836800999 + 1000 * number},0,0,0,0,0\n"
        for number in range(86_400)
    ]
    data = zipped("".join(still))
    assert read(KLINES, data, interval="1s").rows == 86_400


def test_too_many_gzip_members_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpack, "MEMBERS", 10)
    assert "more than 10 gzip members" in refused(gzip.compress(b"") * 11)


def test_a_zip_whose_size_follows_the_member_is_read():
    # As written to a stream: bit 3 is set, and a descriptor after the member has the sizes.
    class Stream(io.RawIOBase):
        def __init__(self) -> None:
            self.written = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:
            self.written += bytes(data)
            return len(data)

    stream = Stream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.csv", TEXT)
    assert read(KLINES, stream.written).rows == 200


def test_a_zip64_is_read():
    # As in archives of more than 4 GiB: the sizes are ffffffff, and the extra field has the real ones.
    body = zlib.compress(TEXT.encode(), 6, -15)
    crc, size = zlib.crc32(TEXT.encode()), len(TEXT)
    extra = struct.pack("<HHQQ", 1, 16, size, len(body))
    common = struct.pack("<4H3I", 0, 8, 0, 0, crc, 0xFFFFFFFF, 0xFFFFFFFF)
    local = b"PK\x03\x04" + struct.pack("<H", 45) + common + struct.pack("<2H", 5, len(extra)) + b"x.csv" + extra
    central = b"PK\x01\x02" + struct.pack("<2H", 45, 45) + common + struct.pack("<5H2I", 5, len(extra), 0, 0, 0, 0, 0)
    central += b"x.csv" + extra
    start = len(local) + len(body)
    end64 = b"PK\x06\x06" + struct.pack("<Q2H2I4Q", 44, 45, 45, 0, 0, 1, 1, len(central), start)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, start + len(central), 1)
    end = b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    assert read(KLINES, local + body + central + end64 + locator + end).rows == 200
