"""The archive matrix: what it selects, and the message of each fault."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.exchanges.layout import ALL_SYMBOLS
from lakehouse_assets.archive.matrix import ArchiveMatrix, DatasetEntry, SyncMode, load_matrix
from lakehouse_assets.archive.symbol_filter import SymbolFilter
from lakehouse_assets.errors import InputError

Load = Callable[[str], ArchiveMatrix]

INTERVALS = "1m, 3m, 5m, 15m, 30m, 1h, 2h, 4h, 6h, 8h, 12h, 1d"
FIELDS = (
    "intervals, symbols, first_period, follow_from, catch_up, paused, partitions_per_run, mode, verify, on_bad_file"
)
FILTER = "quote_assets, include, exclude, leveraged, stable_pairs, state"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Writes a file ``m.yaml`` and loads it."""

    def write_and_load(text: str) -> ArchiveMatrix:
        path = tmp_path / "m.yaml"
        path.write_text(text, encoding="utf-8")
        return load_matrix(path)

    return write_and_load


def klines(fields: str = "") -> str:
    """A matrix of one valid entry with further fields, written in one line."""
    return f"datasets:\n  - {{dataset: binance/um/klines/daily, intervals: [1m]{', ' if fields else ''}{fields}}}\n"


def of(dataset: str, fields: str = "") -> str:
    return f"datasets:\n  - {{dataset: {dataset}{', ' if fields else ''}{fields}}}\n"


def entry_of(dataset: str, **fields: object) -> DatasetEntry:
    return DatasetEntry.model_validate({"dataset": dataset, **fields})


# Entries


def test_an_entry_accepts_every_field(load: Load) -> None:
    matrix = load(
        """
        datasets:
          - dataset: binance/um/klines/daily
            intervals: [1h, 1m]
            symbols: {quote_assets: [USDT], include: ["BTC*"], exclude: ["*_SETTLED*"]}
            first_period: 2020-01-01
            follow_from: 2026-01-01
            catch_up: true
            partitions_per_run: 7
            mode: staged
        """
    )
    (entry,) = matrix.entries
    assert entry.dataset == Dataset.parse("binance/um/klines/daily")
    assert entry.intervals == ("1m", "1h")
    assert entry.symbols.quote_assets == ("USDT",)
    assert str(entry.first_period) == "2020-01-01"
    assert entry.follow_from == date(2026, 1, 1)
    assert entry.catch_up is True
    assert entry.partitions_per_run == 7
    assert entry.mode is SyncMode.STAGED
    assert matrix.entry("binance/um/klines/daily") is entry


@pytest.mark.parametrize(
    ("dataset", "first", "last", "per_run"),
    [
        ("binance/um/metrics/daily", "2020-09-01", None, 31),
        ("binance/um/fundingRate/monthly", "2020-01", None, 12),
        ("binance/um/bookTicker/daily", "2023-05-16", "2024-03-30", 31),
        ("binance/um/bookTicker/monthly", "2023-05", "2024-04", 12),
    ],
)
def test_an_entry_without_fields_has_the_published_values_of_the_exchange(
    load: Load, dataset: str, first: str, last: str | None, per_run: int
) -> None:
    (entry,) = load(of(dataset)).entries
    assert str(entry.first_period) == first
    assert (entry.last_period and str(entry.last_period)) == last
    assert entry.partitions_per_run == per_run
    assert entry.intervals == ()
    assert entry.symbols == load(of(dataset, "symbols: all")).entries[0].symbols
    assert (entry.follow_from, entry.catch_up, entry.mode) == (None, False, SyncMode.AUTO)


def test_all_intervals_are_those_of_the_cadence(load: Load) -> None:
    assert load(of("binance/um/klines/daily", "intervals: all")).entries[0].intervals == tuple(INTERVALS.split(", "))
    assert load(of("binance/um/klines/monthly", "intervals: all")).entries[0].intervals[-1] == "1mo"


@pytest.mark.parametrize("written", ["2024-01-01", '"2024-01-01"', "2024-01", '"2024-01"'])
def test_a_date_may_be_quoted_or_not_and_be_a_month(load: Load, written: str) -> None:
    (entry,) = load(klines(f"first_period: {written}, follow_from: {written}")).entries
    assert str(entry.first_period) == "2024-01-01"
    assert entry.follow_from == date(2024, 1, 1)


