"""Runs that a crash of this machine left behind."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

_IN_PROGRESS = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def sweep_orphans(home: Path) -> int:
    """Mark runs that were in progress as failed, and return their number. Also creates the instance's databases.

    Dagster's default launcher does not notice that a run's process is gone. Call this only for an instance whose runs
    are all processes of this machine, and while none of its services runs. Queued runs stay queued.
    """
    with dg.DagsterInstance.from_config(str(home)) as instance:
        runs = instance.get_runs(dg.RunsFilter(statuses=_IN_PROGRESS))
        for run in runs:
            instance.report_run_failed(run, "The run was in progress when lakehouse up ended; start it again.")
        return len(runs)
