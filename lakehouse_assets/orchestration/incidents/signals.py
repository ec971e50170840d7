"""Signals from a Dagster instance: failed runs, failed checks, and sensors with problems.

Runs and observations are read from where the last scan ended, a limited number at a time, and runs of others are
passed over; of checks and sensors the latest result is read. Causes follow from the fields that errors carry
(orchestration/error_metadata.py), never from the text of a message: an error without fields is a failed run, or a
failed transfer if a period stayed incomplete. Nothing here writes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias

import dagster as dg
from dagster import AssetCheckEvaluation
from pydantic import BaseModel, ValidationError

from lakehouse_assets.errors import Side
from lakehouse_assets.observability.incidents.causes import Cause
from lakehouse_assets.observability.incidents.model import Signal
from lakehouse_assets.orchestration.archives.published_check import WHOLE_EXCHANGE
from lakehouse_assets.orchestration.check_names import CHECKSUMS, COMPLETE, EXPECTED, PUBLISHED
from lakehouse_assets.orchestration.dagster_internals import AssetGraph, InstigatorTick, InstigatorType, TickStatus
from lakehouse_assets.orchestration.discovery.cursor import problems_of
from lakehouse_assets.orchestration.error_metadata import error_fields_of
from lakehouse_assets.orchestration.following.sensors import FOLLOW_SENSORS
from lakehouse_assets.orchestration.incidents.run_events import events_of
from lakehouse_assets.orchestration.location import foreign_runs, is_of_lake

_RunEnd: TypeAlias = Literal[dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS]

CAUSES = {EXPECTED: Cause.UNUSUAL, CHECKSUMS: Cause.CHECKSUM_MISMATCH, PUBLISHED: Cause.DATASET_LATE}
"""Causes of failed unpartitioned checks, by name; any other is Cause.CHECK_FAILS."""

DISCOVERY = "_discovery"
"""Suffix of a discovery sensor's name; the exchange's name comes before it."""

RUN, TICK = "run", "discovery"
FAILURES_PER_SCAN, SUCCESSES_PER_SCAN, OBSERVATIONS_PER_SCAN = 25, 100, 500
"""Runs of this project that one scan reads, and observations of anything."""
RUNS_PER_PAGE, PAGES_PER_SCAN = 100, 10
"""How far one scan looks for the project's runs among those of others."""
TEXT_LIMIT = 300
"""Characters of a signal's text."""

PROJECT = "lakehouse"
GAVE_UP = "gave_up"
_ERROR_CLASS = re.compile(r"^(?:[A-Za-z_][\w]*\.)+(\w+): ")


class ScanCursor(BaseModel):
    """Storage ids of the last events that were read; ``page`` is the digest of the incident page last reported."""

    failure: int
    success: int
    observation: int
    page: str = ""

    @classmethod
    def read(cls, text: str | None) -> ScanCursor | None:
        """None for a text that :meth:`write` did not write: the scan then starts at the newest events."""
        try:
            return cls.model_validate_json(text) if text else None
        except ValidationError:
            return None

    def write(self) -> str:
        return self.model_dump_json()


class _EndedRun(NamedTuple):
    """A run that ended: when, with which message, and the assets and partitions that it was to materialize."""

    run_id: str
    at: datetime
    message: str
    targets: Sequence[tuple[str, str | None]]


