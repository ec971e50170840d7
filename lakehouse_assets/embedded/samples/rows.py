"""The synthetic market in Binance's format: the CSV text of one archive file.

Columns, headers, units and spellings are those of the published files (spot: no header, eight decimals, microseconds
from 2025 on, ``True``/``False``; futures: header, fewer decimals, milliseconds, ``true``/``false``).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse_assets.embedded.samples import market as market_of
from lakehouse_assets.embedded.samples.market import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Bar, Instrument
from lakehouse_assets.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse_assets.archive.period import Period

KLINE_COLUMNS = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
HEADERS = {
    (
        "um",
        "aggTrades",
    ): "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker",
    ("um", "trades"): "id,price,qty,quote_qty,time,is_buyer_maker",
    ("cm", "trades"): "id,price,qty,base_qty,time,is_buyer_maker",
    ("um", "fundingRate"): "calc_time,funding_interval_hours,last_funding_rate",
    ("um", "metrics"): (
        "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
        "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio"
    ),
}
INTERVAL_MS = {
    "1s": SECOND_MS,
    **{f"{n}m": n * MINUTE_MS for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": n * HOUR_MS for n in (1, 2, 4, 6, 8, 12)},
    "1d": DAY_MS,
}
LONG_INTERVALS = ("3d", "1w", "1mo")
# Earlier files were published without a header (archives.md 1.3), except those of ALWAYS_HEADED.
HEADERLESS_BEFORE = {"daily": date(2022, 8, 11), "monthly": date(2022, 6, 1)}
_METRICS_NAME_BEGINNINGS = date(2026, 6, 25)
ALWAYS_HEADED = ("fundingRate", "metrics")
MICROSECONDS_FROM = date(2025, 1, 1)
EPOCH = date(1970, 1, 1)


def csv_text(instrument: Instrument, data_type: str, interval: str | None, period: Period, trades_per_day: int) -> str:
    """The file's content, each line ended by a line feed. Raises InputError for an unknown type or interval."""
    if data_type.lower().endswith("klines"):
        rows = _kline_rows(instrument, data_type, interval or "", period)
    elif data_type == "aggTrades":
        rows = _agg_trade_rows(instrument, period, trades_per_day)
    elif data_type == "trades":
        rows = _trade_rows(instrument, period, trades_per_day)
    elif data_type == "fundingRate":
        rows = _funding_rows(instrument, period)
    else:
        rows = _metrics_rows(instrument, period)
    header = _header(instrument.market, data_type, period)
    return "".join(f"{row}\n" for row in ([header] if header else []) + list(rows))


def _header(market: str, data_type: str, period: Period) -> str | None:
    if market == "spot":
        return None
    if data_type not in ALWAYS_HEADED and period.start < HEADERLESS_BEFORE[period.cadence]:
        return None
    if data_type.lower().endswith("klines"):
        return KLINE_COLUMNS
    return HEADERS.get((market, data_type)) or HEADERS["um", data_type]


def _days(period: Period) -> list[date]:
    return [period.start + timedelta(days=n) for n in range((period.end - period.start).days)]


def _kline_rows(instrument: Instrument, data_type: str, interval: str, period: Period) -> Iterator[str]:
    for bar, end_ms in _bars(instrument, interval, period):
        yield _kline_row(instrument, data_type, bar, end_ms)


def _kline_row(instrument: Instrument, data_type: str, bar: Bar, end_ms: int) -> str:
    market = instrument.market
    prices = ",".join(_price(market, cents) for cents in (bar.open, bar.high, bar.low, bar.close))
    opened, closed = _time(market, bar.open_ms), _last_instant(market, bar.open_ms, end_ms)
    if data_type != "klines":  # mark, index and premium prices have no volume
        return f"{opened},{prices},0,{closed},0,{(end_ms - bar.open_ms) // SECOND_MS},0,0,0"
    volume, taker = (_quantity(market, quantity) for quantity in (bar.volume, bar.taker_volume))
    quote, taker_quote = (_turnover(market, amount) for amount in (bar.turnover, bar.taker_turnover))
    return f"{opened},{prices},{volume},{closed},{quote},{bar.count},{taker},{taker_quote},0"


def _bars(instrument: Instrument, interval: str, period: Period) -> Iterator[tuple[Bar, int]]:
    """The candles that open in the period, each with its end time."""
    if interval in LONG_INTERVALS:
        yield from _long_bars(instrument, interval, period)
        return
    if interval not in INTERVAL_MS:
        known = ", ".join([*INTERVAL_MS, *LONG_INTERVALS])
        raise InputError(f"{interval!r} is not a kline interval; use one of {known}.")
    length = INTERVAL_MS[interval]
    for day in _days(period):
        minutes = market_of.minute_bars(instrument, day)
        if length < MINUTE_MS:
            for minute in minutes:
                for bar in market_of.second_bars(instrument, minute):
                    yield bar, bar.open_ms + length
            continue
        size = length // MINUTE_MS
        for first in range(0, len(minutes), size):
            bar = market_of.aggregate(minutes[first : first + size])
            yield bar, bar.open_ms + length


