"""Events of one failed run: which partitions it materialized or observed, and which of its steps failed, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import dagster as dg

from lakehouse_assets.lake.report import PeriodState
from lakehouse_assets.orchestration.archives.reporting import STATE
from lakehouse_assets.orchestration.error_metadata import error_fields_of

EVENTS_PER_PAGE = 1_000
"""Events that one request reads. All pages are read: a partition without an event counts as failed."""


class StepFailure(NamedTuple):
    """A failed step: what its error says, and the fields that the error carries."""

    text: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunEvents:
    """Events of a failed run: materializations, and observations of periods that are not complete, by asset and
    partition, and failed steps by name."""

    materialized: frozenset[tuple[str, str | None]]
    observations: Mapping[tuple[str, str | None], dg.AssetObservation]
    steps: Mapping[str, StepFailure]

    def succeeded(self, asset: str, period: str | None) -> bool:
        """Whether the partition was materialized; or its period is not published yet, or synced in part, neither of
        which is a failure."""
        observed = self.observations.get((asset, period))
        is_no_failure = observed is not None and observed.metadata[STATE].value != PeriodState.INCOMPLETE.value
        return is_no_failure or (asset, period) in self.materialized

    def failure(self, asset: str) -> StepFailure | None:
        """The failure of the asset's step, or of any step of a job."""
        return self.steps.get(_step_of(asset)) or next(iter(self.steps.values()), None)

    def was_skipped(self, asset: str) -> bool:
        """Whether the asset's step did not run because another step failed."""
        return "/" in asset and bool(self.steps) and _step_of(asset) not in self.steps


def _step_of(asset: str) -> str:
    """The name of an asset's step follows from its key."""
    return asset.replace("/", "__").replace("-", "_")


def events_of(instance: dg.DagsterInstance, run_id: str) -> RunEvents:
    kinds = dg.DagsterEventType
    of_type = {kinds.STEP_FAILURE, kinds.ASSET_OBSERVATION, kinds.ASSET_MATERIALIZATION}
    materialized: set[tuple[str, str | None]] = set()
    observations: dict[tuple[str, str | None], dg.AssetObservation] = {}
    steps: dict[str, StepFailure] = {}
    for record in _records(instance, run_id, of_type):
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        if event.event_type is kinds.ASSET_MATERIALIZATION and event.asset_key is not None:
            materialized.add((event.asset_key.to_user_string(), event.partition))
        elif event.event_type is kinds.STEP_FAILURE and event.step_key is not None:
            steps[event.step_key] = _step_failure(event)
        elif event.event_type is kinds.ASSET_OBSERVATION:
            observed = event.asset_observation_data.asset_observation
            if STATE in observed.metadata:
                observations[observed.asset_key.to_user_string(), observed.partition] = observed
    return RunEvents(frozenset(materialized), observations, steps)


def _records(
    instance: dg.DagsterInstance, run_id: str, of_type: set[dg.DagsterEventType]
) -> Iterator[dg.EventLogRecord]:
    cursor = None
    while True:
        page = instance.get_records_for_run(run_id, cursor, of_type, limit=EVENTS_PER_PAGE)
        yield from page.records
        if not page.has_more:
            return
        cursor = page.cursor


def _step_failure(event: dg.DagsterEvent) -> StepFailure:
    data = event.step_failure_data
    raised = data.user_failure_data
    if raised is not None and raised.description:
        return StepFailure(raised.description, error_fields_of(raised.metadata))
    error = data.error
    # Dagster wraps what a step raises.
    while error is not None and error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    return StepFailure(error.message if error is not None else "the step failed", {})
