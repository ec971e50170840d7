"""Archives of every form become the rows that their text says."""

from __future__ import annotations

import hashlib
import io
import zipfile
from datetime import UTC, datetime

from lakehouse_assets.tables.reading import read_archive
from lakehouse_assets.tables.schema import schema_of

KLINE = "1577836800000,7195.24,7196.25,7183.14,7186.68,51.642812,1577836859999,371233.51,493,19.598,140888.4,0\n"


def zipped(text: str, name: str = "BTCUSDT-1m-2020-01-01.csv") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return buffer.getvalue()


def test_a_kline_file_becomes_typed_rows():
    schema = schema_of("binance", "spot", "klines")
    data = zipped(KLINE)
    read = read_archive(data, schema=schema, name="k.zip", symbol="BTCUSDT", interval="1m")
    assert read.frame.schema == schema.polars
    assert read.frame.row(0, named=True) == {
        "exchange": "binance",
        "market": "spot",
        "symbol": "BTCUSDT",
        "interval": "1m",
        "time": datetime(2020, 1, 1, tzinfo=UTC),
        "open": 7195.24,
        "high": 7196.25,
        "low": 7183.14,
        "close": 7186.68,
        "volume": 51.642812,
        "close_time": datetime(2020, 1, 1, 0, 0, 59, 999000, tzinfo=UTC),
        "quote_volume": 371233.51,
        "trade_count": 493,
        "taker_buy_volume": 19.598,
        "taker_buy_quote_volume": 140888.4,
    }
    assert (read.rows, read.note) == (1, None)
    assert read.sha256 == hashlib.sha256(data).hexdigest()
    assert read.md5 == hashlib.md5(data).hexdigest()
