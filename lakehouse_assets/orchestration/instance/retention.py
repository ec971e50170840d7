"""Retention: deletes old runs from Dagster's database, except those that hold the latest event of anything.

Only runs of the own code location are deleted, unless those of all locations are asked for: an instance may serve
others, who want their runs kept.

A run's events are deleted with it, among them the materializations that make partitions green. So a run is kept,
however old, while it holds the newest event of any type on a partition of an asset, or the newest execution of a
check. The UI shows the same assets, partitions and checks before and after.

Dagster (1.13.27) has no query for those runs, leaves check executions behind when it deletes a run, and opens a dozen
connections per run. So this module runs statements on Dagster's tables, the same in SQLite and Postgres.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import sqlalchemy as sa
from pydantic import Field

from lakehouse_assets.errors import InputError
from lakehouse_assets.orchestration.dagster_internals import (
    ASSET_EVENTS,
    CheckExecutionsTable,
    CheckExecutionStatus,
    EventsTable,
    EventTagsTable,
    SqlEventLogStorage,
    SqliteEventLogStorage,
    active_backfill_ids,
)
from lakehouse_assets.orchestration.dagster_tags import BACKFILL_TAG
from lakehouse_assets.orchestration.location import LABEL_TAG, location_of_run
from lakehouse_assets.settings import SHORTEST_RETENTION_DAYS, RetentionSettings

# No `from __future__ import annotations` here: Dagster reads the annotation of `config`.

JOB = "retention"
_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_PLANNED = CheckExecutionStatus.PLANNED.value


@dataclass(frozen=True, slots=True)
class Deletion:
    """Numbers of runs: ``old`` ones ended before the limit; of these, ``deleted`` and ``kept``."""

    old: int
    deleted: int
    kept: int


class RetentionConfig(dg.Config):
    """Run configuration of the retention job."""

    days: int | None = Field(
        default=None,
        ge=SHORTEST_RETENTION_DAYS,
        description="Delete runs that ended this many days ago. Default: LAKEHOUSE_RETENTION_DAYS.",
    )
    all_locations: bool | None = Field(
        default=None,
        description="Delete runs of all code locations of the instance, not only of this one. Default: "
        "LAKEHOUSE_RETENTION_ALL_LOCATIONS.",
    )
    batch_runs: int = Field(default=500, ge=1, description="Runs checked and deleted at a time.")
    dry_run: bool = Field(default=False, description="Only count the runs that would be deleted.")


def build_retention_job(settings: RetentionSettings) -> dg.JobDefinition:
    """The job ``retention``. Its op deletes runs older than its configuration or ``settings`` say."""

    @dg.op(name="delete_old_runs", description=__doc__, out=dg.Out(dg.Nothing))
    def delete_op(context: dg.OpExecutionContext, config: RetentionConfig) -> None:
        days = config.days or settings.days
        if days is None:
            raise InputError("No retention time: set LAKEHOUSE_RETENTION_DAYS, or `days` in the run's configuration.")
        before = datetime.now(UTC) - timedelta(days=days)
        is_for_all = settings.all_locations if config.all_locations is None else config.all_locations
        done = delete_old_runs(
            context.instance,
            before,
            location=location_of_run(context.run),
            all_locations=is_for_all,
            batch_runs=config.batch_runs,
            dry_run=config.dry_run,
            log=context.log.info,
        )
        context.add_output_metadata({"runs_old": done.old, "runs_deleted": done.deleted, "runs_kept": done.kept})

    @dg.job(name=JOB, description="Deletes old runs that no asset, partition or check needs.")
    def retention() -> None:
        delete_op()

    return retention


def build_retention_schedule(settings: RetentionSettings) -> dg.ScheduleDefinition:
    """Nightly, in UTC. Runs by default only where LAKEHOUSE_RETENTION_DAYS is set."""
    return dg.ScheduleDefinition(
        name="retention_nightly",
        job=build_retention_job(settings),
        cron_schedule="40 2 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING if settings.days else dg.DefaultScheduleStatus.STOPPED,
    )


def delete_old_runs(
    instance: dg.DagsterInstance,
    before: datetime,
    *,
    location: str | None = None,
    all_locations: bool = False,
    batch_runs: int = 500,
    dry_run: bool = False,
    log: Callable[[str], object] = lambda _line: None,
) -> Deletion:
    """Delete finished runs that were last updated before ``before`` (aware), oldest first, except those in use.

    Only runs of ``location`` (its label; None: runs without a location) are deleted, unless ``all_locations``.
    If killed, it leaves no events without a run: the next call finds the run and continues.
    """
    events = _sql_event_log(instance)
    old = _old_runs(instance, before, location, all_locations=all_locations)
    active = _runs_of_active_backfills(instance)
    deleted = 0
    for batch in _batches(old, batch_runs):
        # Queried for each batch: when a person deletes a run meanwhile, an older one holds the latest event.
        deletable = set(batch) - runs_with_latest_events(events) - active
        if not dry_run:
            _delete(instance, events, [run_id for run_id in batch if run_id in deletable])
        deleted += len(deletable)
        log(f"{'Would delete' if dry_run else 'Deleted'} {deleted:,} of {len(old):,} old runs so far")
    return Deletion(old=len(old), deleted=deleted, kept=len(old) - deleted)


def _old_runs(
    instance: dg.DagsterInstance, before: datetime, location: str | None, *, all_locations: bool
) -> list[str]:
    """Ids of finished runs, oldest first."""
    tags = {LABEL_TAG: location} if location is not None and not all_locations else {}
    found = list(instance.get_run_ids(dg.RunsFilter(statuses=_FINISHED, updated_before=before, tags=tags)))
    if location is None and not all_locations:
        # No filter selects runs without a tag.
        labelled = {
            run_id
            for _tag, labels in instance.get_run_tags([LABEL_TAG])
            for run_id in instance.get_run_ids(dg.RunsFilter(tags={LABEL_TAG: sorted(labels)}))
        }
        found = [run_id for run_id in found if run_id not in labelled]
    return found[::-1]


def runs_with_latest_events(events: SqlEventLogStorage) -> set[str]:
    """Ids of the runs that hold the newest event of a type on any partition, or the newest execution of a check."""
    log, checks = EventsTable.c, CheckExecutionsTable.c
    newest_events = (
        sa.select(sa.func.max(log.id))
        .where(log.asset_key.is_not(None), log.dagster_event_type.in_([kind.value for kind in ASSET_EVENTS]))
        .group_by(log.asset_key, log.dagster_event_type, log.partition)
    )
    newest_checks = (
        sa.select(sa.func.max(checks.id))
        # Also the newest evaluated one, where a later execution was only planned.
        .group_by(checks.asset_key, checks.check_name, checks.partition, checks.execution_status == _PLANNED)
    )
    with events.index_connection() as connection:
        run_ids = connection.execute(
            sa.union(
                sa.select(log.run_id).where(log.id.in_(newest_events)),
                sa.select(checks.run_id).where(checks.id.in_(newest_checks)),
            )
        ).scalars()
        return {run_id for run_id in run_ids if run_id}


def _delete(instance: dg.DagsterInstance, events: SqlEventLogStorage, run_ids: Sequence[str]) -> None:
    """Delete runs with all their rows; the runs last, so that a call after a kill finds them."""
    log, tags, checks = EventsTable, EventTagsTable, CheckExecutionsTable
    event_ids = sa.select(log.c.id).where(log.c.run_id.in_(run_ids))
    with events.index_connection() as connection:
        connection.execute(checks.delete().where(checks.c.run_id.in_(run_ids)))
        connection.execute(tags.delete().where(tags.c.event_id.in_(event_ids)))
        connection.execute(log.delete().where(log.c.run_id.in_(run_ids)))
    for run_id in run_ids:
        if isinstance(events, SqliteEventLogStorage):
            events.delete_events(run_id)  # SQLite keeps one file per run beside the index
        instance.run_storage.delete_run(run_id)


def _runs_of_active_backfills(instance: dg.DagsterInstance) -> set[str]:
    """A backfill in progress counts its runs, so they are kept."""
    backfills = active_backfill_ids(instance)
    return set(instance.get_run_ids(dg.RunsFilter(tags={BACKFILL_TAG: backfills}))) if backfills else set()


def _batches(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


def _sql_event_log(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise InputError(f"Retention supports SQLite and Postgres, not {type(storage).__name__}.")
    return storage
