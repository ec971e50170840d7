"""The timetable of a report or catalog: when its schedule ticks, and until when it is fresh."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import dagster as dg


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
