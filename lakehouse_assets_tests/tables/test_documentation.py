"""The generated documentation of the columns is up to date."""

from __future__ import annotations

from lakehouse_assets.tables.documentation import page
from lakehouse_assets.tables.schema import TABLES
from lakehouse_assets_tests.paths import DEPLOY

PAGE = DEPLOY / "docs/tables.md"


def test_the_page_is_up_to_date():
    hint = "run: python -m lakehouse_assets.tables.documentation > deploy/docs/tables.md"
    assert PAGE.read_text(encoding="utf-8") == page(), hint


def test_the_page_names_every_table_and_every_column():
    text = page()
    for schema in TABLES:
        assert f"{schema.market}/{schema.data_type}" in text
        for column in schema.columns:
            assert f"`{column.name}`" in text
            assert all(f"`{source}`" in text for source in column.sources)
