"""The cost guard: whether a run may start at its estimated cost.

Runs that sensors start carry their estimate in tags, so that every process can sum up a day.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import dagster as dg

from lakehouse_assets.orchestration.run_requests import LAKE_TAG
from lakehouse_assets.orchestration.telemetry import Context
from lakehouse_assets.settings import SpendingSettings
from lakehouse_assets.sync.cost import CostLimit, CostLimitError, Estimate

ALLOW_TAG = "lakehouse/allow_spending"
DAY_TAG = "lakehouse/spending_day"
DOLLARS_TAG = "lakehouse/estimated_dollars"
BYTES_TAG = "lakehouse/estimated_bytes"
REFUSED_TAG = "lakehouse/spending_refused"

OVERRIDE = f"`allow_spending: true` in the run's configuration, or the tag {ALLOW_TAG}=true"


def approval(context: Context, settings: SpendingSettings, *, is_allowed: bool) -> Callable[[Estimate], None]:
    """A callback that logs a run's estimate, and raises dg.Failure without retries above a cost limit."""

    def approve(estimate: Estimate) -> None:
        context.log.info("To copy: %s.", estimate)
        try:
            _approve(context, settings, estimate, is_allowed or context.run.tags.get(ALLOW_TAG) == "true")
        except CostLimitError as error:
            raise dg.Failure(str(error), allow_retries=False) from error

    return approve


def _approve(
    context: Context,
    settings: SpendingSettings,
    estimate: Estimate,
    is_allowed: bool,
) -> None:
    if not is_allowed:
        settings.per_run.check(estimate.dollars, estimate.bytes, what="This run is estimated at", override=OVERRIDE)
    # Runs that a person starts have no tag; neither have those that an earlier version requested.
    if LAKE_TAG not in context.run.tags or not settings.per_day:
        return
    today = spending_day(datetime.now(UTC))
    tags = {DAY_TAG: str(today), DOLLARS_TAG: f"{estimate.dollars:.6f}", BYTES_TAG: str(estimate.bytes)}
    context.instance.add_run_tags(context.run.run_id, tags)
    if is_allowed:
        return
    dollars, size = spent(context.instance, today, context.run.tags[LAKE_TAG])
    try:
        settings.per_day.check(
            dollars, size, what="With this run, the runs that sensors started today are estimated at", override=OVERRIDE
        )
    except CostLimitError:
        refused = {DOLLARS_TAG: "0", BYTES_TAG: "0", REFUSED_TAG: str(today)}
        context.instance.add_run_tags(context.run.run_id, refused)
        raise


def spent(instance: dg.DagsterInstance, day: date, lake: str) -> tuple[float, int]:
    """Estimated dollars and bytes of the runs that sensors started for a lake (its label) on a `spending_day`."""
    runs = instance.get_runs(dg.RunsFilter(tags={DAY_TAG: str(day), LAKE_TAG: lake}))
    return (
        sum(float(run.tags.get(DOLLARS_TAG, 0)) for run in runs),
        sum(int(run.tags.get(BYTES_TAG, 0)) for run in runs),
    )


def spending_day(now: datetime) -> date:
    """The day that a run counts towards: in UTC, since runs of all exchanges share the daily limit."""
    return now.astimezone(UTC).date()


def is_closed(instance: dg.DagsterInstance, limit: CostLimit, now: datetime, lake: str) -> bool:
    """Whether sensors start no more runs for a lake on this day: its cost limit is reached, or has refused a run."""
    if not limit:
        return False
    day = spending_day(now)
    return limit.is_reached(*spent(instance, day, lake)) or bool(
        instance.get_runs(dg.RunsFilter(tags={REFUSED_TAG: str(day), LAKE_TAG: lake}), limit=1)
    )