def test_an_entry_made_in_code_is_checked_in_the_same_way() -> None:
    entry = entry_of("binance/um/klines/daily", intervals=["1m"], first_period=date(2024, 1, 1))
    assert str(entry.first_period) == "2024-01-01"
    with pytest.raises(ValidationError, match="not published daily at interval '1w'"):
        entry_of("binance/um/klines/daily", intervals=["1w"])


def test_an_entry_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        entry_of("binance/um/metrics/daily").catch_up = True  # ty: ignore[invalid-assignment]


# Symbols


@pytest.mark.parametrize(
    ("dataset", "symbols", "wanted", "unwanted"),
    [
        ("binance/um/metrics/daily", "all", ["BTCUSDT", "这是测试币456", "X"], []),
        (
            "binance/um/metrics/daily",
            {"quote_assets": ["USDT"]},
            ["BTCUSDT", "BTCUSDT_210326", "AERGOUSDTSETTLED", "ICPUSDT_SETTLED1", "龙虾USDT"],
            ["BTCUSDC", "BTCBUSD", "USDT", "这是测试币456", "BTCUSDTX"],
        ),
        (
            "binance/spot/trades/daily",
            {"quote_assets": ["USD"]},
            ["BTCUSD"],
            ["BTCUSD1", "BTCBUSD", "BTCUSDT"],
        ),
        ("binance/spot/trades/daily", {"quote_assets": ["USD1", "BTC"]}, ["BTCUSD1", "ETHBTC"], ["BTCUSD"]),
        (
            "binance/cm/trades/daily",
            {"quote_assets": ["USD"]},
            ["BTCUSD_PERP", "BTCUSD", "BNBUSD_PERP", "DOTUSD_210326"],
            ["BTCUSDT"],
        ),
        ("binance/um/metrics/daily", {"include": ["BTC*"]}, ["BTCUSDT"], ["ETHBTC", "btcUSDT", "1BTCUSDT"]),
        ("binance/um/metrics/daily", {"include": ["BTCUSDT"]}, ["BTCUSDT"], ["BTCUSDT_210326"]),
        (
            "binance/um/metrics/daily",
            {"exclude": ["*_SETTLED*"]},
            ["X", "YSETTLED"],
            ["X_SETTLED", "X_SETTLED2"],
        ),
        (
            "binance/um/metrics/daily",
            {"quote_assets": ["USDT"], "include": ["BTC*", "ETH*"], "exclude": ["*_*"]},
            ["BTCUSDT", "ETHUSDT"],
            ["BTCUSDC", "SOLUSDT", "BTCUSDT_210326"],
        ),
    ],
)
def test_a_filter_selects_by_quote_asset_then_by_inclusion_and_exclusion_has_priority(
    dataset: str, symbols: object, wanted: list[str], unwanted: list[str]
) -> None:
    symbol_filter = entry_of(dataset, symbols=symbols).symbols
    assert [symbol for symbol in wanted if not symbol_filter.selects(symbol)] == []
    assert [symbol for symbol in unwanted if symbol_filter.selects(symbol)] == []


@pytest.mark.parametrize(
    ("dataset", "symbols", "wanted", "unwanted"),
    [
        (
            "binance/spot/trades/daily",
            {"leveraged": False},
            ["BTCUSDT", "JUPUSDT", "SYRUPUSDT", "这是测试币456"],
            ["BTCUPUSDT", "ETHDOWNUSDT", "XRPUPUSDT", "BULLUSDT", "ETHBEARBUSD"],
        ),
        ("binance/spot/trades/daily", {"leveraged": True}, ["BTCUPUSDT"], ["BTCUSDT", "JUPUSDT"]),
        ("binance/um/metrics/daily", {"leveraged": False}, ["BTCUPUSDT"], []),
        (
            "binance/spot/trades/daily",
            {"stable_pairs": False, "quote_assets": ["USDT", "USD1"]},
            ["BTCUSDT", "BTCUSD1", "EURUSDT", "PAXGUSDT"],
            ["USDCUSDT", "USD1USDT", "FDUSDUSDT", "BTCUSDC"],
        ),
        ("binance/spot/trades/daily", {"stable_pairs": True}, ["USDCUSDT", "EURIEUR"], ["EURUSDT", "BTCUSDT"]),
        (
            "binance/um/metrics/daily",
            {"state": "listed"},
            ["ICPUSDT", "BTCUSDT_210326"],
            ["ICPUSDT_SETTLED", "ICPUSDT_SETTLED1", "CVCUSDTSETTLED", "BTCUSDT_210326_SETTLED"],
        ),
        ("binance/cm/metrics/daily", {"state": "settled"}, ["BTCUSD_PERP_SETTLED2"], ["BTCUSD_PERP"]),
    ],
)
def test_a_filter_selects_by_facts_of_a_symbol(
    dataset: str, symbols: object, wanted: list[str], unwanted: list[str]
) -> None:
    symbol_filter = entry_of(dataset, symbols=symbols).symbols
    assert [symbol for symbol in wanted if not symbol_filter.selects(symbol)] == []
    assert [symbol for symbol in unwanted if symbol_filter.selects(symbol)] == []


