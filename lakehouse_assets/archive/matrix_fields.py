"""Validators for the fields of one dataset entry of the archive matrix.

A validator may read the fields that are declared before its own. If one of those is invalid, the field is `skipped`,
so that only the cause is reported.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from pydantic import ValidationInfo

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges.layout import SymbolLocation
from lakehouse_assets.archive.matrix_errors import Place, did_you_mean, fault, faults, skipped
from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.archive.symbol_filter import ALL, SymbolFilter
from lakehouse_assets.errors import InputError

_PARTITIONS_PER_RUN = {Cadence.DAILY: 31, Cadence.MONTHLY: 12}


def _dataset_of(info: ValidationInfo) -> Dataset:
    dataset = info.data.get("dataset")
    if not isinstance(dataset, Dataset):
        raise skipped()
    return dataset


def to_dataset(value: Any) -> Any:
    if isinstance(value, Dataset):
        return value
    if not isinstance(value, str):
        raise fault(f"{value!r} is not a dataset; write it as binance/um/klines/daily")
    try:
        return Dataset.parse(value)
    except InputError as error:
        raise fault(str(error)) from None


def to_intervals(value: Any, info: ValidationInfo) -> tuple[str, ...]:
    dataset = _dataset_of(info)
    published = dataset.publication.intervals
    name = dataset.name.rsplit("/", 1)[0]
    choose = f"choose from {', '.join(published)}, or write all"
    if not published:
        if value:
            raise fault(f"{name} has no intervals; remove the field")
        return ()
    if value is None or value in ((), []):
        raise fault(f"{name} is published by interval; {choose}")
    if value == ALL:
        return published
    if not isinstance(value, list | tuple):
        raise fault(f"{value!r} is not a list; write [{published[0]}], or all")
    unusable: list[tuple[Place, str]] = []
    for index, interval in enumerate(value):
        if interval not in published:
            message = f"{name} is not published {dataset.cadence} at interval {interval!r}; {choose}"
            unusable.append(((index,), message))
        elif interval in value[:index]:
            unusable.append(((index,), f"{interval!r} is listed twice"))
    if unusable:
        raise faults(unusable)
    return tuple(interval for interval in published if interval in value)


def to_symbols(value: SymbolFilter, info: ValidationInfo) -> SymbolFilter:
    dataset = _dataset_of(info)
    if dataset.layout.symbol_location is SymbolLocation.NOWHERE and value.model_dump() != SymbolFilter().model_dump():
        raise fault(f"each file of {dataset} holds all symbols; remove the field")
    quotes = dataset.source.quote_assets.get(dataset.market, ())
    unknown: list[tuple[Place, str]] = []
    for index, quote in enumerate(value.quote_assets):
        if quote not in quotes:
            text = f"{quote!r} is not a quote asset of {dataset.group}{did_you_mean(quote, quotes)}"
            unknown.append((("quote_assets", index), f"{text}; choose from {', '.join(quotes)}"))
    if unknown:
        raise faults(unknown)
    return value.of_market(dataset.exchange, dataset.market)


def _day(value: Any, form: str) -> str:
    """The text of a date, which YAML or a caller may give as a date or as text."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return value
    raise fault(f"{value!r} is not a date; write it as {form}")


def to_first_period(value: Any, info: ValidationInfo) -> Period:
    dataset = _dataset_of(info)
    publication = dataset.publication
    published_first = Period.containing(dataset.cadence, publication.first)
    if value is None:
        return published_first
    try:
        form = "YYYY-MM-DD" if dataset.cadence is Cadence.DAILY else "YYYY-MM"
        first = value if isinstance(value, Period) else dataset.period(_day(value, form))
    except InputError as error:
        raise fault(str(error)) from None
    if first.cadence is not dataset.cadence:
        raise fault(f"{first} is a {first.cadence} period, but {dataset} is published {dataset.cadence}")
    if first < published_first:
        if _is_default(info):
            return published_first
        raise fault(f"{first} is before {published_first}, the first period of {dataset}")
    if publication.ended and first > Period.containing(dataset.cadence, publication.ended):
        ended = Period.containing(dataset.cadence, publication.ended)
        raise fault(f"{first} is after {ended}, the last period of {dataset}")
    return first


def to_follow_from(value: Any, info: ValidationInfo) -> date | None:
    first = info.data.get("first_period")
    if not isinstance(first, Period):
        raise skipped()
    if value is None:
        return None
    try:
        day = Period.parse(_day(value, "YYYY-MM-DD"), Cadence.DAILY).start
    except InputError as error:
        raise fault(str(error)) from None
    if day < first.start:
        if _is_default(info):
            return first.start
        raise fault(f"{day} is before {first}, the first_period of {info.data['dataset']}")
    return day


def to_partitions_per_run(value: Any, info: ValidationInfo) -> Any:
    return _PARTITIONS_PER_RUN[_dataset_of(info).cadence] if value is None else value


def _is_default(info: ValidationInfo) -> bool:
    """Whether the field's value comes from ``defaults``: then an early date means the first published one."""
    return bool(info.context) and info.field_name in info.context
