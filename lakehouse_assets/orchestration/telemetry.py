"""Telemetry of runs: a span per step, exported before the step ends."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg

from lakehouse_assets.observability.telemetry.setup import flush_telemetry, start_telemetry
from lakehouse_assets.observability.telemetry.tracing import span
from lakehouse_assets.orchestration.dagster_tags import PARTITION_TAG, RANGE_TAGS
from lakehouse_assets.orchestration.error_metadata import store_errors_as_failures

Context = dg.AssetExecutionContext | dg.OpExecutionContext
"""The context of an asset's or an op's body."""


@contextmanager
def traced(context: Context) -> Generator[None]:
    """A span around an asset's or an op's body, exported also when the body fails.

    A StoreError of the body becomes a dg.Failure that carries the error's fields as metadata.
    """
    start_telemetry()
    # From the tags: a step of checks alone has no partition keys, whatever its run has.
    first, last = (context.run.tags.get(tag) or context.run.tags.get(PARTITION_TAG) for tag in RANGE_TAGS)
    assets = context.selected_asset_keys if context.has_assets_def else ()
    try:
        with (
            store_errors_as_failures(),
            span(
                "run",
                **{
                    "dagster.run_id": context.run.run_id,
                    "dagster.job": context.run.job_name,
                    "dagster.asset_key": ", ".join(sorted(key.to_user_string() for key in assets)) or None,
                    "dagster.first_partition": first,
                    "dagster.last_partition": last,
                },
            ),
        ):
            yield
    finally:
        flush_telemetry()
