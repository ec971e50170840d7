"""The retention job on 10,000 runs in Postgres: time of classifying and deleting nine in ten, size of the database.

One run is made by Dagster; the others are its rows again under other run ids, each a run over one of 1,000
partitions, so that the last thousand have the last word and stay.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import yaml

from lakehouse_assets.orchestration.instance.retention import delete_old_runs
from lakehouse_assets_tests.benchmarks.support.measure import Row, timed
from lakehouse_assets_tests.postgres import Postgres, running_postgres

RUNS, PARTITIONS = 10_000, 1_000
DAYS = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-01-03")
MEGABYTE = 1e6


def run() -> list[Row]:
    with running_postgres() as postgres:
        database = postgres.new_database()
        with _instance(postgres, database) as instance:
            run_id = _one_run(instance)
            [(events,)] = postgres.execute(database, f"select count(*) from event_logs where run_id = '{run_id}'")
            _repeat(postgres, database, run_id)
            before = _megabytes(postgres, database)
            limit = datetime.now(UTC) + timedelta(days=1)
            classified = timed(lambda: delete_old_runs(instance, limit, dry_run=True))
            deleted = timed(lambda: delete_old_runs(instance, limit))
            left = len(instance.get_run_ids())
            after = _megabytes(postgres, database)
    case = f"{RUNS:,} runs of one partition, {events} events each, Postgres"
    return [
        Row(case, "classified (dry run)", classified.seconds, note="20 batches of 500"),
        Row(case, "classified and deleted", deleted.seconds, note=f"{RUNS + 1 - left:,} deleted, {left:,} kept"),
        Row(case, "database before", before, "MB", note=f"{before / RUNS * 1_000:.1f} kB a run"),
        Row(case, "database after, vacuumed", after, "MB", ratio=after / before),
    ]


@contextmanager
def _instance(postgres: Postgres, database: str) -> Iterator[dg.DagsterInstance]:
    place = {"hostname": "127.0.0.1", "port": postgres.port, "db_name": database, "username": "dagster"}
    storage = {"postgres": {"postgres_db": {**place, "password": "", "scheme": "postgresql+psycopg2"}}}
    with tempfile.TemporaryDirectory() as home:
        config = {"storage": storage, "telemetry": {"enabled": False}}
        (Path(home) / "dagster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        with dg.DagsterInstance.from_config(home) as instance:
            yield instance


def _one_run(instance: dg.DagsterInstance) -> str:
    """A run like that of an archive asset over one partition."""
    key = dg.AssetKey(["binance", "um", "klines", "daily"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        checks = [dg.AssetCheckSpec("complete", asset=key, partitions_def=DAYS)]

    @dg.multi_asset(
        name="archive",
        specs=[dg.AssetSpec(key, partitions_def=DAYS)],
        check_specs=checks,
        can_subset=True,
    )
    def archive(context):
        day = context.partition_key
        context.log.info("one line per partition")
        metadata = {f"figure_{number}": dg.MetadataValue.int(number) for number in range(20)}
        context.log_event(dg.AssetMaterialization(key, partition=day, metadata=metadata))
        context.log_event(
            dg.AssetCheckEvaluation(asset_key=key, check_name="complete", partition=day, passed=True, metadata=metadata)
        )
        yield from ()

    return dg.materialize([archive], instance=instance, partition_key="2024-01-01").run_id


def _repeat(postgres: Postgres, database: str, run_id: str) -> None:
    number_as_run = "'00000000-0000-4000-8000-' || lpad(number::text, 12, '0')"
    day = f"to_char(date '2000-01-01' + number % {PARTITIONS}, 'YYYY-MM-DD')"
    for table in ("runs", "run_tags", "event_logs", "asset_check_executions"):
        found = postgres.execute(
            database,
            f"select column_name from information_schema.columns where table_name = '{table}' and column_name <> 'id'",
        )
        columns = [str(name) for (name,) in found]
        other = {"run_id": number_as_run, "partition": f"case when partition is not null then {day} end"}
        chosen = ", ".join(other.get(column, f'"{column}"') for column in columns)
        names = ", ".join(f'"{column}"' for column in columns)
        postgres.execute(
            database,
            f"insert into {table} ({names}) select {chosen} from {table}, generate_series(1, {RUNS}) as number "
            f"where run_id = '{run_id}' order by number",
        )
    postgres.execute(database, "analyze")


def _megabytes(postgres: Postgres, database: str) -> float:
    postgres.execute(database, "vacuum full")
    [(size,)] = postgres.execute(database, f"select pg_database_size('{database}')")
    return float(size) / MEGABYTE
