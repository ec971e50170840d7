"""What happened on a made-up market, as columns of Python's own values: candles on every due time, trades every two
hours, in the numbers that an exchange's arithmetic gives.

A fact is a list with a value per row. Instants are whole microseconds since 1970. No two columns of a row are equal,
so that taking one for another shows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from lakehouse_assets.archive.exchanges.layout import ALL_SYMBOLS

Facts = dict[str, list[Any]]

SECOND = 10**6
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
LABELS_MOVED = date(2026, 6, 25)
NEARER_SINCE = date(2026, 1, 1)
"""Books have two distances more; since when exactly is not known."""
MONDAY = 4 * DAY
"""1970-01-05."""

_UNITS = {"s": SECOND, "m": MINUTE, "min": MINUTE, "h": HOUR, "hour": HOUR, "d": DAY, "day": DAY, "w": 7 * DAY}
_INVERSE = re.compile(r"[A-Z0-9]+?[_-]?USD(_PERP|_[0-9]{6}|[HMUZ][0-9]{2}|-?[0-9]{6})?|BTC[0-9]{6}")
"""Contracts that are worth dollars and settled in the coin."""
_WITHIN = ("XBTUSD", "XBTUSDT")
"""Symbols of a file that holds all of them."""


@dataclass(frozen=True)
class File:
    """One archive object: its dataset, symbol and period."""

    exchange: str
    market: str
    data_type: str
    symbol: str
    interval: str | None
    day: date
    end_day: date
    timezone: str

    @property
    def start(self) -> int:
        return self._midnight(self.day)

    @property
    def end(self) -> int:
        return self._midnight(self.end_day)

    def _midnight(self, day: date) -> int:
        moment = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.timezone))
        return int(moment.timestamp()) * SECOND


def opens(interval: str, start: int, end: int, midnight: int = 0) -> list[tuple[int, int]]:
    """When each candle of a span opens, and the next one. Months are the calendar's, weeks (1w) begin on Mondays,
    so many days (3d, 7d) are counted from 1970 on, and days begin at the exchange's own ``midnight``."""
    if interval == "1mo":
        first = datetime.fromtimestamp(start // SECOND, UTC)
        following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
        return [(start, int(following.timestamp()) * SECOND)]
    step = step_of(interval)
    origin = (MONDAY if interval.endswith("w") else 0) + (midnight if step >= DAY else 0)
    first = start + (origin - start) % step
    return [(time, time + step) for time in range(first, end, step)]


def step_of(interval: str) -> int:
    """How long a candle is (a month: thirty days)."""
    count, unit = re.fullmatch(r"([0-9]+)([a-z]+)", interval).groups()  # ty: ignore[unresolved-attribute]
    return 30 * DAY if unit == "mo" else int(count) * _UNITS[unit]


def candles(file: File) -> Facts:
    spans = opens(file.interval or "", file.start, file.end, file.start % DAY)
    steps = [time // MINUTE for time, _ in spans]
    ratio = file.data_type == "premiumIndexKlines"
    opened = [float(100 + step % 50) for step in steps]
    average = [price + 0.5 for price in opened]
    contracts = [float(1000 + step % 37 * 10) for step in steps]
    base = [_base_of(file, size, price) for size, price in zip(contracts, average, strict=True)]

    def price(offset: float) -> list[float]:
        return [round((value + offset - 125) / 10**5, 8) if ratio else value + offset for value in opened]

    def share(of: list[float]) -> list[float]:
        return [round(value * 0.4, 8) for value in of]

    quote = [round(size * price, 8) for size, price in zip(base, average, strict=True)]
    return {
        "symbol": [file.symbol] * len(spans),
        "time": [time for time, _ in spans],
        "close_time": [following - 1 for _, following in spans],
        "open": price(0),
        "high": price(3.5),
        "low": price(-2.25),
        "close": price(1.25),
        "base": base,
        "quote": quote,
        "contracts": contracts,
        "count": [20 + step % 5 for step in steps],
        "taker_base": share(base),
        "taker_quote": share(quote),
        "taker_contracts": share(contracts),
        "0": [0] * len(spans),
    }


def trades(file: File) -> Facts:
    """Every two hours; the first of a day at a full second, numbered on from day to day."""
    slots = range(file.start // (2 * HOUR), file.end // (2 * HOUR))
    rows = len(slots)
    price = [100 + slot % 40 * 0.5 for slot in slots]
    contracts = [float(3 + slot % 11) for slot in slots]
    base = [_base_of(file, size, value) for size, value in zip(contracts, price, strict=True)]
    side = [("buy", "sell", "sell")[slot % 3] for slot in slots]
    return {
        "symbol": [file.symbol] * rows,
        "time": [slot * 2 * HOUR + slot % 97 * 61 * SECOND + slot % 12 * 83_457 for slot in slots],
        "id": list(slots),
        "id_with_gaps": [2 * slot + slot % 2 for slot in slots],
        "id_text": [f"88{slot}" for slot in slots],
        "number": [number + 1 for number in range(rows)],
        "price": price,
        "base": base,
        "quote": [round(size * value, 8) for size, value in zip(base, price, strict=True)],
        "contracts": contracts,
        "signed_contracts": [size if of == "buy" else -size for size, of in zip(contracts, side, strict=True)],
        "side": side,
        "yes": [True] * rows,
        "0": [0] * rows,
    }


def aggregated_trades(file: File) -> Facts:
    made = trades(file)
    return made | {"first_id": [3 * value for value in made["id"]], "last_id": [3 * value + 2 for value in made["id"]]}


def contract_trades(file: File) -> Facts:
    """Trades as Bybit and BitMEX write them. The size of an inverse contract is in dollars, of another one in the coin
    (BitMEX: in millionths of it). What Bybit calls the home notional of an inverse one are the dollars, while BitMEX
    means the coin."""
    if file.symbol == ALL_SYMBOLS:
        return _together([contract_trades(_as(file, symbol)) for symbol in _WITHIN])
    made = trades(file)
    rows = range(len(made["time"]))
    inverse, bitmex = _is_inverse(file.symbol), file.exchange == "bitmex"
    if inverse:
        dollars = [100 * size for size in made["contracts"]]
        size, quote = dollars, dollars
        base = [usd / price for usd, price in zip(dollars, made["price"], strict=True)]
    else:
        base, quote = made["base"], made["quote"]
        size = [value * 10**6 for value in base] if bitmex else base
    home, foreign = (quote, base) if inverse and not bitmex else (base, quote)
    settled = base if inverse else quote
    return made | {
        "ns": [time * 1000 + 388 for time in made["time"]],
        "size": size,
        "base": base,
        "quote": quote,
        "home": home,
        "foreign": foreign,
        "gross": [value * 10**8 for value in settled],
        "tick": [("PlusTick", "ZeroPlusTick", "MinusTick", "ZeroMinusTick")[row % 4] for row in rows],
        "uuid": [f"{file.start // HOUR:08x}-0000-4000-8000-{row:012x}" for row in rows],
        "order_type": ["Regular"] * len(rows),
    }


def quotes(file: File) -> Facts:
    """Best prices of all symbols."""
    return _together([book_tickers(_as(file, symbol)) for symbol in _WITHIN])


def book_tickers(file: File) -> Facts:
    made = trades(file)
    return made | {
        "ns": [time * 1000 + 388 for time in made["time"]],
        "sent": [time + 3000 for time in made["time"]],
        "bid_price": made["price"],
        "bid_size": [float(5 + size) for size in made["contracts"]],
        "ask_price": [price + 0.5 for price in made["price"]],
        "ask_size": [float(40 + size) for size in made["contracts"]],
    }


def funding(file: File) -> Facts:
    """Every eight hours, a few milliseconds late at times."""
    times = [time for time, _ in opens("8h", file.start, file.end)]
    return {
        "symbol": [file.symbol] * len(times),
        "time": [time + time // HOUR % 3 * 1000 for time in times],
        "hours": [8] * len(times),
        "rate": [round((time // HOUR % 7 - 3) * 0.00003449, 8) for time in times],
    }


def metrics(file: File) -> Facts:
    """Values at the end of every five minutes, which since 2026-06-25 are labelled with their beginning."""
    spans = opens("5m", file.start, file.end)
    steps = [time // (5 * MINUTE) for time, _ in spans]
    ratio = (lambda _: None) if file.market == "cm" else (lambda of: round(0.5 + of % 100 / 64, 8))
    interest = [1000 + step % 50 * 0.125 for step in steps]
    return {
        "symbol": [file.symbol] * len(spans),
        "label": [begin if file.day >= LABELS_MOVED else end for begin, end in spans],
        "time": [end for _, end in spans],
        "interest": interest,
        "value": [value * 64 for value in interest],
        "top_accounts": [ratio(step) for step in steps],
        "top_positions": [ratio(step + 11) for step in steps],
        "accounts": [ratio(step + 23) for step in steps],
        "takers": [ratio(step + 37) for step in steps],
    }


def book_depth(file: File) -> Facts:
    """Ten distances every 30 seconds, twelve since 2026."""
    asks = [*((0.2,) if file.day >= NEARER_SINCE else ()), 1.0, 2.0, 3.0, 4.0, 5.0]
    distances = [*(-value for value in reversed(asks)), *asks]
    times = [time for time, _ in opens("30s", file.start, file.end)]
    return {
        "time": [time for time in times for _ in distances],
        "percentage": distances * len(times),
        "depth": [abs(value) * 250 for value in distances] * len(times),
        "notional": [abs(value) * 250 * (100 + value) for value in distances] * len(times),
    }


def liquidations(file: File) -> Facts:
    made = trades(file)
    rows = len(made["time"])
    return made | {
        "order_type": ["LIMIT"] * rows,
        "time_in_force": ["IOC"] * rows,
        "order_status": ["FILLED"] * rows,
        "size": made["contracts"],
        "last_fill": [size - 1 for size in made["contracts"]],
        "average_price": [
            price + (0.25 if side == "sell" else -0.25) for price, side in zip(made["price"], made["side"], strict=True)
        ],
    }


def volatility(file: File) -> Facts:
    """Every second, a millisecond late at times."""
    times = range(file.start, file.end, SECOND)
    return {
        "symbol": [file.symbol] * len(times),
        "time": [time + time // SECOND % 2 * 1000 for time in times],
        "base_asset": [file.symbol.removesuffix("USDT")] * len(times),
        "quote_asset": ["USDT"] * len(times),
        "index_value": [40 + time // SECOND % 128 / 8 for time in times],
    }


def option_summaries(file: File) -> Facts:
    """A call and a put at the end of each hour. Nobody bids for the put, so that its volatility is not known."""
    hours = [time for time, _ in opens("1h", file.start, file.end) for _ in "CP"]
    rows = range(len(hours))
    coin = file.symbol.removesuffix("USDT")
    strike, bid = 26_000.0, [float(400 + row) for row in rows]

    def rising(of: float) -> list[float]:
        return [of + row / 64 for row in rows]

    return {
        "underlying": [file.symbol] * len(rows),
        "time": hours,
        "contract": [f"{coin}-231229-26000-{'CP'[row % 2]}" for row in rows],
        "letter": ["CP"[row % 2] for row in rows],
        "date_and_strike": ["231229-26000"] * len(rows),
        "option_type": [("call", "put")[row % 2] for row in rows],
        "strike": [strike] * len(rows),
        "expiration": [date(2023, 12, 29)] * len(rows),
        "open": rising(450.0),
        "high": rising(470.0),
        "low": rising(430.0),
        "close": rising(460.0),
        "volume": rising(8.0),
        "value": [round((8 + row / 64) * (455 + row / 64), 8) for row in rows],
        "bid_price": bid,
        "ask_price": [price + 40 for price in bid],
        "bid_size": rising(2.0),
        "ask_size": rising(3.0),
        "bid_iv": [None if row % 2 else 0.5 + row / 128 for row in rows],
        "ask_iv": rising(2.5),
        "mark_price": [price + 20 for price in bid],
        "mark_iv": rising(0.75),
        "delta": [(-0.25, 0.75)[row % 2 == 0] for row in rows],
        "gamma": [0.0001] * len(rows),
        "vega": rising(12.0),
        "theta": [-15.5] * len(rows),
        "interest": rising(20.0),
        "interest_value": rising(520_000.0),
    }


def _is_inverse(symbol: str) -> bool:
    return _INVERSE.fullmatch(symbol) is not None


def _base_of(file: File, contracts: float, price: float) -> float:
    """A size in the coin. An inverse contract is worth 100 dollars (Binance: of other coins than bitcoin 10), another
    one a tenth of the coin."""
    of_binance = file.exchange == "binance" and file.market == "cm"
    if of_binance or _is_inverse(file.symbol):
        dollars = 10 if of_binance and not file.symbol.startswith("BTC") else 100
        return round(contracts * dollars / price, 8)
    return contracts / 10


def _as(file: File, symbol: str) -> File:
    return File(**(vars(file) | {"symbol": symbol}))


def _together(parts: list[Facts]) -> Facts:
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}