def test_a_filter_describes_its_selection_in_words() -> None:
    chosen = SymbolFilter(quote_assets=("USDT",), exclude=("X*",), leveraged=False, stable_pairs=True)
    assert str(chosen) == "quoted in USDT, no leveraged tokens, only stable pairs, without `X*`"
    assert str(SymbolFilter()) == "all"


@given(st.text(), st.lists(st.text(min_size=1), max_size=3))
def test_excluding_everything_selects_nothing(symbol: str, include: list[str]) -> None:
    assert not SymbolFilter(include=tuple(include), exclude=("*",)).selects(symbol)
    assert SymbolFilter().selects(symbol)


# Code version


def test_the_code_version_has_a_fixed_value_that_only_a_deliberate_change_may_alter() -> None:
    entry = entry_of("binance/um/klines/daily", intervals=["1m"], symbols={"quote_assets": ["USDT"]})
    assert entry.code_version == "feccbc5f6e44"


def test_the_code_version_of_a_filter_without_the_newer_fields_is_unchanged() -> None:
    versions = {
        "all": entry_of("binance/um/metrics/daily").code_version,
        "settled": entry_of(
            "binance/um/metrics/daily", symbols={"quote_assets": ["USDT"], "exclude": ["*SETTLED*"]}
        ).code_version,
        "named": entry_of(
            "binance/cm/aggTrades/daily", symbols={"include": ["ETHUSD_PERP", "BTCUSD_PERP"]}
        ).code_version,
    }
    assert versions == {"all": "e4e575980b6b", "settled": "baafeef48066", "named": "62efb75db5c5"}


def test_the_code_version_ignores_order_and_repetition() -> None:
    one, other = (
        entry_of("binance/um/klines/daily", intervals=list(intervals), symbols={"include": include})
        for intervals, include in ((("1m", "1h"), ["A*", "B*"]), (("1h", "1m"), ["B*", "A*", "A*"]))
    )
    assert one.code_version == other.code_version


@pytest.mark.parametrize(
    "fields",
    [
        {"intervals": ["1m", "1h"]},
        {"symbols": {"quote_assets": ["USDC"]}},
        {"symbols": {"include": ["USDT"]}},
        {"symbols": {"exclude": ["USDT"]}},
        *(
            {"symbols": {"quote_assets": ["USDT"], name: value}}
            for name, value in (
                ("leveraged", False),
                ("leveraged", True),
                ("stable_pairs", False),
                ("stable_pairs", True),
                ("state", "listed"),
                ("state", "settled"),
            )
        ),
    ],
)
def test_the_code_version_changes_with_what_makes_a_period_complete(fields: dict[str, object]) -> None:
    base: dict[str, object] = {"intervals": ["1m"], "symbols": {"quote_assets": ["USDT"]}}
    changed = entry_of("binance/um/klines/daily", **{**base, **fields})
    assert changed.code_version != entry_of("binance/um/klines/daily", **base).code_version


@pytest.mark.parametrize(
    "fields",
    [{"first_period": "2024-01-01"}, {"follow_from": "2026-01-01"}, {"catch_up": True}, {"mode": "direct"}],
)
def test_the_code_version_does_not_change_with_anything_else(fields: dict[str, object]) -> None:
    changed = entry_of("binance/um/metrics/daily", **fields)
    assert changed.code_version == entry_of("binance/um/metrics/daily").code_version


# Defaults


