"""When an asset downstream of archives is asked for: its archives' content of that period changed."""

from __future__ import annotations

from typing import Any

import dagster as dg


def follows_archives() -> dg.AutomationCondition[Any]:
    """When the content of a period of any of the archives changed, old ones included; an unchanged digest asks for
    nothing.

    Not `since_last_handled`: a change that comes while a run is waiting or reading would count as handled by it.
    Not `~any_deps_missing`: the monthly archive of a month is missing for days after the daily ones are there.
    """
    condition = dg.AutomationCondition
    changed = condition.any_deps_match(condition.data_version_changed())
    return (
        changed.since((condition.newly_requested() & ~changed) | condition.initial_evaluation())
        & ~condition.any_deps_in_progress()
        & ~condition.in_progress()
    )
