"""Catalogs: spans, publication states, differences and the derived matrix."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_assets.archive.catalog.catalog import NO_DATASET, Catalog, CatalogDepth, against_matrix, changes_between
from lakehouse_assets.archive.catalog.changes import alarming, summary_of
from lakehouse_assets.archive.catalog.spans import merged_spans
from lakehouse_assets.archive.matrix import ArchiveMatrix, DatasetEntry
from lakehouse_assets.errors import InputError
from lakehouse_assets_tests.archive.catalog.catalogs import catalog_of, span, unrecognized_row

KLINES, TRADES, METRICS = "um/klines/daily", "um/trades/daily", "um/metrics/daily"
LIVE, DEAD = "2022-06-30", "2022-05-31"


def catalog(*rows: dict[str, Any], **fields: Any) -> Catalog:
    return catalog_of("binance", pl.DataFrame(list(rows)), **fields)


def matrix(*entries: dict[str, Any]) -> ArchiveMatrix:
    return ArchiveMatrix(entries=tuple(DatasetEntry.model_validate(entry) for entry in entries))


def kinds(changes: pl.DataFrame) -> list[tuple[Any, ...]]:
    return [(row["kind"], row["name"], row["datasets"]) for row in changes.to_dicts()]


# Spans


@given(st.sets(st.integers(0, 400), min_size=1), st.integers(1, 40), st.randoms())
def test_spans_do_not_depend_on_the_grouping_and_order_of_their_days(days: set[int], gap: int, random: Any) -> None:
    ordered = sorted(days)
    expected: list[tuple[int, int, int]] = []
    for day in ordered:
        if expected and day - expected[-1][1] <= gap:
            first, _, count = expected.pop()
            expected.append((first, day, count + 1))
        else:
            expected.append((day, day, 1))
    start = date(2020, 1, 1)
    rows = [(start + timedelta(day), start + timedelta(day), 1, 1, "A") for day in ordered]
    random.shuffle(rows)
    cut = random.randint(0, len(rows))
    schema = {"first": pl.Date, "last": pl.Date, "objects": pl.Int64, "bytes": pl.Int64, "symbol": pl.String}
    parts = [
        merged_spans(pl.DataFrame(part, schema=schema, orient="row"), ["symbol"], gap_days=gap).drop("span")
        for part in (rows[:cut], rows[cut:])
    ]
    spans = merged_spans(pl.concat(parts), ["symbol"], gap_days=gap)
    merged = spans.select("span", "first", "last", "objects").rows()
    assert merged == [
        (number, start + timedelta(first), start + timedelta(last), count)
        for number, (first, last, count) in enumerate(expected, 1)
    ]


def test_a_sidecar_without_its_object_does_not_lengthen_a_span() -> None:
    day = date(2022, 1, 1)
    rows = pl.DataFrame(
        {"symbol": ["A"] * 3, "first": [day, day, day + timedelta(1)], "objects": [1, 0, 0], "sidecars": [0, 1, 1]}
    ).with_columns(last=pl.col("first"))
    assert merged_spans(rows, ["symbol"]).select("first", "last", "objects", "sidecars").rows() == [(day, day, 1, 2)]


# Liveness


def test_datasets_and_symbols_are_live_quiet_or_dead_by_their_newest_day() -> None:
    taken = catalog(
        span(KLINES, "AUSDT", "2022-01-01", LIVE, interval="1m"),
        span(KLINES, "AUSDT", "2022-01-02", LIVE, interval="1h"),
        span(KLINES, "BUSDT", "2022-01-01", "2022-06-22", interval="1m"),
        span(KLINES, "CUSDT", "2022-01-01", "2022-06-23", interval="1m"),
        span(TRADES, "AUSDT", "2021-01-01", DEAD),
        span("um/fundingRate/monthly", "AUSDT", "2021-01-01", DEAD),
    )
    datasets = taken.datasets().select("dataset", "state", "symbols", "live", "intervals", "objects", "exact").rows()
    assert datasets == [
        ("um/fundingRate/monthly", "live", 1, 1, [], 10, True),
        (KLINES, "live", 3, 2, ["1h", "1m"], 40, True),
        (TRADES, "dead", 1, 1, [], 10, True),
    ]
    states = taken.symbols().filter(pl.col("data_type") == "klines").select("symbol", "first", "state").rows()
    assert states == [
        ("AUSDT", date(2022, 1, 1), "live"),
        ("BUSDT", date(2022, 1, 1), "quiet"),
        ("CUSDT", date(2022, 1, 1), "live"),
    ]


def test_an_object_with_a_future_date_makes_no_other_symbol_quiet() -> None:
    taken = catalog(span(TRADES, "AUSDT", "2022-01-01", LIVE), span(TRADES, "ODDUSDT", "2022-01-01", "2926-01-01"))
    assert set(taken.symbols()["state"]) == {"live"}
    assert taken.datasets()["newest"].to_list() == [date(2022, 6, 30)]


def test_states_follow_the_exchange_s_own_date() -> None:
    taken_at = datetime(2026, 9, 30, 17, tzinfo=UTC)
    row = span("spot/trades/daily", "BTC-USDT", "2026-03-01", "2026-10-01", exchange="htx")
    assert catalog_of("htx", pl.DataFrame([row]), taken_at=taken_at).datasets()["newest"].to_list() == [
        date(2026, 10, 1)
    ]


def test_totals_of_a_shallow_catalog_are_extrapolated_from_its_sample() -> None:
    taken = catalog(
        span(TRADES, "AUSDT", "2022-01-01", LIVE, objects=10),
        span(TRADES, "BUSDT", "2022-01-01", LIVE, objects=20),
        *(span(TRADES, f"{name}USDT", None, None) for name in "CDEF"),
        span(METRICS, "AUSDT", None, None),
        depth=CatalogDepth.SHALLOW,
    )
    datasets = taken.datasets().select("dataset", "symbols", "objects", "exact", "state").rows()
    assert datasets == [(METRICS, 1, None, False, None), (TRADES, 6, 90, False, "live")]


# From one catalog to the next


def test_each_difference_between_two_catalogs_is_reported_once() -> None:
    before = catalog(
        span(KLINES, "AUSDT", "2022-01-01", LIVE, interval="1m"),
        span(KLINES, "QUIETUSDT", "2022-01-01", LIVE, interval="1m"),
        span(KLINES, "GONEUSDT", "2022-01-01", LIVE, interval="1m"),
        span(TRADES, "AUSDT", "2022-01-01", LIVE),
        span("cm/metrics/daily", "BTCUSD_PERP", "2022-01-01", LIVE),
        unrecognized=[unrecognized_row("data2/", "staging", known=True), unrecognized_row("data9/", NO_DATASET)],
    )
    later = "2022-08-10"
    now = catalog(
        span(KLINES, "AUSDT", "2022-01-01", later, interval="1m"),
        span(KLINES, "AUSDT", "2022-07-01", later, interval="1h"),
        span(KLINES, "QUIETUSDT", "2022-01-01", LIVE, interval="1m"),
        span(KLINES, "NEWUSDT", "2022-07-05", later, interval="1m"),
        span(TRADES, "AUSDT", "2022-01-01", LIVE),
        span(TRADES, "NEWUSDT", "2022-06-05", LIVE),
        span(METRICS, "AUSDT", "2022-07-01", later),
        unrecognized=[
            unrecognized_row("data2/", "staging", known=True),
            unrecognized_row("data9/", NO_DATASET),
            unrecognized_row("data/um/x/", NO_DATASET),
        ],
        taken_at=datetime(2022, 8, 11, tzinfo=UTC),
    )
    changes = changes_between(before, now)
    assert kinds(changes) == [
        ("dataset dead", "", [TRADES]),
        ("dataset gone", "", ["cm/metrics/daily"]),
        ("new dataset", "", [METRICS]),
        ("new interval", "1h", [KLINES]),
        ("new prefix", "data/um/x/", []),
        ("new symbol", "NEWUSDT", [KLINES, TRADES]),
        ("symbol gone", "GONEUSDT", [KLINES]),
        ("symbol quiet", "QUIETUSDT", [KLINES]),
    ]
    assert changes.filter(pl.col("kind") == "symbol quiet")["since"].to_list() == [date(2022, 6, 30)]
    assert set(alarming(changes)["kind"]) == {"dataset dead", "dataset gone", "new dataset", "new prefix"}
    assert changes_between(now, now).is_empty()
    assert summary_of(changes_between(now, now)) == "nothing"
    assert "1 new symbol: NEWUSDT" in summary_of(changes)
    back = changes_between(now, before)
    assert ("dataset back", "", [TRADES]) in kinds(back)


def test_only_datasets_that_both_catalogs_cover_are_compared() -> None:
    um, spot = span(KLINES, "AUSDT", "2022-01-01", LIVE), span("spot/trades/daily", "AUSDT", "2022-01-01", LIVE)
    complete, partial = catalog(um, spot), catalog(um, markets=("um",))
    assert changes_between(complete, partial).is_empty()
    assert changes_between(partial, complete).is_empty()


def test_a_shallow_catalog_reports_no_unsampled_symbol_as_withdrawn_or_quiet() -> None:
    before = catalog(span(TRADES, "AUSDT", "2022-01-01", LIVE), span(TRADES, "BUSDT", "2022-01-01", LIVE))
    now = catalog(
        span(TRADES, "AUSDT", "2022-01-01", LIVE), span(TRADES, "NEWUSDT", None, None), depth=CatalogDepth.SHALLOW
    )
    assert kinds(changes_between(before, now)) == [("new symbol", "NEWUSDT", [TRADES])]


def test_a_shallow_catalog_of_months_is_compared_only_for_the_months_it_listed() -> None:
    books, candles = "spot/orderbooks/daily", "spot/candlesticks/daily"
    fields = {"exchange": "gate"}
    exact = catalog_of(
        "gate",
        pl.DataFrame(
            [
                span(books, "OLD_USDT", "2021-08-01", "2021-09-01", **fields),
                span(books, "BTC_USDT", "2021-08-01", LIVE, **fields),
                span(candles, "BTC_USDT", "2021-08-01", LIVE, interval="1m", **fields),
            ]
        ),
    )
    names = [span(books, "BTC_USDT", None, None, **fields), span(candles, "BTC_USDT", None, None, **fields)]
    shallow = catalog_of("gate", pl.DataFrame(names), depth=CatalogDepth.SHALLOW)
    assert shallow.datasets()["state"].to_list() == [None, None]
    assert changes_between(exact, shallow).is_empty()
    assert changes_between(shallow, exact).is_empty()
    came = catalog_of(
        "gate", pl.DataFrame([*names, span(books, "NEW_USDT", None, None, **fields)]), depth=CatalogDepth.SHALLOW
    )
    assert kinds(changes_between(shallow, came)) == [("new symbol", "NEW_USDT", [books])]
    wanted = matrix(
        {"dataset": "gate/spot/candlesticks/daily", "intervals": ["1m", "5m"], "symbols": {"include": ["OLD*"]}},
        {"dataset": "gate/spot/orderbooks/daily"},
    )
    assert against_matrix(shallow, wanted).is_empty()
    assert kinds(against_matrix(exact, wanted)) == [
        ("interval wanted, not published", "5m", [candles]),
        ("wanted, no symbol selected", "`OLD*`", [candles]),
    ]


# Against the matrix


def test_the_matrix_and_the_catalog_are_compared_both_ways() -> None:
    taken = catalog(
        span(KLINES, "AUSDT", "2022-01-01", LIVE, interval="1m"),
        span(KLINES, "AUSDT", "2022-01-01", LIVE, interval="1h"),
        span(TRADES, "AUSDT", "2022-01-01", DEAD),
        span(METRICS, "AUSDC", "2022-01-01", LIVE),
    )
    wanted = matrix(
        {"dataset": "binance/um/klines/daily", "intervals": ["1m", "5m"]},
        {"dataset": "binance/um/bookDepth/daily"},
        {"dataset": "binance/um/metrics/daily", "symbols": {"quote_assets": ["USDT"]}},
        {"dataset": "htx/spot/trades/daily"},
    )
    changes = against_matrix(taken, wanted)
    assert kinds(changes) == [
        ("available, not collected", "", [TRADES]),
        ("interval available, not collected", "1h", [KLINES]),
        ("interval wanted, not published", "5m", [KLINES]),
        ("wanted, no symbol selected", "quoted in USDT", [METRICS]),
        ("wanted, not published", "", ["um/bookDepth/daily"]),
    ]
    assert changes["since"].to_list()[0] == date(2022, 5, 31)
    assert against_matrix(catalog(markets=("spot",)), wanted).is_empty()


def test_a_matrix_made_from_a_catalog_does_not_differ_from_it() -> None:
    taken = catalog(
        span(KLINES, "AUSDT", "2022-01-01", LIVE, interval="1m"),
        span("um/bookTicker/daily", "AUSDT", "2023-06-01", "2024-03-30"),
        span("spot/trades/monthly", "AUSDT", "2017-07-01", LIVE),
    )
    made = taken.matrix()
    assert [(entry.dataset.name, entry.intervals, str(entry.first_period)) for entry in made.entries] == [
        ("binance/spot/trades/monthly", (), "2017-07"),
        ("binance/um/bookTicker/daily", (), "2023-06-01"),
        ("binance/um/klines/daily", ("1m",), "2022-01-01"),
    ]
    assert against_matrix(taken, made).is_empty()


def test_periods_before_the_declared_or_wanted_first_one_are_reported() -> None:
    taken = catalog(
        span("spot/trades/monthly", "AUSDT", "2015-03-01", LIVE),
        span("spot/trades/daily", "AUSDT", "2017-07-13", LIVE),
        span("spot/aggTrades/daily", "AUSDT", "2017-07-14", LIVE),
        span(KLINES, "AUSDT", "2022-01-01", LIVE, interval="1m"),
    )
    wanted = matrix(
        {"dataset": "binance/spot/trades/daily", "first_period": "2020-01-01"},
        {"dataset": "binance/spot/aggTrades/daily"},
        {"dataset": f"binance/{KLINES}", "intervals": ["1m"], "first_period": "2022-02-01"},
    )
    changes = against_matrix(taken, wanted)
    assert kinds(changes) == [
        ("available, not collected", "", ["spot/trades/monthly"]),
        ("begins before what this version knows", "2017-07-13 (known: 2017-07-14)", ["spot/trades/daily"]),
        ("begins before what this version knows", "2015-03 (known: 2017-07)", ["spot/trades/monthly"]),
        ("earlier available, not collected", "2022-01-01 to 2022-02-01", [KLINES]),
    ]
    assert set(alarming(changes)["name"]) == {"2015-03 (known: 2017-07)", "2017-07-13 (known: 2017-07-14)"}


def test_an_empty_catalog_makes_no_matrix() -> None:
    with pytest.raises(InputError, match=r"No known data set of binance was found in um; there is no matrix to make\."):
        catalog(markets=("um",)).matrix()
