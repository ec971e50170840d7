"""The sample archive against the exchange's format, and uploads against the real store."""

from __future__ import annotations

import hashlib
import io
import zipfile
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lakehouse_assets.embedded.samples.archive import (
    SampleFile,
    sample_files,
    sidecar,
    upload,
    upload_tree,
)
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.errors import InputError, StoreError
from lakehouse_assets_tests.paths import SAMPLES as SAMPLES_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = date(2024, 1, 31)
REAL = SAMPLES_ROOT / "binance" / "verbatim"


def lines(file: SampleFile) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(file.body)) as archive:
        [name] = archive.namelist()
        text = archive.read(name).decode()
    assert text.endswith("\n")
    return text.splitlines()


def one(
    market: str, data_type: str, cadence: str, day: date = DAY, symbol: str = "BTCUSDT", **options: Any
) -> SampleFile:
    intervals = options.pop("intervals", ("1m",) if data_type.lower().endswith("klines") else ())
    files = sample_files(
        market,
        data_type,
        cadence,
        symbols=[symbol],
        intervals=intervals,
        first=day,
        last=day,
        **options,
    )
    return next(files)


def table(file: SampleFile) -> list[list[Decimal]]:
    return [[Decimal(cell) for cell in row.split(",")] for row in lines(file) if row[0].isdigit()]


def aggregated(rows: list[list[Decimal]]) -> list[Decimal]:
    columns = list(zip(*rows, strict=True))
    return [
        rows[0][0], rows[0][1], max(columns[2]), min(columns[3]), rows[-1][4], sum(columns[5], Decimal(0)),
        rows[-1][6], *(sum(columns[n], Decimal(0)) for n in range(7, 11)), Decimal(0),
    ]  # fmt: skip


def test_equal_arguments_give_equal_bytes_and_another_seed_gives_others() -> None:
    assert one("spot", "klines", "daily") == one("spot", "klines", "daily")
    assert one("spot", "klines", "daily").body != one("spot", "klines", "daily", seed=8).body


def test_the_content_stays_that_of_earlier_versions() -> None:
    text = "\n".join(lines(one("um", "aggTrades", "daily", trades_per_day=50)))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "d10b90697960c998"


@pytest.mark.parametrize(
    ("market", "data_type", "cadence", "key"),
    [
        ("spot", "klines", "daily", "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-31.zip"),
        (
            "um",
            "markPriceKlines",
            "monthly",
            "data/futures/um/monthly/markPriceKlines/BTCUSDT/1m/BTCUSDT-1m-2024-01.zip",
        ),
        (
            "cm",
            "aggTrades",
            "daily",
            "data/futures/cm/daily/aggTrades/BTCUSDT/BTCUSDT-aggTrades-2024-01-31.zip",
        ),
        (
            "um",
            "fundingRate",
            "monthly",
            "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-01.zip",
        ),
        ("um", "metrics", "daily", "data/futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2024-01-31.zip"),
    ],
)
def test_keys_and_members_are_named_as_on_the_exchange(market: str, data_type: str, cadence: str, key: str) -> None:
    file = one(market, data_type, cadence)
    assert file.key == key
    with zipfile.ZipFile(io.BytesIO(file.body)) as archive:
        [member] = archive.infolist()
    assert member.filename == key.rsplit("/", 1)[1].replace(".zip", ".csv")
    assert member.compress_type == zipfile.ZIP_DEFLATED


@pytest.mark.parametrize(("market", "ending"), [("spot", ""), ("um", "\n"), ("cm", "\n")])
def test_a_sidecar_follows_its_zip_with_the_markets_newline(market: str, ending: str) -> None:
    archive, checksum = sample_files(market, "klines", "daily", symbols=["X"], intervals=["1h"], first=DAY, last=DAY)
    assert checksum.key == f"{archive.key}.CHECKSUM"
    digest = hashlib.sha256(archive.body).hexdigest()
    assert checksum.body.decode() == f"{digest}  X-1h-2024-01-31.zip{ending}"


def test_the_day_the_unit_of_spot_timestamps_changed() -> None:
    before, after = (table(one("spot", "klines", "daily", day))[0] for day in (date(2024, 12, 31), date(2025, 1, 1)))
    assert (before[0], before[6]) == (1735603200000, 1735603259999)
    assert (after[0], after[6]) == (1735689600000000, 1735689659999999)
    assert table(one("um", "klines", "daily", date(2025, 1, 1)))[0][0] == 1735689600000


