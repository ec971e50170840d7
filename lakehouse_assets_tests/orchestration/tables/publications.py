"""Every publication of every exchange: two of its periods, symbols as each market spells them, perfect objects at their
real keys, and a world in which they are mirrored and built into tables.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import polars as pl

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.exchanges.layout import ALL_SYMBOLS
from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.embedded.samples.objects import contained, sample_objects
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.sync.engine import Engine
from lakehouse_assets.tables.table import TableEntry, tables_of
from lakehouse_assets_tests.orchestration.tables.file_forms import Kind
from lakehouse_assets_tests.orchestration.tables.market_facts import DAY, File, step_of
from lakehouse_assets_tests.orchestration.tables.perfect_rows import KINDS
from lakehouse_assets_tests.world import World

PUBLICATIONS = [
    "/".join((exchange.name, *publication.id))
    for exchange in EXCHANGES.values()
    for publication in exchange.publications
]

WITHOUT_TABLE = {
    "bybit/derivatives/premium_index",
    "bybit/derivatives/spot_index",
    *(f"gate/{market}/orderbooks" for market in ("spot", "futures_usdt", "futures_btc", "delivery_usdt")),
    *(f"gate/{market}/orderbooks_slice" for market in ("spot", "futures_usdt", "futures_btc")),
    *(
        f"gate/{market}/{data_type}"
        for market in ("futures_usdt", "futures_btc")
        for data_type in ("mark_prices", "funding_updates", "funding_applies")
    ),
    *(f"htx/{market}/orderbook" for market in ("spot", "futures", "old_spot")),
    *(
        f"htx/{market}/{data_type}"
        for market in ("futures", "old_future", "old_swap", "old_linear_swap", "old_option")
        for data_type in ("index_klines", "mark_klines")
    ),
    "htx/futures/funding_rates",
    *(f"kucoin/{market}/depth" for market in ("spot", "futures")),
    *(f"kucoin/futures/{data_type}" for data_type in ("index", "mark")),
}
"""Mirrored, but without a table."""

SYMBOLS = {
    "binance/spot": ("BTCUSDT", "币安人生USDT"),
    "binance/um": ("BTCUSDT", "1000SHIBUSDT_230929"),
    "binance/cm": ("BTCUSD_PERP", "ETHUSD_201225"),
    "binance/cm/indexPriceKlines": ("BTCUSD", "ETHUSD"),
    "binance/cm/premiumIndexKlines": ("BTCUSD_PERP", "ETHUSD_PERP"),
    "binance/option/BVOLIndex": ("BTCBVOLUSDT", "ETHBVOLUSDT"),
    "binance/option/EOHSummary": ("BTCUSDT", "ETHUSDT"),
    "bybit/derivatives": ("BTCUSDT", "BTCUSD", "BTCUSDH25", "BTC-14MAR25"),
    "bybit/spot": ("BTCUSDT", "ETHUSDT"),
    "bitmex/derivatives": (ALL_SYMBOLS,),
    "gate/spot": ("BTC_USDT", "ETH_USDT"),
    "gate/futures_usdt": ("BTC_USDT", "ETH_USDT"),
    "gate/futures_btc": ("BTC_USD", "ETH_USD"),
    "gate/delivery_usdt": ("BTC_USDT_20231229", "ETH_USDT_20231229"),
    "gate/tradfi": ("XAUUSD", "BRK.B"),
    "htx/spot": ("BTC-USDT", "ETH-USDT"),
    "htx/futures": ("BTC-USDT-PERP", "BTC-USDT-260327"),
    "htx/old_spot": ("BTCUSDT", "HTUSDT"),
    "htx/old_future": ("BTC260327", "ETH260327"),
    "htx/old_swap": ("BTC-USD", "ETH-USD"),
    "htx/old_linear_swap": ("BTC-USDT", "BTC-USDT-260327"),
    "htx/old_option": ("BTC-USDT-210625-C-40000", "BTC-USDT-210625-P-40000"),
    "kucoin/spot": ("BTCUSDT", "ETHUSDT"),
    "kucoin/spot/depth": ("BTC-USDT", "0G-USDT"),
    "kucoin/futures": ("XBTUSDTM", "ETHUSDTM"),
}
"""Symbols as each market spells them."""

ROWS_OF_A_FILE = 1440
"""A day of minutes, or a month of hours. Shorter candles are left out: they differ only in number."""


@dataclass(frozen=True)
class Publication:
    """A publication under test, with two of its periods: those around the newest change of its files' form, or the
    last of its first month and the next."""

    dataset: Dataset

    @property
    def table_name(self) -> str:
        return "/".join(self.dataset.asset_key[:3])

    @cached_property
    def kind(self) -> Kind | None:
        """None if the publication has no table."""
        return None if self.table_name in WITHOUT_TABLE else KINDS[self.dataset.asset_key[:3]]

    @cached_property
    def periods(self) -> list[Period]:
        cadence, changed = self.dataset.cadence, self.kind and self.kind.changed
        month_after = (self.dataset.publication.first.replace(day=1) + timedelta(days=32)).replace(day=1)
        second = Period.containing(cadence, changed or month_after)
        if changed and second.start < changed:
            second = second.next()
        return [second.shifted(-1), second]

    @property
    def symbols(self) -> tuple[str, ...]:
        return SYMBOLS.get(self.table_name) or SYMBOLS[self.dataset.group]

    @property
    def intervals(self) -> list[str]:
        """The shortest interval of each unit (1m, 1h, 1d), and all longer than a day."""
        days = 31 if self.dataset.cadence is Cadence.MONTHLY else 1
        published = [
            interval
            for interval in self.dataset.publication.intervals
            if days * DAY // step_of(interval) <= ROWS_OF_A_FILE
        ]
        shortest_of_units = {interval.lstrip("0123456789"): interval for interval in reversed(published)}.values()
        return [interval for interval in published if interval in shortest_of_units or step_of(interval) > DAY]

    @cached_property
    def entry(self) -> DatasetEntry:
        intervals = {"intervals": self.intervals} if self.intervals else {}
        return DatasetEntry.model_validate({"dataset": self.dataset, **intervals})

    @cached_property
    def table(self) -> TableEntry:
        [entry] = tables_of([self.entry])
        return entry

    @property
    def files(self) -> dict[str, File]:
        """The files to publish, by key."""
        return {
            self.dataset.layout.key_of(symbol=symbol, interval=interval, period=period): file_of(
                self.dataset, symbol, interval, period
            )
            for symbol in self.symbols
            for interval in self.intervals or [None]
            for period in self.periods
        }

    @cached_property
    def bodies(self) -> dict[str, bytes]:
        if self.kind is not None:
            return {key: contained(key, self.kind.text(file)) for key, file in self.files.items()}
        first, last = self.periods
        objects = sample_objects(
            self.dataset, symbols=self.symbols, intervals=self.intervals, first=first, last=last, sidecars=False
        )
        return {sample.key: sample.body for sample in objects}

    @property
    def table_periods(self) -> list[str]:
        """The periods of the table to build: the same, or a week around the turn of the month for a table of days."""
        if self.table.table.cadence is self.dataset.cadence:
            return list(map(str, self.periods))
        turn = self.periods[-1].start
        return [(turn + timedelta(days=number)).isoformat() for number in range(-4, 3)]

    def rows(self, kind: Kind) -> pl.DataFrame:
        """All rows that the table should have, each with its period."""
        length = self.table.table.period_length
        in_days = self.table.table.cadence is not self.dataset.cadence
        day = pl.col("time").dt.date().dt.to_string()
        return pl.concat(
            kind.rows(file).with_columns(period=day if in_days else pl.lit(file.day.isoformat()[:length]))
            for file in self.files.values()
        ).filter(pl.col("period").is_in(self.table_periods))


def file_of(dataset: Dataset, symbol: str, interval: str | None, period: Period) -> File:
    return File(
        exchange=dataset.exchange,
        market=dataset.market,
        data_type=dataset.data_type,
        symbol=symbol,
        interval=interval,
        day=period.start,
        end_day=period.end,
        timezone="Asia/Shanghai" if dataset.exchange == "htx" else "UTC",
    )


def sidecar_of(dataset: Dataset, key: str, body: bytes) -> tuple[str, bytes] | None:
    """Key and text of an object's sidecar, as the exchange writes it."""
    name = key.rsplit("/", 1)[-1]
    if dataset.exchange == "kucoin":
        return f"{key}.CHECKSUM", f"{hashlib.md5(body).hexdigest()}  {name}\n".encode()
    if dataset.exchange not in {"binance", "htx"}:
        return None
    end = "" if dataset.market == "spot" else "\n"
    # The names of the sidecars of the old tree's books are not known.
    beside = key.removesuffix(".zip") if dataset.market.startswith("old_") else key
    return f"{beside}.CHECKSUM", f"{hashlib.sha256(body).hexdigest()}  {name}{end}".encode()


class Exchanges:
    """The exchanges' buckets in a store, and a lake for each cadence."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._worlds = {(name, cadence): World(store, name) for name in EXCHANGES for cadence in Cadence}
        self._engines = {key: world.engine() for key, world in self._worlds.items()}

    def world(self, dataset: Dataset) -> World:
        return self._worlds[dataset.exchange, dataset.cadence]

    def engine(self, dataset: Dataset) -> Engine:
        return self._engines[dataset.exchange, dataset.cadence]

    def publish(self, dataset: Dataset, bodies: dict[str, bytes]) -> None:
        """Objects by key, each with its sidecar."""
        world = self.world(dataset)
        beside = filter(None, (sidecar_of(dataset, key, body) for key, body in bodies.items()))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda file: world.put(*file, sidecar=False), [*bodies.items(), *beside]))
