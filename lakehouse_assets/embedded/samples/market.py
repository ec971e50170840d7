"""A synthetic market: prices and volumes depend only on seed, market, symbol and time.

All values are integers in the smallest unit, so that sums over minutes equal the hour exactly. Days are continuous: a
day opens at the close of the day before.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MINUTES_PER_DAY = 1440
SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1000, 60_000, 3_600_000, 86_400_000
PRICE_UNIT = 100  # prices are in cents
QUANTITY_UNIT = 1000  # quantities are in thousandths


@dataclass(frozen=True, slots=True)
class Instrument:
    """One symbol of one market, under one seed."""

    market: str
    symbol: str
    seed: int

    def rng(self, purpose: str, when: object) -> random.Random:
        """A generator that yields equal numbers for equal arguments in every process (strings seed by SHA-512)."""
        return random.Random(f"{self.seed}/{self.market}/{self.symbol}/{purpose}/{when}")  # noqa: S311 - no secret

    @property
    def contract_dollars(self) -> int:
        """Face value of a coin-margined contract."""
        return 100 if self.symbol.startswith("BTC") else 10


@dataclass(slots=True)
class Bar:
    """One candle; prices in cents, volumes in the units named."""

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int  # thousandths of the base asset; contracts on cm
    turnover: int  # volume times price, in units of 1e-5 quote; on cm 1e-8 of the base asset
    count: int
    taker_volume: int
    taker_turnover: int


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade, or several trades of one taker order at one price."""

    time_ms: int
    price: int
    quantity: int
    buyer_is_maker: bool


def midnight_ms(day: date) -> int:
    """Milliseconds since the epoch at 00:00 UTC."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def opening_price(instrument: Instrument, day: date) -> int:
    """The price at 00:00 UTC, in cents."""
    base = 20_000_00 if instrument.symbol.startswith("BTC") else 1_000_00
    level = base * instrument.rng("level", "").uniform(0.8, 1.6)
    return int(level * instrument.rng("anchor", day).uniform(0.95, 1.05))


@lru_cache(maxsize=32)
def minute_bars(instrument: Instrument, day: date) -> tuple[Bar, ...]:
    """The day's 1,440 one-minute candles. Do not modify them: they are cached."""
    rng = instrument.rng("minutes", day)
    start, end = opening_price(instrument, day), opening_price(instrument, day + timedelta(days=1))
    step = max(start // 3000, 2)
    first_ms = midnight_ms(day)
    bars, price = [], start
    for minute in range(MINUTES_PER_DAY):
        # Pulled towards the line between the day's two anchors, so that the last close equals the next open.
        target = start + (end - start) * (minute + 1) // MINUTES_PER_DAY
        pull = (target - price) // max((MINUTES_PER_DAY - minute) // 8, 1)
        close = target if minute == MINUTES_PER_DAY - 1 else price + pull + rng.randint(-step, step)
        high = max(price, close) + rng.randrange(step)
        low = min(price, close) - rng.randrange(step)
        volume = rng.randrange(1, 60 * QUANTITY_UNIT)
        taker = rng.randrange(volume + 1)
        mean = (high + low) // 2
        bars.append(
            Bar(
                open_ms=first_ms + minute * MINUTE_MS,
                open=price,
                high=high,
                low=low,
                close=close,
                volume=volume,
                turnover=turnover(instrument, mean, volume),
                count=rng.randrange(1, 500),
                taker_volume=taker,
                taker_turnover=turnover(instrument, mean, taker),
            )
        )
        price = close
    return tuple(bars)


def turnover(instrument: Instrument, price: int, quantity: int) -> int:
    """Quote volume in 1e-5; for coin-margined contracts base volume in 1e-8."""
    if instrument.market == "cm":
        return quantity * instrument.contract_dollars * PRICE_UNIT * 10**8 // price
    return price * quantity


def second_bars(instrument: Instrument, minute: Bar) -> list[Bar]:
    """Sixty one-second candles that add up to the minute."""
    rng = instrument.rng("seconds", minute.open_ms)
    prices = [minute.open, *(rng.randint(minute.low, minute.high) for _ in range(59)), minute.close]
    at_high, at_low = rng.sample(range(1, 60), 2)
    prices[at_high], prices[at_low] = minute.high, minute.low
    takers = _split(rng, minute.taker_volume, 60)
    makers = _split(rng, minute.volume - minute.taker_volume, 60)
    taker_turnovers = _split(rng, minute.taker_turnover, 60)
    maker_turnovers = _split(rng, minute.turnover - minute.taker_turnover, 60)
    counts = _split(rng, minute.count, 60)
    return [
        Bar(
            open_ms=minute.open_ms + second * SECOND_MS,
            open=prices[second],
            high=max(prices[second : second + 2]),
            low=min(prices[second : second + 2]),
            close=prices[second + 1],
            volume=takers[second] + makers[second],
            turnover=taker_turnovers[second] + maker_turnovers[second],
            count=counts[second],
            taker_volume=takers[second],
            taker_turnover=taker_turnovers[second],
        )
        for second in range(60)
    ]


def aggregate(bars: Sequence[Bar]) -> Bar:
    """One candle over consecutive ones."""
    return Bar(
        open_ms=bars[0].open_ms,
        open=bars[0].open,
        high=max(bar.high for bar in bars),
        low=min(bar.low for bar in bars),
        close=bars[-1].close,
        volume=sum(bar.volume for bar in bars),
        turnover=sum(bar.turnover for bar in bars),
        count=sum(bar.count for bar in bars),
        taker_volume=sum(bar.taker_volume for bar in bars),
        taker_turnover=sum(bar.taker_turnover for bar in bars),
    )


def day_trades(instrument: Instrument, day: date, rows: int) -> Iterable[Trade]:
    """``rows`` trades of a day in time order, within the minute candles' prices."""
    rng = instrument.rng("trades", day)
    bars = minute_bars(instrument, day)
    first_ms = midnight_ms(day)
    for time_ms in sorted(rng.randrange(DAY_MS) for _ in range(rows)):
        bar = bars[time_ms // MINUTE_MS]
        quantity = rng.randrange(1, 5 * QUANTITY_UNIT)
        yield Trade(first_ms + time_ms, rng.randint(bar.low, bar.high), quantity, rng.choice((True, False)))


def _split(rng: random.Random, total: int, parts: int) -> list[int]:
    """Non-negative integers that add up to ``total``."""
    cuts = sorted(rng.randint(0, total) for _ in range(parts - 1))
    return [high - low for low, high in zip([0, *cuts], [*cuts, total], strict=True)]
