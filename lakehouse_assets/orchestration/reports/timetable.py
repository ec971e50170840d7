"""The timetable of a report or catalog: when its schedule ticks, and until when it is fresh."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import dagster as dg

_TIMEZONE = "UTC"


@dataclass(frozen=True)
class Timetable:
    """When a schedule ticks, in UTC. ``every`` is the time between its ticks."""

    cron: str
    every: timedelta

    @cached_property
    def freshness(self) -> dg.FreshnessPolicy:
        """Fails at a tick if nothing was materialized since the tick before: a run has until the next tick to end."""
        return dg.FreshnessPolicy.cron(self.cron, lower_bound_delta=self.every, timezone=_TIMEZONE)

    def schedule(self, name: str, *, job: str, asset: dg.AssetKey, **more: Any) -> dg.ScheduleDefinition:
        """The schedule ``name`` of a job that materializes the asset; ``more`` is for `dg.ScheduleDefinition`."""
        return dg.ScheduleDefinition(
            name=name,
            job=dg.define_asset_job(job, selection=[asset]),
            cron_schedule=self.cron,
            execution_timezone=_TIMEZONE,
            **more,
        )