def test_defaults_fill_only_the_fields_that_an_entry_lacks(load: Load) -> None:
    matrix = load(
        """
        defaults: {mode: staged, catch_up: true, intervals: [1h], symbols: {quote_assets: [USDT]}}
        datasets:
          - {dataset: binance/um/klines/daily, mode: direct}
          - {dataset: binance/um/klines/monthly, intervals: [1d], symbols: all}
        """
    )
    daily, monthly = matrix.entries
    assert (daily.mode, daily.catch_up, daily.intervals) == (SyncMode.DIRECT, True, ("1h",))
    assert (monthly.mode, monthly.catch_up, monthly.intervals) == (SyncMode.STAGED, True, ("1d",))
    assert daily.symbols.quote_assets == ("USDT",)
    assert monthly.symbols.quote_assets == ()


def test_default_intervals_do_not_apply_to_datasets_without_intervals(load: Load) -> None:
    matrix = load("defaults: {intervals: all}\ndatasets: [{dataset: binance/um/metrics/daily}]")
    assert matrix.entries[0].intervals == ()


def test_default_symbols_do_not_apply_to_datasets_whose_files_contain_all_symbols(load: Load) -> None:
    matrix = load(
        """
        defaults: {symbols: {quote_assets: [USDT]}}
        datasets: [{dataset: bitmex/derivatives/trade/daily}, {dataset: htx/spot/trades/daily}]
        """
    )
    trade, trades = matrix.entries
    assert trade.symbols.model_dump() == SymbolFilter().model_dump()
    assert trade.symbols.selects(ALL_SYMBOLS)
    assert trades.symbols.quote_assets == ("USDT",)


def test_a_symbol_filter_of_a_dataset_whose_files_contain_all_symbols_is_refused(load: Load) -> None:
    with pytest.raises(InputError) as caught:
        load(of("bitmex/derivatives/trade/daily", "symbols: {include: [XBTUSD]}"))
    assert str(caught.value) == (
        "m.yaml: datasets[0].symbols: each file of bitmex/derivatives/trade/daily holds all symbols; remove the field"
    )
    load(of("bitmex/derivatives/trade/daily", "symbols: all"))


def test_default_dates_are_not_earlier_than_the_first_period_of_a_dataset(load: Load) -> None:
    matrix = load(
        """
        defaults: {first_period: 2022-01-01, follow_from: 2022-06-01}
        datasets:
          - {dataset: binance/um/bookDepth/daily}
          - {dataset: binance/um/metrics/daily}
          - {dataset: binance/um/fundingRate/monthly}
        """
    )
    assert [str(entry.first_period) for entry in matrix.entries] == ["2023-01-01", "2022-01-01", "2022-01"]
    assert [entry.follow_from for entry in matrix.entries] == [
        date(2023, 1, 1), date(2022, 6, 1), date(2022, 6, 1),
    ]  # fmt: skip


def test_a_fault_of_the_defaults_is_reported_once(load: Load) -> None:
    with pytest.raises(InputError) as caught:
        load(
            "defaults: {catch_up: 1}\n"
            "datasets: [{dataset: binance/um/metrics/daily}, {dataset: binance/um/trades/daily}]"
        )
    assert str(caught.value) == "m.yaml: defaults.catch_up: 1 is neither true nor false"


# Faults: the text of the file, and the complete message

