"""Partitions of assets: the periods that the exchange publishes.

No two assets have equal partitions definitions. Dagster (1.13) puts the assets of a backfill whose definitions, keys
and backfill policies are equal into one run, and here a run is one process: archives would be synced one after the
other, and one that fails would skip the rest. So each asset's partitions end at a moment of its own, within the day
after the last period or in the year 2200. Which partitions there are does not depend on it.
"""

from __future__ import annotations

import hashlib
from datetime import date, datetime, time, timedelta

import dagster as dg

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.archive.period import Cadence

CRON = {Cadence.DAILY: "0 0 * * *", Cadence.MONTHLY: "0 0 1 * *"}

_NEVER = date(2200, 1, 1)
_SECONDS_OF_DAY = 86_400


def build_partitions(entry: DatasetEntry, key: dg.AssetKey | None = None) -> dg.TimeWindowPartitionsDefinition:
    """Partitions of a dataset's archive asset, or of another asset ``key`` with the same periods.

    They go from the entry's first period to the last one that is over (or that was ever published), in the exchange's
    time zone: a partition exists once the exchange's own day is over. Keys are periods: ``2024-01-31`` or ``2024-01``.
    """
    dataset, last = entry.dataset, entry.last_period
    return partitions_of(
        key or dg.AssetKey(dataset.asset_key),
        dataset.cadence,
        first=str(entry.first_period),
        end=None if last is None else last.end,
        timezone=dataset.source.timezone,
    )


def partitions_of(
    key: dg.AssetKey, cadence: Cadence, *, first: str, end: date | None, timezone: str
) -> dg.TimeWindowPartitionsDefinition:
    """The periods from ``first`` up to ``end`` (excluded; None: no end) that are over; unequal to any other asset's."""
    seconds = int.from_bytes(hashlib.sha256(key.to_user_string().encode()).digest()) % _SECONDS_OF_DAY
    return dg.TimeWindowPartitionsDefinition(
        start=first,
        end=datetime.combine(end or _NEVER, time()) + timedelta(seconds=seconds),
        cron_schedule=CRON[cadence],
        fmt=cadence.key_format,
        timezone=timezone,
    )
