"""The automation condition of assets downstream of archives: the content of a period changed."""

from __future__ import annotations

from typing import Any

import dagster as dg


def follows_archives() -> dg.AutomationCondition[Any]:
    """Request a period, however old, when its content in any of the archives changed; not when the digest is the same.

    Without `since_last_handled`: a change during a queued or reading run would count as handled by that run.
    Without `~any_deps_missing`: a month's archive is missing for days after its daily ones are published.
    """
    condition = dg.AutomationCondition
    changed = condition.any_deps_match(condition.data_version_changed())
    return (
        changed.since((condition.newly_requested() & ~changed) | condition.initial_evaluation())
        & ~condition.any_deps_in_progress()
        & ~condition.in_progress()
    )