WHOLE_FILE = [
    ("", "m.yaml: the file is not a mapping; start it with `datasets:`."),
    ("- dataset: x", "m.yaml: the file is not a mapping; start it with `datasets:`."),
    ("datasets: []", "m.yaml: datasets: is empty"),
    ("datasets:", "m.yaml: datasets: None is not a list; write one entry per line, each beginning with a dash"),
    ("defaults: {}", "m.yaml: datasets: is missing"),
    ("datasets: [5]", f"m.yaml: datasets[0]: 5 is not a mapping of dataset, {FIELDS}"),
    ("datasets: [{mode: auto}]", "m.yaml: datasets[0].dataset: is missing"),
    ("datasets: [{7: x}]", "m.yaml: datasets[0]: the key 7 is not text; put it in quotes"),
    ("7: x\ndatasets: [{dataset: binance/um/metrics/daily}]", "m.yaml: the key 7 is not text; put it in quotes"),
    ("datsets: []\ndatasets: [{dataset: binance/um/metrics/daily}]",
     "m.yaml: datsets: unknown key (did you mean 'datasets'?); the keys are defaults, datasets"),
    ("defaults: 5\ndatasets: [{dataset: binance/um/metrics/daily}]",
     f"m.yaml: defaults: 5 is not a mapping of {FIELDS}"),
    ("defaults: {dataset: x}\ndatasets: [{dataset: binance/um/metrics/daily}]",
     f"m.yaml: defaults.dataset: unknown key; the keys are {FIELDS}"),
    ("datasets:\n  - {dataset: [}", "m.yaml: line 2: invalid YAML: expected the node content, but found '}'."),
    ("datasets:\n  - dataset: a\n    dataset: b", "m.yaml: line 3: invalid YAML: the key 'dataset' is a duplicate."),
    ("datasets: " + "[" * 5000, "m.yaml: invalid YAML: it is nested too deeply."),
    ("datasets:\n\t- a", "m.yaml: line 2: invalid YAML: found character '\\t' that cannot start any token."),
    ("datasets: !!python/name:os.system x", ("m.yaml: line 1: invalid YAML: could not determine a constructor for "
     "the tag 'tag:yaml.org,2002:python/name:os.system'.")),
]  # fmt: skip

DATASET = [
    (of("5"), "dataset: 5 is not a dataset; write it as binance/um/klines/daily"),
    (of("binance/um/klines"), ("dataset: 'binance/um/klines' is not a dataset; write exchange/market/data "
     "type/cadence, such as binance/um/klines/daily")),
    (of("binanse/um/klines/daily"),
     "dataset: Unknown exchange 'binanse'; choose from binance, bybit, gate, bitmex, htx, kucoin"),
    (of("binance/umm/klines/daily"), "dataset: binance has no market 'umm'; it has spot, um, cm, option"),
    (of("binance/spot/metrics/daily"),
     "dataset: binance/spot has no data type 'metrics'; it has klines, aggTrades, trades"),
    (of("binance/um/fundingRate/daily"), "dataset: binance/um/fundingRate is not published daily, but monthly"),
    (of("binance/um/klines/weekly"), "dataset: 'weekly' is not a cadence; use daily or monthly"),
    (klines("interval: [1m]"),
     f"interval: unknown key (did you mean 'intervals'?); the keys are dataset, {FIELDS}"),
    (klines("'7': x"), f"'7': unknown key; the keys are dataset, {FIELDS}"),
]  # fmt: skip

INTERVAL = [
    (of("binance/um/klines/daily"),
     f"intervals: binance/um/klines is published by interval; choose from {INTERVALS}, or write all"),
    (of("binance/um/klines/daily", "intervals: []"),
     f"intervals: binance/um/klines is published by interval; choose from {INTERVALS}, or write all"),
    (of("binance/um/klines/daily", "intervals: [1w]"), ("intervals[0]: binance/um/klines is not published daily at "
     f"interval '1w'; choose from {INTERVALS}, or write all")),
    (of("binance/um/klines/daily", "intervals: [1m, 1]"), ("intervals[1]: binance/um/klines is not published daily "
     f"at interval 1; choose from {INTERVALS}, or write all")),
    (of("binance/um/klines/daily", "intervals: [1m, 1h, 1m]"), "intervals[2]: '1m' is listed twice"),
    (of("binance/um/klines/daily", "intervals: 1m"), "intervals: '1m' is not a list; write [1m], or all"),
    (of("binance/um/metrics/daily", "intervals: [5m]"),
     "intervals: binance/um/metrics has no intervals; remove the field"),
    (of("binance/um/metrics/daily", "intervals: all"),
     "intervals: binance/um/metrics has no intervals; remove the field"),
]  # fmt: skip

