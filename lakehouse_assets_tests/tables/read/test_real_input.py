"""Rows of real archive files have the values that Python's csv and Decimal read.

Without the folder of samples, generated files are read instead.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property

import polars as pl
import pytest

from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.exchanges.grammar import ParsedKey
from lakehouse_assets.archive.period import Period
from lakehouse_assets.embedded.samples.archive import sample_files
from lakehouse_assets.tables.quality.comparison import compare_intervals
from lakehouse_assets.tables.quality.lifetimes import Lifetimes, classify_gaps
from lakehouse_assets.tables.quality.rows import check_rows
from lakehouse_assets.tables.read.archives import ArchiveRows, read_archive
from lakehouse_assets.tables.schema import schema_of
from lakehouse_assets.tables.schemas.model import TableSchema
from lakehouse_assets_tests.paths import SAMPLES
from lakehouse_assets_tests.tables.archives import gzipped, zipped

BINANCE = SAMPLES / "binance"
CSV = ".csv"


@dataclass(frozen=True)
class Sample:
    """A file as the exchange publishes it, and its text."""

    name: str
    schema: TableSchema
    symbol: str
    interval: str | None
    period: Period | None
    data: bytes
    text: str

    @cached_property
    def rows(self) -> ArchiveRows:
        return read_archive(self.data, schema=self.schema, name=self.name, symbol=self.symbol, interval=self.interval)

    @cached_property
    def fields(self) -> dict[str, list[str]]:
        """The file's columns by the exchange's names, as text."""
        rows = list(csv.reader(io.StringIO(self.text)))
        header = rows.pop(0) if rows[0][0][:1].isalpha() else self.schema.file_columns
        return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def binance_sample(key: str, data: bytes, text: str) -> Sample:
    parsed = exchange_named("binance").parse(key)
    assert isinstance(parsed, ParsedKey), parsed
    schema = schema_of("binance", parsed.market, parsed.data_type)
    return Sample(key, schema, parsed.symbol, parsed.interval, parsed.period, data, text)


def samples() -> list[Sample]:
    if not SAMPLES.is_dir():
        return generated()
    result = []
    for path in sorted((BINANCE / "verbatim").rglob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            text = archive.read(archive.namelist()[0]).decode()
        result.append(binance_sample(path.relative_to(BINANCE / "verbatim").as_posix(), path.read_bytes(), text))
    for path in sorted((BINANCE / "extracted").rglob("*.csv")):
        key = path.relative_to(BINANCE / "extracted").as_posix().removesuffix(CSV).removesuffix(".head20000")
        text = path.read_text(encoding="utf-8")
        result.append(binance_sample(f"{key}.zip", zipped(text), text))
    for path in sorted((SAMPLES / "bybit/excerpts").glob("*.csv")):
        text = path.read_text(encoding="utf-8")
        schema = schema_of("bybit", "derivatives", "trades")
        result.append(Sample(f"{path.name}.gz", schema, "FXSUSDT", None, None, gzipped(text), text))
    assert len(result) == 17
    return result


def generated() -> list[Sample]:
    wanted = (
        ("spot", "klines", ("1m", "1h"), date(2026, 5, 8)),
        ("um", "klines", ("1m",), date(2022, 4, 8)),
        ("cm", "aggTrades", (), date(2026, 5, 8)),
        ("um", "fundingRate", (), date(2026, 4, 1)),
    )
    return [
        binance_sample(
            file.key,
            file.body,
            zipfile.ZipFile(io.BytesIO(file.body)).read(file.key.split("/")[-1][:-4] + CSV).decode(),
        )
        for market, data_type, intervals, day in wanted
        for file in sample_files(
            market,
            data_type,
            "monthly" if data_type == "fundingRate" else "daily",
            symbols=["BTCUSD_PERP" if market == "cm" else "BTCUSDT"],
            intervals=intervals,
            first=day,
            last=day,
            sidecars=False,
        )
    ]


ALL = samples()
every_sample = pytest.mark.parametrize("sample", ALL, ids=lambda sample: sample.name.split("/")[-1])


@every_sample
def test_rows_and_times_equal_those_of_the_csv(sample: Sample):
    read = sample.rows
    fields = sample.fields
    times = [
        _instant(*texts) for texts in zip(*(fields[name] for name in sample.schema.column("time").sources), strict=True)
    ]
    assert read.rows == len(times) > 10
    assert read.frame["time"].to_list() == times
    assert (read.first_time, read.last_time) == (min(times), max(times))


@every_sample
def test_numbers_equal_those_of_the_csv_and_their_sums_those_of_decimal(sample: Sample):
    read = sample.rows
    fields = sample.fields
    compared = 0
    for column in sample.schema.columns:
        if column.read is not None or column.source is None or not column.dtype.is_numeric():
            continue
        (source,) = column.sources
        texts = [text or None for text in fields[source]]
        number: Callable[[str], float] = int if column.dtype.is_integer() else float
        values = read.frame[column.name].to_list()
        assert values == [None if text is None else number(text) for text in texts]
        exact = sum((Decimal(text) for text in texts if text), Decimal(0))
        assert math.fsum(value for value in values if value is not None) == pytest.approx(float(exact), rel=1e-15)
        compared += 1
    assert compared >= 1


@every_sample
def test_flags_and_texts_equal_those_of_the_csv(sample: Sample):
    frame = sample.rows.frame
    fields = sample.fields
    if "is_buyer_maker" in fields:
        assert frame["side"].to_list() == [
            "sell" if flag.lower() == "true" else "buy" for flag in fields["is_buyer_maker"]
        ]
    for column in sample.schema.columns:
        if column.dtype == pl.String and column.read is None and column.source is not None:
            assert frame[column.name].to_list() == fields[column.sources[0]]
        elif column.source is None:
            from_key = {
                "exchange": sample.schema.exchange,
                "market": sample.schema.market,
                "symbol": sample.symbol,
                "interval": sample.interval,
            }
            assert frame[column.name].unique().to_list() == [from_key[column.name]]


@every_sample
def test_gzip_gives_the_same_rows(sample: Sample):
    gz = read_archive(
        gzip.compress(sample.text.encode(), 1),
        schema=sample.schema,
        name=sample.name,
        symbol=sample.symbol,
        interval=sample.interval,
    )
    assert gz.frame.equals(sample.rows.frame)


def _instant(text: str, hour: str = "0") -> datetime:
    """From milliseconds or microseconds since 1970, seconds with a fraction, or a date and an hour."""
    if "-" in text:
        return datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(hours=int(hour))
    number = Decimal(text)
    scale = 1_000_000 if number < 10**11 else 1_000 if number < 10**14 else 1
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(number * scale))


needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the folder of the exchanges' own files")


def _named(stem: str) -> Sample:
    return next(sample for sample in ALL if sample.name.endswith(f"/{stem}.zip"))


@needs_samples
def test_two_days_of_minutes_add_up_to_48_hours_as_decimal_computes_them():
    days = [_named(f"BTCUSDT-1m-2020-01-0{day}") for day in (1, 2)]
    minutes = pl.concat(day.rows.frame for day in days)
    hours: dict[datetime, list[dict[str, Decimal]]] = {}
    for day in days:
        fields = day.fields
        for row in zip(*fields.values(), strict=True):
            values = dict(zip(fields, map(Decimal, row), strict=True))
            moment = _instant(str(values["open_time"]))
            hours.setdefault(moment.replace(minute=0), []).append(values)
    assert len(hours) == 48
    exact = pl.DataFrame(
        [
            {
                "symbol": "BTCUSDT",
                "interval": "1h",
                "time": moment,
                "open": float(rows[0]["open"]),
                "high": float(max(row["high"] for row in rows)),
                "low": float(min(row["low"] for row in rows)),
                "close": float(rows[-1]["close"]),
                "trade_count": int(sum(row["count"] for row in rows)),
            }
            | {
                name: float(sum(row[name] for row in rows))
                for name in ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
            }
            for moment, rows in hours.items()
        ],
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    )
    (result,) = compare_intervals(minutes, exact, schema=days[0].schema).to_dicts()
    assert (result["compared"], result["differing"], result["only_left"], result["only_right"]) == (48, 0, 0, 0)
    assert result["worst"] < 1e-12
    wrong = exact.with_columns(volume=pl.col("volume") * (1 + 1e-8))
    (result,) = compare_intervals(minutes, wrong, schema=days[0].schema).to_dicts()
    assert (result["differing"], result["differing_columns"]) == (48, ["volume"])


@needs_samples
@pytest.mark.parametrize(
    ("stem", "gaps", "off_grid", "level"),
    [
        ("BTCUSDT-1h-2018-02", [("2018-02-08 00:28:14.788", "2018-02-09 09:28:14.789", 32)], 43, "warning"),
        ("BTCUSDT-1h-2021-02", [("2021-02-11 03:40:54.773", "2021-02-11 05:00:00", 1)], 0, "explained"),
        (
            "BTCUSDT-1h-2020-02",
            [
                ("2020-02-09 02:00:00", "2020-02-09 03:00:00", 1),
                ("2020-02-19 11:35:32.286", "2020-02-19 17:00:00", 5),
            ],
            0,
            "explained",
        ),
        ("BTCUSDT-1h-2022-02", [], 0, "ok"),
        ("BTCUSDT-1h-2017-10", [], 0, "ok"),
        ("ETHUSDT-1h-2021-01", [], 0, "ok"),
        ("BTCUSDT-1m-2020-01-01", [], 0, "ok"),
        ("BTCUSDT-1m-2022-05-04", [], 0, "ok"),
        ("BTCUSDT-1h-2026-05-08", [], 0, "ok"),
    ],
)
def test_gaps_of_outages_have_their_true_times_and_are_explained(
    stem: str, gaps: list[tuple[str, str, int]], off_grid: int, level: str
):
    sample = _named(stem)
    assert sample.period is not None
    (row,) = check_rows(sample.rows.frame, schema=sample.schema, period=sample.period).to_dicts()
    found_gaps = [(gap["after"], gap["before"], gap["missing"]) for gap in row["gaps"]]
    assert found_gaps == [
        (datetime.fromisoformat(f"{after}+00:00"), datetime.fromisoformat(f"{before}+00:00"), missing)
        for after, before, missing in gaps
    ]
    assert all("binance-public-data #" in gap["outage"] for gap in row["gaps"])
    assert (row["missing"], row["explained"]) == (0, sum(missing for *_, missing in gaps))
    assert row["expected"] == row["rows"] + row["explained"]
    assert (row["off_grid"], row["level"]) == (off_grid, level)


@needs_samples
def test_no_row_is_missing_before_a_symbol_was_listed():
    sample = _named("BTCUSDT-1h-2017-08")
    assert sample.period is not None
    (row,) = check_rows(sample.rows.frame, schema=sample.schema, period=sample.period).to_dicts()
    assert (row["missing"], row["gaps"][0]["place"], row["level"]) == (388, "start", "error")
    lifetimes = Lifetimes.of([], str(sample.period))
    (row,) = classify_gaps(
        check_rows(sample.rows.frame, schema=sample.schema, period=sample.period), sample.schema, lifetimes
    ).to_dicts()
    assert (row["missing"], row["expected"], row["level"]) == (0, 356, "ok")


@needs_samples
@pytest.mark.parametrize("stem", ["BTCUSD_PERP-aggTrades-2026-05-08", "BTCUSDT-fundingRate-2026-04"])
def test_real_trades_and_funding_rates_are_ok(stem: str):
    sample = _named(stem)
    assert sample.period is not None
    (row,) = check_rows(sample.rows.frame, schema=sample.schema, period=sample.period).to_dicts()
    assert row["level"] == "ok"
    if stem.endswith("fundingRate-2026-04"):
        assert (row["rows"], row["expected"]) == (90, 90)
    else:
        assert row["id_gaps"] == 0
