"""The code location of this process, as Dagster labels runs with it: one instance may have several.

A process without a location (runs in process, tests) has runs without a label as its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import dagster as dg

LAKE = "lake"
"""Metadata of what sensors record without a run: the label of the lake that it is about."""

LABEL_TAG = ".dagster/repository"
"""Tag that Dagster sets on runs of a code location: ``__repository__@lakehouse``."""


def location_of_run(run: dg.DagsterRun) -> str | None:
    """The label of the location that a run belongs to; None for a run in process."""
    origin = run.remote_job_origin
    return origin.repository_origin.get_label() if origin else run.tags.get(LABEL_TAG)


def location_name_of_run(run: dg.DagsterRun) -> str | None:
    """The name of the location that a run belongs to, as in workspace.yaml; None for a run in process."""
    label = location_of_run(run)
    return label and label.partition("@")[2]


def is_own_run(run: dg.DagsterRun, location: str | None) -> bool:
    """Whether a run is of ``location`` (its label), or in process, which belongs to no other location."""
    return location_of_run(run) in {None, location}


def foreign_runs(instance: dg.DagsterInstance, run_ids: Collection[str], location: str | None) -> set[str]:
    """Those of the runs that belong to other code locations than ``location`` (its label). Loads no runs."""
    if not run_ids:
        return set()
    labels = {label for _tag, labels in instance.get_run_tags([LABEL_TAG]) for label in labels} - {location}
    if not labels:
        return set()
    filters = dg.RunsFilter(run_ids=sorted(run_ids), tags={LABEL_TAG: sorted(labels)})
    return set(instance.get_run_ids(filters))


def location_of_sensor(context: dg.SensorEvaluationContext) -> str | None:
    """The label of the location that a sensor is evaluated in; None outside of a code server."""
    origin, repository = context.code_location_origin, context.repository_name
    return f"{repository}@{origin.location_name}" if origin and repository else None


def is_of_lake(metadata: Mapping[str, Any], lake: str | None) -> bool:
    """Whether something that a sensor recorded is about this lake; earlier versions did not record the lake."""
    recorded = metadata.get(LAKE)
    return lake is None or recorded is None or recorded.value == lake
