"""How a field of an exchange's file becomes a value of ours, where parsing it is not enough.

A reader takes the raw columns as Polars parsed them and returns the column of the table. A field
that it cannot read becomes null; what that means is the caller's business (tables/read/csv_rows.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import polars as pl

UTC_MICROSECONDS = pl.Datetime("us", "UTC")

EARLIEST_US, LATEST_US = 1_230_768_000_000_000, 4_102_444_800_000_000
"""2009-01-01 and 2100-01-01: no instant outside is one of a trade, so it is a wrong unit or no time."""

_EPOCH_UNITS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3), (2**63, 1))
"""Below which magnitude a number counts seconds, milliseconds, microseconds or nanoseconds since
1970, and how many nanoseconds its unit has."""

_TEXT_FORMATS = {" ": "%Y-%m-%d %H:%M:%S%.f", "D": "%Y-%m-%dD%H:%M:%S%.f", "T": "%Y-%m-%dT%H:%M:%S%.fZ"}
"""By what separates the date (ten characters) from the time of day; the fraction may be absent."""


_TRUTH = {"true": True, "1": True, "false": False, "0": False}

_EXACT = 2**53
"""Float64 holds every whole number below."""

_OPTION = r"^[^-]+-([0-9]{6})-([0-9.]+)-([CP])$"
"""A contract such as BTC-231027-33000-C: underlying, day of expiry, strike, call or put."""


@dataclass(frozen=True, slots=True)
class Reader:
    """``raw`` is what the columns that it reads hold, one type for all of them or one for each; None: a time."""

    raw: pl.DataType | tuple[pl.DataType, ...] | None
    convert: Callable[..., pl.Series]


def raw_time_type(field: str) -> pl.DataType:
    """As what to parse a column of times that has this field: whole numbers, or text of any form."""
    return pl.Int64() if field.isdecimal() else pl.String()


def values_of(written: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Fields as values of a type, each read for itself; null where it cannot be, or is empty.

    A whole number may be written with a fraction of zero or an exponent, a truth value as 1 or 0.
    """
    text = written.str.strip_chars()
    if dtype == pl.Boolean:
        return text.str.to_lowercase().replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean)
    if dtype == pl.Int64:
        whole, number = (text.cast(kind, strict=False) for kind in (pl.Int64, pl.Float64))
        is_whole = (number == number.round()) & (number.abs() < _EXACT)
        return whole.zip_with(whole.is_not_null() | ~is_whole, number.cast(pl.Int64, strict=False))
    return text.cast(dtype, strict=False) if dtype.is_numeric() else written


def nanoseconds(raw: pl.Series) -> pl.Series:
    """Nanoseconds since 1970, Int64; null where the field is no instant between 2009 and 2100."""
    whole = _instants(raw, "ns") if raw.dtype == pl.String else _scaled(raw, lambda unit: raw * unit)
    return _within(whole, EARLIEST_US * 1000, LATEST_US * 1000)


def microseconds(raw: pl.Series) -> pl.Series:
    """Microseconds since 1970, Int64; what is finer is cut off. Null as for `nanoseconds`."""
    whole = _instants(raw, "us") if raw.dtype == pl.String else _whole_microseconds(raw)
    return _within(whole, EARLIEST_US, LATEST_US)


def _whole_microseconds(raw: pl.Series) -> pl.Series:
    return _scaled(raw, lambda unit: raw * (unit // 1000) if unit >= 1000 else raw // 1000)  # noqa: PLR2004


def _instants(raw: pl.Series, unit: str) -> pl.Series:
    """Text as instants, each field by its own form; the first field tells which form is tried first."""
    text = raw.str.strip_chars()
    forms: dict[str, Callable[[pl.Series], pl.Series]] = {
        _NUMBER: partial(_of_number, unit=unit),
        _FRACTION: partial(_of_fraction, unit=unit),
        **{separator: partial(_of_form, form=form, unit=unit) for separator, form in _TEXT_FORMATS.items()},
    }
    result = forms.pop(_likely_form(text))(text)
    for read in forms.values():
        open_ = result.is_null() & text.is_not_null()
        if not open_.any():
            break
        result = result.zip_with(~open_, read(text))
    return result


_NUMBER, _FRACTION = "", "."


def _likely_form(text: pl.Series) -> str:
    """That of the first field: a date by what separates it from the time of day, or a number."""
    first = text.drop_nulls().head(1)
    field = first[0] if len(first) else ""
    if field[10:11] in _TEXT_FORMATS:
        return field[10:11]
    return _FRACTION if "." in field else _NUMBER


def _of_form(text: pl.Series, *, form: str, unit: str) -> pl.Series:
    return text.str.strptime(pl.Datetime("ns" if unit == "ns" else "us"), form, strict=False).to_physical()


def _of_number(text: pl.Series, *, unit: str) -> pl.Series:
    whole = text.cast(pl.Int64, strict=False)
    return _scaled(whole, lambda each: whole * each) if unit == "ns" else _whole_microseconds(whole)


def _of_fraction(text: pl.Series, *, unit: str) -> pl.Series:
    """A number with a fraction has up to six decimals of a second: Float64 holds these exactly enough to round
    them back."""
    number = text.cast(pl.Float64, strict=False)
    if (number.abs() >= _EXACT).any():  # nanoseconds, which are whole numbers
        number = number.set(number.abs() >= _EXACT, None)
    whole = _scaled(number, lambda each: (number * (each / 1000)).round().cast(pl.Int64, strict=False))
    return whole * 1000 if unit == "ns" else whole


def _scaled(raw: pl.Series, convert: Callable[[int], pl.Series]) -> pl.Series:
    """The raw times in one unit, each row by its own magnitude; one pass where the file has one unit."""
    found = {_unit(bound) for bound in (raw.min(), raw.max()) if isinstance(bound, int | float)}
    if not found:
        return raw.cast(pl.Int64)
    largest, smallest = max(found), min(found)
    result = convert(largest)
    for limit, unit in _EPOCH_UNITS[:-1]:
        if smallest < unit <= largest:
            finer = next(u for bound, u in _EPOCH_UNITS if bound > limit)
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
    """``buy`` and ``sell`` by a flag: taking from two texts is several times as fast as comparing."""
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
"""An instant, by its magnitude (seconds to nanoseconds since 1970) or as a date string, in UTC."""

TIME_NS = Reader(None, nanoseconds)

MAKER_SIDE = Reader(pl.Boolean(), _side_of_maker)
"""The taker's side from "the buyer is the maker"."""

TEXT_SIDE = Reader(pl.String(), _side_of_text)
"""``Buy`` or ``sell`` in any case."""

GATE_SIDE = Reader(pl.Int64(), _side_of_number)
"""1 is sell, 2 is buy."""

SIGN_SIDE = Reader(pl.Float64(), _side_of_sign)
"""The taker's side from the sign of a size."""

MAGNITUDE = Reader(pl.Float64(), pl.Series.abs)

HOUR_OF_DAY = Reader(pl.String(), _time_of_hour)
"""A date and an hour of it, in two columns."""

OPTION_EXPIRY = Reader(pl.String(), _option_expiry)
OPTION_STRIKE = Reader(pl.String(), _option_strike)
OPTION_TYPE = Reader(pl.String(), _option_type)
"""What an option's contract name says."""