def test_headers_are_those_of_the_market_and_the_time() -> None:
    assert lines(one("um", "klines", "daily"))[0].startswith("open_time,")
    assert lines(one("cm", "trades", "daily"))[0] == "id,price,qty,base_qty,time,is_buyer_maker"
    assert lines(one("spot", "trades", "daily"))[0][0].isdigit()
    assert lines(one("um", "klines", "daily", date(2022, 5, 4)))[0][0].isdigit()


@pytest.mark.parametrize("market", ["spot", "um", "cm"])
@pytest.mark.parametrize(("interval", "minutes"), [("3m", 3), ("1h", 60), ("12h", 720), ("1d", 1440)])
def test_candles_equal_the_aggregation_of_their_minutes(market: str, interval: str, minutes: int) -> None:
    fine = table(one(market, "klines", "daily"))
    coarse = table(one(market, "klines", "daily", intervals=(interval,)))
    assert len(fine) == 1440
    assert coarse == [aggregated(fine[n : n + minutes]) for n in range(0, 1440, minutes)]


def test_minutes_equal_the_aggregation_of_their_seconds() -> None:
    seconds = table(one("spot", "klines", "daily", intervals=("1s",)))
    assert len(seconds) == 86_400
    minutes = [aggregated(seconds[n : n + 60]) for n in range(0, 86_400, 60)]
    assert minutes == table(one("spot", "klines", "daily"))


def test_a_month_equals_its_days_and_its_candle() -> None:
    month = table(one("spot", "klines", "monthly", intervals=("1d",)))
    days = sample_files(
        "spot", "klines", "daily", symbols=["BTCUSDT"], intervals=["1d"],
        first=date(2024, 1, 1), last=DAY, sidecars=False,
    )  # fmt: skip
    assert month == [row for file in days for row in table(file)]
    assert table(one("spot", "klines", "monthly", intervals=("1mo",))) == [aggregated(month)]


def test_prices_are_plausible_and_days_are_continuous() -> None:
    today = table(one("spot", "klines", "daily"))
    for row in today:
        assert 0 < row[3] <= min(row[1], row[4]) <= max(row[1], row[4]) <= row[2]
        assert 0 <= row[9] <= row[5]
    assert all(left[4] == right[1] for left, right in pairwise(today))
    assert today[-1][4] == table(one("spot", "klines", "daily", date(2024, 2, 1)))[0][1]


def test_coin_margined_volume_counts_contracts_and_quote_volume_is_base() -> None:
    row = table(one("cm", "klines", "daily", symbol="BTCUSD_PERP"))[0]
    assert row[5] == int(row[5])
    assert abs(row[7] - row[5] * 100 / ((row[2] + row[3]) / 2)) < row[7] / 1000


def test_trade_ids_continue_over_days_without_a_gap() -> None:
    files = sample_files(
        "um",
        "aggTrades",
        "daily",
        symbols=["X"],
        first=DAY,
        last=date(2024, 2, 1),
        trades_per_day=500,
        sidecars=False,
    )
    rows = [row.split(",") for file in files for row in lines(file)[1:]]
    assert len(rows) == 1000
    assert [int(row[0]) for row in rows] == list(range(int(rows[0][0]), int(rows[0][0]) + 1000))
    assert all(int(left[4]) + 1 == int(right[3]) for left, right in pairwise(rows))
    assert [int(row[5]) for row in rows] == sorted(int(row[5]) for row in rows)


def test_metrics_have_a_row_every_five_minutes_and_no_ratios_on_cm() -> None:
    rows = lines(one("cm", "metrics", "daily"))[1:]
    assert [row.split(",")[0] for row in (rows[0], rows[1], rows[-1])] == [
        "2024-01-31 00:05:00", "2024-01-31 00:10:00", "2024-02-01 00:00:00",
    ]  # fmt: skip
    assert all(row.split(",")[4:] == ["", "", "", ""] for row in rows)


@pytest.mark.parametrize(
    ("market", "data_type", "cadence", "intervals"),
    [
        ("okx", "klines", "daily", ["1m"]),
        ("spot", "metrics", "daily", []),
        ("um", "fundingRate", "daily", []),
        ("um", "klines", "daily", ["1s"]),
        ("spot", "klines", "daily", ["1w"]),
        ("spot", "klines", "daily", []),
        ("spot", "trades", "daily", ["1m"]),
    ],
)
def test_what_the_exchange_does_not_publish_is_refused(
    market: str, data_type: str, cadence: str, intervals: list[str]
) -> None:
    with pytest.raises(InputError):
        sample_files(market, data_type, cadence, symbols=["X"], intervals=intervals, first=DAY, last=DAY)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real sample files are not here")
