"""What Dagster knows, as signals: failed runs, failed checks, sensors in trouble.

Runs and observations are read from where the last look ended, so many at a time; checks and sensors
are read as they stand. Nothing here writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus
from pydantic import BaseModel, ValidationError

from lakehouse_assets.observability.incidents.causes import Cause
from lakehouse_assets.observability.incidents.model import Signal
from lakehouse_assets.orchestration.archives.published_check import WHOLE_EXCHANGE
from lakehouse_assets.orchestration.check_names import CHECKSUMS, COMPLETE, EXPECTED, PUBLISHED

_RunEnd: TypeAlias = Literal[dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS]

CAUSES = {EXPECTED: Cause.UNUSUAL, CHECKSUMS: Cause.CHECKSUM_MISMATCH, PUBLISHED: Cause.DATASET_LATE}
"""Of unpartitioned checks, by name; any other is Cause.CHECK_FAILS."""

DISCOVERY = "_discovery"
"""How the names of discovery sensors end, after the exchange's."""

RUN, TICK = "run", "discovery"
FAILURES_PER_LOOK, SUCCESSES_PER_LOOK, OBSERVATIONS_PER_LOOK = 25, 100, 500
EVENTS_PER_PAGE = 1_000
"""Of a failed run's; all of them are read, since what is not among them counts as failed."""
TEXT = 300

PROJECT = "lakehouse"
GAVE_UP = "gave_up"
_ERROR_CLASS = re.compile(r"^(?:[A-Za-z_][\w]*\.)+(\w+): ")


class ScanCursor(BaseModel):
    """Storage ids of the last events that were read; ``page`` is the digest of the page last reported."""

    failure: int
    success: int
    observation: int
    page: str = ""

    @classmethod
    def read(cls, text: str | None) -> ScanCursor | None:
        """None for a text that was not written by :meth:`write`: the look then begins with now."""
        try:
            return cls.model_validate_json(text) if text else None
        except ValidationError:
            return None

    def write(self) -> str:
        return self.model_dump_json()


