"""The query that Dagster's UI repeats while it shows assets, on five archives with 3,000 materialized days each.

Compared are the definitions as they are, and the same with a check `complete` per partition, as they once were. The
query is the UI's own, taken from the webserver's source maps. Materializations and evaluations are inserted into SQLite
as rows of one real event each. Only the query is measured, in this process: processor seconds.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg
import dagster_webserver
from dagster_graphql.schema import create_schema

from lakehouse_assets.archive.matrix import DatasetEntry
from lakehouse_assets.orchestration.archives.assets import build_archive_asset
from lakehouse_assets.orchestration.check_names import COMPLETE
from lakehouse_assets.orchestration.partitions import build_partitions
from lakehouse_assets.orchestration.resources import build_resources
from lakehouse_assets.settings import load_settings
from lakehouse_assets_tests.benchmarks.support.measure import Row, timed

DATASETS = (
    "binance/spot/aggTrades/daily",
    "binance/spot/trades/daily",
    "binance/spot/klines/daily",
    "bitmex/derivatives/trade/daily",
    "bitmex/derivatives/quote/daily",
)
DAYS = 3_000
LIVE_QUERY = "AssetGraphLiveQuery"
METADATA = {f"figure_{number}": dg.MetadataValue.int(123_456 + number) for number in range(20)}


def entries() -> list[DatasetEntry]:
    intervals = {"intervals": "all"}
    return [
        DatasetEntry.model_validate({"dataset": name} | (intervals if "klines" in name else {})) for name in DATASETS
    ]


@dg.definitions
def as_it_is() -> dg.Definitions:
    assets = [build_archive_asset(entry, "s3://lake") for entry in entries()]
    return dg.Definitions(assets, resources=build_resources(load_settings()))


@dg.definitions
def with_partitioned_checks() -> dg.Definitions:
    return dg.Definitions([_formerly(entry) for entry in entries()])


def _formerly(entry: DatasetEntry) -> dg.AssetsDefinition:
    key, partitions = dg.AssetKey(entry.dataset.asset_key), build_partitions(entry)
    check = dg.AssetCheckSpec(COMPLETE, asset=key, partitions_def=partitions)
    others = [dg.AssetCheckSpec(name, asset=key) for name in ("published", "expected")]

    @dg.multi_asset(
        name="__".join(key.path),
        specs=[dg.AssetSpec(key, partitions_def=partitions)],
        check_specs=[check, *others],
        can_subset=True,
    )
    def archive() -> Any:
        yield from ()

    return archive


def run(repeat: int) -> list[Row]:
    query = live_query()
    rows = []
    case = f"{len(DATASETS)} archives x {DAYS:,} days"
    measured = {
        "as it is": _measured(query, "as_it_is", repeat, with_checks=False),
        "a check per partition, as once": _measured(query, "with_partitioned_checks", repeat, with_checks=True),
    }
    base = measured["as it is"]
    for way, seconds in measured.items():
        budget = "1 s" if way == "as it is" else ""
        rows.append(Row(case, way, seconds, unit="s of processor", ratio=seconds / base, budget=budget))
    return rows


def live_query() -> str:
    """The UI's document of LIVE_QUERY with its fragments, from the source maps of the installed webserver."""
    documents: dict[str, str] = {}
    for path in Path(dagster_webserver.__path__[0]).rglob("*.js.map"):
        sources = json.loads(path.read_text(encoding="utf-8")).get("sourcesContent") or []
        for source in sources:
            for name, body in re.findall(r"const\s+(\w+)\s*=\s*gql`(.*?)`", source or "", re.DOTALL):
                documents.setdefault(name, body)
    [start] = [name for name, body in documents.items() if re.search(rf"\bquery {LIVE_QUERY}\b", body)]
    return "\n".join(re.sub(r"\$\{\w+\}", "", documents[name]) for name in _with_fragments(documents, start))


def _with_fragments(documents: Mapping[str, str], start: str) -> list[str]:
    names, waiting = [], [start]
    while waiting:
        name = waiting.pop()
        if name not in names:
            names.append(name)
            waiting += re.findall(r"\$\{(\w+)\}", documents[name])
    return names


def _measured(query: str, attribute: str, repeat: int, *, with_checks: bool) -> float:
    """Median processor seconds of the query, as the webserver answers it, on definitions of this module."""
    # Private, and for this benchmark alone: the workspace of a webserver without its process.
    from dagster._core.remote_origin import InProcessCodeLocationOrigin  # noqa: PLC0415, TID251
    from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget  # noqa: PLC0415, TID251
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin  # noqa: PLC0415, TID251
    from dagster._core.workspace.context import WorkspaceProcessContext  # noqa: PLC0415, TID251

    schema = create_schema()
    target = LoadableTargetOrigin(module_name=__name__, attribute=attribute, executable_path=sys.executable)
    with tempfile.TemporaryDirectory() as home, dg.DagsterInstance.local_temp(home) as instance:
        for entry in entries():
            keys = build_partitions(entry).get_partition_keys()[-DAYS:]
            _fill(instance, Path(home), dg.AssetKey(entry.dataset.asset_key), keys, with_checks=with_checks)
        origin = InProcessCodeLocationOrigin(target, location_name="lakehouse")
        variables = {"assetKeys": [{"path": name.split("/")} for name in DATASETS]}
        with WorkspaceProcessContext(instance, InProcessTestWorkspaceLoadTarget(origin)) as process:

            def ask() -> None:
                context = process.create_request_context()
                answer = asyncio.run(schema.execute_async(query, context_value=context, variable_values=variables))
                if answer.errors or len(answer.data["assetNodes"]) != len(DATASETS):
                    raise RuntimeError(f"the query failed: {answer.errors}, {answer.data}"[:1500])

            ask()  # fills caches, as the first poll of a webserver
            return median(timed(ask).processor for _ in range(repeat))


def _fill(
    instance: dg.DagsterInstance, home: Path, key: dg.AssetKey, days: Sequence[str], *, with_checks: bool
) -> None:
    """Report one real materialization (and evaluation), and copy its rows for the other days."""
    model = days[-1]
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=model, metadata=METADATA))
    evaluation = dg.AssetCheckEvaluation(
        asset_key=key, check_name=COMPLETE, passed=True, partition=model if with_checks else None, metadata=METADATA
    )
    instance.report_runless_asset_event(evaluation)
    [database] = [path for path in home.rglob("index.db") if "runs" in path.parts]
    with sqlite3.connect(database) as connection:
        _copy(connection, "event_logs", "event", model, days[:-1])
        if with_checks:
            _copy(connection, "asset_check_executions", "evaluation_event", model, days[:-1])
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=model, metadata=METADATA))


def _copy(connection: sqlite3.Connection, table: str, event: str, model: str, days: Sequence[str]) -> None:
    """Copy the newest row of a table that has the partition ``model`` once per day."""
    columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})") if name != "id"]
    names = ", ".join(columns)
    row = connection.execute(
        f"SELECT {names} FROM {table} WHERE partition = ? ORDER BY id DESC LIMIT 1", (model,)
    ).fetchone()
    copies = []
    for day in days:
        values = dict(zip(columns, row, strict=True)) | {"partition": day}
        copies.append([*(values | {event: values[event].replace(model, day)}).values()])
    places = ", ".join("?" for _ in columns)
    connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", copies)
