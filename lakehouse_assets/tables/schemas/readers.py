"""Readers: conversions of an exchange's fields to table values, where parsing the type is not enough.

A reader takes the raw columns as Polars parsed them and returns the column of the table. A field that it cannot
read becomes null; the caller decides whether null is allowed (tables/read/csv_rows.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import polars as pl

UTC_MICROSECONDS = pl.Datetime("us", "UTC")

EARLIEST_US, LATEST_US = 1_230_768_000_000_000, 4_102_444_800_000_000
"""2009-01-01 and 2100-01-01: no trade is outside, so a value outside has a wrong unit or is not a time."""

_EPOCH_UNITS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3), (2**63, 1))
"""Upper limits of numbers that count seconds, milliseconds, microseconds and nanoseconds since 1970, each with the
nanoseconds of the unit."""

_TEXT_FORMATS = {" ": "%Y-%m-%d %H:%M:%S%.f", "D": "%Y-%m-%dD%H:%M:%S%.f", "T": "%Y-%m-%dT%H:%M:%S%.fZ"}
"""Formats by the separator between date (ten characters) and time of day; the fraction is optional."""

_TRUTH = {"true": True, "1": True, "false": False, "0": False}

_EXACT = 2**53
"""Float64 represents every integer below exactly."""

_OPTION = r"^[^-]+-([0-9]{6})-([0-9.]+)-([CP])$"
"""A contract such as BTC-231027-33000-C: underlying, day of expiry, strike, call or put."""


@dataclass(frozen=True, slots=True)
class Reader:
    """``raw`` is the type of the columns that it reads, one for all of them or one per column; None for times."""

    raw: pl.DataType | tuple[pl.DataType, ...] | None
    convert: Callable[..., pl.Series]


def raw_time_type(field: str) -> pl.DataType:
    """The type to parse a column of times as, by one of its fields: integers, or text of any format."""
    return pl.Int64() if field.isdecimal() else pl.String()


def values_of(written: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Fields converted to a type one by one; null where the conversion fails or the field is empty.

    An integer may have a fraction of zero or an exponent, a boolean may be 1 or 0.
    """
    text = written.str.strip_chars()
    if dtype == pl.Boolean:
        return text.str.to_lowercase().replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean)
    if dtype == pl.Int64:
        integer, number = (text.cast(kind, strict=False) for kind in (pl.Int64, pl.Float64))
        is_integer = (number == number.round()) & (number.abs() < _EXACT)
        return integer.zip_with(integer.is_not_null() | ~is_integer, number.cast(pl.Int64, strict=False))
    return text.cast(dtype, strict=False) if dtype.is_numeric() else written


def nanoseconds(raw: pl.Series) -> pl.Series:
    """Nanoseconds since 1970 as Int64; null where the field is not an instant between 2009 and 2100."""
    times = _instants(raw, "ns") if raw.dtype == pl.String else _scaled(raw, lambda unit: raw * unit)
    return _within(times, EARLIEST_US * 1000, LATEST_US * 1000)


def microseconds(raw: pl.Series) -> pl.Series:
    """Microseconds since 1970 as Int64, truncated. Null as for `nanoseconds`."""
    times = _instants(raw, "us") if raw.dtype == pl.String else _to_microseconds(raw)
    return _within(times, EARLIEST_US, LATEST_US)