class InstanceScan:
    """One look at an instance; ``cursor`` is where the next one goes on."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        graph: AssetGraph,
        cursor: ScanCursor | None,
        *,
        lake_url: str,
    ) -> None:
        self._instance = instance
        self._graph = graph
        self._lake_url = lake_url
        self.cursor = cursor or ScanCursor(
            failure=self._newest_run(dg.DagsterEventType.RUN_FAILURE),
            success=self._newest_run(dg.DagsterEventType.RUN_SUCCESS),
            observation=self._newest_observation(),
        )

    def signals(self) -> list[Signal]:
        """Everything that there is to say, what is right again included."""
        return [*self._of_runs(), *self._of_observations(), *self._of_checks(), *self._of_sensors()]

    # Runs

    def _of_runs(self) -> Iterator[Signal]:
        failed = self._changes(dg.DagsterEventType.RUN_FAILURE, self.cursor.failure, FAILURES_PER_LOOK)
        done = self._changes(dg.DagsterEventType.RUN_SUCCESS, self.cursor.success, SUCCESSES_PER_LOOK)
        ids = [record.run_id for record in (*failed, *done)]
        runs = {run.run_id: run for run in self._instance.get_runs(dg.RunsFilter(run_ids=ids))} if ids else {}
        for record in failed:
            if record.run_id in runs:
                yield from self._of_failure(runs[record.run_id], record)
            self.cursor.failure = record.storage_id
        for record in done:
            run = runs.get(record.run_id)
            if run is not None:
                for asset, period in self._targets(run):
                    yield self._run_signal(asset, period, _time(record.timestamp), Cause.RUN_FAILS, firing=False)
            self.cursor.success = record.storage_id

    def _of_failure(self, run: dg.DagsterRun, record: dg.EventLogRecord) -> Iterator[Signal]:
        """One signal per partition: those that the run brought about after all are right again."""
        account = _account_of(self._instance, run.run_id)
        event = record.event_log_entry.dagster_event
        ended = event.message if event else None
        for asset, period in self._targets(run):
            is_right = account.is_right(asset, period)
            if not is_right and account.was_skipped(asset):
                continue
            check = account.judged.get((asset, period))
            text = (check.description if check else None) or account.reason(asset) or ended or ""
            cause = self._cause(text, is_transfer=check is not None)
            yield self._run_signal(
                asset, period, _time(record.timestamp), cause, firing=not is_right, text=text, run_id=run.run_id
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

    def _targets(self, run: dg.DagsterRun) -> list[tuple[str, str | None]]:
        """Assets and partitions that a run was to materialize; its job where it was to materialize none."""
        planned = self._instance.get_asset_partitions_for_run(
            run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        )
        found = [(key.to_user_string(), period) for key, periods in planned.items() for period in periods or {None}]
        return sorted(found, key=str) or [(run.job_name, None)]

    def _cause(self, text: str, *, is_transfer: bool) -> Cause:
        if self._lake_url in text:
            return Cause.LAKE_REFUSES
        if "Listing s3://" in text:
            return Cause.LISTING_FAILS
        return Cause.TRANSFER_FAILS if is_transfer else Cause.RUN_FAILS

    def _changes(self, kind: _RunEnd, after: int, limit: int) -> Sequence[dg.EventLogRecord]:
        return self._instance.fetch_run_status_changes(
            dg.RunStatusChangeRecordsFilter(kind, after_storage_id=after), limit=limit, ascending=True
        ).records

    def _newest_run(self, kind: _RunEnd) -> int:
        records = self._instance.fetch_run_status_changes(kind, limit=1).records
        return records[0].storage_id if records else 0

    # What discovery gave up

    def _of_observations(self) -> Iterator[Signal]:
        for record in self._observations(limit=OBSERVATIONS_PER_LOOK, ascending=True):
            self.cursor.observation = record.storage_id
            observation = record.asset_observation
            told = observation.metadata.get("incident") if observation else None
            if observation is not None and told is not None and told.value == GAVE_UP:
                yield self._run_signal(
                    observation.asset_key.to_user_string(),
                    observation.partition,
                    _time(record.timestamp),
                    Cause.TRANSFER_FAILS,
                    firing=True,
                    text=observation.description or "",
                )

    def _observations(self, *, limit: int, ascending: bool) -> Sequence[dg.EventLogRecord]:
        # Of all assets at once, which the instance's own methods do not offer.
        after = self.cursor.observation if ascending else None
        return self._instance.event_log_storage.get_event_records(
            dg.EventRecordsFilter(dg.DagsterEventType.ASSET_OBSERVATION, after_cursor=after), limit, ascending
        )

    def _newest_observation(self) -> int:
        records = self._observations(limit=1, ascending=False)
        return records[0].storage_id if records else 0

    # Checks that are not partitioned, as they stand

    def _of_checks(self) -> Iterator[Signal]:
        keys = [key for key in self._graph.asset_check_keys if self._graph.get(key).partitions_def is None]
        latest = self._instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        late: dict[str, list[Signal]] = {}
        for key, record in latest.items():
            event = record.event.dagster_event if record.event else None
            check = event.event_specific_data if event else None
            if record.event is None or not isinstance(check, AssetCheckEvaluation):
                continue
            asset = key.asset_key.to_user_string()
            found = Signal(
                source=key.name,
                cause=CAUSES.get(key.name, Cause.CHECK_FAILS),
                exchange=_exchange(asset),
                subject=asset,
                at=_time(record.event.timestamp),
                firing=not check.passed,
                text=_line(check.description),
                run_id=record.run_id or None,
            )
            yield found
            if key.name == PUBLISHED:
                late.setdefault(found.exchange, []).append(found)
        for exchange, found in late.items():
            yield _stalled(exchange, found)

    # Sensors, as they stand

    def _of_sensors(self) -> Iterator[Signal]:
        for state in self._instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
            if not state.name.endswith(DISCOVERY):
                continue
            ticks = self._instance.get_ticks(
                state.instigator_origin_id,
                state.selector_id,
                limit=1,
                statuses=[TickStatus.SKIPPED, TickStatus.SUCCESS, TickStatus.FAILURE],
            )
            if ticks:
                yield self._of_tick(state.name.removesuffix(DISCOVERY), ticks[0])

    def _of_tick(self, exchange: str, tick: InstigatorTick) -> Signal:
        error = tick.error.message if tick.error else ""
        reason = tick.skip_reason or ""
        datasets = [
            key.to_user_string()
            for key in self._graph.get_all_asset_keys()
            if key.path[0] == exchange and COMPLETE in {check.name for check in self._graph.get(key).check_keys}
        ]
        troubled = [name for name in datasets if f"{name}: " in reason]
        if self._lake_url in (error or reason):
            cause = Cause.LAKE_REFUSES
        elif troubled and len(troubled) == len(datasets):
            cause = Cause.EXCHANGE_STALLED
        else:
            cause = Cause.LISTING_FAILS
        return Signal(
            source=TICK,
            cause=cause,
            exchange=exchange,
            subject=exchange,
            at=_time(tick.timestamp),
            firing=bool(error or troubled),
            text=_line(error or reason),
        )


@dataclass
class _Account:
    """What the events of a failed run say. Keys are asset and partition."""

    there: set[tuple[str, str | None]] = field(default_factory=set)
    judged: dict[tuple[str, str | None], AssetCheckEvaluation] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)

    def is_right(self, asset: str, period: str | None) -> bool:
        """Materialized after all; or not published, or narrowed, which is no failure."""
        check = self.judged.get((asset, period))
        is_warning = check is not None and not check.passed and check.severity is dg.AssetCheckSeverity.WARN
        return is_warning or (asset, period) in self.there

    def reason(self, asset: str) -> str | None:
        """Why the asset's step failed, or any step of a job."""
        return self.steps.get(_step_of(asset)) or next(iter(self.steps.values()), None)

    def was_skipped(self, asset: str) -> bool:
        """Because another step failed."""
        return "/" in asset and bool(self.steps) and _step_of(asset) not in self.steps