class InstanceScan:
    """One scan of an instance; ``cursor`` is where the next one continues.

    Only what concerns this code location is read: runs of ``location`` (its label) that have assets of ``graph``, or
    one of the ``jobs``; what sensors recorded about the ``lake`` (its label); and this location's sensors.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        graph: AssetGraph,
        cursor: ScanCursor | None,
        *,
        jobs: Collection[str] = (),
        location: str | None = None,
        lake: str | None = None,
    ) -> None:
        self._instance = instance
        self._graph = graph
        self._jobs = jobs
        self._location = location
        self._lake = lake
        self.cursor = cursor or ScanCursor(
            failure=self._newest_run(dg.DagsterEventType.RUN_FAILURE),
            success=self._newest_run(dg.DagsterEventType.RUN_SUCCESS),
            observation=self._newest_observation(),
        )

    def signals(self) -> list[Signal]:
        """Everything since the last scan: problems, and recoveries."""
        return [*self._of_runs(), *self._of_observations(), *self._of_checks(), *self._of_sensors()]

    # Runs

    def _of_runs(self) -> Iterator[Signal]:
        kinds = dg.DagsterEventType
        failed, self.cursor.failure = self._own_runs(kinds.RUN_FAILURE, self.cursor.failure, FAILURES_PER_SCAN)
        for run in failed:
            yield from self._of_failure(run)
        done, self.cursor.success = self._own_runs(kinds.RUN_SUCCESS, self.cursor.success, SUCCESSES_PER_SCAN)
        for run in done:
            for asset, period in run.targets:
                yield self._run_signal(asset, period, run.at, Cause.RUN_FAILS, firing=False)

    def _of_failure(self, run: _EndedRun) -> Iterator[Signal]:
        """One signal per partition: the run may have materialized some of them before it failed."""
        events = events_of(self._instance, run.run_id)
        for asset, period in run.targets:
            succeeded = events.succeeded(asset, period)
            if not succeeded and events.was_skipped(asset):
                continue
            observed = events.observations.get((asset, period))
            failure = events.failure(asset)
            text = (observed and observed.description) or (failure and failure.text) or run.message
            fields = error_fields_of(observed.metadata) if observed else failure.fields if failure else {}
            cause = _cause(fields, Cause.TRANSFER_FAILS if observed else Cause.RUN_FAILS)
            yield self._run_signal(
                asset,
                period,
                run.at,
                cause,
                firing=not succeeded,
                text=text,
                run_id=run.run_id,
            )

    def _run_signal(
        self,
        asset: str,
        period: str | None,
        at: datetime,
        cause: Cause,
        *,
        firing: bool,
        text: str = "",
        run_id: str | None = None,
    ) -> Signal:
        return Signal(
            source=RUN,
            cause=cause,
            exchange=_exchange(asset),
            subject=asset,
            period=period,
            at=at,
            firing=firing,
            text=_line(text),
            run_id=run_id,
        )

    def _own_runs(self, kind: _RunEnd, after: int, limit: int) -> tuple[list[_EndedRun], int]:
        """Up to ``limit`` of this project's runs that ended ``after`` an event, and the event to continue after."""
        found: list[_EndedRun] = []
        for _page in range(PAGES_PER_SCAN):
            records = self._instance.fetch_run_status_changes(
                dg.RunStatusChangeRecordsFilter(kind, after_storage_id=after), limit=RUNS_PER_PAGE, ascending=True
            ).records
            foreign = foreign_runs(self._instance, {record.run_id for record in records}, self._location)
            for record in records:
                after = record.storage_id
                event = record.event_log_entry.dagster_event
                if event is None or record.run_id in foreign:
                    continue
                if targets := self._targets(record.run_id, event.job_name):
                    found.append(_EndedRun(record.run_id, _time(record.timestamp), event.message or "", targets))
                if len(found) == limit:
                    return found, after
            if len(records) < RUNS_PER_PAGE:
                break
        return found, after

    def _targets(self, run_id: str, job: str) -> list[tuple[str, str | None]]:
        """Assets and partitions that a run was planned to materialize; its job if there are none."""
        planned = self._instance.get_asset_partitions_for_run(
            run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        )
        found = [
            (key.to_user_string(), period)
            for key, periods in planned.items()
            if self._graph.has(key)
            for period in periods or {None}
        ]
        is_job = not planned and job in self._jobs
        return sorted(found, key=str) or ([(job, None)] if is_job else [])

    def _newest_run(self, kind: _RunEnd) -> int:
        records = self._instance.fetch_run_status_changes(kind, limit=1).records
        return records[0].storage_id if records else 0

    # Periods that discovery gave up

    def _of_observations(self) -> Iterator[Signal]:
        for record in self._observations(limit=OBSERVATIONS_PER_SCAN, ascending=True):
            self.cursor.observation = record.storage_id
            observation = record.asset_observation
            incident = observation.metadata.get("incident") if observation else None
            if observation is None or incident is None or incident.value != GAVE_UP:
                continue
            if self._graph.has(observation.asset_key) and is_of_lake(observation.metadata, self._lake):
                yield self._run_signal(
                    observation.asset_key.to_user_string(),
                    observation.partition,
                    _time(record.timestamp),
                    Cause.TRANSFER_FAILS if self._is_archive(observation.asset_key) else Cause.RUN_FAILS,
                    firing=True,
                    text=observation.description or "",
                )

    def _observations(self, *, limit: int, ascending: bool) -> Sequence[dg.EventLogRecord]:
        # The instance's public methods read the observations of one asset only.
        after = self.cursor.observation if ascending else None
        return self._instance.event_log_storage.get_event_records(
            dg.EventRecordsFilter(dg.DagsterEventType.ASSET_OBSERVATION, after_cursor=after), limit, ascending
        )

    def _newest_observation(self) -> int:
        records = self._observations(limit=1, ascending=False)
        return records[0].storage_id if records else 0

    # The latest results of unpartitioned checks

    def _of_checks(self) -> Iterator[Signal]:
        # `complete` is no signal: the periods that it names are signals of the runs that failed at them.
        keys = [
            key
            for key in self._graph.asset_check_keys
            if self._graph.get(key).partitions_def is None and key.name != COMPLETE
        ]
        latest = self._instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        late: dict[str, list[Signal]] = {}
        run_ids = {record.run_id for record in latest.values() if record.run_id}
        foreign = foreign_runs(self._instance, run_ids, self._location)
        for key, record in latest.items():
            event = record.event.dagster_event if record.event else None
            check = event.event_specific_data if event else None
            if record.event is None or not isinstance(check, AssetCheckEvaluation) or record.run_id in foreign:
                continue
            if not is_of_lake(check.metadata, self._lake):
                continue
            asset = key.asset_key.to_user_string()
            signal = Signal(
                source=key.name,
                cause=CAUSES.get(key.name, Cause.CHECK_FAILS),
                exchange=_exchange(asset),
                subject=asset,
                at=_time(record.event.timestamp),
                firing=not check.passed,
                text=_line(check.description),
                run_id=record.run_id or None,
            )
            yield signal
            if key.name == PUBLISHED:
                late.setdefault(signal.exchange, []).append(signal)
        for exchange, signals in late.items():
            yield _stalled(exchange, signals)

    def _is_archive(self, key: dg.AssetKey) -> bool:
        return COMPLETE in {check.name for check in self._graph.get(key).check_keys}

    # The latest ticks of sensors

    def _of_sensors(self) -> Iterator[Signal]:
        datasets = self._datasets()
        for state in self._instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
            if self._location not in {None, state.origin.repository_origin.get_label()}:
                continue
            # Any other sensor is somebody else's in the same code location, as one for an exchange without archives.
            if state.name not in datasets and state.name not in FOLLOW_SENSORS:
                continue
            ticks = self._instance.get_ticks(
                state.instigator_origin_id,
                state.selector_id,
                limit=1,
                statuses=[TickStatus.SKIPPED, TickStatus.SUCCESS, TickStatus.FAILURE],
            )
            if ticks:
                data = state.sensor_instigator_data
                problems = problems_of(data.cursor if data else None)
                if state.name in FOLLOW_SENSORS:
                    yield _of_follow_tick(state.name, ticks[0], problems)
                else:
                    yield _of_discovery_tick(state.name, datasets[state.name], ticks[0], problems)

    def _datasets(self) -> Mapping[str, Sequence[str]]:
        """Archives by the name of their exchange's discovery sensor."""
        datasets: dict[str, list[str]] = {}
        for key in self._graph.get_all_asset_keys():
            if self._is_archive(key):
                datasets.setdefault(f"{key.path[0]}{DISCOVERY}", []).append(key.to_user_string())
        return datasets


