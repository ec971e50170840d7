"""Real archive files, byte-exact as Binance published them, mirrored through Dagster.

Without the folder of samples, generated files are used; the test records which it used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date

import pytest

from lakehouse_assets.embedded.samples.archive import sample_files
from lakehouse_assets_tests.orchestration.conftest import Runner
from lakehouse_assets_tests.paths import SAMPLES as SAMPLES_ROOT
from lakehouse_assets_tests.world import World

SAMPLES = SAMPLES_ROOT / "binance/verbatim"

PUBLISHED_SHA256 = {
    "data/futures/cm/daily/aggTrades/BTCUSD_PERP/BTCUSD_PERP-aggTrades-2026-05-08.zip": (
        "8bfbaa4cd0dfd49cc9e6cdede78e0b2851f42f1dbb7d917bc0847ce1eac4afbe"
    ),
    "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2026-04.zip": (
        "51cdeb4de7d5ef1d4eece80b6115e391bdf7a2d0803bf9ad8371ab23340b22d3"
    ),
    "data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2026-05-08.zip": (
        "0cef4d20388635c1cac914a52a012bc07cc83d7dfe4d7ec1d30cb15edf28ab53"
    ),
    "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2020-01-01.zip": (
        "dd579c62368ded93d3f01a1904575b932279e32936e181c062763e605793c1c2"
    ),
    "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2020-01-02.zip": (
        "66c701b381d5c2482343ba1c7f600e55d3f5c18f0117ff0789d043a21b62bab6"
    ),
}
"""Digests from the exchange's sidecars."""


def read_input() -> tuple[str, dict[str, bytes], Mapping[str, str]]:
    """The name of the input, its files by key, and the published digests of its archives."""
    if SAMPLES.is_dir():
        files = {p.relative_to(SAMPLES).as_posix(): p.read_bytes() for p in SAMPLES.rglob("*") if p.is_file()}
        return "the exchange's own files", files, PUBLISHED_SHA256
    samples = [
        ("cm", "aggTrades", "daily", "BTCUSD_PERP", (), date(2026, 5, 8)),
        ("um", "fundingRate", "monthly", "BTCUSDT", (), date(2026, 4, 1)),
        ("spot", "klines", "daily", "BTCUSDT", ("1h",), date(2026, 5, 8)),
        ("spot", "klines", "daily", "BTCUSDT", ("1m",), date(2020, 1, 1)),
        ("spot", "klines", "daily", "BTCUSDT", ("1m",), date(2020, 1, 2)),
    ]
    files = {
        file.key: file.body
        for market, data_type, cadence, symbol, intervals, day in samples
        for file in sample_files(market, data_type, cadence, symbols=[symbol], intervals=intervals, first=day, last=day)
    }
    digests = {key: files[f"{key}.CHECKSUM"].split()[0].decode() for key in files if not key.endswith(".CHECKSUM")}
    assert digests.keys() == PUBLISHED_SHA256.keys()
    return "generated files", files, digests


@pytest.fixture
def published(world: World, record_property) -> tuple[dict[str, bytes], Mapping[str, str]]:
    name, files, digests = read_input()
    print(f"input: {name}")
    record_property("input", name)
    for key, body in files.items():
        world.put(key, body, sidecar=False)
    return files, digests


RUNS = [
    ("binance/spot/klines/daily", {"intervals": ["1m", "1h"]}, "BTCUSDT", ("2020-01-01", "2020-01-02")),
    ("binance/spot/klines/daily", {"intervals": ["1m", "1h"]}, "BTCUSDT", ("2026-05-08",)),
    ("binance/um/fundingRate/monthly", {}, "BTCUSDT", ("2026-04",)),
    ("binance/cm/aggTrades/daily", {}, "BTCUSD_PERP", ("2026-05-08", "2026-05-08")),
]


def test_published_archives_arrive_bit_for_bit_and_stay_current(
    runner: Runner, world: World, published: tuple[dict[str, bytes], Mapping[str, str]]
) -> None:
    files, digests = published
    entries = [
        world.entry(dataset, symbols={"include": [symbol]}, **fields) for dataset, fields, symbol, _range in RUNS
    ]
    for entry, (*_rest, periods) in zip(entries, RUNS, strict=True):
        result = runner.run(entry, *periods)
        assert result.success
        assert set(periods) <= set(runner.materialized(entry))
        checks = {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}
        assert checks["complete"]

    for key, digest in digests.items():
        assert hashlib.sha256(world.lake_body(f"archive/binance/{key}")).hexdigest() == digest
        assert world.lake_body(f"archive/binance/{key}.CHECKSUM") == files[f"{key}.CHECKSUM"]

    before = world.lake_files("archive/")
    for entry, (*_rest, periods) in zip(entries, RUNS, strict=True):
        assert runner.run(entry, *periods).success
        assert {runner.metadata(entry, period)["objects_copied"] for period in periods} == {0}
    assert world.lake_files("archive/") == before

    rewritten = "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2020-01-02.zip"
    world.put(rewritten, files[rewritten] + b"republished")
    assert runner.run(entries[0], "2020-01-01", "2020-01-02").success
    assert [runner.metadata(entries[0], day)["objects_copied"] for day in ("2020-01-01", "2020-01-02")] == [0, 1]
    [row] = world.manifest("binance/spot/klines/daily").read(["2020-01-02"]).to_dicts()
    assert hashlib.sha256(world.lake_body(row["superseded_key"])).hexdigest() == digests[rewritten]
    assert world.lake_body(f"archive/binance/{rewritten}") == files[rewritten] + b"republished"
