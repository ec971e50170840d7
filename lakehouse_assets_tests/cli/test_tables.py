"""``lakehouse tables``, ``query`` and ``export`` as separate processes, on a small lake."""

from __future__ import annotations

import json
import uuid
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.cli.tables import _quoted
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables.table import Table
from lakehouse_assets_tests.cli.conftest import RunLakehouse
from lakehouse_assets_tests.tables.tabled import Tabled
from lakehouse_assets_tests.world import World

NAME = "binance/um/klines"
DAYS = ("2024-01-01", "2024-01-02")


@pytest.fixture(scope="module")
def lake(store: EmbeddedStore) -> dict[str, str]:
    """Settings of a lake with two days of two symbols in one table."""
    world = World(store)
    world.lake = Lake(store.lake(), f"cli/{uuid.uuid4().hex}")
    tabled = Tabled(world)
    tabled.publish(["BTC", "ETH"], DAYS)
    tabled.sync(*DAYS)
    tabled.build(*DAYS)
    return {
        "LAKEHOUSE_LAKE_BUCKET": world.lake.bucket.name,
        "LAKEHOUSE_LAKE_PREFIX": world.lake.prefix,
        "LAKEHOUSE_LAKE_ENDPOINT_URL": store.endpoint_url,
        "LAKEHOUSE_LAKE_ACCESS_KEY_ID": store.sync.access_key_id,
        "LAKEHOUSE_LAKE_SECRET_ACCESS_KEY": store.sync.secret_access_key,
        "TAG": world.tag,
    }


def test_tables_are_listed_with_their_contents(lake: dict[str, str], run_lakehouse: RunLakehouse) -> None:
    listed = {row["table"]: row for row in json.loads(run_lakehouse("tables", "--json", env=lake).stdout)["tables"]}
    row = listed[NAME]
    assert (row["periods"], row["first"], row["last"], row["symbols"], row["rows"]) == (2, *DAYS, 2, 96)
    assert row["snapshot"].startswith(f"{NAME}@1.")
    assert listed["binance/um/metrics"]["rows"] == 0

    details = json.loads(run_lakehouse("tables", NAME, "--json", env=lake).stdout)
    assert details["snapshot"] == row["snapshot"]
    assert [(row["symbol"], row["rows"]) for row in details["coverage"]] == [
        (f"{lake['TAG']}BTC", 48),
        (f"{lake['TAG']}ETH", 48),
    ]
    shown = run_lakehouse("tables", NAME, env=lake)
    assert shown.returncode == 0
    assert f"{lake['TAG']}BTC" in shown.stdout


def test_a_query_prints_its_rows(lake: dict[str, str], run_lakehouse: RunLakehouse) -> None:
    sql = (
        "SELECT symbol, COUNT(*) AS candles FROM binance_um_klines WHERE time < '2024-01-02' GROUP BY symbol ORDER BY 1"
    )
    done = run_lakehouse("query", sql, "--json", env=lake)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == [
        {"symbol": f"{lake['TAG']}{name}", "candles": 24} for name in ("BTC", "ETH")
    ]
    shown = run_lakehouse("query", "SELECT * FROM binance_um_klines", "--limit", "3", env=lake)
    assert "The first 3 rows" in shown.stdout


@pytest.mark.parametrize(
    ("sql", "quoted"),
    [
        ("SELECT interval FROM t WHERE interval = '1h'", """SELECT "interval" FROM t WHERE "interval" = '1h'"""),
        ("SELECT t.Interval, 'interval' FROM t", """SELECT t."interval", 'interval' FROM t"""),
        ('SELECT "interval" FROM t', 'SELECT "interval" FROM t'),
        ("SELECT time + INTERVAL '1h', intervals FROM t", "SELECT time + INTERVAL '1h', intervals FROM t"),
        ("SELECT 'it''s an interval' FROM t", "SELECT 'it''s an interval' FROM t"),
    ],
)
def test_the_column_interval_needs_no_quotes(sql: str, quoted: str) -> None:
    assert _quoted(sql) == quoted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("query", "SELECT nothing FROM binance_um_klines"), "nothing"),
        (("query", "SELECT * FROM clines"), "none is named"),
        (("query", "SELECT * FROM binance_um_metrics"), "is not in the lake"),
        (("query", "SELECT 1 FROM binance_um_klines", "--as-of", "77"), "no version 77"),
        (("tables", "binance/um/clines"), "clines"),
        (("export", NAME, "there/is/none.parquet"), "is not a folder"),
        (("export", NAME, "x.parquet", "--columns", "clos"), "no column 'clos'"),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(
    lake: dict[str, str], run_lakehouse: RunLakehouse, arguments: tuple[str, ...], message: str
) -> None:
    done = run_lakehouse(*arguments, env=lake)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_export_is_a_parquet_file_that_cites_its_snapshot(
    lake: dict[str, str], run_lakehouse: RunLakehouse, tmp_path: Path
) -> None:
    target = tmp_path / "btc.parquet"
    arguments = (
        "export",
        NAME,
        str(target),
        "--symbols",
        f"{lake['TAG']}BTC",
        "--from",
        DAYS[1],
        "--columns",
        "time,close",
    )
    done = run_lakehouse(*arguments, env=lake)
    assert done.returncode == 0, done.stderr
    assert f"Snapshot {NAME}@1." in done.stdout
    rows = pl.read_parquet(target)
    assert rows.columns == ["time", "close"]
    assert rows["time"].dt.date().unique().to_list() == [date(2024, 1, 2)]
    second = run_lakehouse(*arguments, env=lake)
    assert second.returncode == 2
    assert "already exists" in second.stderr
    assert [path.name for path in tmp_path.iterdir() if "parquet" in path.name] == ["btc.parquet"]


def test_table_names_are_valid_in_sql() -> None:
    assert Table.parse(NAME).sql_name == "binance_um_klines"
