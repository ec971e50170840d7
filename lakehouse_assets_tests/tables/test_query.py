"""Reading tables: the result, the objects and bytes that are read, and snapshots."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import duckdb
import polars as pl
import pytest
from arro3.core import Table as ArrowTable

from lakehouse_assets.errors import InputError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.tables import coverage, read_table, snapshot
from lakehouse_assets.tables.snapshot import open_snapshot
from lakehouse_assets.tables.table import Table
from lakehouse_assets.tables.write import files as files_module
from lakehouse_assets_tests.faults.proxy import Proxy
from lakehouse_assets_tests.tables.tabled import Tabled, fill, made_up_candles
from lakehouse_assets_tests.world import World

NAME = "binance/um/klines"
TABLE = Table.parse(NAME)
SYMBOLS = [f"S{number:03}USDT" for number in range(200)]
MONTHS = ("2024-01", "2024-02", "2024-03")
ONE, TWO = "2024-03-01", "2024-03-02"
FOOTER = 256 * 1024


def days_of(month: str, count: int = 28) -> list[date]:
    return [date.fromisoformat(f"{month}-{day:02}") for day in range(1, count + 1)]


@pytest.fixture(scope="module")
def lake(store) -> Lake:
    """Three months of hourly candles of 200 symbols, a commit per month."""
    made = World(store).lake
    fill(made, TABLE, (made_up_candles(SYMBOLS, days_of(month)) for month in MONTHS))
    return made


def behind(lake: Lake, proxy: Proxy) -> Lake:
    return replace(lake, bucket=replace(lake.bucket, endpoint_url=proxy.endpoint_url))


def touched(proxy: Proxy) -> tuple[set[str], int]:
    """The Parquet files that were read, and the number of requested bytes."""
    reads = [request for request in proxy.requests if request.operation == "GetObject" and ".parquet" in request.key]
    size = 0
    for request in reads:
        first, _, last = request.header("range").removeprefix("bytes=").partition("-")
        size += int(last) - int(first) + 1 if first else int(last)
    return {request.key for request in reads if "_delta_log" not in request.key}, size


def test_one_symbol_in_one_month_reads_one_file_and_a_few_row_groups(lake: Lake, store) -> None:
    with Proxy(store.endpoint_url).running() as proxy:
        rows = read_table(NAME, ["S100USDT"], "1h", "2024-02-03", "2024-02-27", lake=behind(lake, proxy)).collect()
        files, size = touched(proxy)
        proxy.requests.clear()
        everything = read_table(NAME, lake=behind(lake, proxy)).collect()
        all_files, all_size = touched(proxy)
    assert rows.height == 24 * 24
    assert everything.height == len(SYMBOLS) * 24 * 28 * len(MONTHS)
    assert (len(files), len(all_files)) == (1, 3)
    assert "interval=1h/month=2024-02" in next(iter(files))
    # One of 27 row groups, and Polars' guess at the size of a footer.
    assert size - FOOTER < 1.1 * all_size / 27


def test_read_table_returns_the_requested_rows(lake: Lake) -> None:
    rows = read_table(NAME, "S003USDT", "1h", "2024-02-28", "2024-03-02", lake=lake).collect().sort("time")
    assert rows["time"].to_list() == [
        datetime(2024, month, day, hour, tzinfo=UTC) for month, day in ((2, 28), (3, 1)) for hour in range(24)
    ]
    assert set(rows["symbol"]) == {"S003USDT"}
    assert rows.columns == TABLE.schema.polars.names()
    assert rows.schema == TABLE.schema.polars
    expected = made_up_candles(SYMBOLS, days_of("2024-03")).filter(
        pl.col("symbol") == "S003USDT", pl.col("period") == "2024-03-01"
    )
    assert (
        rows.filter(pl.col("time") >= datetime(2024, 3, 1, tzinfo=UTC))["close"].to_list()
        == expected["close"].to_list()
    )


def test_month_and_period_can_be_requested(lake: Lake) -> None:
    rows = read_table(NAME, "S003USDT", columns=["month", "period"], start="2024-03-01", lake=lake).collect()
    assert rows.unique("period").height == 28
    assert set(rows["month"]) == {"2024-03"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"dataset": "binance/um/clines"}, "clines"),
        ({"dataset": "binance/um"}, "is not a table"),
        ({"dataset": "binance/um/metrics"}, "is not in the lake"),
        ({"columns": ["clos"]}, "no column 'clos'; its columns are exchange, market"),
        ({"start": "yesterday"}, "start 'yesterday' is not a time"),
        ({"as_of": 99}, "has no version 99; it has 0 to 3"),
        ({"as_of": "binance/um/klines@1.00000000"}, "is of an earlier table"),
        ({"as_of": "binance/um/metrics@1.00000000"}, "is of the table binance/um/metrics"),
        ({"as_of": "2020-01-01"}, "it did not exist at 2020-01-01"),
    ],
)
def test_an_invalid_argument_is_an_error_of_one_line(lake: Lake, arguments: dict, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as raised:
        read_table(**{"dataset": NAME, **arguments}, lake=lake)
    assert "\n" not in str(raised.value)


def test_a_table_without_intervals_refuses_an_interval(lake: Lake) -> None:
    with pytest.raises(InputError, match="has no intervals"):
        read_table("binance/um/metrics", interval="1h", lake=lake)


# Snapshots


def test_a_snapshot_reads_the_same_rows_after_a_period_was_replaced(world: World) -> None:
    tabled = Tabled(world)
    tabled.publish(["BTC"], [ONE])
    tabled.sync(ONE)
    report = tabled.build(ONE)
    cited = snapshot(NAME, lake=world.lake)
    assert cited.id == report.snapshot
    tabled.publish(["BTC"], [ONE], price=7.0)
    tabled.sync(ONE)
    tabled.build(ONE)
    newest = snapshot(NAME, lake=world.lake)
    assert newest.id != cited.id
    after = cited.committed_at + timedelta(milliseconds=1)
    for as_of in (cited.id, cited.version, after, after.isoformat()):
        assert set(read_table(NAME, as_of=as_of, lake=world.lake).collect()["close"]) == {100.0}, as_of
    assert set(read_table(NAME, as_of=newest.id, lake=world.lake).collect()["close"]) == {7.0}


def test_a_version_that_was_replaced_before_the_retention_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tabled = Tabled(world)
    for price in (1.0, 2.0):
        tabled.publish(["BTC"], [ONE], price=price)
        tabled.sync(ONE)
        tabled.build(ONE)
    module = __import__(open_snapshot.__module__, fromlist=["datetime"])

    class Later(datetime):
        @classmethod
        def now(cls, tz=None) -> datetime:
            return datetime.now(tz) + timedelta(days=31)

    monkeypatch.setattr(module, "datetime", Later)
    assert read_table(NAME, as_of=2, lake=world.lake).collect().height == 24
    with pytest.raises(InputError, match=r"Version 1 .* was replaced more than 30 days ago"):
        read_table(NAME, as_of=1, lake=world.lake)


# Coverage and other engines


def test_coverage_has_a_row_per_symbol(world: World) -> None:
    tabled = Tabled(world, monthly=True)
    tabled.publish(["BTC"], [ONE])
    tabled.publish(["BTC"], ["2024-03"])
    world.put(world.key("ETH", ONE, interval="1h"), b"no zip")
    tabled.sync(ONE, TWO)
    tabled.sync("2024-03")
    tabled.build(ONE, TWO)
    btc, eth = coverage(NAME, lake=world.lake).to_dicts()
    assert (btc["first_period"], btc["last_period"], btc["periods"], btc["rows"]) == (ONE, TWO, 2, 48)
    assert (btc["from_monthly"], btc["quarantined"]) == (1, 0)
    assert (eth["first_period"], eth["rows"], eth["quarantined"]) == (None, 0, 1)


def test_coverage_of_a_table_that_does_not_exist_is_empty(world: World) -> None:
    assert coverage(NAME, lake=world.lake).is_empty()


def test_duckdb_takes_a_table_as_arrow(lake: Lake) -> None:
    candles = read_table(NAME, ["S001USDT", "S002USDT"], "1h", "2024-03-01", "2024-03-02", lake=lake).collect()
    assert candles.height == 48
    with duckdb.connect() as connection:
        connection.register("candles", ArrowTable.from_arrow(candles))
        answer = connection.sql("SELECT symbol, count(*), max(close) FROM candles GROUP BY symbol ORDER BY symbol")
        rows = answer.fetchall()
    expected = candles.group_by("symbol").agg(pl.len(), pl.col("close").max()).sort("symbol")
    assert rows == expected.rows()


def test_the_default_lake_is_that_of_the_environment(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = lake.bucket.credentials
    for name, value in {
        "BUCKET": lake.bucket.name,
        "PREFIX": lake.prefix,
        "ENDPOINT_URL": lake.bucket.endpoint_url,
        "ACCESS_KEY_ID": credentials.access_key_id,
        "SECRET_ACCESS_KEY": credentials.secret_access_key,
    }.items():
        monkeypatch.setenv(f"LAKEHOUSE_LAKE_{name}", value)
    assert snapshot(NAME).version == 3
    assert read_table(NAME, "S001USDT", start="2024-03-28", end="2024-03-29").collect().height == 24


# Files


def test_statistics_in_the_log_match_the_files(lake: Lake, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "ROWS_PER_FILE", 1000)
    frame = made_up_candles(SYMBOLS[:4], days_of("2024-02"))
    fill(world.lake, TABLE, [frame])
    actions = pl.DataFrame(open_snapshot(world.lake, TABLE).delta.get_add_actions(flatten=True))
    assert actions["num_records"].sort().to_list() == [688, 1000, 1000]
    for action in actions.to_dicts():
        rows = pl.read_parquet(
            world.lake.url(f"{TABLE.place}/{action['path']}"),
            storage_options=world.lake.delta_options,
            hive_partitioning=False,
        )
        assert rows.height == action["num_records"]
        for name in ("symbol", "period", "time"):
            assert (action[f"min.{name}"], action[f"max.{name}"]) == (rows[name].min(), rows[name].max())
    assert (
        read_table(NAME, lake=world.lake)
        .collect()
        .sort("symbol", "time")
        .equals(frame.select(TABLE.schema.polars.names()).sort("symbol", "time"))
    )