@pytest.mark.parametrize(
    ("real", "made"),
    [
        (
            "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2020-01-01.zip",
            ("spot", "klines", "daily", date(2020, 1, 1), "1m"),
        ),
        (
            "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-05-08.zip",
            ("spot", "klines", "daily", date(2026, 5, 8), "1h"),
        ),
        (
            "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2026-04.zip",
            ("um", "fundingRate", "monthly", date(2026, 4, 1), None),
        ),
        (
            "data/futures/cm/daily/aggTrades/BTCUSD_PERP/BTCUSD_PERP-aggTrades-2026-05-08.zip",
            ("cm", "aggTrades", "daily", date(2026, 5, 8), None),
        ),
    ],
)
def test_a_file_looks_like_the_real_one(real: str, made: tuple[str, str, str, date, str | None]) -> None:
    market, data_type, cadence, day, interval = made
    symbol = real.rsplit("/", 1)[1].partition("-")[0]
    file = one(market, data_type, cadence, day, symbol, intervals=(interval,) if interval else ())
    genuine = SampleFile(real, (REAL / real).read_bytes())
    assert file.key == genuine.key
    ours, theirs = lines(file), lines(genuine)
    assert ours[0].split(",")[0] == theirs[0].split(",")[0]
    if not theirs[0][0].isdigit():
        assert ours[0] == theirs[0]
    assert shape(ours[1]) == shape(theirs[1])
    if data_type != "aggTrades":
        assert len(ours) == len(theirs)
    checksum = (REAL / f"{real}.CHECKSUM").read_bytes()
    assert sidecar(real, genuine.body, market).body.strip() == checksum.strip()


def shape(row: str) -> list[object]:
    """Of each cell: how many decimals a number has, and how long a timestamp is; else the text."""
    cells: list[object] = []
    for cell in row.split(","):
        if not cell.lstrip("-").replace(".", "", 1).isdigit():
            cells.append(cell.lower() in ("true", "false") and cell.islower())
        elif "." in cell:
            cells.append(len(cell.split(".")[1]))
        else:
            cells.append("time" if len(cell) in (13, 16) else "integer")
    return cells


@pytest.fixture(scope="module")
def store() -> Iterator[EmbeddedStore]:
    with EmbeddedStore(source_buckets=["data.binance.vision", "tree"]) as running:
        yield running


def test_uploaded_files_are_read_back_by_anyone(store: EmbeddedStore) -> None:
    files = [SampleFile(f"data/spot/{number}.zip", f"{number}".encode() * 100) for number in range(400)]
    assert upload(store.admin_bucket("data.binance.vision"), iter(files)) == 400
    listed = [each for page in store.source().object_store().list() for each in page]
    assert {each["path"]: each["e_tag"].strip('"') for each in listed if each["e_tag"]} == {
        file.key: hashlib.md5(file.body, usedforsecurity=False).hexdigest() for file in files
    }


def test_a_tree_is_uploaded_at_its_relative_paths(store: EmbeddedStore, tmp_path: Path) -> None:
    for name in ("data/spot/a.zip", "data/spot/a.zip.CHECKSUM", "data/spot/币安人生USDT/b c.zip"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    assert upload_tree(store.admin_bucket("tree"), tmp_path) == 3
    client = store.source("tree").boto3_client()
    listed = [each["Key"] for each in client.list_objects_v2(Bucket="tree")["Contents"]]
    assert set(listed) == {"data/spot/a.zip", "data/spot/a.zip.CHECKSUM", "data/spot/币安人生USDT/b c.zip"}
    assert client.get_object(Bucket="tree", Key="data/spot/币安人生USDT/b c.zip")["Body"].read().decode() == listed[-1]


def test_a_refused_upload_names_the_key(store: EmbeddedStore) -> None:
    with pytest.raises(StoreError, match=r"^Writing s3://.*/a\.zip failed: "):
        upload(store.source(), [SampleFile("data/spot/a.zip", b"content")])


def test_a_missing_tree_is_refused(store: EmbeddedStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a directory"):
        upload_tree(store.admin_bucket("tree"), tmp_path / "missing")