SYMBOLS = [
    (klines("symbols: some"), f"symbols: 'some' is not a mapping of {FILTER}"),
    (klines("symbols:"), f"symbols: None is not a mapping of {FILTER}"),
    (klines("symbols: {includes: [A]}"),
     f"symbols.includes: unknown key (did you mean 'include'?); the keys are {FILTER}"),
    (klines("symbols: {7: [A]}"), "symbols: the key 7 is not text; put it in quotes"),
    (klines("symbols: {include: BTC}"), "symbols.include: 'BTC' is not a list; write it in [brackets]"),
    (klines("symbols: {exclude: [A, 1]}"), "symbols.exclude[1]: 1 is not text; put it in quotes"),
    (klines("symbols: {include: ['']}"), "symbols.include[0]: is empty"),
    (klines("symbols: {quote_assets: [USDT, USDX]}"), ("symbols.quote_assets[1]: 'USDX' is not a quote asset "
     "of binance/um (did you mean 'USDT'?); choose from BTC, BUSD, ETH, U, USD1, USDC, USDT")),
    (of("binance/cm/trades/daily", "symbols: {quote_assets: [EUR]}"),
     "symbols.quote_assets[0]: 'EUR' is not a quote asset of binance/cm; choose from USD"),
]  # fmt: skip

DATES = [
    (klines("first_period: 2024-02-30"), "first_period: '2024-02-30' is not a date: day is out of range for month"),
    (klines("first_period: 2024-1-1"), "first_period: '2024-1-1' is not a daily period; write it as YYYY-MM-DD"),
    (klines("first_period: 20240101"), "first_period: 20240101 is not a date; write it as YYYY-MM-DD"),
    (klines("first_period: '2024-01-01 00:00:00'"),
     "first_period: '2024-01-01 00:00:00' is not a daily period; write it as YYYY-MM-DD"),
    (of("binance/um/fundingRate/monthly", "first_period: 2024"),
     "first_period: 2024 is not a date; write it as YYYY-MM"),
    (of("binance/um/fundingRate/monthly", "first_period: soon"),
     "first_period: 'soon' is not a monthly period; write it as YYYY-MM"),
    (klines("first_period: 2019-12-30"),
     "first_period: 2019-12-30 is before 2019-12-31, the first period of binance/um/klines/daily"),
    (of("binance/um/bookTicker/daily", "first_period: 2024-03-31"),
     "first_period: 2024-03-31 is after 2024-03-30, the last period of binance/um/bookTicker/daily"),
    (klines("first_period: 2024-01-02, follow_from: 2024-01-01"),
     "follow_from: 2024-01-01 is before 2024-01-02, the first_period of binance/um/klines/daily"),
    (klines("follow_from: 2019-01-01"),
     "follow_from: 2019-01-01 is before 2019-12-31, the first_period of binance/um/klines/daily"),
    (klines("follow_from: true"), "follow_from: True is not a date; write it as YYYY-MM-DD"),
    (klines("follow_from: today"), "follow_from: 'today' is not a daily period; write it as YYYY-MM-DD"),
]  # fmt: skip