def _long_bars(instrument: Instrument, interval: str, period: Period) -> Iterator[tuple[Bar, int]]:
    for day in _days(period):
        end = _long_end(interval, day)
        if end is None:
            continue
        days = [day + timedelta(days=n) for n in range((end - day).days)]
        day_bars = [market_of.aggregate(market_of.minute_bars(instrument, member)) for member in days]
        bar = market_of.aggregate(day_bars)
        yield bar, market_of.midnight_ms(end)


def _long_end(interval: str, day: date) -> date | None:
    """The end of the candle that opens on this day; None if none opens (weeks open on Monday)."""
    if interval == "1mo":
        return (day.replace(day=1) + timedelta(days=32)).replace(day=1) if day.day == 1 else None
    if interval == "1w":
        return day + timedelta(days=7) if day.weekday() == 0 else None
    return day + timedelta(days=3) if (day - EPOCH).days % 3 == 0 else None


def _agg_trade_rows(instrument: Instrument, period: Period, per_day: int) -> Iterator[str]:
    market = instrument.market
    contracts = ".0" if market == "cm" else ""  # whole contracts, but written as 542.0
    for day in _days(period):
        agg_id = (day - EPOCH).days * per_day  # ids are continuous over days
        for trade in market_of.day_trades(instrument, day, per_day):
            first = agg_id // 3 * 6 + (0, 1, 4)[agg_id % 3]  # one, three, two trades each, without a gap in the ids
            last = first + (1, 3, 2)[agg_id % 3] - 1
            row = (
                f"{agg_id},{_price(market, trade.price)},{_quantity(market, trade.quantity)}{contracts},"
                f"{first},{last},{_time(market, trade.time_ms)},{_flag(market, trade.buyer_is_maker)}"
            )
            yield f"{row},True" if market == "spot" else row
            agg_id += 1


def _trade_rows(instrument: Instrument, period: Period, per_day: int) -> Iterator[str]:
    market = instrument.market
    for day in _days(period):
        trade_id = (day - EPOCH).days * per_day
        for trade in market_of.day_trades(instrument, day, per_day):
            amount = market_of.turnover(instrument, trade.price, trade.quantity)
            row = (
                f"{trade_id},{_price(market, trade.price)},{_quantity(market, trade.quantity)},"
                f"{_turnover(market, amount)},{_time(market, trade.time_ms)},"
                f"{_flag(market, trade.buyer_is_maker)}"
            )
            yield f"{row},True" if market == "spot" else row
            trade_id += 1


def _funding_rows(instrument: Instrument, period: Period) -> Iterator[str]:
    rng = instrument.rng("funding", period)
    for day in _days(period):
        for hour in (0, 8, 16):
            late = rng.choice((0, 0, 0, 1, 2, 5))  # as published: calc_time may be a few ms late
            rate = rng.randint(-10_000, 10_000)
            sign = "-" if rate < 0 else ""
            yield f"{market_of.midnight_ms(day) + hour * HOUR_MS + late},8,{sign}{_decimal(abs(rate), 8)}"


def _metrics_rows(instrument: Instrument, period: Period) -> Iterator[str]:
    for day in _days(period):
        rng = instrument.rng("metrics", day)
        bars = market_of.minute_bars(instrument, day)
        interest = rng.randrange(10_000, 100_000) * 1000
        for step in range(288):
            interest += rng.randint(-9_000, 9_000)
            # As published: the end of the five minutes, since 2026-06-25 their beginning.
            named = step if day >= _METRICS_NAME_BEGINNINGS else step + 1
            moment = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=5 * named)
            value = interest * bars[step * 5].open
            ratios = ",".join(_decimal(rng.randrange(50_000_000, 250_000_000), 8) for _ in range(4))
            yield (
                f"{moment:%Y-%m-%d %H:%M:%S},{instrument.symbol},{_decimal(interest * 10**15, 18)},"
                f"{_decimal(value * 10**13, 18)},{',,,' if instrument.market == 'cm' else ratios}"
            )


def _time(market: str, ms: int) -> int:
    return ms * 1000 if market == "spot" and ms >= _MICROSECONDS_FROM_MS else ms


def _last_instant(market: str, open_ms: int, end_ms: int) -> int:
    """The close time: one unit before the next candle, in the unit of the open time."""
    unit = _time(market, open_ms) // open_ms if open_ms else 1
    return end_ms * unit - 1


_MICROSECONDS_FROM_MS = market_of.midnight_ms(MICROSECONDS_FROM)


def _price(market: str, cents: int) -> str:
    text = f"{cents // 100}.{cents % 100:02d}"
    if market == "spot":
        return f"{text}000000"
    return text if market == "um" else f"{cents // 100}.{cents % 100 // 10}"


def _quantity(market: str, quantity: int) -> str:
    if market == "cm":
        return str(quantity)
    return _decimal(quantity * 10**5, 8) if market == "spot" else _decimal(quantity, 3)


def _turnover(market: str, amount: int) -> str:
    """Quote volume (1e-5), or base volume (1e-8) for coin-margined contracts."""
    if market == "cm":
        return _decimal(amount, 8)
    return _decimal(amount * 1000, 8) if market == "spot" else _decimal(amount, 5)


def _decimal(number: int, places: int) -> str:
    return f"{number // 10**places}.{number % 10**places:0{places}d}"


def _flag(market: str, value: bool) -> str:
    return str(value) if market == "spot" else str(value).lower()
