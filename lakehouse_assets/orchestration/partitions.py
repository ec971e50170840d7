"""Partitions of assets: the periods that the exchange publishes."""

from __future__ import annotations

from datetime import date

import dagster as dg

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence, Period

CRON = {Cadence.DAILY: "0 0 * * *", Cadence.MONTHLY: "0 0 1 * *"}


def build_partitions(entry: DatasetEntry) -> dg.TimeWindowPartitionsDefinition:
    """Partitions of a dataset: from the entry's first period to the last one that is over (or was ever published).

    In the exchange's time zone: a partition exists once the exchange's own day is over. Keys are periods:
    ``2024-01-31`` or ``2024-01``.
    """
    dataset, last = entry.dataset, entry.last_period
    end = None if last is None else last.end
    return partitions_of(dataset.cadence, first=str(entry.first_period), end=end, timezone=dataset.source.timezone)


def partitions_of(
    cadence: Cadence, *, first: str, end: date | None, timezone: str
) -> dg.TimeWindowPartitionsDefinition:
    """The periods from ``first`` up to ``end`` (excluded; None: no end) that are over."""
    return dg.TimeWindowPartitionsDefinition(
        start=first,
        end=None if end is None else str(Period.containing(cadence, end)),
        cron_schedule=CRON[cadence],
        fmt=cadence.key_format,
        timezone=timezone,
    )
