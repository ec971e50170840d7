"""Sample objects of any exchange, with its keys, containers, sidecars and columns, and a few rows each.

Keys follow from the exchange's layout, containers from the keys' endings; ROWS defines the rows. For data that is
consistent over days and intervals see ``archive.py`` (Binance).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges.grammar import Exchange
from lakehouse_assets.archive.exchanges.layout import ALL_SYMBOLS
from lakehouse_assets.archive.period import Period, period_range
from lakehouse_assets.embedded.samples.archive import SampleFile

ROWS_PER_FILE = 10
_INSIDE = ("XBTUSD", "ETHUSD")


@dataclass(frozen=True, slots=True)
class Rows:
    """The lines of a file: a header (empty if files have none), and a template of a row with ``symbol``, ``price``,
    ``size``, ``side``, ``id`` and the time as ``s``, ``ms`` (since the epoch) or ``stamp``."""

    header: str
    row: str


_TRADING = "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional"
_TRADED = "{symbol},{side},{size},{price},ZeroPlusTick,00000000-0000-0000-0000-{id:012},1,{size},1"
_INDEX = Rows("start_at,symbol,period,open,high,low,close", "{s},{symbol},1,{price},{price},{price},{price}")
_HTX_KLINES = Rows(
    "instId,open,high,low,close,vol,volCcy,volCcyQuote,ts", "{symbol},{price},{price},{price},{price},1,{size},1,{ms}"
)
_HTX_PRICES = Rows("instId,open,high,low,close,ts", "{symbol},{price},{price},{price},{price},{ms}")
_KUCOIN_PRICES = Rows("time,open,high,low,close", "{ms},{price},{price},{price},{price}")
_BOOK = Rows("", '{{"ts":{ms},"asks":[["{price}","{size}"]],"bids":[["{price}","{size}"]]}}')
_OTHER = Rows("", "{ms},{id},{price},{size}")

ROWS: dict[tuple[str, ...], Rows] = {
    ("bybit", "derivatives", "trades"): Rows(_TRADING, "{s}.0547," + _TRADED),
    ("bybit", "spot", "trades"): Rows("id,timestamp,price,volume,side", "{id},{ms},{price},{size},{side}"),
    ("bybit", "derivatives", "premium_index"): _INDEX,
    ("bybit", "derivatives", "spot_index"): _INDEX,
    ("bitmex", "derivatives", "trade"): Rows(_TRADING, "{stamp}.451986388," + _TRADED),
    ("bitmex", "derivatives", "quote"): Rows(
        "timestamp,symbol,bidSize,bidPrice,askPrice,askSize", "{stamp}.451986388,{symbol},{size},{price},{price},{size}"
    ),
    ("gate", "spot", "deals"): Rows("", "{s}.277618,{id},{price},{size},1"),
    ("gate", "futures_usdt", "trades"): Rows("", "{s}.477201,{id},{price},-{size}"),
    ("gate", "spot", "candlesticks"): Rows("", "{s},{size},{price},{price},{price},{price}"),
    ("gate", "futures_usdt", "candlesticks"): Rows("", "{s},{size},{price},{price},{price},{price}"),
    ("gate", "futures_usdt", "funding_applies"): Rows("", "{s},0.0001"),
    ("gate", "spot", "orderbooks"): Rows("", "{s}.1,set,{price},{size},{id},1"),
    ("gate", "spot", "orderbooks_slice"): _BOOK,
    ("htx", "spot", "trades"): Rows("instId,tradeId,px,side,size,ts", "{symbol},{id},{price},{side},{size},{ms}"),
    ("htx", "futures", "trades"): Rows("instId,tradeId,px,side,size,ts", "{symbol},{id},{price},{side},{size},{ms}"),
    ("htx", "spot", "klines"): _HTX_KLINES,
    ("htx", "futures", "klines"): _HTX_KLINES,
    ("htx", "futures", "index_klines"): _HTX_PRICES,
    ("htx", "futures", "mark_klines"): _HTX_PRICES,
    ("htx", "spot", "orderbook"): _BOOK,
    ("htx", "futures", "orderbook"): _BOOK,
    ("htx", "old_spot", "klines"): Rows("", "{s},{price},{price},{price},{price},1,{size}"),
    ("htx", "old_spot", "trades"): Rows("", "{id},{ms},{price},{size},{side}"),
    ("kucoin", "spot", "trades"): Rows("trade_id,trade_time,price,size,side", "{id},{ms},{price},{size},{side}"),
    ("kucoin", "futures", "trades"): Rows("trade_id,trade_time,price,size,side", "{id},{ms},{price},{size},{side}"),
    ("kucoin", "spot", "klines"): Rows(
        "time,open,close,high,low,volume,turnover", "{s},{price},{price},{price},{price},{size},1"
    ),
    ("kucoin", "futures", "klines"): Rows(
        "time,open,high,low,close,volume", "{ms},{price},{price},{price},{price},{size}"
    ),
    ("kucoin", "futures", "fundingRates"): Rows("symbol,time,fundingRate", "{symbol},{ms},0.0001"),
    ("kucoin", "futures", "index"): _KUCOIN_PRICES,
    ("kucoin", "futures", "mark"): _KUCOIN_PRICES,
    ("kucoin", "spot", "depth"): _BOOK,
    ("kucoin", "futures", "depth"): _BOOK,
}


def sample_objects(
    dataset: Dataset,
    *,
    symbols: Sequence[str],
    first: Period,
    last: Period,
    intervals: Sequence[str] = (),
    seed: int = 7,
    sidecars: bool = True,
) -> Iterator[SampleFile]:
    """Every object of the periods, each followed by its sidecar if the exchange publishes sidecars.

    If an object contains all symbols, ``symbols`` is ``*`` alone, and the rows alternate between two symbols. Equal
    arguments produce equal bytes (with the same zlib).
    """
    layout = dataset.layout
    for symbol in symbols:
        inside = _INSIDE if symbol == ALL_SYMBOLS else (symbol,)
        for interval in intervals or (None,):
            for period in period_range(first, last):
                for part in layout.parts or (None,):
                    key = layout.key_of(symbol=symbol, interval=interval, period=period, part=part)
                    body = contained(key, _text(dataset, inside, period, part, f"{seed}/{key}"))
                    yield SampleFile(key, body)
                    if dataset.source.checksum and sidecars:
                        yield sidecar_of(key, body, dataset.source)


def sidecar_of(key: str, body: bytes, exchange: Exchange) -> SampleFile:
    """The sidecar of an object: digest, two spaces, file name."""
    if exchange.checksum is None:
        raise ValueError(f"{exchange.name} publishes no sidecars")
    digest = hashlib.new(exchange.checksum.algorithm, body, usedforsecurity=False).hexdigest()
    place = exchange.sidecar_of(key) or key + exchange.checksum.suffix
    return SampleFile(place, f"{digest}  {key.rsplit('/', 1)[1]}\n".encode())


def contained(key: str, text: str) -> bytes:
    """A text in the container of the key's ending; its member has the file's name without that ending."""
    name = key.rsplit("/", 1)[-1]
    if name.endswith(".zip"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(name.replace(".zip", ".csv")), text)
        return buffer.getvalue()
    packed = text.encode()
    if name.endswith(".tar.gz"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo(name.replace(".tar.gz", ".data"))
            member.size = len(packed)
            archive.addfile(member, io.BytesIO(packed))
        packed = buffer.getvalue()
    return gzip.compress(packed, mtime=0)


def _text(dataset: Dataset, symbols: Sequence[str], period: Period, part: str | None, seed: str) -> str:
    rows = ROWS.get((dataset.exchange, dataset.market, dataset.data_type), _OTHER)
    rng = random.Random(seed)  # noqa: S311 - content, no secret
    midnight = datetime.combine(period.start, datetime.min.time(), ZoneInfo(dataset.source.timezone))
    start = midnight + timedelta(hours=int(part or 0))
    lines = [rows.header] if rows.header else []
    for number in range(ROWS_PER_FILE):
        moment = start + timedelta(minutes=number)
        lines.append(
            rows.row.format(
                symbol=symbols[number % len(symbols)],
                price=f"{rng.randrange(10_000, 90_000) / 100:.2f}",
                size=rng.randrange(1, 1000),
                side=rng.choice(("Buy", "Sell")),
                id=rng.randrange(10**9),
                s=int(moment.timestamp()),
                ms=int(moment.timestamp()) * 1000,
                stamp=moment.strftime("%Y-%m-%dD%H:%M:%S"),
            )
        )
    return "".join(f"{line}\n" for line in lines)
