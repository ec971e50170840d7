"""Partitions of archive assets: the periods that the exchange publishes."""

from __future__ import annotations

import dagster as dg

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence

CRON = {Cadence.DAILY: "0 0 * * *", Cadence.MONTHLY: "0 0 1 * *"}


def build_partitions(entry: DatasetEntry) -> dg.TimeWindowPartitionsDefinition:
    """Partitions from the entry's first period to the last one that is over (or that was ever published).

    In the exchange's time zone: a partition exists once the exchange's own day is over. Keys are periods:
    ``2024-01-31`` or ``2024-01``.
    """
    cadence = entry.dataset.cadence
    last = entry.last_period
    return dg.TimeWindowPartitionsDefinition(
        start=str(entry.first_period),
        end=None if last is None else str(last.next()),
        cron_schedule=CRON[cadence],
        fmt=cadence.key_format,
        timezone=entry.dataset.source.timezone,
    )