PLAIN = [
    (klines("catch_up: 'yes'"), "catch_up: 'yes' is neither true nor false"),
    (klines("catch_up: 1"), "catch_up: 1 is neither true nor false"),
    (klines("partitions_per_run: 0"), "partitions_per_run: 0 is out of range; write 1 or more"),
    (klines("partitions_per_run: 367"), "partitions_per_run: 367 is out of range; write 366 or less"),
    (klines("partitions_per_run: '31'"), "partitions_per_run: '31' is not an integer"),
    (klines("partitions_per_run: true"), "partitions_per_run: True is not an integer"),
    (klines("mode: rely"), "mode: 'rely' is not allowed; write 'auto', 'direct', 'relay' or 'staged'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WHOLE_FILE)
def test_a_fault_of_the_file_is_reported_in_one_line(load: Load, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(("text", "message"), [*DATASET, *INTERVAL, *SYMBOLS, *DATES, *PLAIN])
def test_a_fault_of_an_entry_is_reported_with_its_path(load: Load, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(text)
    assert str(caught.value) == f"m.yaml: datasets[0].{message}"


def test_paths_count_entries_from_zero_and_every_fault_is_reported(load: Load) -> None:
    with pytest.raises(InputError) as caught:
        load(
            """
            defaults: {first_period: never, mod: auto}
            datasets:
              - {dataset: binance/um/trades/daily, first_period: 2024-01-01}
              - {dataset: binance/um/metrics/daily, catch_up: 2}
              - {dataset: binance/um/klines/daily, intervals: [1m, 1w], mode: fast}
            """
        )
    assert [fault.split(": ")[1] for fault in str(caught.value).split("; m.yaml")] == [
        "defaults.mod",
        "defaults.first_period",
        "datasets[1].catch_up",
        "datasets[2].intervals[1]",
        "datasets[2].mode",
    ]
    assert "\n" not in str(caught.value)


def test_a_dataset_that_is_listed_twice_is_refused(load: Load) -> None:
    with pytest.raises(InputError) as caught:
        load(
            """
            datasets:
              - {dataset: binance/um/metrics/daily}
              - {dataset: binance/um/trades/daily}
              - {dataset: binance/um/metrics/daily}
            """
        )
    message = "m.yaml: datasets[2].dataset: binance/um/metrics/daily is listed twice; datasets[0] is the same"
    assert str(caught.value) == message


def test_a_missing_file_is_named_with_its_full_path(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(InputError) as caught:
        load_matrix(path)
    assert str(caught.value) == f"The archive matrix {path} cannot be read: No such file or directory."


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_matrix(tmp_path)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(b"datasets: \xff\xfe")
    with pytest.raises(InputError, match=r"^m\.yaml: invalid YAML: [^\n]*$"):
        load_matrix(path)


@given(
    st.sampled_from(["dataset", "intervals", "symbols", "first_period", "follow_from", "partitions_per_run", "mode"]),
    st.one_of(st.none(), st.booleans(), st.floats(), st.text(), st.lists(st.text(), max_size=2), st.just({"a": 1})),
)
def test_any_value_raises_at_most_a_validation_error(field: str, value: object) -> None:
    fields = {"dataset": "binance/um/klines/daily", "intervals": ["7m"], field: value}
    if field == "intervals":
        fields["mode"] = "wrong"
    with pytest.raises(ValidationError):
        DatasetEntry.model_validate(fields)


@pytest.mark.parametrize("value", ['"a\\nb"', '"{value}"', '"\\u2028"', "'; rm'"])
def test_the_message_of_any_value_stays_on_one_line(load: Load, value: str) -> None:
    for text in (
        of(value),
        klines(f"mode: {value}"),
        klines(f"{value}: 1"),
        klines(f"first_period: {value}"),
    ):
        with pytest.raises(InputError) as caught:
            load(text)
        assert len(str(caught.value).splitlines()) == 1


def test_an_unknown_entry_is_refused_with_a_suggestion_and_all_names(load: Load) -> None:
    with pytest.raises(InputError) as caught:
        load(klines()).entry("binance/um/kline/daily")
    assert str(caught.value) == (
        "'binance/um/kline/daily' is not in the archive matrix (did you mean 'binance/um/klines/daily'?); "
        "it has binance/um/klines/daily."
    )


# The packaged matrix


def test_the_packaged_matrix_is_a_sensible_starting_point() -> None:
    matrix = load_matrix()
    assert [entry.dataset.name for entry in matrix.entries] == [
        "binance/spot/klines/daily",
        "binance/um/klines/daily",
        "binance/um/klines/monthly",
        "binance/um/fundingRate/monthly",
        "binance/um/metrics/daily",
        "binance/cm/klines/daily",
        "binance/cm/aggTrades/daily",
    ]
    assert not any(entry.catch_up for entry in matrix.entries)


def test_the_entries_that_the_packaged_matrix_has_in_comments_can_be_uncommented(load: Load) -> None:
    text = resources.files("lakehouse_assets.archive").joinpath("matrix.yaml").read_text(encoding="utf-8")
    entries, others = text.split("  # Other exchanges: ")
    matrix = load(f"{entries}  # {others.replace(chr(10) + '  # ', chr(10) + '  ')}")
    added = [entry.dataset.name for entry in matrix.entries][len(load_matrix().entries) :]
    assert {name.split("/")[0] for name in added} == set(EXCHANGES) - {"binance"}
    assert len(added) == others.count("- dataset:")


@pytest.mark.parametrize("entry", load_matrix().entries, ids=lambda entry: entry.dataset.name)
def test_the_packaged_matrix_wants_the_major_symbol_and_no_settled_one(entry: DatasetEntry) -> None:
    major = "BTCUSD_PERP" if entry.dataset.market == "cm" else "BTCUSDT"
    assert entry.symbols.selects(major)
    settled = ("AERGOUSDTSETTLED", "ICPUSDT_SETTLED1", "BTCUSD_PERP_SETTLED2")
    assert [symbol for symbol in settled if entry.symbols.selects(symbol)] == []
