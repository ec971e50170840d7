"""The demo's Dagster: a temporary instance, with range runs like those of a backfill."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import dagster as dg

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.period import Period
from lakehouse_assets.cli.demo.archive import DemoDataset
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.check_names import COMPLETE
from lakehouse_assets.orchestration.dagster_internals import NO_COMPUTE_LOGS
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets.orchestration.resources import LakeResource, S3Connection, SourceResource, SyncResource


@dataclass(slots=True)
class DatasetRun:
    """What Dagster recorded about the backfill of a dataset. Objects exclude sidecars; seconds are wall clock."""

    dataset: str
    partitions: int
    runs: int = 0
    objects: int = 0
    copied: int = 0
    sidecars: int = 0
    bytes: int = 0
    bytes_copied: int = 0
    vanished: int = 0
    seconds: float = 0.0
    modes: dict[str, int] = field(default_factory=dict)
    materialized: set[str] = field(default_factory=set)
    complete: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)


class DemoDagster:
    """Runs datasets on one instance, from one source to one lake."""

    def __init__(self, instance: dg.DagsterInstance, source: Bucket, lake: Bucket) -> None:
        self._instance = instance
        self._resources = _resources(source, lake)
        self._lake_url = lake.url

    def backfill(self, demo_dataset: DemoDataset, periods: Sequence[Period]) -> DatasetRun:
        """Materialize periods, with one run per contiguous range of at most ``partitions_per_run`` periods."""
        entry = demo_dataset.entry
        asset = build_archive_asset(entry, self._lake_url)
        record = DatasetRun(entry.dataset.name, len(periods))
        started = time.monotonic()
        for first, last in ranges(periods, entry.partitions_per_run):
            result = dg.materialize(
                [asset],
                instance=self._instance,
                resources=self._resources,
                tags=range_tags(str(first), str(last)),
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
            record.runs += 1
            _read_events(record, result)
        record.seconds = time.monotonic() - started
        return record


def _read_events(record: DatasetRun, result: dg.ExecuteInProcessResult) -> None:
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            materialization = event.step_materialization_data.materialization
            record.materialized.add(str(materialization.partition))
            _add(record, {name: value.value for name, value in materialization.metadata.items()})
        elif event.event_type is dg.DagsterEventType.STEP_FAILURE:
            error = event.step_failure_data.error
            if error and error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
                # Dagster turns Ctrl-C into a failed step; without this the next run would start.
                raise KeyboardInterrupt
            failure = event.step_failure_data.user_failure_data
            record.failures.append(str(failure.description if failure else error and error.message).strip())
    checks = {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}
    if checks.get(COMPLETE):
        record.complete |= record.materialized


def _add(record: DatasetRun, metadata: Mapping[str, object]) -> None:
    def number(name: str) -> int:
        value = metadata[name]
        return value if isinstance(value, int) else 0

    record.objects += number("objects_present")
    record.copied += number("objects_copied")
    record.sidecars += number("sidecars_copied")
    record.bytes += number("bytes")
    record.bytes_copied += number("bytes_copied")
    record.vanished += number("objects_vanished")
    modes = metadata["copies_by_mode"]
    for mode, count in modes.items() if isinstance(modes, dict) else ():
        record.modes[mode] = record.modes.get(mode, 0) + count


def ranges(periods: Sequence[Period], longest: int) -> list[tuple[Period, Period]]:
    """First and last period of each contiguous range of at most ``longest`` periods."""
    ordered = sorted(periods)
    groups = [[ordered[0]]] if ordered else []
    for before, period in pairwise(ordered):
        if before.next() == period and len(groups[-1]) < longest:
            groups[-1].append(period)
        else:
            groups.append([period])
    return [(group[0], group[-1]) for group in groups]


@contextmanager
def demo_dagster(home: Path, source: Bucket, lake: Bucket) -> Generator[DemoDagster]:
    """A temporary Dagster in ``home``. Writes nothing outside of it and nothing to the terminal."""
    with warnings.catch_warnings():
        for category in (dg.PreviewWarning, dg.BetaWarning):
            warnings.simplefilter("ignore", category)
        overrides = {
            "telemetry": {"enabled": False},
            # The default manager starts processes that capture stdout.
            "compute_logs": NO_COMPUTE_LOGS,
        }
        with dg.DagsterInstance.local_temp(str(home), overrides) as instance:
            yield DemoDagster(instance, source, lake)


def _resources(source: Bucket, lake: Bucket) -> dict[str, object]:
    """Resources with every value set, so that no environment variable applies."""
    if lake.credentials is None:
        raise TypeError("The demo's lake needs credentials.")
    return {
        "lake": LakeResource(
            s3=S3Connection(
                endpoint_url=lake.endpoint_url,
                region_name=lake.effective_region,
                aws_access_key_id=lake.credentials.access_key_id,
                aws_secret_access_key=lake.credentials.secret_access_key,
            ),
            bucket=lake.name,
        ),
        "source": SourceResource(
            s3=S3Connection(
                endpoint_url=source.endpoint_url, region_name=source.effective_region, use_unsigned_session=True
            )
        ),
        "sync": SyncResource(workers=64, retries=5, stall_seconds=60.0, batch_objects=20_000, list_concurrency=32),
    }
