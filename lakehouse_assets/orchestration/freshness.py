"""Freshness policies: of reports and catalogs, by the cron of their schedule; of tables, by their archives' cadence.

Dagster's daemon evaluates them by the newest materialization of any partition. So no policy judges archives: the check
`published` knows which period is due. Maintenance has none: nobody reads it, and Dagster takes 5 to 12 ms in every
process to check a cron.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import dagster as dg

from lakehouse_assets.archive.lateness import DEFAULTS
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.tables.table import TableEntry

_LONGEST_PERIOD = {Cadence.DAILY: timedelta(days=1), Cadence.MONTHLY: timedelta(days=31)}


@dataclass(frozen=True)
class Timetable:
    """When a schedule ticks, in UTC. ``every`` is the time between its ticks."""

    cron: str
    every: timedelta
    timezone: str = "UTC"

    @cached_property
    def freshness(self) -> dg.FreshnessPolicy:
        """Fails at a tick if nothing was materialized since the tick before: a run has until the next tick to end."""
        return dg.FreshnessPolicy.cron(self.cron, lower_bound_delta=self.every, timezone=self.timezone)


def table_freshness(entry: TableEntry) -> dg.FreshnessPolicy | None:
    """Fails when nothing was written for a period and the time after which `published` calls an archive stalled.

    So it fails no earlier than `published` by its defaults, since a table is written after its archive is published.
    None if no archive of the table is still published and followed.
    """
    live = {cadence for cadence, archive in entry.entries.items() if archive.last_period is None and not archive.paused}
    if not live:
        return None
    cadence = Cadence.DAILY if Cadence.DAILY in live else Cadence.MONTHLY
    return dg.FreshnessPolicy.time_window(fail_window=_LONGEST_PERIOD[cadence] + DEFAULTS[cadence].stalled)
