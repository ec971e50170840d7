"""Archives of given text, packed as exchanges pack them."""

from __future__ import annotations

import gzip
import io
import zipfile

from lakehouse_assets.tables.read.archives import ArchiveRows, read_archive
from lakehouse_assets.tables.read.unpack import Limits
from lakehouse_assets.tables.schema import schema_of

KLINES = "binance/spot/klines"


def zipped(text: str | bytes, *, method: int = zipfile.ZIP_DEFLATED, members: int = 1) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for number in range(members):
            archive.writestr(f"member{number}.csv", text)
    return buffer.getvalue()


def gzipped(*texts: str) -> bytes:
    """One gzip member per text."""
    return b"".join(gzip.compress(text.encode()) for text in texts)


def kline(ms: int = 1577836800000, *, unit: int = 1, close: str = "7186.68", minutes: int = 1) -> str:
    """A row of spot klines; ``unit`` is the number of the file's time units per millisecond."""
    end = (ms + minutes * 60_000) * unit - 1
    return f"{ms * unit},7195.24,7196.25,7183.14,{close},51.642812,{end},371233.51,493,19.598,140888.4,0\n"


def read(
    table: str,
    data: bytes,
    *,
    symbol: str | None = "BTCUSDT",
    interval: str | None = None,
    limits: Limits | None = None,
) -> ArchiveRows:
    """Read data as a file of the table ``exchange/market/data type``."""
    schema = schema_of(*table.split("/"))
    interval = interval or ("1m" if schema.has_interval else None)
    options = {} if limits is None else {"limits": limits}
    rows = read_archive(data, schema=schema, name="the.zip", symbol=symbol, interval=interval, **options)
    assert rows.frame.schema == schema.polars
    assert len(rows.frame) == rows.rows
    return rows
