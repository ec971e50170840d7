"""Catalogs in the lake: all are stored, the newest is read, and the symbols reference grows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from deltalake import DeltaTable

from lakehouse_assets.archive.catalog.catalog import CatalogDepth
from lakehouse_assets.errors import InputError, StoreError
from lakehouse_assets.lake import catalog_store
from lakehouse_assets.lake.catalog_store import read_catalog, read_symbols, universe, write_catalog
from lakehouse_assets_tests.archive.catalog.catalogs import catalog_of, span, unrecognized_row
from lakehouse_assets_tests.world import World

KLINES = "um/klines/daily"


def test_the_newest_catalog_is_read_back_as_it_was_written_and_the_former_are_kept(world: World) -> None:
    assert read_catalog(world.lake, "binance") is None
    assert read_symbols(world.lake, "binance").is_empty()
    old = catalog_of(
        "binance",
        pl.DataFrame([span(KLINES, "AUSDT", "2022-01-01", "2022-05-31", interval="1m")]),
        unrecognized=[unrecognized_row("data2/", "staging", known=True)],
        taken_at=datetime(2022, 6, 30, 23, 59, tzinfo=UTC),
    )
    new = catalog_of(
        "binance",
        pl.DataFrame(
            [
                span(KLINES, "AUSDT", "2022-01-01", "2022-06-30", interval="1m"),
                span(KLINES, "币安人生USDT", None, None),
            ]
        ),
        unrecognized=[unrecognized_row("data9/", "unknown")],
        depth=CatalogDepth.SHALLOW,
    )
    for each in (old, new):
        write_catalog(world.lake, each)
        back = read_catalog(world.lake, "binance")
        assert back is not None
        assert (back.taken_at, back.depth) == (each.taken_at, each.depth)
        assert back.spans.equals(each.spans)
        assert back.unrecognized.equals(each.unrecognized)
    kept = pl.read_delta(world.lake.url("_catalog/binance/spans"), storage_options=world.lake.delta_options)
    assert kept.group_by("taken_at").len().height == 2
    assert read_catalog(world.lake, "gate") is None


def test_symbols_and_universes_are_read_from_the_lake_and_never_shrink(world: World) -> None:
    rows = [span(KLINES, name, "2022-01-01", "2022-06-30") for name in ("AUSDT", "BUSDT")]
    write_catalog(world.lake, catalog_of("binance", pl.DataFrame(rows)))
    written = write_catalog(
        world.lake, catalog_of("binance", pl.DataFrame(rows[1:]), taken_at=datetime(2022, 7, 2, tzinfo=UTC))
    )
    read = read_symbols(world.lake, "binance")
    assert read.sort("symbol").equals(written.sort("symbol"))
    assert universe(world.lake, "binance", date(2022, 3, 1))["symbol"].to_list() == ["AUSDT", "BUSDT"]
    with pytest.raises(InputError, match="newest catalog ends on 2022-06-30"):
        universe(world.lake, "binance", date(2022, 7, 1), market="um")
    with pytest.raises(InputError, match="Unknown exchange"):
        read_symbols(world.lake, "nowhere")


def test_an_empty_catalog_is_not_stored(world: World) -> None:
    with pytest.raises(
        StoreError, match=r"^Listing s3://data\.binance\.vision/ failed: no known dataset of binance was found"
    ):
        write_catalog(world.lake, catalog_of("binance", pl.DataFrame()))
    assert read_catalog(world.lake, "binance") is None


def test_a_partially_written_catalog_is_ignored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = catalog_of("binance", pl.DataFrame([span(KLINES, "AUSDT", "2022-01-01", "2022-06-30")]))
    write_catalog(world.lake, first)
    second = catalog_of(
        "binance",
        pl.DataFrame([span(KLINES, "BUSDT", "2022-01-01", "2022-06-30")]),
        unrecognized=[unrecognized_row("data9/", "unknown")],
        taken_at=datetime(2022, 7, 2, tzinfo=UTC),
    )
    whole = catalog_store.write_rows

    def dies_before_the_spans(lake, table, *arguments, **options) -> None:
        if table.endswith("spans"):
            raise RuntimeError("killed here")
        whole(lake, table, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(catalog_store, "write_rows", dies_before_the_spans)
        with pytest.raises(RuntimeError, match="killed here"):
            write_catalog(world.lake, second)
    back = read_catalog(world.lake, "binance")
    assert back is not None
    assert (back.taken_at, back.unrecognized.height) == (first.taken_at, 0)
    assert set(read_symbols(world.lake, "binance")["symbol"]) == {"AUSDT", "BUSDT"}  # written before what tells of it
    write_catalog(world.lake, second)
    table = DeltaTable(world.lake.url("_catalog/binance/symbols"), storage_options=world.lake.delta_options)
    assert pl.scan_delta(table).collect()["symbol"].sort().to_list() == ["AUSDT", "BUSDT"]


@pytest.mark.parametrize("ahead", [timedelta(minutes=5), timedelta(days=400)])
def test_a_catalog_dated_in_the_future_is_not_the_newest(world: World, ahead: timedelta) -> None:
    now = datetime.now(UTC)
    spans = pl.DataFrame([span(KLINES, "AUSDT", "2022-01-01", "2022-06-30")])
    write_catalog(world.lake, catalog_of("binance", spans, taken_at=now + ahead))
    back = read_catalog(world.lake, "binance")
    assert back is not None, "better than none"
    write_catalog(world.lake, catalog_of("binance", spans, taken_at=now - timedelta(days=45)))
    back = read_catalog(world.lake, "binance")
    assert back is not None
    assert back.taken_at == now - timedelta(days=45)


@pytest.mark.parametrize("depth", list(CatalogDepth))
def test_a_catalog_that_lacks_many_symbols_is_not_stored_unless_accepted(world: World, depth: CatalogDepth) -> None:
    rows = [span(KLINES, f"A{number:02}USDT", "2022-01-01", "2022-06-30") for number in range(40)]
    write_catalog(world.lake, catalog_of("binance", pl.DataFrame(rows)))
    later = datetime(2022, 7, 2, tzinfo=UTC)
    lacks_much = catalog_of("binance", pl.DataFrame(rows[11:]), depth=depth, taken_at=later)
    with pytest.raises(StoreError, match=r"^Listing s3://.* failed: it lacks 11 of 40 symbols .* such as 'A00USDT', "):
        write_catalog(world.lake, lacks_much)
    assert read_symbols(world.lake, "binance")["published"].all()
    back = read_catalog(world.lake, "binance")
    assert back is not None
    assert back.spans.height == 40
    write_catalog(world.lake, catalog_of("binance", pl.DataFrame(rows[10:]), depth=depth, taken_at=later))
    write_catalog(world.lake, lacks_much, accept_withdrawals=True)
    assert read_symbols(world.lake, "binance").height == 40


def test_a_catalog_of_one_market_lacks_nothing_of_another(world: World) -> None:
    rows = [span(KLINES, f"A{number:02}USDT", "2022-01-01", "2022-06-30") for number in range(40)]
    other = [span("cm/klines/daily", "BUSD_PERP", "2022-01-01", "2022-06-30")]
    write_catalog(world.lake, catalog_of("binance", pl.DataFrame(rows + other)))
    narrowed = replace(catalog_of("binance", pl.DataFrame(other)), markets=("cm",))
    assert write_catalog(world.lake, narrowed).height == 41
