"""A sample archive in Binance's exact format, generated from a seed, and uploads of objects into a bucket.

Equal arguments produce equal bytes (with the same zlib), so that ETags and checksums can be compared.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError as ObstoreError

from lakehouse_assets.archive.errors import store_error
from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.period import Cadence, Period, period_range
from lakehouse_assets.embedded.samples.market import Instrument
from lakehouse_assets.embedded.samples.rows import INTERVAL_MS, LONG_INTERVALS, csv_text
from lakehouse_assets.errors import InputError, Side

if TYPE_CHECKING:
    from lakehouse_assets.archive.bucket import Bucket

EXCHANGE = "binance"
MARKETS = ("spot", "um", "cm")
PRICE_KLINES = ("markPriceKlines", "indexPriceKlines", "premiumIndexKlines")
BOTH = (Cadence.DAILY, Cadence.MONTHLY)
CADENCES = {
    "klines": BOTH,
    **dict.fromkeys(PRICE_KLINES, BOTH),
    "aggTrades": BOTH,
    "trades": BOTH,
    "fundingRate": (Cadence.MONTHLY,),
    "metrics": (Cadence.DAILY,),
}
SPOT_TYPES = ("klines", "aggTrades", "trades")
# Larger uploads are multipart, so that their ETag is not the MD5 of the content.
MULTIPART_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SampleFile:
    """One object: its key, as at the exchange, and its content."""

    key: str
    body: bytes


def sample_files(
    market: str,
    data_type: str,
    cadence: Cadence | str,
    *,
    symbols: Sequence[str],
    intervals: Sequence[str] = (),
    first: date,
    last: date,
    seed: int = 7,
    trades_per_day: int = 1000,
    sidecars: bool = True,
) -> Iterator[SampleFile]:
    """Every file of the periods that contain ``first`` to ``last``: each zip, then its sidecar.

    Market ``spot``, ``um`` or ``cm``; data type ``klines``, ``markPriceKlines``, ``indexPriceKlines``,
    ``premiumIndexKlines``, ``aggTrades``, ``trades``, ``fundingRate`` (monthly) or ``metrics`` (daily).
    With one seed, candles of different intervals and daily and monthly files agree with each other.
    ``trades_per_day`` is the number of rows of trades and aggTrades. Raises InputError, before the
    first file, for a combination that the exchange does not publish.
    """
    cadence = Cadence(cadence)
    _require_published(market, data_type, cadence, intervals)
    periods = period_range(Period.containing(cadence, first), Period.containing(cadence, last))
    return _files(
        market,
        data_type,
        symbols,
        intervals or (None,),
        periods,
        seed=seed,
        trades_per_day=trades_per_day,
        sidecars=sidecars,
    )


def sidecar(key: str, body: bytes, market: str) -> SampleFile:
    """The ``.CHECKSUM`` of an object: SHA-256, two spaces, file name; a newline on futures, none on spot."""
    text = f"{hashlib.sha256(body).hexdigest()}  {key.rsplit('/', 1)[1]}" + ("" if market == "spot" else "\n")
    return SampleFile(f"{key}.CHECKSUM", text.encode())


def upload(bucket: Bucket, files: Iterable[SampleFile], *, concurrency: int = 16) -> int:
    """Upload every file to the bucket; returns their number.

    The iterable is consumed as needed: about ``concurrency`` files are in memory at a time. Raises StoreError on the
    first file that the store refuses.
    """
    return _put_all(bucket, ((file.key, file.body) for file in files), concurrency)


def upload_tree(bucket: Bucket, directory: Path, *, concurrency: int = 16) -> int:
    """Upload every file below a directory to the bucket, with its relative path as key; returns their number.

    Raises InputError if the directory does not exist, and StoreError as `upload` does.
    """
    if not directory.is_dir():
        raise InputError(f"{directory} is not a directory; give one with the layout of an archive.")
    paths = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return _put_all(bucket, ((path.relative_to(directory).as_posix(), path) for path in paths), concurrency)


def _require_published(market: str, data_type: str, cadence: Cadence, intervals: Sequence[str]) -> None:
    if market not in MARKETS:
        raise InputError(f"The sample archive has no market {market!r}; use one of {', '.join(MARKETS)}.")
    types = SPOT_TYPES if market == "spot" else tuple(CADENCES)
    if data_type not in types:
        raise InputError(f"The sample archive has no {market} {data_type!r}; use one of {', '.join(types)}.")
    if cadence not in CADENCES[data_type]:
        raise InputError(f"Binance publishes {data_type} {' and '.join(CADENCES[data_type])} only, not {cadence}.")
    if not data_type.lower().endswith("klines"):
        if intervals:
            raise InputError(f"{data_type} has no intervals; omit them.")
        return
    if not intervals:
        raise InputError(f"{data_type} needs at least one interval, such as 1m.")
    known = [*INTERVAL_MS, *(LONG_INTERVALS if cadence is Cadence.MONTHLY else ())]
    unknown = [name for name in intervals if name not in known or (name == "1s" and market != "spot")]
    if unknown:
        raise InputError(f"Binance publishes no {market} {cadence} {data_type} of {', '.join(unknown)}.")


def _files(
    market: str,
    data_type: str,
    symbols: Sequence[str],
    intervals: Sequence[str | None],
    periods: Sequence[Period],
    *,
    seed: int,
    trades_per_day: int,
    sidecars: bool,
) -> Iterator[SampleFile]:
    for symbol in symbols:
        instrument = Instrument(market, symbol, seed)
        for period in periods:
            for interval in intervals:
                key = _key(market, data_type, symbol, interval, period)
                body = _zip(key, csv_text(instrument, data_type, interval, period, trades_per_day), period)
                yield SampleFile(key, body)
                if sidecars:
                    yield sidecar(key, body, market)


def _key(market: str, data_type: str, symbol: str, interval: str | None, period: Period) -> str:
    layout = exchange_named(EXCHANGE).layout(market, data_type, period.cadence)
    return layout.key_of(symbol=symbol, interval=interval, period=period)


def _zip(key: str, text: str, period: Period) -> bytes:
    """One deflated member with the same stem, dated like the exchange's files: the morning after the period."""
    stem = key.rsplit("/", 1)[1].removesuffix(".zip")
    end = period.end
    member = zipfile.ZipInfo(f"{stem}.csv", date_time=(end.year, end.month, end.day, 1, 4, 0))
    member.create_system = 3  # by default, zipfile's output depends on the operating system
    member.external_attr = 0o644 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, text, compress_type=zipfile.ZIP_DEFLATED, compresslevel=6)
    return buffer.getvalue()


def _put_all(bucket: Bucket, objects: Iterable[tuple[str, bytes | Path]], concurrency: int) -> int:
    store = bucket.object_store()

    def put(key: str, body: bytes | Path) -> None:
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        try:
            store.put(key, body, use_multipart=size > MULTIPART_BYTES)
        except (ObstoreError, ValueError, OSError) as error:
            raise store_error("Writing", error, side=Side.SOURCE, bucket=bucket.name, key=key) from error

    count = 0
    pending: set[Future[None]] = set()
    with ThreadPoolExecutor(concurrency, thread_name_prefix="upload") as pool:
        for key, body in objects:
            if len(pending) >= concurrency:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
            pending.add(pool.submit(put, key, body))
            count += 1
        for future in pending:
            future.result()
    return count
