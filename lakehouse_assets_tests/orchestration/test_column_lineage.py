"""Column lineage from tables to the files of their archives, over every dataset of every exchange."""

from __future__ import annotations

import dagster as dg
import pytest
import yaml

from lakehouse_assets.archive.matrix import ArchiveMatrix, load_matrix
from lakehouse_assets.definitions import defs
from lakehouse_assets.orchestration.tables.reporting import column_lineage
from lakehouse_assets.tables.table import tables_of
from lakehouse_assets_tests.matrices import every_dataset

SCHEMA = "dagster/column_schema"
Location = tuple[ArchiveMatrix, dict[dg.AssetKey, dg.AssetSpec]]


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """The matrix, and the specs of the code location that is built from it."""
    path = tmp_path_factory.mktemp("matrix") / "matrix.yaml"
    path.write_text(yaml.safe_dump(every_dataset()), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_MATRIX", str(path))
        return load_matrix(path), {spec.key: spec for spec in defs().resolve_all_asset_specs()}


def columns_of(spec: dg.AssetSpec) -> list[dg.TableColumn]:
    return spec.metadata[SCHEMA].columns if SCHEMA in spec.metadata else []


def test_every_column_of_a_table_points_to_columns_that_its_archives_have(location: Location) -> None:
    matrix, specs = location
    tables = tables_of(matrix.entries)
    assert len(tables) > 50
    for table in tables:
        lineage = column_lineage(table).deps_by_column
        own = {column.name for column in columns_of(specs[dg.AssetKey(table.table.asset_key)])}
        assert lineage.keys() <= own, table
        for deps in lineage.values():
            assert {dep.asset_key for dep in deps} == {
                dg.AssetKey(entry.dataset.asset_key) for entry in table.entries.values()
            }
            for dep in deps:
                assert dep.column_name in {column.name for column in columns_of(specs[dep.asset_key])}, dep


def test_no_column_schema_has_a_column_twice_or_without_a_type_and_a_description(location: Location) -> None:
    _, specs = location
    for spec in specs.values():
        columns = columns_of(spec)
        assert len({column.name for column in columns}) == len(columns), spec.key
        assert all(column.type and column.description for column in columns), spec.key


def test_exactly_the_archives_with_a_table_have_a_column_schema(location: Location) -> None:
    matrix, specs = location
    tabled = {entry.dataset for table in tables_of(matrix.entries) for entry in table.entries.values()}
    for entry in matrix.entries:
        assert bool(columns_of(specs[dg.AssetKey(entry.dataset.asset_key)])) == (entry.dataset in tabled), entry.dataset


@pytest.mark.parametrize(
    ("archive", "column", "kind", "description"),
    [
        ("gate/futures_usdt/trades/monthly", "dealid", "Int64", "Becomes `trade_id`: The exchange's id of the trade."),
        ("binance/um/klines/daily", "open", "Float64", "Becomes `open`: First price of the interval. [quote asset]"),
        ("binance/um/klines/daily", "open_time", "time", "Becomes `time`: Opening time of the candle. [UTC]"),
        ("binance/um/klines/monthly", "ignore", "text", "In no column of the table."),
    ],
)
def test_a_column_says_what_it_becomes(
    location: Location, archive: str, column: str, kind: str, description: str
) -> None:
    _, specs = location
    [found] = [found for found in columns_of(specs[dg.AssetKey(archive.split("/"))]) if found.name == column]
    assert (found.type, found.description) == (kind, description)


def test_a_column_that_several_columns_are_made_of_names_them_all(location: Location) -> None:
    _, specs = location
    [size] = [
        column
        for column in columns_of(specs[dg.AssetKey(["gate", "futures_usdt", "trades", "monthly"])])
        if column.name == "size"
    ]
    assert "Becomes `size`: " in str(size.description)
    assert "Becomes `side`: " in str(size.description)
