"""The freshness policy of tables, by the cadence of their archives.

Dagster's daemon evaluates a policy by the newest materialization of any partition. So archives have none: the check
`published` knows which period is due.
"""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

from lakehouse_assets.archive.lateness import DEFAULTS
from lakehouse_assets.archive.period import Cadence
from lakehouse_assets.tables.table import TableEntry

_LONGEST_PERIOD = {Cadence.DAILY: timedelta(days=1), Cadence.MONTHLY: timedelta(days=31)}


def table_freshness(entry: TableEntry) -> dg.FreshnessPolicy | None:
    """Fails when nothing was written for a period and the time after which `published` calls an archive stalled.

    A table is written after its archive is published. So with the default thresholds of `published` it fails no earlier
    than that check, except at HTX, whose days end at 16:00 UTC: there up to 8 hours earlier.
    None if no archive of the table is still published and followed.
    """
    live = {cadence for cadence, archive in entry.entries.items() if archive.last_period is None and not archive.paused}
    if not live:
        return None
    cadence = Cadence.DAILY if Cadence.DAILY in live else Cadence.MONTHLY
    return dg.FreshnessPolicy.time_window(fail_window=_LONGEST_PERIOD[cadence] + DEFAULTS[cadence].stalled)
