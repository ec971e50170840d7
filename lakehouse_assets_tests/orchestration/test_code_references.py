"""Code references: where a repository is named, every asset links to its code there, and nothing else changes."""

from __future__ import annotations

import warnings
from typing import Any

import dagster as dg
import pytest

from lakehouse_assets.definitions import defs
from lakehouse_assets.errors import InputError
from lakehouse_assets_tests.paths import ROOT

REFERENCES = "dagster/code_references"
URL = "https://github.com/you/lakehouse/blob/v1"


def links() -> dict[str, list[str]]:
    """The path and line of each link, by asset. Fails for a link elsewhere, and for a warning about a beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", dg.BetaWarning)
        specs = defs().resolve_all_asset_specs()
    return {
        spec.key.to_user_string(): [
            reference.url.removeprefix(f"{URL}/") for reference in spec.metadata[REFERENCES].code_references
        ]
        for spec in specs
        if REFERENCES in spec.metadata
    }


def facts() -> list[Any]:
    """Of each asset what is not metadata: keys, checks, pools, partitions and policies of backfills."""
    graph = defs().resolve_asset_graph()
    nodes = (graph.get(key) for key in sorted(graph.get_all_asset_keys()))
    return [
        (node.key, node.parent_keys, node.check_keys, node.pools, node.partitions_def, node.backfill_policy, node.kinds)
        for node in nodes
    ]


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_CODE_URL", f"{URL}/")


def test_nothing_is_linked_unless_a_repository_is_named() -> None:
    assert links() == {}


@pytest.mark.usefixtures("repository")
def test_every_asset_links_to_its_body_and_to_its_exchange() -> None:
    found = links()
    assert len(found) == len(list(defs().resolve_all_asset_specs()))
    for asset, paths in found.items():
        assert paths, asset
        for path in paths:
            file, _, line = path.partition("#L")
            lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
            assert not line or lines[int(line) - 1].strip().startswith("@"), path  # a function's first decorator
    root = "lakehouse_assets/"
    files = {asset: [path.removeprefix(root).partition("#")[0] for path in paths] for asset, paths in found.items()}
    binance = "archive/exchanges/binance.py"
    assert files["binance/source"] == [binance]
    assert files["binance/um/klines/daily"] == ["orchestration/archives/assets.py", binance]
    assert files["binance/um/klines/table"] == ["orchestration/tables/assets.py", binance]
    # Its body is wrapped by a function of another module.
    assert files["catalog/binance"] == ["orchestration/reports/catalog.py", binance]
    assert files["reports/coverage"] == ["orchestration/reports/coverage.py"]


def test_links_change_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    before = facts()
    monkeypatch.setenv("LAKEHOUSE_CODE_URL", URL)
    assert facts() == before
    dg.Definitions.validate_loadable(defs())


@pytest.mark.parametrize("value", ["git@github.com:you/lakehouse", "https://you:token@example.org/lakehouse", "main"])
def test_what_is_no_plain_url_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_CODE_URL", value)
    with pytest.raises(InputError, match="LAKEHOUSE_CODE_URL: ") as raised:
        defs()
    assert "token" not in str(raised.value)