def _of_discovery_tick(
    sensor: str, datasets: Sequence[str], tick: InstigatorTick, problems: Mapping[str, str]
) -> Signal:
    """``problems`` are those of the tick, by dataset; a tick that raised has none, since it saved no cursor."""
    exchange = sensor.removesuffix(DISCOVERY)
    failing = {} if tick.error else {name: problems[name] for name in datasets if name in problems}
    if Side.LAKE in failing.values():
        cause = Cause.LAKE_REFUSES
    elif failing and len(failing) == len(datasets):
        cause = Cause.EXCHANGE_STALLED
    else:
        cause = Cause.LISTING_FAILS
    return _tick_signal(tick, cause, "cannot be polled", exchange=exchange, subject=exchange, failing=failing)


def _of_follow_tick(sensor: str, tick: InstigatorTick, problems: Mapping[str, str]) -> Signal:
    """``problems`` are those of the tick, by asset; a tick that raised has none."""
    failing = {} if tick.error else problems
    cause = Cause.LAKE_REFUSES if Side.LAKE in failing.values() else Cause.RUN_FAILS
    return _tick_signal(tick, cause, "cannot be compared", exchange=PROJECT, subject=sensor, failing=failing)


def _tick_signal(
    tick: InstigatorTick, cause: Cause, problem: str, *, exchange: str, subject: str, failing: Collection[str]
) -> Signal:
    """The signal of a sensor's tick; ``failing`` are the assets that have the problem."""
    error = tick.error.message if tick.error else ""
    return Signal(
        source=TICK,
        cause=cause,
        exchange=exchange,
        subject=subject,
        at=_time(tick.timestamp),
        firing=bool(error or failing),
        # A tick that requested runs has no reason of its own.
        text=_line(error or tick.skip_reason or ", ".join(f"{name} {problem}" for name in failing)),
    )


def _stalled(exchange: str, published: Sequence[Signal]) -> Signal:
    late = [signal for signal in published if signal.firing]
    return Signal(
        source=PUBLISHED,
        cause=Cause.EXCHANGE_STALLED,
        exchange=exchange,
        subject=exchange,
        at=max(signal.at for signal in published),
        firing=len(late) > 1 and len(late) >= WHOLE_EXCHANGE * len(published),
        text=f"{len(late)} of {len(published)} datasets are late",
    )


def _exchange(asset: str) -> str:
    """The exchange of an asset; the project itself for a job."""
    return asset.partition("/")[0] if "/" in asset else PROJECT


def _time(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


def _cause(fields: Mapping[str, str], otherwise: Cause) -> Cause:
    if fields.get("error_side") == Side.LAKE:
        return Cause.LAKE_REFUSES
    if fields.get("error_operation") == "Listing":
        return Cause.LISTING_FAILS
    return otherwise


def _line(text: str | None) -> str:
    """The text on one line, without the error's class."""
    line = _ERROR_CLASS.sub("", " ".join((text or "").split()))
    return line if len(line) <= TEXT_LIMIT else f"{line[: TEXT_LIMIT - 1]}…"
