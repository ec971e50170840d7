"""Code references: links from an asset in the UI to its code in a repository, where a setting names the repository.

Nothing is linked by default. Only who deploys knows the repository and the revision, and a path on the code server's
machine opens nothing on the reader's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import FunctionType

import dagster as dg

from lakehouse_assets.archive import exchanges
from lakehouse_assets.orchestration.dagster_internals import body_of

Asset = dg.AssetsDefinition | dg.AssetSpec


def with_code_references(assets: Sequence[Asset], code_url: str | None) -> Sequence[Asset]:
    """The assets, each linked to its body and to the module of its exchange.

    ``code_url`` is where the repository shows the folder that has `lakehouse_assets`, at the revision that runs.
    """
    if code_url is None:
        return assets
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return [_linked(asset, code_url) for asset in assets]


def _linked(asset: Asset, code_url: str) -> Asset:
    body = None if isinstance(asset, dg.AssetSpec) else body_of(asset)

    def add_links(spec: dg.AssetSpec) -> dg.AssetSpec:
        links = [] if body is None else [_to_function(body, code_url)]
        if exchange := spec.tags.get("exchange"):
            links.append(_to_module(f"{exchanges.__name__}.{exchange}", code_url, "What the exchange publishes"))
        return spec.merge_attributes(
            metadata={"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=links)}
        )

    [linked] = dg.map_asset_specs(add_links, [asset])
    return linked


def _to_function(function: FunctionType, code_url: str) -> dg.UrlCodeReference:
    line = function.__code__.co_firstlineno
    return _to_module(function.__module__, code_url, "What a run does", f"#L{line}")


def _to_module(module: str, code_url: str, label: str, line: str = "") -> dg.UrlCodeReference:
    return dg.UrlCodeReference(url=f"{code_url}/{module.replace('.', '/')}.py{line}", label=label)