def _to_microseconds(raw: pl.Series) -> pl.Series:
    return _scaled(raw, lambda unit: raw * (unit // 1000) if unit >= 1000 else raw // 1000)  # noqa: PLR2004


def _instants(raw: pl.Series, unit: str) -> pl.Series:
    """Text as instants, each field by its own format; the format of the first field is tried first."""
    text = raw.str.strip_chars()
    parsers: dict[str, Callable[[pl.Series], pl.Series]] = {
        _NUMBER: partial(_from_number, unit=unit),
        _FRACTION: partial(_from_fraction, unit=unit),
        **{separator: partial(_from_text, form=form, unit=unit) for separator, form in _TEXT_FORMATS.items()},
    }
    result = parsers.pop(_likely_format(text))(text)
    for parse in parsers.values():
        unparsed = result.is_null() & text.is_not_null()
        if not unparsed.any():
            break
        result = result.zip_with(~unparsed, parse(text))
    return result


_NUMBER, _FRACTION = "", "."


def _likely_format(text: pl.Series) -> str:
    """The format of the first field: the separator of date and time of day, or a kind of number."""
    first = text.drop_nulls().head(1)
    field = first[0] if len(first) else ""
    if field[10:11] in _TEXT_FORMATS:
        return field[10:11]
    return _FRACTION if "." in field else _NUMBER


def _from_text(text: pl.Series, *, form: str, unit: str) -> pl.Series:
    return text.str.strptime(pl.Datetime("ns" if unit == "ns" else "us"), form, strict=False).to_physical()


def _from_number(text: pl.Series, *, unit: str) -> pl.Series:
    number = text.cast(pl.Int64, strict=False)
    return _scaled(number, lambda factor: number * factor) if unit == "ns" else _to_microseconds(number)


def _from_fraction(text: pl.Series, *, unit: str) -> pl.Series:
    """Times with a fraction have up to six decimals of a second, which Float64 represents exactly after rounding."""
    number = text.cast(pl.Float64, strict=False)
    if (number.abs() >= _EXACT).any():  # nanoseconds, which are integers
        number = number.set(number.abs() >= _EXACT, None)
    times = _scaled(number, lambda factor: (number * (factor / 1000)).round().cast(pl.Int64, strict=False))
    return times * 1000 if unit == "ns" else times


def _scaled(raw: pl.Series, convert: Callable[[int], pl.Series]) -> pl.Series:
    """The raw times in one unit, each row by its own magnitude; one pass if the file has one unit."""
    units = {_unit(bound) for bound in (raw.min(), raw.max()) if isinstance(bound, int | float)}
    if not units:
        return raw.cast(pl.Int64)
    largest, smallest = max(units), min(units)
    result = convert(largest)
    for limit, unit in _EPOCH_UNITS[:-1]:
        if smallest < unit <= largest:
            finer = next(factor for bound, factor in _EPOCH_UNITS if bound > limit)
            result = result.zip_with(raw < limit, convert(finer))
    return result


def _unit(value: float) -> int:
    return next((unit for limit, unit in _EPOCH_UNITS if value < limit), 1)


def _within(times: pl.Series, earliest: int, latest: int) -> pl.Series:
    low, high = times.min(), times.max()
    if isinstance(low, int) and isinstance(high, int) and (low < earliest or high >= latest):
        return times.zip_with(times.is_between(earliest, latest, closed="left"), pl.Series([None], dtype=pl.Int64))
    return times


def _time(raw: pl.Series) -> pl.Series:
    return microseconds(raw).cast(UTC_MICROSECONDS)


def _side_of_maker(buyer_is_maker: pl.Series) -> pl.Series:
    return _sides(buyer_is_maker)


def _side_of_text(raw: pl.Series) -> pl.Series:
    return _choice(raw.str.strip_chars().str.to_lowercase(), buy="buy", sell="sell")


def _side_of_number(raw: pl.Series) -> pl.Series:
    return _choice(raw, buy=2, sell=1)


def _choice(raw: pl.Series, *, buy: object, sell: object) -> pl.Series:
    sells = raw == sell
    known = sells | (raw == buy)
    return _sides(sells if known.all() else sells.zip_with(known, pl.Series([None], dtype=pl.Boolean)))


def _sides(sells: pl.Series) -> pl.Series:
    """``buy`` and ``sell`` by a flag: gathering from two texts is several times as fast as when/then."""
    return pl.Series(["buy", "sell"]).gather(sells.cast(pl.UInt32))


def _side_of_sign(signed: pl.Series) -> pl.Series:
    return _choice(signed.sign(), buy=1.0, sell=-1.0)


def _time_of_hour(day: pl.Series, hour_of_day: pl.Series) -> pl.Series:
    hour = hour_of_day.cast(pl.Int64, strict=False)
    midnight = day.str.strptime(pl.Datetime("us"), "%Y-%m-%d", strict=False).dt.replace_time_zone("UTC")
    within = hour.is_between(0, 23)
    if not within.all():
        hour = hour.zip_with(within, pl.Series([None], dtype=pl.Int64))
    return (midnight + (hour * 3_600_000_000).cast(pl.Duration("us"))).cast(UTC_MICROSECONDS)


def _option_expiry(contract: pl.Series) -> pl.Series:
    return contract.str.extract(_OPTION).str.strptime(pl.Date, "%y%m%d", strict=False)


def _option_strike(contract: pl.Series) -> pl.Series:
    return contract.str.extract(_OPTION, 2).cast(pl.Float64, strict=False)


def _option_type(contract: pl.Series) -> pl.Series:
    return contract.str.extract(_OPTION, 3).replace({"C": "call", "P": "put"})


TIME = Reader(None, _time)
"""An instant in UTC, from a number (seconds to nanoseconds since 1970, by magnitude) or a date."""

TIME_NS = Reader(None, nanoseconds)

MAKER_SIDE = Reader(pl.Boolean(), _side_of_maker)
"""The taker's side, from a flag that is true when the buyer is the maker."""

TEXT_SIDE = Reader(pl.String(), _side_of_text)
"""``Buy`` or ``sell`` in any case."""

GATE_SIDE = Reader(pl.Int64(), _side_of_number)
"""1 is sell, 2 is buy."""

SIGN_SIDE = Reader(pl.Float64(), _side_of_sign)
"""The taker's side, from the sign of a size."""

MAGNITUDE = Reader(pl.Float64(), pl.Series.abs)

HOUR_OF_DAY = Reader(pl.String(), _time_of_hour)
"""A date and an hour, in two columns."""

OPTION_EXPIRY = Reader(pl.String(), _option_expiry)
OPTION_STRIKE = Reader(pl.String(), _option_strike)
OPTION_TYPE = Reader(pl.String(), _option_type)
"""Parts of an option's contract name."""
