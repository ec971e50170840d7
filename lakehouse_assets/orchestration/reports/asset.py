"""What all report assets share: group, kind, owner, and errors with their fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg

from lakehouse_assets.orchestration.error_metadata import store_errors_as_failures
from lakehouse_assets.orchestration.reports.timetable import Timetable


def report_asset(
    key: dg.AssetKey, description: str, timetable: Timetable | None = None
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Decorates the body of an unpartitioned asset that writes a report into its metadata.

    ``timetable`` is that of its schedule, if it has one.
    """

    def decorate(body: Callable[..., Any]) -> dg.AssetsDefinition:
        return dg.asset(
            key=key,
            group_name="reports",
            kinds={"s3"},
            owners=["team:market-data"],
            description=description,
            freshness_policy=timetable and timetable.freshness,
        )(store_errors_as_failures()(body))

    return decorate