def _step_of(asset: str) -> str:
    """The name of an asset's step follows from its key."""
    return asset.replace("/", "__").replace("-", "_")


def _account_of(instance: dg.DagsterInstance, run_id: str) -> _Account:
    kinds = dg.DagsterEventType
    of_type = {kinds.STEP_FAILURE, kinds.ASSET_CHECK_EVALUATION, kinds.ASSET_MATERIALIZATION}
    account = _Account()
    for record in _records(instance, run_id, of_type):
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        check = event.event_specific_data
        if event.event_type is kinds.ASSET_MATERIALIZATION and event.asset_key is not None:
            account.there.add((event.asset_key.to_user_string(), event.partition))
        elif event.event_type is kinds.STEP_FAILURE and event.step_key is not None:
            account.steps[event.step_key] = _step_text(event)
        elif isinstance(check, AssetCheckEvaluation) and check.check_name == COMPLETE:
            account.judged[check.asset_key.to_user_string(), check.partition] = check
    return account


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


def _stalled(exchange: str, published: Sequence[Signal]) -> Signal:
    late = [each for each in published if each.firing]
    return Signal(
        source=PUBLISHED,
        cause=Cause.EXCHANGE_STALLED,
        exchange=exchange,
        subject=exchange,
        at=max(each.at for each in published),
        firing=len(late) > 1 and len(late) >= WHOLE_EXCHANGE * len(published),
        text=f"{len(late)} of {len(published)} datasets are late",
    )


def _exchange(asset: str) -> str:
    """The scope of an asset; a job's is the project itself."""
    return asset.partition("/")[0] if "/" in asset else PROJECT


def _time(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


def _step_text(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    # Dagster's wrapping; what caused our own errors is in their messages.
    while error is not None and error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    return error.message if error is not None else "the step failed"


def _line(text: str | None) -> str:
    """One line, without the error's class."""
    line = _ERROR_CLASS.sub("", " ".join((text or "").split()))
    return line if len(line) <= TEXT else f"{line[: TEXT - 1]}…"
