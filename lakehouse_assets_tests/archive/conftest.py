"""Real keys of the archive if they exist beside the checkout, else generated keys of the same form."""

from __future__ import annotations

import gzip
from datetime import date

import pytest

from lakehouse_assets.archive.exchanges.binance import BINANCE
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets_tests.paths import SAMPLES as SAMPLES_ROOT

SAMPLES = SAMPLES_ROOT / "binance"


def _generated(cadence: Cadence) -> tuple[str, ...]:
    layout = BINANCE.layout("um", "klines", cadence)
    first = Period.containing(cadence, date(2024, 1, 1))
    return tuple(
        layout.key_of(symbol=symbol, interval="1m", period=first.shifted(count)) + suffix
        for symbol in ("BTCUSDT", "BTCUSDT_260925", "1000SHIBUSDT", "AERGOUSDTSETTLED", "币安人生USDT")
        for count in range(30)
        for suffix in ("", ".CHECKSUM")
    )


@pytest.fixture(scope="session")
def listed_keys() -> tuple[str, tuple[str, ...]]:
    """``real`` or ``generated``, and keys: um monthly klines 1m as listed on 2026-06-28."""
    files = sorted((SAMPLES / "keys").glob("*.gz"))
    if not files:
        return "generated", _generated(Cadence.MONTHLY)
    lines = (line for file in files for line in gzip.decompress(file.read_bytes()).decode().splitlines())
    return "real", tuple(lines)


@pytest.fixture(scope="session")
def verbatim_keys() -> tuple[str, tuple[str, ...]]:
    """``real`` or ``generated``, and keys of the archive files that are kept byte for byte."""
    root = SAMPLES / "verbatim"
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    if not files:
        return "generated", _generated(Cadence.DAILY)
    return "real", tuple(path.relative_to(root).as_posix() for path in files)
